"""Make the pictures of docs/optimizers.md: `python docs/portraits.py build/portraits docs` (part of `make pictures`).

Every optimizer trains digits_mlp briefly from the same weights; then its surface, path and spectra are computed and
drawn beside each other. Started again, it goes on where it stopped.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from landscape import cli, paper
from landscape.stores.run_directory import Run

STEPS = 300
RUNS: dict[str, list[str]] = {  # name of the picture -> optimizer and its settings
    "sgd": ["sgd", "lr=0.1"],
    "prox-sgd": ["prox_sgd", "regularizer=l1", "mu=5e-4", "lr=0.01", "lr_decay=0", "rho=0.1", "rho_decay=0"],
    "group-sparsity": ["prox_sgd", "groups=neurons", "regularizer=group", "mu=2e-3", "lr=0.01", "lr_decay=0", "rho=0.1",
                       "rho_decay=0"],
    "binary": ["binary_prox_sgd"],
    "nudged-adam": ["nudged_adam", "lr=0.003"],
    "extragradient": ["extragradient", "lr=0.1"],
    "optimistic": ["optimistic", "lr=0.1"],
    "consensus": ["consensus", "lr=0.1", "gamma=0.1"],
    "sam": ["sam", "lr=0.1", "rho=0.05"],
    "adabound": ["adabound", "lr=0.003"],
}  # fmt: skip


def commands(root: str, optimizer: list[str]) -> list[list[str]]:
    name, *settings = optimizer
    chosen = [word for setting in settings for word in ("--set", setting)]
    return [
        ["train", "digits_mlp", "--optimizer", name, *chosen, "--steps", str(STEPS), "--checkpoint-every", "15",
         "--seed", "0", "--threads", "1", "--out", root],
        ["spectrum", root, "--checkpoints", f"0,{STEPS}", "--probes", "4", "--iterations", "40", "--top", "5"],
        ["surface", root, "--plane", "pca", "--points", "25"],
        ["trajectory", root, "--plane", "pca"],
    ]  # fmt: skip


def main() -> int:
    store, out = Path(sys.argv[1]), Path(sys.argv[2])
    for name in sys.argv[3:] or RUNS:
        root = str(store / name)
        for words in commands(root, RUNS[name]):
            if words[0] == "train" and Path(root, "run.json").exists():
                if STEPS in Run(root).checkpoint_steps():
                    continue
                shutil.rmtree(root)  # a training that was cut short
            if code := cli.main(words):
                return code
        plate = paper.make(Run(root), "portrait", None, paper.Sheet.of("text"))
        print(paper.save(paper.Plate(plate.figure, plate.caption, 130), out / f"optimizer-{name}.png"), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
