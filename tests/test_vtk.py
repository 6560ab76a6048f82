"""VTK files hold the records' own numbers: read back from the XML, as the format's description says to."""

from __future__ import annotations

import base64
import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import softmax_run
from numpy.typing import NDArray

from landscape import cli
from landscape.errors import UsageError
from landscape.pictures import vtk


def array(root: ET.Element, name: str) -> NDArray[np.generic]:
    """A data array: base64 of a 64-bit length in bytes and that many bytes."""
    (element,) = root.iterfind(f".//DataArray[@Name='{name}']")
    assert (root.get("header_type"), root.get("byte_order")) == ("UInt64", "LittleEndian")
    assert element.get("format") == "binary"
    raw = base64.b64decode(element.text or "")
    assert int.from_bytes(raw[:8], "little") == len(raw) - 8
    values = np.frombuffer(raw[8:], {"Float64": "<f8", "Int64": "<i8"}[element.get("type") or ""])
    parts = element.get("NumberOfComponents")
    return values if parts is None else values.reshape(-1, int(parts))


def test_a_surface_file_has_the_grids_points_and_losses_in_order(tmp_path: Path) -> None:
    surface, _ = softmax_run.plane(5)
    surface = dataclasses.replace(surface, v=surface.v[:4], loss=surface.loss[:4].copy(), accuracy=np.ones((4, 5)))
    surface.loss[1, 2] = np.nan
    root = ET.parse(vtk.write_surface(surface, tmp_path / "s.vts")).getroot()
    assert root.get("type") == "StructuredGrid"
    (grid,) = root.iterfind("StructuredGrid")
    assert grid.get("WholeExtent") == grid.find("Piece").get("Extent") == "0 4 0 3 0 0"  # type: ignore[union-attr]
    points = array(root, "Points")
    np.testing.assert_array_equal(points[:, 0], np.tile(surface.u, 4))  # u runs fastest
    np.testing.assert_array_equal(points[:, 1], np.repeat(surface.v, 5))
    np.testing.assert_array_equal(array(root, "loss"), surface.loss.ravel())
    np.testing.assert_array_equal(array(root, "accuracy"), 1.0)
    np.testing.assert_array_equal(array(root, "finite"), np.isfinite(surface.loss.ravel()))
    (scale,) = array(root, "height_scale")
    good = np.isfinite(surface.loss).ravel()
    rise = np.log10(surface.loss.ravel()[good]) - np.log10(np.nanmin(surface.loss))
    np.testing.assert_allclose(points[good, 2], scale * rise, atol=1e-12)
    assert np.ptp(points[:, 2]) == pytest.approx(0.5 * np.ptp(surface.u))
    assert np.isfinite(points).all()


def test_a_trajectory_file_has_the_path_at_its_true_loss_and_lines_to_the_surface(tmp_path: Path) -> None:
    surface, t = softmax_run.plane(5)
    root = ET.parse(vtk.write_trajectory(t, surface, tmp_path / "t.vtp")).getroot()
    count = len(t.steps)
    points, lines, ends = array(root, "Points"), array(root, "connectivity"), array(root, "offsets")
    pieces = np.split(lines, ends[:-1])
    np.testing.assert_array_equal(pieces[0], np.arange(count))
    assert [p.tolist() for p in pieces[1:]] == [[i, count + i] for i in range(count)]
    heights = vtk.Heights(surface)
    np.testing.assert_allclose(points[:count], np.column_stack([t.u, t.v, heights.of(t.loss)]))
    np.testing.assert_allclose(points[count:, 2], heights.of(t.surface_loss))
    np.testing.assert_array_equal(array(root, "step")[:count], t.steps)
    np.testing.assert_array_equal(array(root, "off_plane")[:count], t.off_plane)
    np.testing.assert_array_equal(array(root, "kind"), [0] + [1] * count)
    with pytest.raises(UsageError, match="vtp"):
        vtk.write_trajectory(t, surface, tmp_path / "t.vtk")


def test_negative_losses_get_linear_heights() -> None:
    surface, _ = softmax_run.plane(3)
    heights = vtk.Heights(dataclasses.replace(surface, loss=surface.loss - 5))
    assert not heights.log
    assert heights.of(surface.loss - 5).min() == 0


def test_the_job_writes_a_file_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = softmax_run.full_run(tmp_path / "run")
    assert cli.main(["export", str(run.root), "--vtk", str(tmp_path / "vtk")]) == 0
    written = sorted(p.name for p in (tmp_path / "vtk").iterdir())
    assert written == ["surface-pca-00000060.vts", "trajectory-pca-00000060.vtp"]
    bare = softmax_run.bare_run(tmp_path / "bare")
    assert cli.main(["export", str(bare.root), "--vtk", str(tmp_path / "none")]) == 3
    assert "landscape surface" in capsys.readouterr().err
