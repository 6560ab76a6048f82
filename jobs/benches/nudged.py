"""Nudged Adam (NuGAN) and what is claimed of it, trained here: the value, and whether it holds.

  landscape bench nudged
  landscape bench nudged --problem ring_gan --seeds 5 --steps 3000
  landscape bench nudged --variants "gamma=0,gamma=3" --seeds 3 --steps 1000

G and D are generator and discriminator; lambda_max(G) is the largest eigenvalue of the Hessian of the generator's own
loss on 500 samples. Every variant has Adam's rate 1e-3 and beta1 0.5, batches of 64, and the seeds of the others.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .. import _common

if TYPE_CHECKING:
    from landscape.games.game import Game

    from ._tables import Row, Table

VARIANTS: dict[str, dict[str, Any]] = {
    "Adam": {"gamma": 1.0},
    "gamma=0": {},
    "gamma=0.5": {"gamma": 0.5},
    "gamma=0.9": {"gamma": 0.9},
    "gamma=3": {"gamma": 3.0},
    "k=3": {"k": 3},
    "every=1": {"every": 1},
    "post": {"apply": "post"},
    "threshold=10": {"threshold": 10.0},
    "D": {"weights": "discriminator.*"},
    "G and D": {"weights": "generator.*,discriminator.*"},
}
ADAM: dict[str, Any] = {"lr": 1e-3, "beta1": 0.5}
LEAST = 500  # steps before which the claim about lambda_max and the inception score is not made


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--problem", choices=("digits_gan", "ring_gan", "grid_gan"), default="digits_gan",
                        help="that variants are compared on (default: digits_gan)")  # fmt: skip
    parser.add_argument("--seeds", type=_common.positive, default=5, help="trainings a variant (default: 5)")
    parser.add_argument("--steps", type=_common.positive, default=2500, help="of every training (default: 2500)")
    parser.add_argument("--variants", default=",".join(VARIANTS), metavar="NAMES",
                        help=f"separated by commas, Adam always (default: {','.join(VARIANTS)})")  # fmt: skip


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from landscape.errors import UsageError

    from ._tables import Table

    wanted = list(dict.fromkeys(["Adam", *(name.strip() for name in args.variants.split(","))]))
    unknown = [name for name in wanted if name not in VARIANTS]
    if unknown:
        raise UsageError(f"unknown variant '{unknown[0]}'; the choices are {', '.join(VARIANTS)}")
    if args.quick:
        args.seeds, args.steps, wanted = 2, min(args.steps, 60), wanted[:3]
    claims = {"claim": "", "value": ".2g", "holds if": "", "holds": ""}
    yield Table("N1, N2: what taking the top direction out does", claims, _invariants(args.seed))
    yield Table("N3: lambda_max(G) and lambda_min(G) of a small ring against the dense Hessian", {
        "step": ",d", "lambda_max": ".4g", "lambda_min": ".3g", "relative error": ".1e", "density": ".1e",
        "holds (1 %)": "",
    }, _dense(10 if not args.quick else 2, 100, args.seed),
        "The error is the larger of both, relative to the larger modulus; that of the density is its Wasserstein-1 "
        "distance to all eigenvalues, relative to the same.")  # fmt: skip
    runs: dict[str, list[list[dict[str, float]]]] = {}
    score = "inception_score" if args.problem == "digits_gan" else "modes"
    yield Table(f"N4: plain Adam on {args.problem}, lambda_max(G) against {score}, {args.steps} steps", {
        "seed": "d", "checkpoints": "d", "rank correlation": ".2f", "of differences": ".2f", "lambda_max leads": "",
        "holds (<= -0.6)": "",
    }, _correlated(args, runs, score), f"Checkpoints from step {LEAST} on (all, where there are fewer than 5). Both "
        "curves trend with time, so the first column alone shows no cause; the second is of first differences. "
        "The last but one tests whether lambda_max leads the score.")  # fmt: skip
    shown = [score, *(("pixel_fid",) if args.problem == "digits_gan" else ("hq_share",))]
    yield Table(f"N5: nudged against plain Adam on {args.problem}, {args.steps} steps, mean of {args.seeds} seeds", {
        "variant": "", "modes": ".1f", **dict.fromkeys(shown, ".3g"), "lambda_max(G)": ".3g",
        "difference to Adam": "", "verdict": "",
    }, _compared(args, wanted, runs, shown), f"The difference is of {shown[-1]}, seed by seed, with its 95 % "
        "interval. The paper claims that gamma=0 covers more modes in a flatter place.")  # fmt: skip


# ---------------------------------------------------------------------- N1, N2


def _invariants(seed: int) -> Iterator[Row]:
    import torch

    from landscape.learning.training import MiniBatches, make_optimizer, train_step

    game = _game("ring_gan", seed)
    optimizer: Any = make_optimizer("nudged_adam", game.model, ADAM)
    batches = MiniBatches(game, 64, seed)
    kept, again = 0.0, 0.0
    for step in range(40):
        train_step(game, optimizer, batches.at(step))
        block = optimizer._blocks[0]
        gradient = torch.cat([w.grad.reshape(-1) for w in block])
        directions = optimizer._directions(block)
        kept = max(kept, float((directions @ gradient).norm() / gradient.norm()))
        again = max(again, float((optimizer._without(gradient, directions) - gradient).norm() / gradient.norm()))
    yield "N1: part of the nudged gradient along the eigenvector, 40 steps", kept, "<= 1e-5", kept <= 1e-5
    yield "N1: change by taking it out once more", again, "<= 1e-5", again <= 1e-5
    ends = []
    for name, settings in (("nudged_adam", ADAM | {"gamma": 1.0}), ("adam", {"lr": 1e-3, "betas": (0.5, 0.999)})):
        game = _game("ring_gan", seed)
        optimizer = make_optimizer(name, game.model, settings)
        for step in range(40):
            train_step(game, optimizer, batches.at(step))
        ends.append(game.weights())
    apart = float((ends[0] - ends[1]).abs().max())
    yield "N1: gamma = 1 against torch's Adam, 40 steps of a game", apart, "0", apart == 0
    plain, nudged, rest = _quadratic()
    yield "N2: diag(100, 1, .5, .1), rate 0.05, 200 steps: norm by plain descent", plain, "diverges", plain > 1e10
    yield "N2: norm by nudged descent", nudged, "<= its start, 2", nudged <= 2
    yield "N2: of the three other coordinates", rest, "<= 0.7", rest <= 0.7


def _quadratic() -> tuple[float, float, float]:
    """Norm of the weights after plain and after nudged descent, and of the latter without the sharp coordinate."""
    import torch

    from landscape.optimizers.nudged_adam import NudgedAdam

    curvatures = torch.tensor([100.0, 1.0, 0.5, 0.1], dtype=torch.float64)
    plain, nudged = torch.ones(4, dtype=torch.float64), torch.nn.Parameter(torch.ones(4, dtype=torch.float64))
    optimizer = NudgedAdam([nudged], products=8)
    for _ in range(200):
        plain = plain - 0.05 * curvatures * plain
        before = nudged.detach().clone()
        optimizer.step(lambda: 0.5 * (curvatures * nudged.square()).sum())
        assert nudged.grad is not None
        nudged.data.copy_(before - 0.05 * nudged.grad)
    return float(plain.norm()), float(nudged.detach().norm()), float(nudged.detach()[1:].norm())


# ---------------------------------------------------------------------- N3


def _dense(checkpoints: int, apart: int, seed: int) -> Iterator[Row]:
    import torch

    from landscape.distributed.parallel import Comm
    from landscape.engine.spectrum import spectrum_at
    from landscape.learning.training import MiniBatches, make_optimizer, train_step
    from landscape.readings.distribution import distance

    game = _game("ring_gan", seed, width=8, samples=400)
    optimizer, batches = make_optimizer("nudged_adam", game.model, ADAM | {"gamma": 1.0}), MiniBatches(game, 64, seed)
    for step in range(checkpoints * apart + 1):
        if step % apart == 0:
            block = game.restricted("generator.*")
            theta = block.weights()
            density, pairs = spectrum_at(block, theta, Comm(), top=1, bottom=1, probes=2, iterations=20, seed=seed)
            double = block.to(dtype=torch.float64)
            exact = torch.zeros(block.size, block.size, dtype=torch.float64)
            for batch in double.batches:
                exact += torch.func.hessian(double.batch_loss)(theta.double(), batch) * game.count(batch) / game.samples
            values = torch.linalg.eigvalsh(exact)
            top, low = float(pairs.values[0]), float(pairs.lowest_values[0])
            error = max(abs(top - float(values[-1])), abs(low - float(values[0]))) / float(values.abs().max())
            yield step, top, low, error, distance(density, values.numpy()) / float(values.abs().max()), error <= 0.01
        train_step(game, optimizer, batches.at(step))


# ---------------------------------------------------------------------- N4, N5


def _game(name: str, seed: int, **settings: Any) -> Game:
    from landscape.games.game import Game
    from landscape.loss.loading import build_problem

    found = build_problem(name, {"seed": seed, **settings})
    assert isinstance(found, Game)
    return found


def _trained(
    args: argparse.Namespace, settings: dict[str, Any], seed: int, checkpoints: int
) -> list[dict[str, float]]:
    """Metrics and lambda_max(G) at equally distant checkpoints of a training, the last one at its end."""
    from landscape.learning.training import MiniBatches, make_optimizer, train_step

    game = _game(args.problem, seed)
    optimizer, batches = make_optimizer("nudged_adam", game.model, ADAM | settings), MiniBatches(game, 64, seed)
    due = {round(args.steps * k / checkpoints) for k in range(1, checkpoints + 1)}
    found: list[dict[str, float]] = []
    for step in range(1, args.steps + 1):
        loss = train_step(game, optimizer, batches.at(step - 1))
        if step in due:
            found.append({"step": step, "loss": loss, "lambda": _sharpness(game), **game.made().metrics})
        if not math.isfinite(loss):
            break
    return found


def _sharpness(game: Game) -> float:
    """lambda_max of the generator's Hessian on 500 samples; NaN where it cannot be measured."""
    from landscape.distributed.parallel import Comm
    from landscape.engine.products import Products
    from landscape.engine.spectrum import eigenpairs_at
    from landscape.errors import LandscapeError

    block = game.subset(500).restricted("generator.*")
    try:
        products = Products("kept", block=1)
        found = eigenpairs_at(block, block.weights(), Comm(), top=1, check=False, tolerance=1e-3, products=products)
    except LandscapeError:
        return math.nan
    return float(found.values[0]) if len(found.values) else math.nan


