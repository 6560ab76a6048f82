"""Planes: orthonormal axes in weight units, faithful to the eigenvectors, components or filters that name them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_problems import Weights, convolutional, digits, quadratic, symmetric
from torch import nn

from landscape.distributed.parallel import Comm
from landscape.errors import ProblemError
from landscape.geometry.directions import (
    Plane,
    Vectors,
    eigen_plane,
    from_surface,
    pca_plane,
    random_plane,
    random_walk_shares,
)
from landscape.geometry.surface import grid, surface
from landscape.loss.problem import Problem
from landscape.networks.filters import filter_numbers, normalised_pair


def path(count: int, size: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(count, size, generator=generator, dtype=torch.float64).cumsum(0))


def plane_of(size: int, seed: int, dtype: torch.dtype = torch.float64) -> Plane:
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(size, 2, generator=generator, dtype=torch.float64)).Q.T
    origin = torch.randn(size, generator=generator, dtype=torch.float64)
    return Plane("test", 0, ["first", "second"], origin.to(dtype), basis.to(dtype).contiguous())


# ------------------------------------------------------------------ coordinates


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 40), st.integers(0, 10_000), st.floats(1e-3, 1e3))
def test_distance_from_the_origin_is_in_plane_and_off_plane_by_pythagoras(size: int, seed: int, spread: float) -> None:
    plane = plane_of(size, seed)
    vector = plane.origin + spread * torch.randn(size, dtype=torch.float64)
    u, v, off_plane = plane.coordinates(vector)
    distance = float(torch.linalg.norm(vector - plane.origin))
    assert np.isclose(u**2 + v**2 + off_plane**2, distance**2, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_point_of_the_plane_has_its_own_coordinates_and_lies_on_the_plane(dtype: torch.dtype) -> None:
    plane = plane_of(1000, 3, dtype)
    u, v, off_plane = plane.coordinates(plane.origin.double() + 2.5 * plane.directions[0].double()
                                        - 0.75 * plane.directions[1].double())
    assert np.allclose([u, v, off_plane], [2.5, -0.75, 0], atol=1e-12)


def test_the_origin_is_the_point_zero_zero_bit_for_bit() -> None:
    plane = plane_of(1000, 4, torch.float32)
    assert torch.equal(plane.point(0.0, 0.0), plane.origin)
    assert torch.equal(plane.points(np.array([-1.0, 0.0, 1.0]), 0.5)[2], plane.point(1.0, 0.5))


def test_vectors_of_another_size_are_refused() -> None:
    with pytest.raises(ProblemError, match="7 entries cannot be projected onto a plane of 10"):
        plane_of(10, 0).coordinates(torch.zeros(7))


def test_directions_that_are_not_orthonormal_or_not_finite_are_refused() -> None:
    with pytest.raises(ProblemError, match="not orthonormal"):
        Plane("eigen", 5, ["a", "b"], torch.zeros(4), torch.ones(2, 4))
    with pytest.raises(ProblemError, match="not finite"):
        Plane("eigen", 5, ["a", "b"], torch.full((4,), torch.nan), torch.eye(2, 4))
    with pytest.raises(ProblemError, match=r"shape \(2, 4\)"):
        Plane("eigen", 5, ["a", "b"], torch.zeros(4), torch.eye(2, 5))


def test_a_plane_comes_back_from_its_surface() -> None:
    problem = digits(100)
    plane = random_plane(problem, problem.weights(), seed=3, step=7)
    u, v = grid(plane, points=3)
    again = from_surface(surface(problem, plane, u, v, Comm()))
    assert torch.equal(again.directions, plane.directions)
    assert torch.equal(again.origin, plane.origin)
    assert (again.kind, again.step, again.labels, again.info) == (plane.kind, plane.step, plane.labels, plane.info)


# ------------------------------------------------------------------ eigenvectors


@pytest.mark.parametrize("pair", [(0, 1), (0, 4), (3, 2)])
def test_curvature_along_the_axes_is_the_eigenvalue(pair: tuple[int, int]) -> None:
    matrix = symmetric(12)
    values, vectors = torch.linalg.eigh(matrix)
    values, vectors = values.flip(0), vectors.T.flip(0)
    plane = eigen_plane(torch.ones(12, dtype=torch.float64), vectors, values.numpy(), np.zeros(12), pair=pair, step=3)
    rayleigh = ((plane.directions @ matrix) * plane.directions).sum(1)
    assert torch.allclose(rayleigh, values[list(pair)], atol=1e-12)
    assert (plane.directions * vectors[list(pair)]).sum(1).abs().min() > 1 - 1e-12
    assert plane.info["values"] == pytest.approx(values[list(pair)].tolist())


def test_the_sign_of_an_eigenvector_does_not_matter() -> None:
    vectors = torch.linalg.eigh(symmetric(9)).eigenvectors.T
    flipped = vectors * torch.tensor([-1.0, 1, 1, -1, -1, 1, 1, 1, 1], dtype=torch.float64)[:, None]
    origin = torch.zeros(9, dtype=torch.float64)
    planes = [eigen_plane(origin, x, np.ones(9), np.zeros(9)) for x in (vectors, flipped)]
    assert torch.equal(planes[0].directions, planes[1].directions)


def test_an_eigen_plane_needs_two_different_converged_vectors() -> None:
    origin = torch.zeros(4)
    with pytest.raises(ProblemError, match="of the 1 computed"):
        eigen_plane(origin, torch.eye(4)[:1], [1.0], [0.0])
    skew = torch.tensor([[1.0, 0, 0, 0], [0.6, 0.8, 0, 0]])
    with pytest.raises(ProblemError, match="not converged"):
        eigen_plane(origin, skew, [1.0, 1.0], [0.0, 0.0])


# ------------------------------------------------------------------ principal components


def test_the_principal_components_are_the_singular_vectors_of_the_differences() -> None:
    vectors = path(9, 30)
    plane = pca_plane(vectors, step=8)
    differences = torch.stack(vectors[:-1]).numpy() - vectors[-1].numpy()
    _, singular, right = np.linalg.svd(differences, full_matrices=False)
    assert np.allclose(np.abs((plane.directions.numpy() * right[:2]).sum(1)), 1, atol=1e-12)
    assert np.allclose(plane.info["explained_variance"], singular[:2] ** 2 / (singular**2).sum(), atol=1e-12)
    assert plane.info["captured"] == pytest.approx(sum(plane.info["explained_variance"]))


@pytest.mark.parametrize("memory", [1, 2 * 8 * 30 * 3, 2 * 8 * 30 * 4, 1 << 30])
def test_components_do_not_depend_on_how_many_checkpoints_are_held_at_once(memory: int) -> None:
    vectors = path(11, 30)
    streamed = pca_plane(Vectors(lambda i: vectors[i], len(vectors)), memory=memory)
    whole = pca_plane(vectors)
    assert torch.allclose(streamed.directions, whole.directions, atol=1e-12)
    assert np.allclose(streamed.info["explained_variance"], whole.info["explained_variance"], atol=1e-12)


def test_the_explained_variance_is_the_share_of_squared_distances_in_the_plane() -> None:
    vectors = path(8, 20, seed=2)
    plane = pca_plane(vectors)
    places = np.array([plane.coordinates(v) for v in vectors])
    per_axis = (places[:, :2] ** 2).sum(axis=0) / (places**2).sum()
    assert np.allclose(per_axis, plane.info["explained_variance"], atol=1e-12)
    largest = np.abs(places[:, :2]).argmax(axis=0)
    assert (places[largest, [0, 1]] > 0).all()  # the sign rule


def test_checkpoints_that_span_no_plane_are_refused() -> None:
    start, way = torch.randn(20), torch.randn(20)
    with pytest.raises(ProblemError, match="at least 3 checkpoints, got 2"):
        pca_plane([start, way])
    with pytest.raises(ProblemError, match="do not move at all"):
        pca_plane([start] * 5)
    with pytest.raises(ProblemError, match="one straight line"):
        pca_plane([start + t * way for t in (0.0, 1.0, 2.0, 4.0)])  # rounding to float32 does not make it a plane
    with pytest.raises(ProblemError, match="NaN or infinite"):
        pca_plane([start, start + torch.inf, way])
    with pytest.raises(ProblemError, match="span no plane"):
        pca_plane([torch.randn(19), start, way])


def test_random_walk_shares_are_the_eigenvalues_of_min_i_j() -> None:
    steps = np.arange(1, 30)
    exact = np.linalg.eigvalsh(np.minimum.outer(steps, steps))[::-1]
    assert np.allclose(random_walk_shares(30), exact / exact.sum(), atol=1e-13)


# ------------------------------------------------------------------ random, filter-normalised


def norms(vector: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.linalg.norm(vector[filters == f].double()) for f in range(int(filters.max()) + 1)])


def depthwise() -> Problem:
    """Convolutions of one weight a filter (no bias), a transposed one with groups, an embedding, attention."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(11, 6)
            self.single = nn.Conv1d(6, 6, 1, groups=6, bias=False)
            self.transposed = nn.ConvTranspose1d(6, 8, 3, groups=2)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.out = nn.Linear(8, 3)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            x = self.transposed(self.single(self.embedding(tokens).transpose(1, 2))).transpose(1, 2)
            return self.out(self.attention(x, x, x, need_weights=False)[0].mean(1))

    torch.manual_seed(0)
    data = (torch.randint(0, 11, (20, 5)), torch.randint(0, 3, (20,)))
    return Problem(Model(), nn.functional.cross_entropy, data)


