"""GAN: losses, modes and curvature of two networks that train against each other, at one selected step."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from landscape.readings.history import MODES
from landscape.readings.leading import LeadLag

from .. import shell
from ..axes import step_position
from ..cards.games import Found, is_game, name, short
from ..cards.spectra import density_card, heat_card
from ..common import Scene, badge
from ..numbers import brief, number
from ..plots import complex_plane, lead_lag, samples
from ..plots import game as plot
from ..reading import Reader
from ..style import move_cursor
from ..view import Card, Kpi, Missing, Page, Place, href

NAME, ORDER = "GAN", 6.5
LOGARITHMIC = ("mode_kl", "pixel_fid")


def match(parts: tuple[str, ...]) -> bool:
    return len(parts) == 3 and parts[0] == "run" and parts[2] == "gan"


def link(run: str | None, _page: Page | None = None) -> str | None:
    return href("run", run, "gan") if run else None


def applies(reader: Reader, run: str) -> bool:
    """Whether the navigation shows this page for a run."""
    return is_game(reader, reader.run(run))


def build(reader: Reader, place: Place) -> Page:
    scene = Scene.open(reader, place, place.parts[1])
    found = Found(scene)
    pairs = [spectrum_cards(found, p) for p in found.players]
    spectra = [card for row in zip(*pairs, strict=True) for card in row]  # the players side by side
    return Page(
        f"{badge(scene)}: GAN",
        runs=[scene.run_id],
        run=scene.run_id,
        badge=badge(scene),
        slider=(found.scenes[found.players[0]] if found.players else scene).slider,
        kpis=lambda i: kpis(found, scene.step(i)),
        tabs=tabs(found),
        cards=[over_card(found), plane_card(found), samples_card(found), *spectra, lead_card(found)],
    )


def tabs(found: Found) -> list[Any]:
    scene = found.scene

    def url(**changes: str) -> str:
        kept = {"x": "log" if scene.log else "", "of": scene.place.query.get("of", "")}
        return href("run", scene.run_id, "gan", **{**kept, **changes})

    rows = [shell.tabs("Steps", [("linear", url(x=""), not scene.log), ("log", url(x="log"), scene.log)], "step")]
    metrics = list(found.past.metrics) if found.players else []
    if len(metrics) > 1:
        entries = [(name(m), url(of="" if m == metrics[0] else m), m == found.metric) for m in metrics]
        rows.append(shell.tabs("Lead or lag of", entries, "step"))
    return rows


# ------------------------------------------------------------------ key numbers


def kpis(found: Found, at: int) -> list[Kpi]:
    past = found.past
    total, fallen = past.total, past.collapse
    covered = _value(past.curves.get(MODES), at)
    of = f" of {total}" if total else ""
    hint = "" if fallen is None else fallen.told(total)
    rows = [
        Kpi("Step", f"{at:,}", f"{len(found.records)} standings of {' and '.join(past.players)}"),
        Kpi("Modes covered", "–" if covered is None else f"{covered:.0f}{of}", hint,
            "" if fallen is None else ("warn" if fallen.fallen is not None else "good")),
    ]  # fmt: skip
    for player in past.players:
        loss, sharp = _value(past.losses.get(player), at), _value(found.sharpness(player), at)
        rows.append(Kpi(f"λmax, {player}", "–" if sharp is None else number(sharp, 4),
                        "no loss at this step" if loss is None else f"loss {number(loss)}"))  # fmt: skip
    rows.append(_jacobian_kpi(found, at))
    quality = _value(past.curves.get("hq_share"), at)
    if quality is not None:
        rows.append(Kpi("High-quality share", f"{100 * quality:.1f} %", "of the made samples"))
    return rows


def _jacobian_kpi(found: Found, at: int) -> Kpi:
    here = found.at(at)
    if here is None or not len(here.real):
        return Kpi("Jacobian, least real part", "–", "not computed at this step")
    low, turning = float(here.real.min()), float(np.abs(here.imaginary).max())
    text = "descent leaves this point" if low < 0 else "descent is drawn to this point"
    return Kpi("Jacobian, least real part", number(low), f"{text}; turning up to {number(turning)}",
               "warn" if low < 0 else "good")  # fmt: skip


def _value(curve: Any, at: int) -> float | None:
    if curve is None:
        return None
    places = np.flatnonzero(curve[0] == at)
    return float(curve[1][places[-1]]) if len(places) and np.isfinite(curve[1][places[-1]]) else None


# ------------------------------------------------------------------ over training


def panels(found: Found) -> list[plot.Panel]:
    past = found.past
    sharp = {p: curve for p in past.players if len((curve := found.sharpness(p))[0])}
    shown = [plot.Panel("loss", past.losses)]
    shown += [
        plot.Panel(short(m), {name(m): c}, log=m in LOGARITHMIC, whole=past.total if m == MODES else None)
        for m, c in past.metrics.items() if m != "modes_tenth"
    ]  # fmt: skip
    return [*shown, plot.Panel("λ<sub>max</sub>", sharp, log=True, missing=f"for λmax: {found.command()}")]


def over_card(found: Found) -> Card:
    scene = found.scene

    def draw(i: int) -> Any:
        past = found.past
        mark = past.collapse.fallen if past.collapse is not None else None
        return plot.figure(panels(found), past.players, selected=scene.step(i), mark=mark, log=scene.log,
                           theme=scene.theme)  # fmt: skip

    def caption(_i: int) -> str:
        return f"{found.verdict()} λmax: of each player's own loss over his own weights. Click selects."

    def table(_i: int) -> dict[str, Any]:
        past = found.past
        curves = {**past.curves, **{f"largest eigenvalue, {p} [loss per squared unit of weight]": found.sharpness(p)
                                    for p in past.players}}  # fmt: skip
        steps = sorted({int(s) for x, _y in curves.values() for s in x})
        known = {k: dict(zip(x.tolist(), y.tolist(), strict=True)) for k, (x, y) in curves.items()}
        return {"step": steps, **{k: [known[k].get(float(s)) for s in steps] for k in curves}}

    return Card(
        "game-over", "The game over training", draw, caption, table, span="wide",
        move=lambda i: move_cursor(float(step_position([scene.step(i)], scene.log)[0])),
        about="Losses, modes covered, quality of the samples and sharpness of each player against the optimizer step",
    )  # fmt: skip


def lead_card(found: Found) -> Card:
    def caption(_i: int) -> str:
        said = " ".join(peak(player, lead, name(found.metric)) for player, lead in found.leads().items())
        return (
            f"{said} Band: surrogates with the same power spectrum and random phases. A positive lag: sharpness first."
        )

    def table(_i: int) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for player, lead in found.leads().items():
            columns |= {f"lag [optimizer steps], {player}": lead.lags, f"correlation, {player}": lead.correlation,
                        f"half width of the 95 % band, {player}": lead.band}  # fmt: skip
        return columns

    return Card(
        "lead-lag", lambda _i: f"Sharpness against {name(found.metric)}: which moves first",
        lambda _i: lead_lag.figure(found.leads(), name(found.metric), theme=found.scene.theme, height=300), caption,
        table, span="wide", about="Correlation of the rates of change of sharpness and modes against the lag",
    )  # fmt: skip


def peak(player: str, lead: LeadLag, second: str) -> str:
    """The peak, its band and what follows, in words."""
    band = float(lead.band[int(np.argmin(np.abs(lead.lags - lead.peak)))])
    return (
        f"{player.capitalize()}: peak {number(lead.height)} at a lag of {lead.peak:+,.0f} steps, where 95 % of "
        f"unrelated curves stay within ±{number(band)} (p = {lead.probability:.2g} for so high a peak at any lag): "
        f"{lead.told('its sharpness', second).partition(':')[0]}."
    )


# ------------------------------------------------------------------ at the selected step


def plane_card(found: Found) -> Card:
    scene = found.scene

    def draw(i: int) -> Any:
        every = list(found.need_records().values())
        step = scene.step(i)
        here = found.at(step)
        return complex_plane.figure(here, every, message=_lack(found, step), theme=scene.theme)

    def caption(i: int) -> str:
        here = found.need_records().get(scene.step(i))
        if here is None:
            return f"{found.nearest_text(scene.step(i))}. This one: {found.command(f'--checkpoints {scene.step(i)}')}"
        all_of_it = len(here.real) == here.size
        which = "All" if all_of_it else "Those of largest modulus, lowest and largest real part:"
        missed = f" Not converged: {', '.join(here.meta['missed'])}." if here.meta.get("missed") else ""
        worst = float(np.max(here.residuals, initial=0.0))
        return (
            f"{which} {len(here.real)} of {here.size:,} eigenvalues of the Jacobian of F, residuals at most "
            f"{number(worst, 2)}.{missed} Left of zero descent leaves the point; off the real axis the players turn "
            f"around each other. Colour: whose weights the eigenvector lies in."
        )

    def table(i: int) -> dict[str, Any]:
        here = found.need_records().get(scene.step(i))
        if here is None:
            return {"real part": [], "imaginary part": []}
        return {
            "real part": here.real, "imaginary part": here.imaginary, "residual": here.residuals,
            **{f"share of {p}": s for p, s in zip(here.players, here.shares, strict=True)},
        }  # fmt: skip

    return Card(
        "jacobian", lambda i: f"Jacobian of the game at step {scene.step(i):,}", draw, caption, table,
        move=lambda i: complex_plane.move(found.at(scene.step(i)), _lack(found, scene.step(i))),
        about="Eigenvalues of the game's Jacobian in the complex plane at the selected step",
    )  # fmt: skip


def samples_card(found: Found) -> Card:
    scene = found.scene

    def drawn() -> list[Any]:
        kept = [r for r in found.need_records().values() if r.samples is not None and r.samples.ndim == 2]
        if not kept:
            raise Missing("The records keep no samples.", found.command("--kept-samples 500", "--overwrite"))
        return kept

    def here(i: int) -> Any:
        record = found.at(scene.step(i))
        return record if record is not None and record.samples is not None else None

    def caption(i: int) -> str:
        record = here(i)
        if record is None:
            return f"{found.nearest_text(scene.step(i))}."
        said = ", ".join(f"{name(m)} {brief(record.metric(m))}" for m in record.metric_names)
        many = min(len(record.samples), samples.MOST if samples.shape_of(record) else len(record.samples))
        lit = f"; mode shares {', '.join(number(100 * float(s), 2) for s in record.mode_shares)} %" if (
            record.mode_shares is not None and len(record.mode_shares) <= 12) else ""  # fmt: skip
        return f"{many} samples of noise that is the same at every step: {said}{lit}."

    def table(i: int) -> dict[str, Any]:
        record = here(i)
        if record is None:
            return {"x 1": []}
        return {f"x {k + 1}": record.samples[:, k] for k in range(record.samples.shape[1])}

    return Card(
        "samples", lambda i: f"Made samples at step {scene.step(i):,}",
        lambda i: samples.figure(here(i), drawn(), message=_lack(found, scene.step(i)), theme=scene.theme),
        caption, table, move=lambda i: samples.move(here(i), _lack(found, scene.step(i))),
        about="Samples that the generator makes at the selected step",
    )  # fmt: skip


def _lack(found: Found, step: int) -> str:
    return "" if step in found.records else found.nearest_text(step)


# ------------------------------------------------------------------ densities


def spectrum_cards(found: Found, player: str) -> list[Card]:
    """A player's own spectrum over training and at the selected step."""
    scene = found.scenes[player]
    over, here = heat_card(scene), density_card(scene)
    return [
        dataclasses.replace(over, name=f"spectrum-{player}", title=f"Spectrum of the {player} over training",
                            about=f"Heatmap of the {player}'s eigenvalue density against the optimizer step"),
        dataclasses.replace(here, name=f"density-{player}", title=_titled(here, player),
                            about=f"Eigenvalue density of the {player} at the selected step"),
    ]  # fmt: skip


def _titled(card: Card, player: str) -> Any:
    def title(i: int) -> str:
        return shell.text_of(card.title, i).replace("Spectrum", f"Spectrum of the {player}")

    return title
