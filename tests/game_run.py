"""A game in closed form as a run: quadratic players, whose Jacobian is a matrix, and samples with known modes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import softmax_run
from numpy.typing import NDArray

from landscape import records
from landscape.stores.run_directory import Run

Array = NDArray[np.float64]
PLAYERS = ["generator", "discriminator"]
STEPS = tuple(range(0, 240, 10))
LEAD = 3  # checkpoints by which the generator's sharpness is ahead of the modes
FALLEN = 12  # index of the checkpoint of the collapse
CENTRES = 2 * np.array([[np.cos(a), np.sin(a)] for a in np.pi * np.arange(8) / 4])


def modes() -> Array:
    """(checkpoint,) number of modes: it wanders between 5 and 8, and falls to one once, for two checkpoints."""
    found = np.random.default_rng(5).integers(5, 9, len(STEPS)).astype(float)
    found[FALLEN : FALLEN + 2] = 1
    return found


def sharpness() -> dict[str, Array]:
    """(checkpoint,) by player: the generator's is that of the modes, some checkpoints earlier, upside down."""
    own = np.concatenate([modes()[LEAD:], np.random.default_rng(6).integers(5, 9, LEAD)])
    return {"generator": 20 - 2 * own, "discriminator": np.random.default_rng(7).uniform(1, 2, len(STEPS))}


def jacobian(k: int) -> Array:
    """(4, 4) at checkpoint k: L_G = g diag(a, -1) g / 2 + c g.d and L_D = s |d|^2 / 2 - c g.d."""
    top = sharpness()
    own = np.zeros((4, 4))
    own[:2, :2] = np.diag([top["generator"][k], -1.0])
    own[2:, 2:] = top["discriminator"][k] * np.eye(2)
    own[:2, 2:], own[2:, :2] = 3 * np.eye(2), -3 * np.eye(2)
    return own


def standing(k: int) -> records.Game:
    values, vectors = np.linalg.eig(jacobian(k))
    order = np.argsort(-np.abs(values))
    values, vectors = values[order], vectors[:, order]
    held = np.square(np.abs(vectors))
    count = int(modes()[k])
    samples = np.repeat(CENTRES[:count], 5, axis=0)
    numbers = [modes()[k], 0.1 * k / len(STEPS), np.log(8 / count)]
    return records.Game(
        STEPS[k], 4, PLAYERS, losses=np.array([1 + 0.1 * k, 2 - 0.05 * k]), gradients=np.ones(2),
        real=values.real, imaginary=values.imag, residuals=np.full(4, 1e-12),
        shares=np.stack([held[:2].sum(axis=0), held[2:].sum(axis=0)]), metric_names=["modes", "hq_share", "mode_kl"],
        metrics=np.array(numbers), samples=samples, real_samples=np.repeat(CENTRES, 3, axis=0),
        mode_shares=np.array([1 / count] * count + [0.0] * (8 - count)),
        meta={"samples": 24, "seconds": 0.1, "missed": []},
    )  # fmt: skip


def blocks(k: int) -> list[records.Record]:
    """Exact spectra of both players' own Hessians."""
    found: list[records.Record] = []
    for player, place in zip(PLAYERS, (slice(2), slice(2, None)), strict=True):
        values = np.linalg.eigvalsh(jacobian(k)[place, place])
        weight, name = np.full((1, 2), 0.5), f"hessian[{player}.*]"
        found.append(records.Spectrum(STEPS[k], name, 2, values[None], weight, weight, np.zeros((1, 2))))
        found.append(records.Eigenpairs(STEPS[k], name, 2, values[::-1].copy(), np.zeros(2), np.empty(0), np.empty(0)))
    return found


def logged(root: Path, *, standings: bool = True) -> Run:
    """The run; without `standings` only what the training writes."""
    run = Run.create(root, softmax_run.info(root.name))
    run.update_info(problem="ring_gan", every=10, size=4)
    rows = []
    for k, step in enumerate(STEPS):
        found = standing(k)
        assert found.metrics is not None
        numbers = dict(zip(found.metric_names, found.metrics.tolist(), strict=True))
        rows.append({"step": step, "loss": 3.0, **numbers,
                     **{f"loss_{p}": x for p, x in zip(PLAYERS, found.losses.tolist(), strict=True)}})  # fmt: skip
        run.checkpoint_directory(step).mkdir(parents=True)
        for record in (found, *blocks(k)) if standings else ():
            run.write(record)
    (root / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return run