def _correlated(
    args: argparse.Namespace, runs: dict[str, list[list[dict[str, float]]]], score: str
) -> Iterator[Row]:
    from scipy.stats import spearmanr

    from landscape.readings.leading import lead_lag

    runs["Adam"] = []
    for seed in _seeds(args):
        rows = _trained(args, VARIANTS["Adam"], seed, 4 if args.quick else 20)
        runs["Adam"].append(rows)
        late = [r for r in rows if r["step"] >= LEAST]
        late = late if len(late) >= 5 else rows
        tops, scores = [r["lambda"] for r in late], [r[score] for r in late]
        rank, of_differences = float(spearmanr(tops, scores)[0]), float(spearmanr(_steps(tops), _steps(scores))[0])
        lead = lead_lag([r["step"] for r in rows], [math.log(max(r["lambda"], 1e-9)) for r in rows],
                        [r[score] for r in rows])  # fmt: skip
        told = "" if lead is None else f"{lead.peak:+.0f} steps, r {lead.height:+.2f}, p {lead.probability:.2f}"
        yield seed, len(late), rank, of_differences, told, rank <= -0.6


def _steps(values: Sequence[float]) -> list[float]:
    return [b - a for a, b in itertools.pairwise(values)]


def _compared(
    args: argparse.Namespace, wanted: Sequence[str], runs: dict[str, list[list[dict[str, float]]]],
    shown: Sequence[str],
) -> Iterator[Row]:  # fmt: skip
    for name in wanted:
        if name not in runs:
            runs[name] = [_trained(args, VARIANTS[name], seed, 1) for seed in _seeds(args)]
        ends = [rows[-1] if rows else {} for rows in runs[name]]
        means = [_mean(end.get(key, math.nan) for end in ends) for key in ("modes", *shown, "lambda")]
        yield name, *means, *_verdict(runs["Adam"], runs[name], shown[-1], name)


def _mean(values: Iterator[float]) -> float:
    good = [v for v in values if math.isfinite(v)]
    return statistics.mean(good) if good else math.nan


def _verdict(
    adam: Sequence[Sequence[dict[str, float]]], other: Sequence[Sequence[dict[str, float]]], key: str, name: str
) -> tuple[str, str]:
    """Mean difference to Adam with its 95 % t interval over the pairs of one seed, in words too."""
    from scipy.stats import t

    if name == "Adam":
        return "", "the reference"
    pairs = [(b[-1][key] - a[-1][key]) for a, b in zip(adam, other, strict=True) if a and b]
    if len(pairs) < 2:
        return "", "diverged" if not pairs else "one seed tells nothing"
    mean, spread = statistics.mean(pairs), statistics.stdev(pairs) / math.sqrt(len(pairs))
    half = float(t.ppf(0.975, len(pairs) - 1)) * spread
    told = f"{mean:+.3g} ± {half:.2g}"
    if not math.isfinite(mean) or abs(mean) <= half:
        return told, "no difference seen"
    return told, "better" if (mean < 0) == (key == "pixel_fid") else "worse"


def _seeds(args: argparse.Namespace) -> range:
    return range(args.seed, args.seed + args.seeds)
