"""Figures and VTK files of a run, for `landscape export`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from landscape import plugins
from landscape.errors import ProblemError, UsageError

from . import _common

FORMATS = ("pdf", "svg", "png")


def names() -> list[str]:
    """The figures there are, without importing matplotlib."""
    return plugins.names("landscape.pictures.figures")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("figures")
    for name in FORMATS:
        group.add_argument(f"--{name}", action="store_true", help="default: pdf" if name == "pdf" else None)
    group.add_argument("--size", default="text", metavar="SIZE",
                       help="column (3.35 in), text (6.75 in), slide (12 in) or 120x80mm and such (default: text)")
    group.add_argument("--dark", action="store_true", help="light on dark")
    group.add_argument("--no-caption", action="store_true", help="leave the caption out of the picture")
    group.add_argument("--step", type=_common.natural, help="of the density, the eigenvalues or the plane's origin")
    group.add_argument("--plane", choices=("pca", "eigen", "random"), help="default: the first of these that is there")
    group.add_argument("--operator", default="hessian", help="whose spectrum (default: hessian)")
    group.add_argument("--path", metavar="NAME", help="key of a path or the other run's name (default: the first)")


def write(args: argparse.Namespace) -> int:
    """Write one figure, or all that the run has records for, in every format that is asked for."""
    from landscape.pictures import paper
    from landscape.stores.run_directory import Run

    run, folder = Run(args.run), Path(args.out or ".")
    if folder.is_file():
        raise UsageError(f"--out '{folder}' is a file; name a directory for the figures")
    sheet = paper.Sheet.of(args.size, dark=args.dark, captioned=not args.no_caption)
    choice = paper.Choice(args.step, args.plane, args.operator, args.path)
    formats = [name for name in FORMATS if getattr(args, name)] or ["pdf"]
    written = 0
    for name in names() if args.figure == "all" else [args.figure]:
        try:
            plate = paper.make(run, name, choice, sheet)
        except ProblemError as error:
            if args.figure != "all":
                raise
            print(f"{name}: {error}")
            continue
        for suffix in formats:
            print(paper.save(plate, folder / f"{name}.{suffix}"))
            written += 1
        print(f"  {plate.caption}")
    if not written:
        raise ProblemError(f"run '{args.run}' has no record that a figure could show; see above")
    return 0


def write_vtk(args: argparse.Namespace) -> int:
    """Every surface of the run, and every trajectory on one of them, as a VTK file."""
    from landscape.pictures import vtk
    from landscape.stores.run_directory import Run

    run, folder = Run(args.run), Path(args.vtk)
    surfaces: dict[Any, Any] = {}
    for key in run.keys("surface"):
        record = run.read(key)
        surfaces[record.plane, record.step] = record
        print(vtk.write_surface(record, folder / f"{key}.vts"))
    if not surfaces:
        raise ProblemError(
            f"run '{args.run}' has no surface; compute one first: landscape surface {args.run} --plane pca"
        )
    for key in run.keys("trajectory"):
        record = run.read(key)
        if (record.plane, record.step) in surfaces:
            print(vtk.write_trajectory(record, surfaces[record.plane, record.step], folder / f"{key}.vtp"))
    return 0
