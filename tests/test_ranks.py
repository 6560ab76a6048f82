"""One, two and four ranks give the same numbers: everything measured once on each (programs/on_ranks.py)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exact import PROGRAMS, mpirun, trained_mlp_state
from numpy.typing import NDArray
from references import references

Arrays = dict[str, NDArray[np.float64]]

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Arrays]:
    folder, results = tmp_path_factory.mktemp("ranks"), {}
    torch.save(trained_mlp_state(hidden=16, epochs=10), folder / "weights.pt")
    for ranks in (1, 2, 4):
        out = folder / f"{ranks}.npz"
        ended = mpirun(ranks, str(PROGRAMS / "on_ranks.py"), str(out), str(folder / "weights.pt"))
        assert ended.returncode == 0, ended.stderr
        with np.load(out) as arrays:
            results[ranks] = {name: arrays[name] for name in arrays.files}
        assert int(results[ranks]["other_data/ranks"]) == ranks
    return results


def part(arrays: Arrays, group: str) -> Arrays:
    return {name.partition("/")[2]: array for name, array in arrays.items() if name.startswith(f"{group}/")}


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize(("dtype", "accuracy"), [("float32", 1e-6), ("float64", 1e-12)])
def test_the_spectrum(found: dict[int, Arrays], dtype: str, accuracy: float, ranks: int) -> None:
    alone, other = part(found[1], dtype), part(found[ranks], dtype)
    scale = np.abs(alone["nodes"]).max()
    for name in ("nodes", "values", "lowest"):
        assert np.abs(other[name] - alone[name]).max() < accuracy * scale, name
    assert np.abs(other["weights"] - alone["weights"]).max() < 100 * accuracy
    np.testing.assert_allclose(other["vectors"], alone["vectors"], atol=1000 * accuracy)


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize(("dtype", "itemsize"), [("float32", 4), ("float64", 8)])
def test_products_send_what_the_model_says(found: dict[int, Arrays], dtype: str, itemsize: int, ranks: int) -> None:
    """One collective pair a block product, and 2 (P - 1) / P of a vector's bytes a rank for every vector multiplied."""
    spectrum = part(found[ranks], dtype)
    collectives, messages, sent, sums = spectrum["sent"].T
    np.testing.assert_array_equal(collectives, 2)
    np.testing.assert_array_equal(messages, 2 * (ranks - 1))
    model = 2 * (ranks - 1) / ranks * int(spectrum["size"]) * itemsize
    np.testing.assert_allclose(sent.mean(), model, rtol=1e-12)
    np.testing.assert_allclose(sent, model, rtol=2 * ranks / int(spectrum["size"]))
    assert sums.max() < 4  # small ones, of Gram-Schmidt and residuals; never one a batch or a column


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("operator", ["preconditioned", "difference"])
def test_operators_on_blocks(found: dict[int, Arrays], operator: str, ranks: int) -> None:
    alone, other = part(found[1], operator), part(found[ranks], operator)
    scale = np.abs(alone["values"]).max()
    for name in ("nodes", "values", "lowest"):
        np.testing.assert_allclose(other[name], alone[name], rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("group", ["plane", "space"])
def test_surfaces_trajectories_paths_and_volumes_bit_for_bit(
    found: dict[int, Arrays], group: str, ranks: int
) -> None:
    alone, other = part(found[1], group), part(found[ranks], group)
    assert len(alone) >= 6
    for name, array in alone.items():
        np.testing.assert_array_equal(other[name], array, err_msg=name)


def test_trained_curves_bit_for_bit(found: dict[int, Arrays]) -> None:
    alone, other = part(found[1], "curves"), part(found[2], "curves")
    assert len(alone) == 6
    for name, array in alone.items():
        np.testing.assert_array_equal(other[name], array, err_msg=name)


@pytest.mark.parametrize("ranks", [2, 4])
def test_derivatives_in_a_plane(found: dict[int, Arrays], ranks: int) -> None:
    alone, other = part(found[1], "derivatives"), part(found[ranks], "derivatives")
    np.testing.assert_allclose(other["gradient"], alone["gradient"], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(other["hessian"], alone["hessian"], rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(found[2]["derivatives/gradient"], found[4]["derivatives/gradient"])


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_closed_forms(found: dict[int, Arrays], dtype: str, ranks: int) -> None:
    errors = found[ranks][f"closed_forms/{dtype}"]
    assert len(errors) == sum(len(r.cases) for r in references().values())
    assert errors.max() < 1
