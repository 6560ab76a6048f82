"""The kinds of planes beside the first three: any pair, other metrics, gradients, displacements, minima, lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from small_problems import convolutional, digits, quadratic, symmetric, train

from landscape.distributed.parallel import Comm
from landscape.errors import ProblemError, UsageError
from landscape.geometry.directions import (
    Plane,
    Vectors,
    displacement_plane,
    eigen_plane,
    from_surface,
    gradient_plane,
    minima_plane,
    pca_plane,
    random_plane,
    random_walk_shares,
    random_walks_shares,
)  # fmt: skip
from landscape.geometry.gradients import loss_and_gradient
from landscape.geometry.surface import grid, surface
from landscape.loss.checkpoints import read_part, write_tensors
from landscape.networks.filters import filter_numbers, layer_numbers

COMM = Comm()


def orthonormal_to(plane: Plane, tolerance: float) -> bool:
    return float((plane.gram - torch.eye(2, dtype=torch.float64)).abs().max()) < tolerance


# ------------------------------------------------------------------ eigenvectors


def eigh(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and vectors (rows), largest first."""
    values, vectors = torch.linalg.eigh(matrix)
    return values.flip(0), vectors.T.flip(0).contiguous()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_axes_of_any_pair_are_the_eigenvectors_themselves(dtype: torch.dtype) -> None:
    """Peers that rescale tensor by tensor reach cosines of 0.54 to 0.99 with the eigenvector they announce."""
    values, vectors = eigh(symmetric(40))
    numbers = [*range(1, 39), -2, -1]
    plane = eigen_plane(torch.ones(40, dtype=dtype), vectors, values, torch.zeros(40), pair=(2, 39), numbers=numbers)
    cosines = (plane.directions.double() * vectors[[2, 39]]).sum(1).abs()
    assert cosines.min() >= 0.9999
    assert orthonormal_to(plane, 1e-6)
    assert plane.info["pair"] == [3, -1]
    assert plane.labels[1].startswith("eigenvector 1 from the smallest, eigenvalue -")


def test_axes_of_a_preconditioned_operator_are_its_eigenvectors_mapped_to_weights() -> None:
    """S H S x = l x: s * x solves H w = l P w, P = S^-2; the curvature along the axes is d^T H d."""
    import scipy.linalg

    matrix = symmetric(12) + 5 * torch.eye(12, dtype=torch.float64)
    s = torch.linspace(0.2, 3, 12, dtype=torch.float64)
    values, vectors = eigh(s[:, None] * matrix * s)
    plane = eigen_plane(
        torch.zeros(12, dtype=torch.float64), vectors, values, torch.zeros(12), pair=(0, 3), scale=s,
        operator="preconditioned",
    )  # fmt: skip
    exact, w = scipy.linalg.eigh(matrix.numpy(), np.diag(1 / s.numpy() ** 2))
    assert plane.info["values"] == pytest.approx([exact[-1], exact[-4]])
    first = torch.from_numpy(w[:, -1] / np.linalg.norm(w[:, -1]))
    assert abs(float(first @ plane.directions[0])) == pytest.approx(1, abs=1e-12)
    inside = torch.from_numpy(w[:, -4] / np.linalg.norm(w[:, -4]))
    assert float(torch.linalg.norm(plane.directions @ inside)) == pytest.approx(1, abs=1e-12)  # the plane holds it
    curvature = ((plane.directions @ matrix) * plane.directions).sum(1)
    assert plane.info["curvature"] == pytest.approx(curvature.tolist(), rel=1e-10)
    assert "preconditioned, mapped to weights" in plane.labels[0]


def test_degenerate_eigenvalues_are_named() -> None:
    values = np.array([5.0, 3.001, 3.0, 1.0, -2.0])
    close = eigen_plane(torch.zeros(5), torch.eye(5), values, np.zeros(5), pair=(1, 4))
    assert close.info["close"] == [[3], []]
    assert close.labels == ["eigenvector 2 (degenerate with 3), eigenvalue 3", "eigenvector 5, eigenvalue -2"]
    uncertain = eigen_plane(torch.zeros(5), torch.eye(5), values, np.array([0, 1.5, 0, 1.0, 0]), pair=(0, 1))
    assert uncertain.info["close"] == [[], [3, 4]]  # gaps below the sum of residuals


# ------------------------------------------------------------------ gradient, displacement, minima


