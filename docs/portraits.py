"""Make the pictures of docs/optimizers.md and docs/structure.md: `python docs/portraits.py build/portraits docs`.

Part of `make pictures`; names behind the directories make those alone. Every optimizer trains digits_mlp briefly, those
of one page from the same weights where the network is the same; then its surface, path and spectra are computed and one
figure of `landscape export` is drawn of it; cells are explored with their hardware. Started again, it goes on where it
stopped.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from landscape import cli
from landscape.pictures import paper
from landscape.stores.run_directory import Run

STEPS = 300
DPI = 105


@dataclass(frozen=True)
class Portrait:
    """One picture: how its run is trained, what is computed of it, and the figure that shows it."""

    optimizer: str
    settings: tuple[str, ...] = ()
    problem: str = "digits_mlp"
    network: tuple[str, ...] = ()  # --problem-set
    steps: int = STEPS
    every: int = 15  # steps between checkpoints
    training: tuple[str, ...] = ()  # further words of `landscape train`
    spectra: str = f"0,{STEPS}"  # checkpoints
    more: tuple[tuple[str, ...], ...] = field(default=())  # further commands; ROOT is the run
    figure: str = "portrait"

    def done(self, run: Run) -> bool:
        """Whether its training came to the end."""
        return self.steps in run.checkpoint_steps()

    def commands(self, root: str) -> Iterator[list[str]]:
        """Words of `landscape`; the first ones make the run."""
        chosen = [w for s in self.settings for w in ("--set", s)] + [w for s in self.network
                                                                     for w in ("--problem-set", s)]  # fmt: skip
        yield ["train", self.problem, "--optimizer", self.optimizer, *chosen, "--steps", str(self.steps),
               "--checkpoint-every", str(self.every), "--seed", "0", "--threads", "1", *self.training,
               "--out", root]  # fmt: skip
        yield ["spectrum", root, "--checkpoints", self.spectra, "--probes", "4", "--iterations", "40", "--top", "5"]
        for words in self.more:
            yield [word.replace("ROOT", root) for word in words]
        yield ["surface", root, "--plane", "pca", "--points", "25"]
        yield ["trajectory", root, "--plane", "pca"]


@dataclass(frozen=True)
class Exploration:
    """One picture of cells that were searched together with their hardware."""

    settings: tuple[str, ...]
    figure: str = "front"

    def done(self, run: Run) -> bool:
        """Whether the exploration came to the end."""
        return bool(run.keys("front"))

    def commands(self, root: str) -> Iterator[list[str]]:
        """Words of `landscape`; they make the run."""
        yield ["coexplore", *self.settings, "--out", root]


def optimizer(*words: str) -> Portrait:
    return Portrait(words[0], words[1:])


def growing(name: str, *settings: str, hidden: str = "2") -> Portrait:
    """Two growths, each of a network trained to rest, as the law of the spectrum asks; the path crosses the first."""
    stages = ("inner=adam", "lr=0.1", "schedule=cosine", "every=400", "rounds=2")
    across = ("path", "ROOT", "ROOT", "--step-a", "400", "--step-b", "440", "--points", "2", "--spectrum", "--probes",
              "4", "--iterations", "60", "--top", "5")  # fmt: skip
    return Portrait(
        name, (*stages, *settings), network=(f"hidden={hidden}",), steps=1200, every=40,
        training=("--batch-size", "0"), spectra="400,800,1200", more=(across,), figure="growth",
    )  # fmt: skip


STRUCTURE = ("structure", "ROOT", "--saliency", "none")
LBI, LBI_STEPS = ("hidden=[48,48]",), 1840
PORTRAITS: dict[str, Portrait | Exploration] = {
    "optimizer-sgd": optimizer("sgd", "lr=0.1"),
    "optimizer-prox-sgd": optimizer("prox_sgd", "regularizer=l1", "mu=5e-4", "lr=0.01", "lr_decay=0", "rho=0.1",
                                    "rho_decay=0"),
    "optimizer-group-sparsity": optimizer("prox_sgd", "groups=neurons", "regularizer=group", "mu=2e-3", "lr=0.01",
                                          "lr_decay=0", "rho=0.1", "rho_decay=0"),
    "optimizer-binary": optimizer("binary_prox_sgd"),
    "optimizer-nudged-adam": optimizer("nudged_adam", "lr=0.003"),
    "optimizer-extragradient": optimizer("extragradient", "lr=0.1"),
    "optimizer-optimistic": optimizer("optimistic", "lr=0.1"),
    "optimizer-consensus": optimizer("consensus", "lr=0.1", "gamma=0.1"),
    "optimizer-sam": optimizer("sam", "lr=0.1", "rho=0.05"),
    "optimizer-adabound": optimizer("adabound", "lr=0.003"),
    "structure-splitting": growing("splitting", "fraction=0.5"),
    "structure-signed-splitting": growing("signed_splitting", "fraction=0.5", "copies=4"),
    "structure-energy-splitting": growing("energy_splitting", "share=0.5", hidden="[3,3]"),
    "structure-firefly": growing("firefly", "number=2", "units=10", "eps=0.05", "spread=0.3"),
    "structure-dlrt": Portrait("dlrt", ("tau=0.15", "lr=0.1"), network=("hidden=[48,48]",), spectra="0:300:30",
                               more=(STRUCTURE,), figure="structure"),
    "structure-dessilbi": Portrait("dessilbi", network=LBI, steps=LBI_STEPS, every=115,
                                   spectra="0:1840:230", more=(STRUCTURE,), figure="structure"),
    "structure-ticket": Portrait("sgd", ("lr=0.1", "momentum=0.9"), problem="landscape.jobs.ticket:build",
                                 network=("run=BESIDE/dessilbi", "step=1380")),
    "structure-front": Exploration(("--power", "0.5", "0", "--random")),
}  # fmt: skip


def made(store: Path, name: str, out: Path) -> int:
    """Train, compute and draw one picture; the exit code."""
    root = store / name.partition("-")[2]
    portrait = PORTRAITS[name]
    for words in portrait.commands(str(root)):
        if words[0] in ("train", "coexplore") and (root / "run.json").exists():
            if portrait.done(Run(root)):
                continue
            shutil.rmtree(root)  # it was cut short
        if code := cli.main([word.replace("BESIDE", str(store)) for word in words]):
            return code
    plate = paper.make(Run(root), portrait.figure, None, paper.Sheet.of("text"))
    print(paper.save(paper.Plate(plate.figure, plate.caption, DPI), out / f"{name}.png"), flush=True)
    return 0


def main() -> int:
    store, out = Path(sys.argv[1]), Path(sys.argv[2])
    return next((code for name in sys.argv[3:] or PORTRAITS if (code := made(store, name, out))), 0)


if __name__ == "__main__":
    sys.exit(main())
