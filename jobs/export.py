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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from landscape.errors import ProblemError, UsageError

from . import _figures

KINDS = ("spectrum", "eigenpairs", "following", "halves", "surface", "volume", "trajectory", "guest", "path",
         "architecture", "game")  # fmt: skip
_MAKERS = {"spectrum": "spectrum RUN", "eigenpairs": "spectrum RUN", "halves": "spectrum RUN --halves",
           "surface": "surface RUN --plane pca", "following": "spectrum RUN", "volume": "volume RUN --plane pca",
           "trajectory": "trajectory RUN", "guest": "trajectory RUN OTHER", "path": "path RUN OTHER_RUN",
           "architecture": "derive RUN",
           "game": "game RUN"}  # fmt: skip
Object = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--record", choices=KINDS, help="numbers")
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
    from landscape.stores.files import to_json, write_text
    from landscape.stores.run_directory import Run

    store = Run(args.run)
    kind = "eigenpairs" if args.record == "following" else args.record  # what is followed are eigenpairs
    keys = [k for k in store.keys(kind) if args.only is None or k.startswith(f"{kind}-{args.only}-")]
    if not keys:
        maker = _MAKERS[args.record].replace("RUN", args.run, 1)
        raise ProblemError(f"run '{args.run}' has no {args.record} record; compute one first: landscape {maker}")
    objects = _followed(store, keys) if args.record == "following" else [_OBJECTS[kind](store.read(k)) for k in keys]
    text = to_json(objects) + "\n" if args.format == "json" else _csv(args.record, objects)
    if args.out is None:
        sys.stdout.write(text)
        return 0
    if Path(args.out).is_dir():
        raise UsageError(f"--out '{args.out}' is a directory; name a file")
    write_text(Path(args.out), text)
    return 0


# ---------------------------------------------------------------------- JSON


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

    from landscape.following import followed

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
    from landscape.sampling import sampling

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


# ---------------------------------------------------------------------- CSV


def _csv(kind: str, objects: list[Object]) -> str:
    import csv
    import io

    rows = [row for item in objects for row in _ROWS[kind](item)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _spectrum_rows(item: Object) -> Iterator[Object]:
    for probe, nodes in enumerate(item["nodes"]):
        for i, node in enumerate(nodes):
            yield {"step": item["step"], "operator": item["operator"], "probe": probe, "node": node,
                   "weight": item["weights"][probe][i], "residual": item["residuals"][probe][i]}  # fmt: skip


def _eigenpairs_rows(item: Object) -> Iterator[Object]:
    for end, prefix in (("largest", ""), ("smallest", "lowest_")):
        pairs = zip(item[f"{prefix}values"], item[f"{prefix}residuals"], strict=True)
        for index, (value, residual) in enumerate(pairs, start=1):
            yield {"step": item["step"], "operator": item["operator"], "end": end, "index": index, "value": value,
                   "residual": residual}  # fmt: skip


def _following_rows(item: Object) -> Iterator[Object]:
    for branch in item["branches"]:
        for i, step in enumerate(branch["step"]):
            own = branch["branch"]
            groups = [g["branches"] for g in item["degenerate"] if g["step"] == step and own in g["branches"]]
            others = " ".join(str(b) for group in groups for b in group if b != own)
            values = {name: branch[name][i] for name in ("row", "value", "residual", "overlap")}
            yield {"operator": item["operator"], "branch": own, "step": step, **values, "degenerate_with": others}


def _halves_rows(item: Object) -> Iterator[Object]:
    for end, name in (("largest", "errors"), ("smallest", "lowest_errors")):
        for index, error in enumerate(item[name], start=1):
            yield {"step": item["step"], "operator": item["operator"], "end": end, "index": index, "error": error,
                   "freedom": item["freedom"]}  # fmt: skip


def _surface_rows(item: Object) -> Iterator[Object]:
    metrics = [name for name in ("loss", "accuracy", "test_loss", "test_accuracy") if name in item]
    for row, v in enumerate(item["v"]):
        for column, u in enumerate(item["u"]):
            yield {"step": item["step"], "plane": item["plane"], "u": u, "v": v,
                   **{name: item[name][row][column] for name in metrics}}  # fmt: skip


def _volume_rows(item: Object) -> Iterator[Object]:
    metrics = [name for name in ("loss", "accuracy", "test_loss", "test_accuracy") if name in item]
    for slab, w in enumerate(item["w"]):
        for row in _surface_rows({**item, **{name: item[name][slab] for name in metrics}}):
            place = {name: row.pop(name) for name in ("step", "plane", "u", "v")}
            yield {**place, "w": w, **row}


def _trajectory_rows(item: Object) -> Iterator[Object]:
    names = [name for name in item if name not in ("run", "plane", "origin_step")]
    whose: Object = {name: item[name] for name in ("run", "plane") if name in item}
    for values in zip(*(item[name] for name in names), strict=True):
        yield {**whose, **dict(zip(names, values, strict=True))}


def _path_rows(item: Object) -> Iterator[Object]:
    metrics = [name for name in ("loss", "accuracy", "test_loss", "test_accuracy") if name in item]
    for i, t in enumerate(item["t"]):
        largest = {"sharpness": item["eigenpairs"][i]["values"][0]} if "eigenpairs" in item else {}
        yield {"run_a": item["run_a"], "run_b": item["run_b"], "t": t, **{n: item[n][i] for n in metrics}, **largest}


def _architecture_rows(item: Object) -> Iterator[Object]:
    names = ("kind", "source", "target", "operation", "norms", "sizes", "kept")
    for values in zip(*(item[name] for name in names), strict=True):
        yield {"step": item["step"], "read_off": item["read_off"], **dict(zip(names, values, strict=True))}


def _game_rows(item: Object) -> Iterator[Object]:
    metrics = dict(zip(item["metric_names"], item.get("metrics", ()), strict=True))
    losses = {f"loss_{p}": loss for p, loss in zip(item["players"], item["losses"], strict=True)}
    for values in zip(item["real"], item["imaginary"], item["residuals"], strict=True):
        found = dict(zip(("real", "imaginary", "residual"), values, strict=True))
        yield {"step": item["step"], **found, **losses, **metrics}


_ROWS = {"spectrum": _spectrum_rows, "eigenpairs": _eigenpairs_rows, "halves": _halves_rows, "surface": _surface_rows,
         "following": _following_rows, "volume": _volume_rows,
         "trajectory": _trajectory_rows, "guest": _trajectory_rows, "path": _path_rows,
         "architecture": _architecture_rows, "game": _game_rows}  # fmt: skip