def test_the_gradient_is_that_of_the_quadratic_and_keeps_its_direction() -> None:
    matrix = symmetric(10) + 6 * torch.eye(10, dtype=torch.float64)
    at = torch.linspace(-1, 2, 10, dtype=torch.float64)
    problem = quadratic(matrix, at)
    loss, gradient = loss_and_gradient(problem, at)
    assert torch.allclose(gradient, matrix @ at, atol=1e-12)
    assert loss == problem.evaluate(at)["loss"]
    values, vectors = eigh(matrix)
    plane = gradient_plane(problem, at, vectors[0], float(values[0]))
    down = -(matrix @ at) / torch.linalg.norm(matrix @ at)
    assert torch.allclose(plane.directions[0], down, atol=1e-12)
    assert orthonormal_to(plane, 1e-12)
    assert plane.info["cosine"] == pytest.approx(float(down @ vectors[0]))
    assert plane.info["gradient_norm"] == pytest.approx(float(torch.linalg.norm(matrix @ at)))
    assert plane.info["curvature"][0] == pytest.approx(float(down @ matrix @ down), rel=1e-6)
    inside = torch.linalg.norm(plane.directions @ vectors[0])
    assert float(inside) == pytest.approx(1)  # the eigenvector lies in the plane
    with pytest.raises(ProblemError, match="parallel"):
        gradient_plane(quadratic(matrix, vectors[0]), vectors[0], vectors[0], float(values[0]))
    with pytest.raises(ProblemError, match="zero"):
        gradient_plane(problem, torch.zeros_like(at), vectors[0], float(values[0]))


def test_the_loss_beside_the_gradient_is_the_evaluated_one_bit_for_bit() -> None:
    for problem in (digits(300), convolutional()):
        assert loss_and_gradient(problem, problem.weights())[0] == problem.evaluate(problem.weights())["loss"]


def test_the_way_back_lies_on_the_first_axis() -> None:
    _, vectors = eigh(symmetric(10))
    origin, start = torch.ones(10, dtype=torch.float64), torch.linspace(0, 3, 10, dtype=torch.float64)
    plane = displacement_plane(origin, start, vectors[0], 2.5, start_step=7)
    distance = float(torch.linalg.norm(start - origin))
    assert np.allclose(plane.coordinates(start), [distance, 0, 0], atol=1e-12)
    assert plane.coordinates(origin + vectors[0])[2] < 1e-7
    u, v = grid(plane, np.array([[distance, 0.0], [0.0, 0.0]]), points=9)
    assert u[-1] >= distance
    assert v[-1] >= np.sqrt(2 / 2.5)  # where the quadratic model rises by one


def test_three_minima_have_their_exact_places_and_losses() -> None:
    problem = digits(200)
    saved = train(problem, 20)
    a, b, c = (problem.vector_from(saved[i].state()) for i in (4, 0, 2))
    plane = minima_plane(a, b, c, names=("a", "b", "c"))
    corners = plane.info["corners"]
    assert [name for name, *_ in corners] == ["a", "b", "c"]
    assert corners[0][1:] == [0, 0]
    assert corners[1][2] == pytest.approx(0, abs=1e-6)
    assert corners[2][2] > 0
    for (_, u, v), vector in zip(corners, (a, b, c), strict=True):
        assert plane.coordinates(vector)[2] < 1e-5
        assert problem.evaluate(plane.point(u, v))["loss"] == pytest.approx(problem.evaluate(vector)["loss"], rel=1e-5)
    with pytest.raises(ProblemError, match="one of them is zero"):
        minima_plane(a, a, c)
    with pytest.raises(ProblemError, match="parallel"):
        minima_plane(a, b, a + 2 * (b - a))


def test_a_line_is_one_row_of_its_plane() -> None:
    problem = digits(100)
    values, vectors = np.array([4.0, 2.0]), torch.linalg.qr(torch.randn(problem.size, 2)).Q.T
    plane = eigen_plane(problem.weights(), vectors, values, np.array([0.1, 0.2]))
    u = np.linspace(-1, 1, 5)
    whole = surface(problem, plane, np.zeros(1), u, COMM)
    along = surface(problem, plane.line(1), u, np.zeros(1), COMM)
    assert np.allclose(along.loss[0], whole.loss[:, 0], rtol=1e-6)
    assert along.plane == "eigen.line2"
    assert along.meta["values"] == [2.0, 4.0]
    again = from_surface(along)
    assert (again.kind, again.variant, again.name) == ("eigen", "line2", "eigen.line2")


# ------------------------------------------------------------------ random


@pytest.mark.parametrize("normalise", ["filter", "layer"])
def test_random_directions_have_no_preferred_sign(normalise: str) -> None:
    """A peer draws from [0, 1]: cosine 0.867 with the all-ones vector."""
    problem = digits(100)
    ones = torch.full((problem.size,), problem.size**-0.5, dtype=torch.float64)
    for direction in random_plane(problem, problem.weights(), normalise=normalise).directions:
        assert abs(float(direction.double() @ ones)) < 0.1


