"""Show everything on real data: train, spectra, surfaces, trajectories, a volume, a path, a video, then the dashboard.

  landscape demo
  landscape demo --store demo-store --ranks 2 --no-serve

It trains two networks on scikit-learn's handwritten digits, one that grows while it trains, and a generator against a
discriminator on a ring of Gaussians; it starts its own ranks, as you would type
  mpirun -n 2 landscape spectrum demo-store/adam

Every command is printed before it runs. Started again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
import time
from pathlib import Path

from landscape.errors import LandscapeError, Stopped

from . import _common

RUNS = {
    "adam": ["--optimizer", "adam", "--set", "lr=0.003", "--seed", "0"],
    "sgd-momentum": ["--optimizer", "sgd", "--set", "lr=0.05", "--set", "momentum=0.9", "--seed", "1"],
}
PLANES = {"adam": ("pca", "eigen", "random"), "sgd-momentum": ("pca", "eigen")}
GAME = {"width": "16", "activation": "tanh", "deviation": "0.15", "samples": "500", "judged": "1000",
        "batch_size": "500"}  # small: smooth networks, broad modes, few samples  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", "--out", default="demo-store", help="directory to fill (default: demo-store)")
    parser.add_argument("--ranks", type=_common.positive, default=2, help="MPI processes (default: 2)")
    parser.add_argument("--no-serve", action="store_true", help="stop before the dashboard")
    parser.add_argument("--port", type=int, help="of the dashboard (default: 8050 or the next free one)")


def run(args: argparse.Namespace) -> int:
    from landscape.distributed.progress import duration

    started = time.monotonic()
    commands = _commands(args.store, args.ranks)
    for number, (what, words, ranks) in enumerate(commands, start=1):
        _do(f"[{number}/{len(commands)}] {what}", words, ranks)
    print(_report(args, duration(time.monotonic() - started)), flush=True)
    if not args.no_serve:
        try:
            importlib.import_module("landscape.app.serving.server").serve(args.store, port=args.port)
        except Stopped:  # stopping is how a server ends
            print("stopped")
    return 0


def _commands(store: str, ranks: int) -> list[tuple[str, list[str], int]]:
    """(what it does, its words, its ranks) of every step."""
    home = {name: f"{store}/{name}" for name in RUNS}
    train = [
        (f"train a network on digits with {name}",
         ["train", "digits_mlp", *settings, "--steps", "600", "--checkpoint-every", "25", "--norms",
          "--threads", "1",
          "--out", home[name]], 1)
        for name, settings in RUNS.items()
    ]  # fmt: skip
    spectra = [
        (f"Hessian spectra of {name}", ["spectrum", home[name], "--probes", "4", "--iterations", "40"], ranks)
        for name in RUNS
    ]
    layers = [
        ("spectra of every layer of adam",
         ["spectrum", home["adam"], "--per-layer", "--checkpoints", "0:600:100", "--probes", "2", "--iterations", "20",
          "--top", "3"], ranks),
        ("eigenvalues that Adam's own stability threshold is about",
         ["spectrum", home["adam"], "--operator", "preconditioned", "--eigenpairs", "--top", "3", "--checkpoints",
          "50:600:50"], ranks),
    ]  # fmt: skip
    surfaces = [
        (f"loss surface of {name}, {plane} plane",
         ["surface", home[name], "--plane", plane, "--points", "41" if plane == "pca" else "31"], ranks)
        for name, planes in PLANES.items() for plane in planes
    ]  # fmt: skip
    first, second = RUNS
    shared = [
        (f"surface on the plane of both paths, {first} and {second}",
         ["surface", home[first], "--plane", "pca", "--with", home[second], "--points", "41"], ranks),
        ("both trajectories on it", ["trajectory", home[first], home[second], "--plane", "pca"], ranks),
    ]  # fmt: skip
    paths = [(f"trajectory of {name} on its planes", ["trajectory", home[name]], ranks) for name in RUNS]
    volume = ["volume", home[first], "--plane", "pca", "--points", "15"]
    between = ["path", home[first], home[second], "--points", "21", "--spectrum", "--probes", "2", "--iterations", "30",
               "--top", "5"]  # fmt: skip
    video = ["video", home[first], "--out", f"{store}/{first}.mp4"]
    return [
        *train, *spectra, *layers, *surfaces, *paths, *shared,
        (f"loss volume of {first}, three principal components", volume, ranks),
        ("straight path between the two minima", between, ranks),
        *_game(store, ranks), *_growing(f"{store}/grown", ranks),
        ("video of the training", video, 1),
    ]  # fmt: skip


def _game(store: str, ranks: int) -> list[tuple[str, list[str], int]]:
    settings = [word for name, value in GAME.items() for word in ("--problem-set", f"{name}={value}")]
    return [
        ("train a generator against a discriminator",
         ["train", "ring_gan", *settings, "--optimizer", "adam", "--set", "lr=0.005", "--set", "betas=[0.5,0.999]",
          "--steps", "300", "--checkpoint-every", "50", "--seed", "0", "--threads", "1", "--out", f"{store}/gan"], 1),
        ("eigenvalues of the game, and the spectra of both players",
         ["game", f"{store}/gan", "--spectra", "--checkpoints", "0:300:100", "--eigenvalues", "3", "--iterations", "20",
          "--top", "2"], ranks),
    ]  # fmt: skip


def _growing(home: str, ranks: int) -> list[tuple[str, list[str], int]]:
    few = ["--probes", "2", "--iterations", "30", "--top", "4"]
    return [
        ("train a network that grows by splitting its units",
         ["train", "digits_mlp", "--problem-set", "hidden=2", "--optimizer", "splitting", "--set", "inner=adam",
          "--set", "lr=0.02", "--set", "every=100", "--set", "rounds=2", "--set", "fraction=0.5", "--steps", "300",
          "--checkpoint-every", "20", "--seed", "0", "--threads", "1", "--out", home], 1),
        ("its spectra before and after the growths",
         ["spectrum", home, "--checkpoints", "0:300:100", *few], ranks),
        ("its layers, their units, and what single weights are worth",
         ["structure", home, "--checkpoints", "0:300:20", "--probes", "50"], ranks),
        ("path across a growth: it begins at the small network in the weights of the larger one",
         ["path", home, home, "--step-a", "100", "--step-b", "120", "--points", "3", "--spectrum", *few], ranks),
    ]  # fmt: skip


def _do(what: str, words: list[str], ranks: int) -> None:
    from landscape import launch

    prefix = f"mpirun -n {ranks} " if launch.mpirun_command(ranks) else ""
    print(f"{what}\n      {prefix}landscape {shlex.join(words)}", flush=True)
    if words[0] == "video" and Path(words[-1]).exists():
        print(f"{words[-1]} is there already", flush=True)
        return
    code = launch.run(words, ranks)
    sys.stdout.flush()
    if code == Stopped.exit_code:
        raise Stopped("the demo was stopped; the same command goes on")
    if code:
        error = LandscapeError(f"the step above failed (exit code {code}); mend what it says and repeat the command")
        error.exit_code = code
        raise error


def _report(args: argparse.Namespace, spent: str) -> str:
    first, second = RUNS
    return f"""
Done in {spent}. Everything lies in {args.store}:
  {args.store}/{first}, {args.store}/{second}   one directory a run: checkpoints, metrics, records
  {args.store}/{first}.mp4   the training as a video
  {args.store}/gan, {args.store}/grown   a game of two networks, and a network that grew
Look at it:
  landscape runs {args.store}
  landscape dashboard {args.store}
  landscape export {args.store}/{first} --record eigenpairs --format csv"""
