"""Block Lanczos against dense eigenvalues: recurrence, residual bounds, ghosts, multiplicities, restarts, moments."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exact import matrix_with
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.krylov.extremes import extremes
from landscape.krylov.lanczos import BlockLanczos
from landscape.krylov.probes import probe, probes


def space_of(matrix, block=2, capacity=60, seed=0, dtype=torch.float64):
    a = torch.as_tensor(matrix, dtype=dtype)
    return BlockLanczos(lambda v: a @ v, probes(range(block), len(a), seed).to(dtype), capacity)


def ends_of(matrix, top, bottom, *, block=2, capacity=60, tolerance=1e-10, dtype=torch.float64):
    space = space_of(matrix, block, capacity, dtype=dtype)
    return extremes(space, top, bottom, tolerance, 5000, drawing(len(matrix), dtype), len(matrix))


def drawing(size, dtype=torch.float64, part=None):
    return lambda number: probe(1000 + number, size, 0, part).to(dtype)[:, None]


@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_basis_is_orthonormal_and_satisfies_the_recurrence(block, dtype, accuracy):
    matrix = matrix_with(np.linspace(-1, 3, 120) ** 3)
    space = space_of(matrix, block, 80, dtype=dtype)
    while space.room:
        space.expand()
    m = space.filled
    q = space.basis[:m].double().numpy()
    assert np.abs(q @ q.T - np.eye(m)).max() < accuracy
    rest = q @ matrix - space.projected[:m, :m] @ q  # nothing but the last block's residual is left
    assert np.abs(rest[: m - block]).max() < accuracy * 27


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), block=st.integers(1, 4), steps=st.integers(2, 9))
def test_every_residual_bounds_the_distance_to_an_eigenvalue(seed, block, steps):
    eigenvalues = np.random.default_rng(seed).normal(size=50)
    space = space_of(matrix_with(eigenvalues, seed), block, 60, seed)
    for _ in range(steps):
        if space.room:
            space.expand()
    ritz = space.ritz()
    distance = np.abs(ritz.values[:, None] - eigenvalues[None]).min(axis=1)
    assert (distance <= ritz.residuals + 1e-12).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), block=st.integers(1, 3), steps=st.integers(1, 5))
def test_gauss_rule_of_a_block_is_exact_to_degree_2m_minus_1(seed, block, steps):
    matrix = matrix_with(np.random.default_rng(seed).uniform(-1, 1, size=40), seed)
    space = space_of(matrix, block, 40, seed)
    start = space.basis[:block].numpy().copy()
    for _ in range(steps):
        space.expand()
    ritz = space.ritz()
    weights = np.square(space.start_components(ritz))
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
    for degree in range(2 * steps):
        exact = np.einsum("bi,ij,bj->b", start, np.linalg.matrix_power(matrix, degree), start)
        np.testing.assert_allclose(weights @ ritz.values**degree, exact, atol=1e-11)


@pytest.mark.parametrize("block", [1, 3, 4])
def test_a_full_run_gives_every_eigenvalue_once(block):
    eigenvalues = np.sort(np.random.default_rng(1).normal(size=30))
    space = space_of(matrix_with(eigenvalues), block, 30 + block)
    while space.ahead and space.filled < 30:
        space.expand()
    np.testing.assert_allclose(space.ritz().values, eigenvalues, atol=1e-12)


def test_no_ghosts_long_after_convergence():
    eigenvalues = np.concatenate([np.zeros(190), np.linspace(1e-3, 1e-2, 100), [5.0, 10.0, 20.0]])
    space = space_of(matrix_with(np.sort(eigenvalues)), 2, 200, dtype=torch.float32)
    while space.room and space.ahead:
        space.expand()
    assert (space.ritz().values > 1).sum() == 3


def test_multiplicities_up_to_the_block_size_are_counted():
    eigenvalues = np.sort(np.concatenate([[4.0, 4.0, 4.0, 2.0, 2.0], np.linspace(-1, 1, 75)]))
    found = ends_of(matrix_with(eigenvalues), 6, 1, block=3)
    np.testing.assert_allclose(found.values, eigenvalues[::-1][:6], atol=1e-10)


@pytest.mark.parametrize("capacity", [26, 40, 200])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_both_ends_with_and_without_thick_restart(capacity, dtype, tolerance):
    rng = np.random.default_rng(3)
    eigenvalues = np.sort(np.concatenate([rng.normal(size=380) * 0.05, np.geomspace(0.5, 40, 12), [-2.0, -1.0]]))
    found = ends_of(matrix_with(eigenvalues), 8, 2, capacity=capacity, tolerance=tolerance, dtype=dtype)
    assert found.converged
    np.testing.assert_allclose(found.values, eigenvalues[::-1][:8], atol=40 * tolerance)
    np.testing.assert_allclose(found.lowest_values, eigenvalues[:2], atol=40 * tolerance)
    distance = np.abs(found.values - eigenvalues[::-1][:8])
    assert (distance <= found.residuals + 40 * 40 * torch.finfo(dtype).eps).all()  # 40: norm(A)
    vectors = found.vectors.double().numpy()
    assert np.abs(vectors @ vectors.T - np.eye(10)).max() < 100 * torch.finfo(dtype).eps


def test_an_invariant_subspace_is_left_with_fresh_vectors():
    eigenvalues = np.zeros(60)
    eigenvalues[-3:] = [1.0, 2.0, 3.0]
    found = ends_of(matrix_with(eigenvalues), 6, 0, block=2)
    np.testing.assert_allclose(found.values, [3, 2, 1, 0, 0, 0], atol=1e-10)
    assert found.converged


def test_the_whole_space_of_a_tiny_operator():
    found = ends_of(np.diag([3.0, -1.0, 2.0]), 3, 3, block=2, capacity=6)
    np.testing.assert_allclose(found.values, [3, 2, -1], atol=1e-12)


def test_a_product_that_is_not_finite_is_an_error():
    space = BlockLanczos(lambda v: v * float("nan"), probes(range(2), 10, 0), 8)
    with pytest.raises(FloatingPointError, match="not finite"):
        space.expand()


def test_probes_do_not_depend_on_the_shard():
    whole = probe(3, 1000, seed=7)
    assert torch.equal(torch.cat([probe(3, 1000, 7, slice(0, 400)), probe(3, 1000, 7, slice(400, 1000))]), whole)
    assert not torch.equal(whole, probe(4, 1000, seed=7))
    assert not torch.equal(whole, probe(3, 1000, seed=8))


def test_probes_longer_than_a_chunk_agree_at_the_seam():
    size = (1 << 20) + 10
    whole = probe(0, size, seed=1)
    assert torch.equal(probe(0, size, 1, slice(size - 15, size)), whole[-15:])