def test_a_rescaled_network_with_batchnorm_has_the_same_random_surface() -> None:
    """Weights before a BatchNorm times ten are the same function: the normalised direction scales with them."""
    problem = convolutional()
    places = {name: where for name, _shape, where in problem.named_slices()}
    before = random_plane(problem, problem.weights(), seed=2)
    state = problem.state()
    state["0.weight"] = state["0.weight"] * 10
    state["1.running_mean"], state["1.running_var"] = state["1.running_mean"] * 10, state["1.running_var"] * 100
    u = np.array([-0.5, 0.0, 0.25])
    plain = surface(problem, before, u * before.info["scale"], np.zeros(1), COMM)
    problem.load(state)
    after = random_plane(problem, problem.weights(), seed=2)
    ratio = (after.directions * after.info["scale"])[:, places["0.weight"]] / (
        before.directions * before.info["scale"]
    )[:, places["0.weight"]]  # fmt: skip
    assert torch.allclose(ratio, torch.full_like(ratio, 10.0), rtol=1e-4)
    scaled = surface(problem, after, u * after.info["scale"], np.zeros(1), COMM)
    assert np.allclose(scaled.loss, plain.loss, rtol=1e-3)


@pytest.mark.parametrize("problem", [digits(100), convolutional()], ids=["mlp", "batchnorm"])
def test_every_layer_of_a_layer_normalised_direction_has_the_norm_of_the_weights_layer(problem) -> None:  # type: ignore[no-untyped-def]
    origin = problem.weights()
    plane = random_plane(problem, origin, normalise="layer")
    layers = layer_numbers(problem)
    assert torch.equal(layers >= 0, filter_numbers(problem) >= 0)
    assert plane.info["layers"] == int(layers.max()) + 1 == sum(
        1 for m in problem.model.modules() if type(m).__name__ in ("Linear", "Conv2d")
    )  # fmt: skip
    for direction in plane.directions:
        for layer in range(plane.info["layers"]):
            own, its = (torch.linalg.norm(x[layers == layer].double()) for x in (origin, direction))
            assert abs(float(its * plane.info["scale"] / own) - 1) < 1e-6
    assert orthonormal_to(plane, 1e-6)
    with pytest.raises(UsageError, match="per filter or per layer"):
        random_plane(problem, origin, normalise="tensor")


# ------------------------------------------------------------------ principal components


def walk(count: int, size: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(count, size, generator=generator, dtype=torch.float64).cumsum(0))


def test_no_more_checkpoints_are_in_memory_than_it_holds() -> None:
    """Counts what is loaded while 40 checkpoints pass by: of all of them a few weights, two passes, once each."""
    size, count, read, alive, most = 5000, 40, 0, weakref.WeakSet(), 0  # type: ignore[var-annotated]
    saved = [v.float() for v in walk(count, size)]
    whole = pca_plane(saved)

    class Counted(torch.Tensor):
        pass

    def part(i: int, start: int, stop: int) -> torch.Tensor:
        nonlocal most, read
        piece = saved[i][start:stop].clone().as_subclass(Counted)
        alive.add(piece)
        most, read = max(most, sum(p.numel() for p in alive)), read + piece.numel()
        return piece

    loads: list[int] = []

    def load(i: int) -> torch.Tensor:
        loads.append(i)
        return saved[i]

    memory = 8 * (count - 1) * 600  # 600 weights of every checkpoint
    streamed = pca_plane(Vectors(load, count, part), memory=memory)
    assert loads == [count - 1]  # whole only the origin
    assert most <= 2 * 600  # the piece being read and the one that it replaces
    assert read == 2 * (count - 1) * size
    assert torch.allclose(streamed.directions, whole.directions, atol=1e-6)


