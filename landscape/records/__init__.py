"""What a job measures and the app shows: frozen records of numpy arrays with named axes and units.

A record stores measurements, never pictures: kernel widths, axes and error bands are chosen when it is looked at.
A kind of record is one file of this package (its axes, its fields, its key) and its line below.
"""

from __future__ import annotations

from ._record import Array, Axes, Meta, Record, check_key, operator_key
from .architecture import Architecture, architecture_key
from .curve import Curve, curve_key
from .eigenpairs import Eigenpairs, eigenpairs_key
from .front import Front, front_key
from .game import Game, game_key
from .halves import Halves, halves_key
from .path import Path, path_key
from .run_info import RunInfo
from .scale_space import ScaleSpace, scale_space_key
from .spectrum import Spectrum, spectrum_key
from .structure import Saliency, Structure, saliency_key, structure_key
from .surface import Surface, surface_key
from .trajectory import Guest, Trajectory, guest_key, trajectory_key
from .volume import Volume, volume_key

KINDS: dict[str, type[Record]] = {
    kind.kind: kind
    for kind in (
        Spectrum,
        Eigenpairs,
        Halves,
        Surface,
        Volume,
        Trajectory,
        Guest,
        Path,
        Curve,
        Architecture,
        Front,
        Game,
        ScaleSpace,
        Saliency,
        Structure,
    )
}

__all__ = [
    "KINDS",
    "Architecture",
    "Array",
    "Axes",
    "Curve",
    "Eigenpairs",
    "Front",
    "Game",
    "Guest",
    "Halves",
    "Meta",
    "Path",
    "Record",
    "RunInfo",
    "Saliency",
    "ScaleSpace",
    "Spectrum",
    "Structure",
    "Surface",
    "Trajectory",
    "Volume",
    "architecture_key",
    "check_key",
    "curve_key",
    "eigenpairs_key",
    "front_key",
    "game_key",
    "guest_key",
    "halves_key",
    "operator_key",
    "path_key",
    "saliency_key",
    "scale_space_key",
    "spectrum_key",
    "structure_key",
    "surface_key",
    "trajectory_key",
    "volume_key",
]
