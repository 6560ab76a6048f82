"""Export a run: records as JSON or CSV, figures as PDF, SVG or PNG, surfaces and trajectories for ParaView.

  landscape export runs/adam --record eigenpairs --format json
  landscape export runs/adam --record spectrum --format csv --out spectrum.csv
  landscape export runs/adam --figure surface --pdf
  landscape export runs/adam --figure all --svg --png --size column --dark --out figures
  landscape export runs/adam --vtk paraview

It needs no ranks; the jobs that compute records do, e.g.
  mpirun -n 4 landscape spectrum runs/adam

JSON is a list with one object a checkpoint or record; NaN is null and the padding of short quadrature rules is left
out. CSV has one line a value. Figures are files NAME.pdf (and so on) in the directory --out; their captions, which
state the error of the projection, are printed, stand below the picture (--no-caption: not) and in the file. --vtk
writes every surface as NAME.vts and every trajectory as NAME.vtp.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from landscape.errors import ProblemError, UsageError

from . import _figures, _rows

Object = dict[str, Any]


def _kinds() -> list[str]:
    """Kinds of record, and 'following': the branches of the eigenpairs' vectors."""
    from landscape.records import KINDS

    return [*(name for name in KINDS if name != "curve"), "following"]  # a curve is a path's own weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--record", choices=_kinds(), metavar="KIND", help=f"numbers: {', '.join(_kinds())}")
    what.add_argument("--figure", metavar="NAME", help=f"{', '.join(_figures.names())}, or all that there is data for")
    what.add_argument("--vtk", metavar="DIRECTORY", help="surfaces and trajectories as VTK files")
    group = parser.add_argument_group("numbers")
    group.add_argument("--format", choices=("json", "csv"), default="json", help="default: json")
    group.add_argument("--only", metavar="NAME", help="one operator or one plane, e.g. hessian or pca")
    group.add_argument("--out", metavar="FILE", help="default: standard output; of figures: directory, default here")
    _figures.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.figure is not None:
        return _figures.write(args)
    if args.vtk is not None:
        return _figures.write_vtk(args)
    return _write_records(args)


def _write_records(args: argparse.Namespace) -> int:
    from landscape.records import KINDS
    from landscape.stores.files import to_json, write_text
    from landscape.stores.run_directory import Run

    store = Run(args.run)
    kind = "eigenpairs" if args.record == "following" else args.record  # what is followed are eigenpairs
    keys = [k for k in store.keys(kind) if args.only is None or k.startswith(f"{kind}-{args.only}-")]
    if not keys:
        maker = KINDS[kind].made_by.replace("RUN", args.run, 1)
        raise ProblemError(f"run '{args.run}' has no {args.record} record; compute one first: landscape {maker}")
    objects = _followed(store, keys) if args.record == "following" else [_object(store.read(k)) for k in keys]
    text = to_json(objects) + "\n" if args.format == "json" else _rows.text(args.record, objects)
    if args.out is None:
        sys.stdout.write(text)
        return 0
    if Path(args.out).is_dir():
        raise UsageError(f"--out '{args.out}' is a directory; name a file")
    write_text(Path(args.out), text)
    return 0


# ---------------------------------------------------------------------- JSON


def _object(record: Any) -> Object:
    """A kind's own form, else all of its fields."""
    return _OBJECTS[record.kind](record) if record.kind in _OBJECTS else _whole(record)


def _whole(record: Any) -> Object:
    import dataclasses

    names = [f.name for f in dataclasses.fields(record) if f.name not in ("meta", *record.large)]
    return {name: value for name in names if (value := getattr(record, name)) is not None}


def _spectrum(record: Any) -> Object:
    import numpy as np

    rows = [np.isfinite(nodes) for nodes in record.nodes]  # padding is NaN
    cut = {
        name: [row[keep].tolist() for row, keep in zip(getattr(record, name), rows, strict=True)]
        for name in ("nodes", "weights", "residuals", "gauss_weights")
    }
    return {"step": record.step, "operator": record.operator, "size": record.size, **cut}


def _eigenpairs(record: Any) -> Object:
    names = ("values", "residuals", "lowest_values", "lowest_residuals")
    slope = record.meta.get("gradient")
    return {"step": record.step, "operator": record.operator, "size": record.size,
            **{name: getattr(record, name) for name in names},
            **({"gradient": slope} if isinstance(slope, dict) else {})}  # fmt: skip


