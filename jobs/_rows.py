"""Records as CSV: rows of their numbers, a kind's own where its axes alone would not say enough."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]


def text(kind: str, objects: list[Object]) -> str:
    """One table of all objects of a kind."""
    import csv
    import io

    rows = [row for item in objects for row in _rows(kind, item)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _rows(kind: str, item: Object) -> Iterator[Object]:
    """A kind's own rows, else those of its axes."""
    return _ROWS[kind](item) if kind in _ROWS else _rows_of_axes(kind, item)


def _rows_of_axes(kind: str, item: Object) -> Iterator[Object]:
    """A row for every place on every axis, with the numbers that have that axis alone, and its name."""
    from landscape.records import KINDS

    axes = KINDS[kind].axes
    whole = {name: value for name, value in item.items() if isinstance(value, (str, int, float))}
    for axis in dict.fromkeys(dims[0] for dims, _text in axes.values() if len(dims) == 1):
        columns = {name: item[name] for name, (dims, _text) in axes.items() if dims == (axis,) and name in item}
        if isinstance(item.get(f"{axis}s"), list):
            columns = {"name": item[f"{axis}s"], **columns}
        for index, values in enumerate(zip(*columns.values(), strict=False)):
            yield {**whole, "axis": axis, "place": index, **dict(zip(columns, values, strict=True))}


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