MANY = """
import json, re, sys
from pathlib import Path
import torch
from landscape.loss.checkpoints import read_part, write_tensors
from landscape.geometry.planes.pca import Vectors, pca_plane
folder, count, size = Path(sys.argv[1]), 60, 1_000_000
slices, at = [("w", (size,), slice(0, size))], torch.zeros(size)
drift = torch.randn(3, size, generator=torch.Generator().manual_seed(0))
for i in range(count):
    at += drift[0] + (1 - i / 30) * drift[1] + 0.1 * (-1) ** i * drift[2]
    write_tensors(folder / str(i), {"w": at})
part = lambda i, start, stop: read_part(folder / str(i), slices, start, stop)
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
plane = pca_plane(Vectors(lambda i: part(i, 0, size), count, part), memory=int(sys.argv[2]))
cosine = float(torch.linalg.norm(plane.directions @ (drift[0] / torch.linalg.norm(drift[0]))))
found = {"rise": peak() - before, "held": 4 * count * size, "captured": plane.info["captured"], "cosine": cosine}
print(json.dumps(found))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's peak")
def test_the_checkpoints_of_a_long_run_never_sit_in_memory_together(tmp_path: Path) -> None:
    """The resident memory of a process that reads 60 checkpoints of a million weights, 240 MB, from their files."""
    done = subprocess.run([sys.executable, "-c", MANY, str(tmp_path), str(8 << 20)], capture_output=True, text=True,
                          timeout=800, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["held"] == 240e6
    assert found["rise"] < 120e6  # two directions in float64, their copies, and one block of all checkpoints
    assert found["captured"] > 0.99
    assert found["cosine"] > 0.99


def test_a_part_of_a_stored_checkpoint_is_that_part_of_its_vector(tmp_path: Path) -> None:
    problem = convolutional()
    write_tensors(tmp_path / "weights.safetensors", problem.state())
    whole, slices = problem.weights(), problem.named_slices()
    for start, stop in [(0, problem.size), (0, 1), (3, 60), (50, 58), (problem.size - 7, problem.size), (17, 17)]:
        found = read_part(tmp_path / "weights.safetensors", slices, start, stop)
        assert torch.equal(found, whole[start:stop])
    with pytest.raises(ProblemError, match="has shape"):
        read_part(tmp_path / "weights.safetensors", [("0.weight", (6, 9), slice(0, 54))], 0, 54)
    with pytest.raises(ProblemError, match="does not hold these weights"):
        read_part(tmp_path / "weights.safetensors", [("none", (2,), slice(0, 2))], 0, 2)
    with pytest.raises(ProblemError, match="there is no file"):
        read_part(tmp_path / "gone.safetensors", slices, 0, 2)


def test_further_components_and_what_they_hold() -> None:
    vectors = walk(9, 30)
    differences = torch.stack(vectors[:-1]).numpy() - vectors[-1].numpy()
    _, singular, right = np.linalg.svd(differences, full_matrices=False)
    plane = pca_plane(vectors, pair=(1, 2))
    assert np.allclose(np.abs((plane.directions.numpy() * right[1:3]).sum(1)), 1, atol=1e-12)
    assert np.allclose(plane.info["explained_variance"], singular[1:3] ** 2 / (singular**2).sum(), atol=1e-12)
    with pytest.raises(ProblemError, match="have 8 principal components, got 2 and 9"):
        pca_plane(vectors, pair=(1, 8))
    flat = torch.linalg.qr(torch.randn(30, 2, dtype=torch.float64)).Q
    with pytest.raises(ProblemError, match="move in 2 dimensions only"):
        pca_plane([flat @ torch.randn(2, dtype=torch.float64) for _ in range(7)], pair=(1, 2))


def test_random_walks_from_starts_far_apart_have_their_expected_shares() -> None:
    counts, size, far = [8, 12, 10], 20_000, 4.0
    generator = torch.Generator().manual_seed(5)
    runs = []
    for seed, c in enumerate(counts):
        start = far * torch.randn(size, generator=generator, dtype=torch.float64)
        runs.append([start, *(start + x for x in walk(c - 1, size, seed))])
    everything = torch.stack([v for run in runs for v in run])
    away = (everything[:-1] - everything[-1]).numpy()
    shares = np.linalg.eigvalsh(away @ away.T)[::-1]
    shares /= shares.sum()
    plane = pca_plane(list(everything), counts=counts)
    assert plane.info["random_walk"] == pytest.approx(shares[:2].tolist(), abs=0.01)
    assert sum(plane.info["random_walk"]) > random_walks_shares(counts)[:2].sum() + 0.03  # three starts span a plane


def test_random_walks_from_one_start_have_their_expected_shares() -> None:
    assert np.allclose(random_walks_shares([30]), random_walk_shares(30), atol=1e-12)
    counts, size = [8, 12, 10], 20_000
    start = torch.zeros(size, dtype=torch.float64)
    runs = [[start, *walk(c - 1, size, seed)] for seed, c in enumerate(counts)]
    everything = torch.stack([v for run in runs for v in run])
    away = (everything[:-1] - everything[-1]).numpy()
    squares = np.linalg.eigvalsh(away @ away.T)[::-1]
    assert np.allclose(random_walks_shares(counts)[:4], (squares / squares.sum())[:4], atol=0.01)
    plane = pca_plane(list(everything), counts=counts)
    assert plane.info["runs"] == 3
    assert plane.info["random_walk"] == pytest.approx(random_walks_shares(counts)[:2].tolist(), rel=1e-6)
    assert "% of the paths" in plane.labels[0]