def _followed(store: Any, keys: list[str]) -> list[Object]:
    """One object an operator: the eigenvalue branches of all its checkpoints."""
    import numpy as np

    from landscape.readings.following import followed

    objects = []
    for operator in dict.fromkeys(store.meta(key)["operator"] for key in keys):
        found = followed(store, operator)
        branches = []
        for branch, rows in enumerate(found.rows, start=1):
            here = np.flatnonzero(rows >= 0)
            columns = {"value": found.values, "residual": found.residuals, "overlap": found.overlap}
            branches.append({"branch": branch, "step": found.steps[here], "row": rows[here] + 1,
                             **{name: column[branch - 1, here] for name, column in columns.items()}})  # fmt: skip
        degenerate = [
            {"step": int(step), "branches": [b + 1 for b in group]}
            for step, groups in zip(found.steps, found.degenerate, strict=True) for group in groups
        ]
        objects.append({"operator": operator, "step": found.steps, "subspace_overlap": found.subspace,
                        "lowest_subspace_overlap": found.lowest_subspace, "degenerate": degenerate,
                        "branches": branches})  # fmt: skip
    return objects


def _halves(record: Any) -> Object:
    from landscape.readings.sampling import sampling

    found = sampling(record)
    return {"step": record.step, "operator": record.operator, "size": record.size, **record.arrays(),
            "errors": found.errors, "lowest_errors": found.lowest_errors, "freedom": found.freedom,
            "trace_error": found.trace, "density_distance": found.distance}  # fmt: skip


def _surface(record: Any) -> Object:
    names = ("u", "v", "loss", "accuracy", "test_loss", "test_accuracy")
    found = {name: getattr(record, name) for name in names if getattr(record, name) is not None}
    model = record.meta.get("quadratic") if record.kind == "surface" else None
    return {"step": record.step, "plane": record.plane, "labels": record.labels,
            **({"quadratic": model} if model else {}), **found}  # fmt: skip


def _volume(record: Any) -> Object:
    path = {name: getattr(record, name) for name in ("off_volume", "distance", "path_loss", "volume_loss")}
    return {**_surface(record), "w": record.w, "checkpoint": record.steps, "path": record.path, **path}


def _trajectory(record: Any) -> Object:
    names = ("u", "v", "off_plane", "distance", "loss", "surface_loss")
    more = ("moved", "gradient_u", "gradient_v", "gradient_norm")
    found = {name: getattr(record, name) for name in more if getattr(record, name) is not None}
    whose: Object = {"run": record.run} if record.kind == "guest" else {}
    return {**whose, "plane": record.plane, "origin_step": record.step, "step": record.steps,
            **{name: getattr(record, name) for name in names}, **found}  # fmt: skip


def _path(record: Any) -> Object:
    names = ("t", "loss", "barrier", "length", "accuracy", "test_loss", "test_accuracy")
    found = {name: getattr(record, name) for name in names if getattr(record, name) is not None}
    ends = {name: getattr(record, name) for name in ("run_a", "run_b", "step_a", "step_b", "shape")}
    spectra = {"spectra": [_spectrum(s) for s in record.spectra]} if record.spectra else {}
    pairs = {"eigenpairs": [_eigenpairs(e) for e in record.eigenpairs]} if record.eigenpairs else {}
    return {**ends, **found, **spectra, **pairs}


def _architecture(record: Any) -> Object:
    names = ("source", "target", "norms", "sizes", "kept")
    return {"step": record.step, "read_off": record.read_off, "threshold": record.threshold, "kind": record.kinds,
            "operation": record.operations, **{name: getattr(record, name) for name in names}}  # fmt: skip


def _game(record: Any) -> Object:
    arrays = {name: array for name, array in record.arrays().items() if not name.endswith("samples")}
    names = {"players": record.players, "cross_names": record.cross_names, "metric_names": record.metric_names}
    return {"step": record.step, "size": record.size, **names, **arrays}


_OBJECTS = {"spectrum": _spectrum, "eigenpairs": _eigenpairs, "halves": _halves, "surface": _surface, "volume": _volume,
            "trajectory": _trajectory, "guest": _trajectory, "path": _path,
            "architecture": _architecture, "game": _game}  # fmt: skip
