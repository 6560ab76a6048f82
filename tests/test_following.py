"""Eigenvectors followed through training: exact on matrices whose eigenvectors turn by a known angle and cross."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import softmax_run
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from landscape import cli
from landscape.errors import ProblemError
from landscape.readings.following import Following, cosines, degenerate_groups, follow, followed
from landscape.records import Eigenpairs
from landscape.stores.run_directory import Run

Array = NDArray[np.float64]


def rotation(angle: float, size: int = 6) -> Array:
    """Turns the axes 0 and 1, and 2 and 3, by an angle."""
    turned = np.eye(size)
    c, s = np.cos(angle), np.sin(angle)
    for i in (0, 2):
        turned[i : i + 2, i : i + 2] = [[c, -s], [s, c]]
    return turned


def record(step: int, values: Array, vectors: Array, *, low: int = 0, residual: float = 1e-9) -> Eigenpairs:
    """Eigenpairs (rows of `vectors`) in the order of a record: largest first, then `low` smallest ones."""
    order = np.argsort(-values)
    top, bottom = order[: len(order) - low], order[::-1][:low]
    found = np.concatenate([top, bottom])
    return Eigenpairs(
        step, "hessian", vectors.shape[1], values[top], np.full(len(top), residual), values[bottom],
        np.full(low, residual), vectors[found],
    )  # fmt: skip


def together(pairs: list[Eigenpairs]) -> Following:
    return follow(pairs, [cosines(a, b) for a, b in itertools.pairwise(pairs)])


def crossing(steps: int = 9, angle: float = 0.1, seed: int = 0) -> tuple[list[Eigenpairs], Array]:
    """Four turning eigenvectors; the first two eigenvalues cross between two checkpoints. Also values (branch, step).

    Signs are random: what a solver returns.
    """
    t = np.arange(steps) / (steps - 1)
    values = np.stack([5 - 2 * t, 3.1 + 2 * t, 1 + 0 * t, -1 - t])  # (branch, step)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=values.shape)
    vectors = [rotation(angle * i)[:4] for i in range(steps)]
    return [record(i, values[:, i], signs[:, i, None] * v, low=1) for i, v in enumerate(vectors)], values


# ------------------------------------------------------------------ closed forms


def test_a_crossing_of_turning_eigenvectors_is_recovered_exactly() -> None:
    pairs, exact = crossing()
    found = together(pairs)
    assert not np.array_equal(np.argsort(-exact[:, 0]), np.argsort(-exact[:, -1]))  # they do cross
    np.testing.assert_array_equal(found.values, exact)
    np.testing.assert_allclose(found.overlap[:, 1:], np.cos(0.1), rtol=1e-12)
    assert np.isnan(found.overlap[:, 0]).all()
    np.testing.assert_allclose(found.lowest_subspace[1:], np.cos(0.1) ** 2, rtol=1e-12)
    # axes 0 and 1 turn into each other, axis 2 out of the space
    np.testing.assert_allclose(found.subspace[1:], (2 + np.cos(0.1) ** 2) / 3, rtol=1e-12)
    assert found.degenerate == [[]] * 9
    assert found.names(3) == []


def test_the_followed_vectors_have_the_signs_of_the_first_checkpoint() -> None:
    pairs, _ = crossing()
    found = together(pairs)
    first = pairs[0].vectors
    assert first is not None
    for i, pair in enumerate(pairs):
        assert pair.vectors is not None
        turned = found.bases[i] @ pair.vectors
        for branch in range(4):
            exact = rotation(0.1 * i)[branch] * np.sign(first[found.rows[branch, 0]] @ np.eye(6)[branch])
            np.testing.assert_allclose(turned[found.rows[branch, i]], exact, atol=1e-12)


def test_a_degenerate_pair_is_named_and_its_free_turn_is_undone() -> None:
    values = np.array([4.0, 2.0, 2.0 + 1e-8, 1.0])
    pairs = [record(i, values, (rotation(0.0) if i != 1 else swapped(0.7))[:4], residual=1e-7) for i in range(3)]
    found = together(pairs)
    assert found.degenerate == [[(1, 2)]] * 3
    assert found.names(1) == ["branches 2 and 3"]
    np.testing.assert_allclose(found.overlap[:, 1:], 1.0, rtol=1e-12)
    plain = np.abs(cosines(pairs[0], pairs[1]))
    assert plain[1].max() < 0.8  # the stored vectors themselves have turned
    np.testing.assert_allclose(found.subspace[1:], 1.0, rtol=1e-12)


def swapped(angle: float) -> Array:
    """The axes 1 and 2, whose eigenvalues are equal, turned by any angle."""
    turned = np.eye(6)
    turned[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turned


@pytest.mark.parametrize(
    ("values", "residuals", "groups"),
    [
        ([5.0, 3.0, 1.0], [0.0, 0.0, 0.0], [[0], [1], [2]]),
        ([5.0, 4.96, 1.0], [0.0, 0.0, 0.0], [[0, 1], [2]]),  # 0.8 % apart
        ([5.0, 4.9, 1.0], [0.0, 0.0, 0.0], [[0], [1], [2]]),
        ([5.0, 4.9, 1.0], [0.06, 0.05, 0.0], [[0, 1], [2]]),  # closer than both bounds together
        ([1e-6, -1e-6, 3.0], [0.0, 0.0, 0.0], [[2], [0], [1]]),
        ([1e-6, -1e-6, 3.0], [1e-6, 1e-6, 0.0], [[2], [0, 1]]),
        ([], [], [[]]),
    ],
)
def test_groups_are_neighbours_closer_than_their_residuals_or_one_percent(values, residuals, groups) -> None:  # type: ignore[no-untyped-def]
    assert [g.tolist() for g in degenerate_groups(np.array(values), np.array(residuals))] == groups


def test_a_branch_ends_where_its_vector_leaves_and_another_begins() -> None:
    values = np.array([3.0, 2.0])
    pairs = [record(0, values, np.eye(4)[:2]), record(1, values, np.eye(4)[[0, 2]]), record(2, values, np.eye(4)[:2])]
    found = together(pairs)
    nan = np.nan
    np.testing.assert_array_equal(found.values, [[3, 3, 3], [2, nan, nan], [nan, 2, nan], [nan, nan, 2]])
    np.testing.assert_array_equal(found.rows, [[0, 0, 0], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    np.testing.assert_array_equal(found.subspace, [nan, 0.5, 0.5])
    assert found.at(1) == {0: 3.0, 2: 2.0}
    assert found.at(1.4) == {0: 3.0, 2: 2.0}
    assert found.at(1.6) == {0: 3.0, 3: 2.0}
    assert together(pairs[:1]).at(7) == {0: 3.0, 1: 2.0}


def test_between_checkpoints_ticks_move_along_their_branch() -> None:
    pairs, exact = crossing()
    found = together(pairs)
    for step in (-1.0, 0.0, 2.25, 4.5, 8.0, 11.0):
        place = float(np.clip(step, 0, 8))
        wanted = [np.interp(place, range(9), branch) for branch in exact]
        np.testing.assert_allclose([found.at(step)[branch] for branch in range(4)], wanted, rtol=1e-12)


def test_records_with_other_counts_of_eigenpairs_are_followed() -> None:
    pairs, exact = crossing()
    shorter = dataclasses.replace(pairs[4], values=pairs[4].values[:2], residuals=pairs[4].residuals[:2],
                                  vectors=pairs[4].vectors[[0, 1, 3]])  # fmt: skip
    found = together([*pairs[:4], shorter, *pairs[5:]])
    np.testing.assert_array_equal(found.values[:2], exact[:2])
    assert found.values.shape == (5, 9)  # the third ends and begins again as a fifth
    np.testing.assert_allclose(found.subspace[4], 1.0, rtol=1e-12)


# ------------------------------------------------------------------ invariances


@st.composite
def spectra(draw: st.DrawFn) -> list[Eigenpairs]:
    """Eigenpairs of a random symmetric matrix under small random steps."""
    seed, steps, size = draw(st.integers(0, 10_000)), draw(st.integers(2, 5)), draw(st.integers(4, 9))
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(size, size))
    found = []
    for step in range(steps):
        values, vectors = np.linalg.eigh(matrix + matrix.T)
        found.append(record(step, values, vectors.T))
        matrix = matrix + draw(st.sampled_from([0.02, 0.2])) * generator.normal(size=(size, size))
    return found


@settings(max_examples=40, deadline=None)
@given(spectra(), st.integers(0, 10_000))
def test_signs_and_the_order_of_rows_change_nothing(pairs: list[Eigenpairs], seed: int) -> None:
    generator = np.random.default_rng(seed)
    other = []
    for pair in pairs:
        assert pair.vectors is not None
        order, signs = generator.permutation(len(pair.values)), generator.choice([-1.0, 1.0], len(pair.values))
        other.append(dataclasses.replace(
            pair, values=pair.values[order], residuals=pair.residuals[order],
            vectors=signs[:, None] * pair.vectors[order],
        ))  # fmt: skip
    first, second = together(pairs), together(other)
    np.testing.assert_allclose(first.values, second.values, rtol=1e-12)
    np.testing.assert_allclose(first.overlap, second.overlap, atol=1e-9)
    np.testing.assert_allclose(first.subspace, second.subspace, atol=1e-12)
    assert first.degenerate == second.degenerate


@settings(max_examples=40, deadline=None)
@given(spectra())
def test_followed_bases_stay_orthonormal_and_every_eigenpair_is_in_one_branch(pairs: list[Eigenpairs]) -> None:
    found = together(pairs)
    for i, pair in enumerate(pairs):
        basis = found.bases[i]
        np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-10)
        alive = np.flatnonzero(found.rows[:, i] >= 0)
        assert sorted(found.rows[alive, i].tolist()) == list(range(len(pair.values)))
        np.testing.assert_array_equal(found.values[alive, i], pair.values[found.rows[alive, i]])
    overlap = found.overlap[np.isfinite(found.overlap)]
    assert ((overlap >= -1e-12) & (overlap <= 1 + 1e-9)).all()


# ------------------------------------------------------------------ a run on disk


def test_a_run_is_followed_two_records_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = softmax_run.full_run(tmp_path / "gd")
    asked: list[str] = []
    read = Run.read

    def told(self: Run, key: str, *, large: bool = False) -> Eigenpairs:
        asked.append(key)
        found: Eigenpairs = read(self, key, large=large)
        return found

    monkeypatch.setattr(Run, "read", told)
    found = followed(run)
    assert asked == run.keys("eigenpairs")  # each once
    pairs = [run.read(key, large=True) for key in run.keys("eigenpairs")]
    expected = together(pairs)
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.overlap, expected.overlap)
    assert found.steps.tolist() == list(softmax_run.trained()[0])


def test_bad_input_is_told(tmp_path: Path) -> None:
    run = softmax_run.bare_run(tmp_path / "bare")
    with pytest.raises(ProblemError, match="landscape spectrum"):
        followed(run)
    pairs, _ = crossing(3)
    with pytest.raises(ProblemError, match="2 matrices"):
        follow(pairs[:2], [np.eye(4)] * 2)
    with pytest.raises(ProblemError, match="different lengths"):
        cosines(pairs[0], dataclasses.replace(pairs[1], vectors=None))


def test_branches_are_exported_as_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = softmax_run.full_run(tmp_path / "gd")
    found = followed(run)
    assert cli.main(["export", str(run.root), "--record", "following", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == int((found.rows >= 0).sum())
    for row in rows:
        branch, place = int(row["branch"]) - 1, found.steps.tolist().index(int(row["step"]))
        assert float(row["value"]) == found.values[branch, place]
        assert int(row["row"]) == found.rows[branch, place] + 1
        named = [g for g in found.degenerate[place] if branch in g]
        assert row["degenerate_with"] == " ".join(str(b + 1) for g in named for b in g if b != branch)
    assert cli.main(["export", str(run.root), "--record", "following", "--only", "hessian"]) == 0
    (item,) = json.loads(capsys.readouterr().out)
    assert item["subspace_overlap"][0] is None
    np.testing.assert_allclose(item["subspace_overlap"][1:], found.subspace[1:])
    assert len(item["branches"]) == len(found.values)
    assert cli.main(["export", str(softmax_run.bare_run(tmp_path / "bare").root), "--record", "following"]) == 3


# ------------------------------------------------------------------ in the dashboard


def test_the_page_says_why_nothing_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from landscape.app.cards import branches
    from landscape.app.common import Scene
    from landscape.app.reading import Reader
    from landscape.app.view import Missing, Place

    run = softmax_run.full_run(tmp_path / "gd")
    scene = Scene.open(Reader(tmp_path), Place.parse("/run/gd/spectrum"), "gd")
    card = branches.card(scene)
    assert len(card.table(0)["branch"]) == 7 * 6  # every eigenpair is a row
    monkeypatch.setattr(branches, "FOLLOW_LIMIT", 100)
    with pytest.raises(Missing, match="GB, too much") as told:
        card.draw(0)
    assert "--record following --only hessian" in told.value.command
    for key in run.keys("eigenpairs"):
        (run.directory(key) / "vectors.safetensors").unlink()
    again = Scene.open(scene.reader, Place.parse("/run/gd/spectrum"), "gd")  # as the next look at the page does
    with pytest.raises(Missing, match="stored without vectors"):
        branches.card(again).draw(0)