every_model = pytest.mark.parametrize(
    "problem", [digits(100), convolutional(), convolutional(statistics=False), depthwise()],
    ids=["mlp", "batchnorm", "groupnorm", "exotic"],
)


@every_model
@pytest.mark.parametrize("seed", [0, 1])
def test_every_filter_of_a_random_direction_has_the_norm_of_the_weights_filter(problem: Problem, seed: int) -> None:
    origin = problem.weights()
    plane = random_plane(problem, origin, seed=seed)
    filters = filter_numbers(problem)
    own = norms(origin, filters)
    for direction in plane.directions:
        assert (norms(direction * plane.info["scale"], filters) / own - 1).abs().max() < 1e-6
        assert not direction[filters < 0].any()
    assert abs(float(plane.gram[0, 1])) < 1e-6
    assert np.allclose(plane.gram.diagonal(), 1, atol=1e-6)


def test_a_filter_is_an_output_unit_with_its_bias() -> None:
    problem = digits(100)
    filters = filter_numbers(problem)
    named = {name: filters[where].view(shape) for name, shape, where in problem.named_slices()}
    assert torch.equal(named["0.weight"], torch.arange(32)[:, None].expand(32, 64))
    assert torch.equal(named["0.bias"], torch.arange(32))
    assert torch.equal(named["2.bias"], 32 + torch.arange(10))


