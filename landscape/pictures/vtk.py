"""Surfaces and trajectories as VTK XML files for ParaView, VisIt or PyVista: standard library and numpy only.

    write_surface(surface, "pca.vts")                  # structured grid: points (u, v, height)
    write_trajectory(trajectory, surface, "path.vtp")  # the path at its true loss, with lines down to the surface

Height is log10(loss), linear where a loss is not positive, times `height_scale` (a field of the file), which makes the
relief half as high as the plane is wide: its axes have units of weight, a loss has none.
"""

from __future__ import annotations

import base64
import os
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..records import Surface, Trajectory
from .encoding import publishing

Array = NDArray[np.float64]
TYPES = {"float64": "Float64", "int64": "Int64"}


class Heights:
    """Losses as heights: one rule for a surface and the paths on it."""

    def __init__(self, surface: Surface) -> None:
        finite = surface.loss[np.isfinite(surface.loss)]
        self.log = bool(len(finite) and (finite > 0).all())
        raw = self._raw(finite)
        tall = float(np.ptp(raw)) if len(raw) else 0.0
        wide = float(np.ptp(surface.u))
        self.scale = 0.5 * wide / tall if tall > 0 and wide > 0 else 1.0
        self.base = float(raw.min(initial=np.inf)) if len(raw) else 0.0

    def _raw(self, loss: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.log10(loss) if self.log else loss, dtype=np.float64)

    def of(self, loss: Array) -> Array:
        """Heights above the surface's lowest point; NaN where the loss is not finite."""
        raw = self._raw(loss)
        return np.where(np.isfinite(raw), self.scale * (raw - self.base), np.nan)


def write_surface(surface: Surface, out: str | os.PathLike[str]) -> Path:
    """A structured grid (.vts) with loss, height and the other metrics at its points.

    Where the loss is not finite the point lies on the ground and `finite` is 0.
    """
    heights = Heights(surface)
    u, v = np.meshgrid(surface.u, surface.v)  # (row, column)
    z = heights.of(surface.loss)
    points = np.stack([u, v, np.nan_to_num(z)], axis=-1).reshape(-1, 3)
    metrics = {name: getattr(surface, name) for name in ("loss", "accuracy", "test_loss", "test_accuracy")}
    data = {name: values.ravel() for name, values in metrics.items() if values is not None}
    data |= {"height": z.ravel(), "finite": np.isfinite(z).ravel().astype(np.int64)}
    extent = f"0 {len(surface.u) - 1} 0 {len(surface.v) - 1} 0 0"
    root, grid = _file("StructuredGrid", heights, WholeExtent=extent)
    piece = ET.SubElement(grid, "Piece", Extent=extent)
    _arrays(ET.SubElement(piece, "PointData", Scalars="loss"), data)
    _arrays(ET.SubElement(piece, "Points"), {"Points": points})
    return _write(root, out, ".vts")


def write_trajectory(trajectory: Trajectory, surface: Surface, out: str | os.PathLike[str]) -> Path:
    """Polylines (.vtp): the path at its true loss, and from every checkpoint a line down to the surface.

    The cell array `kind` is 0 for the path and 1 for those lines; points hold step, losses and distances.
    """
    heights, t = Heights(surface), trajectory
    count = len(t.steps)
    tops, feet = (np.column_stack([t.u, t.v, np.nan_to_num(heights.of(loss))]) for loss in (t.loss, t.surface_loss))
    names = ("loss", "surface_loss", "off_plane", "distance")
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.nan_to_num(t.off_plane / t.distance)
    data = {"step": np.tile(t.steps.astype(np.int64), 2)}
    data |= {name: np.tile(np.asarray(getattr(t, name), dtype=np.float64), 2) for name in names}
    data |= {"off_plane_share": np.tile(share, 2)}
    lines = np.concatenate([np.arange(count), np.column_stack([np.arange(count), count + np.arange(count)]).ravel()])
    ends = np.concatenate([[count], count + 2 * np.arange(1, count + 1)])
    kind = np.concatenate([[0], np.ones(count)]).astype(np.int64)
    root, poly = _file("PolyData", heights)
    piece = ET.SubElement(poly, "Piece", NumberOfPoints=str(2 * count), NumberOfLines=str(count + 1),
                          NumberOfVerts="0", NumberOfStrips="0", NumberOfPolys="0")  # fmt: skip
    _arrays(ET.SubElement(piece, "PointData", Scalars="loss"), data)
    _arrays(ET.SubElement(piece, "CellData"), {"kind": kind})
    _arrays(ET.SubElement(piece, "Points"), {"Points": np.concatenate([tops, feet])})
    _arrays(ET.SubElement(piece, "Lines"), {"connectivity": lines.astype(np.int64), "offsets": ends.astype(np.int64)})
    return _write(root, out, ".vtp")


def _file(kind: str, heights: Heights, **attributes: str) -> tuple[ET.Element, ET.Element]:
    """An empty file of a kind with its data set and the rule of its heights."""
    root = ET.Element("VTKFile", type=kind, version="1.0", byte_order="LittleEndian", header_type="UInt64")
    grid = ET.SubElement(root, kind, attributes)
    fields = {"height_scale": np.array([heights.scale]), "height_log10": np.array([int(heights.log)], dtype=np.int64)}
    _arrays(ET.SubElement(grid, "FieldData"), fields)
    for array in grid.iter("DataArray"):
        array.set("NumberOfTuples", "1")
    return root, grid


def _arrays(parent: ET.Element, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Arrays inline: base64 of their length in bytes (64 bit) and their little-endian numbers."""
    for name, values in arrays.items():
        data = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"))).tobytes()
        attributes = {"type": TYPES[values.dtype.name], "Name": name, "format": "binary"}
        if values.ndim == 2:
            attributes["NumberOfComponents"] = str(values.shape[1])
        text = base64.b64encode(len(data).to_bytes(8, "little") + data).decode("ascii")
        ET.SubElement(parent, "DataArray", attributes).text = text


def _write(root: ET.Element, out: str | os.PathLike[str], suffix: str) -> Path:
    target = Path(out)
    if target.suffix.lower() != suffix:
        raise UsageError(f"'{out}' must end in {suffix}")
    with publishing(target) as part:
        ET.ElementTree(root).write(part, encoding="utf-8", xml_declaration=True)
    return target
