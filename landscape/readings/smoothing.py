"""How wide the kernel must be: the smallest width at which more iterations would draw the same density. Numpy only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..records import Spectrum
from .quadrature import LAMBDA0, SHARP_U, asinh_density, density, measure, resolved, to_asinh
from .rules import halved

WIDTHS = tuple(np.geomspace(1e-5, 1.0, 41))  # of the range of the nodes
# In u = asinh(lambda / lambda0). Wider kernels blur more than they mend: on the digits network (4 x 50 products) the
# density with 0.5 differs by 0.1 in L1 from the exact one with the same kernel, with 1.0 by as much.
WIDTHS_U = tuple(np.geomspace(0.06, 0.5, 14))
CHANGE = 0.05  # in L1: what half the iterations may change
LOOKED_AT = 9  # spectra of a run that decide its width


def settled_width(spectrum: Spectrum, change: float = CHANGE) -> float | None:
    """Standard deviation of the Gaussian kernel from which on half the iterations give the same density.

    The smallest width at which the smoothed densities of the run and of its first half differ by less than `change` in
    L1; eigenvalue units. None where the record cannot be halved or no width up to the range does.
    """
    half = halved(spectrum)
    if half is None:
        return None
    nodes, weights = measure(spectrum)
    other = measure(half)
    reach = float(nodes[-1] - nodes[0])

    def differ(width: float) -> float:
        # A grid as fine as the kernel where there are nodes: other places carry nothing.
        near = np.concatenate([nodes, other[0]])[:, None] + width * np.arange(-4.0, 4.01, 0.4)
        grid = np.unique(near)
        heights = np.abs(density(nodes, weights, grid, width) - density(*other, grid, width))
        return float(np.trapezoid(heights, grid))

    return _smallest((reach * w for w in WIDTHS), differ, change) if reach > 0 else None


@dataclass(frozen=True)
class Width:
    """Standard deviation in u of the kernels of a density on the asinh axis: `asinh_density`'s two."""

    value: float  # of nodes that stand for many eigenvalues
    sharp: float | None = None  # of eigenvalues that are known one by one; None: the same
    change: float = float("nan")  # L1 by which half the iterations would change the drawn density; NaN: not known

    @property
    def settled(self) -> bool:
        return self.change < CHANGE

    @property
    def text(self) -> str:
        """The width and what half the iterations would change, in words."""
        if np.isnan(self.change):
            return f"{self.value:.2g}"
        return f"{self.value:.2g} (half the iterations: up to {100 * self.change:.0f} % different)"


def automatic(spectra: Sequence[Spectrum], lambda0: float = LAMBDA0) -> Width:
    """One width for several spectra: the smallest at which half the iterations change no density by 5 % in L1.

    At most `LOOKED_AT` of them, evenly spread, are looked at. Eigenvalues known one by one stay sharp. Where the
    records cannot be halved, or all nodes are known eigenvalues, it is `SHARP_U`; where no width settles, the widest.
    """
    places = np.unique(np.linspace(0, max(len(spectra) - 1, 0), LOOKED_AT).round().astype(int))
    found = [settled_width_u(spectra[k], lambda0) for k in places if k < len(spectra)]
    known = [w for w in found if w is not None]
    if not known:
        return Width(SHARP_U)
    return max(known, key=lambda w: (w.value, w.change))


def settled_width_u(spectrum: Spectrum, lambda0: float = LAMBDA0) -> Width | None:
    """The width of one spectrum; None where it has nothing to smooth or cannot be halved."""
    half = halved(spectrum)
    if half is None or resolved(spectrum, lambda0).all():
        return None
    ends = to_asinh([np.nanmin(spectrum.nodes), np.nanmax(spectrum.nodes)], lambda0)
    grid = np.linspace(ends[0] - 5, ends[1] + 5, 1600)

    def differ(width: float) -> float:
        pair = [asinh_density(s, grid, lambda0, width, min(width, SHARP_U)) for s in (spectrum, half)]
        return float(np.trapezoid(np.abs(pair[0] - pair[1]), grid))

    value = _smallest(WIDTHS_U, differ, CHANGE) or float(WIDTHS_U[-1])
    return Width(value, min(value, SHARP_U), differ(value))


def _smallest(widths: Iterable[float], differ: Callable[[float], float], change: float) -> float | None:
    """The first of ascending widths from which on every wider one is settled too."""
    chosen = None
    for width in reversed(list(widths)):
        if differ(width) >= change:
            break
        chosen = width
    return None if chosen is None else float(chosen)