def test_filters_of_special_layers() -> None:
    problem = depthwise()
    filters = filter_numbers(problem)
    named = {name: filters[where].view(shape) for name, shape, where in problem.named_slices()}
    assert torch.equal(named["embedding.weight"], torch.arange(6).expand(11, 6))  # a column feeds one unit
    transposed = named["transposed.weight"] - named["transposed.bias"][0]
    assert torch.equal(transposed[0, :, 0], torch.arange(4))  # inputs 0 to 2 feed outputs 0 to 3
    assert torch.equal(transposed[5, :, 0], 4 + torch.arange(4))
    attention = named["attention.in_proj_weight"]
    assert torch.equal(attention[:, 0], named["attention.in_proj_bias"])
    assert attention.unique().numel() == 24
    assert int(filters.max()) + 1 == filters[filters >= 0].unique().numel()


def test_normalisation_layers_stay_where_they_are() -> None:
    problem = convolutional()
    filters = filter_numbers(problem)
    named = {name: filters[where] for name, _shape, where in problem.named_slices()}
    assert (named["1.weight"] == -1).all()
    assert (named["1.bias"] == -1).all()
    assert (named["6.bias"] >= 0).all()


def test_filters_of_zero_weights_get_zero_directions() -> None:
    problem = digits(100)
    origin = problem.weights()
    filters = filter_numbers(problem)
    origin[filters == 5] = 0
    pair = normalised_pair(origin, filters, seed=0)
    assert not pair[:, filters == 5].any()
    assert bool(torch.isfinite(pair).all())


def test_models_without_filters_have_no_random_plane() -> None:
    with pytest.raises(ProblemError, match="no weight matrix"):
        random_plane(quadratic(symmetric(5)), torch.ones(5, dtype=torch.float64))
    problem = digits(100)
    with pytest.raises(ProblemError, match="are zero"):
        random_plane(problem, torch.zeros(problem.size))
    lonely = Problem.from_batch_loss(Weights(torch.ones(3, 1)), lambda m, b: (m.w * b).sum(), [torch.ones(1)])
    with pytest.raises(ProblemError, match="single weight"):
        random_plane(lonely, torch.tensor([3.0, 1.0, 1.0]))


def test_random_directions_are_named_by_their_seed() -> None:
    problem = digits(100)
    first, same, other = (random_plane(problem, problem.weights(), seed=s) for s in (1, 1, 2))
    assert torch.equal(first.directions, same.directions)
    assert abs(float(first.directions[0] @ other.directions[0])) < 0.2
