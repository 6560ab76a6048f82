"""Exact references shared by tests: small problems on real data and their dense float64 matrices."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from landscape import launch
from landscape.distributed.parallel import Comm
from landscape.engine.curvature import operator_at
from landscape.loss.problem import Problem

PROGRAMS = Path(__file__).parent / "programs"


def digits(samples: int | None = None) -> tuple[Tensor, Tensor]:
    """The sklearn digits: inputs (n, 64) in [0, 1] and labels (n,)."""
    inputs, labels = load_digits(return_X_y=True)
    return torch.tensor(inputs / 16, dtype=torch.float32)[:samples], torch.tensor(labels)[:samples]


@functools.cache
def trained_mlp_state(hidden: int = 32, epochs: int = 30) -> dict[str, Tensor]:
    """Weights of a tanh MLP after Adam epochs on the digits; the same on every call."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, hidden), nn.Tanh(), nn.Linear(hidden, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    inputs, labels = digits()
    for _ in range(epochs):
        order = torch.randperm(len(labels))
        for start in range(0, len(labels), 64):
            chosen = order[start : start + 64]
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[chosen]), labels[chosen]).backward()
            optimizer.step()
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def mlp_problem(
    dtype: torch.dtype = torch.float64, hidden: int = 32, epochs: int = 30, samples: int | None = None,
    state: dict[str, Tensor] | None = None, **settings: int,
) -> Problem:  # fmt: skip
    """The digits MLP (2,410 weights for hidden=32) at trained weights, or at those given."""
    model = nn.Sequential(nn.Linear(64, hidden), nn.Tanh(), nn.Linear(hidden, 10))
    problem = Problem(model, F.cross_entropy, digits(samples), name="digits MLP", **settings)
    problem.load(trained_mlp_state(hidden, epochs) if state is None else state)
    return problem.to(dtype=dtype)


def dense(problem: Problem, operator: str = "hessian", **options: Any) -> NDArray[np.float64]:
    """The operator's matrix (size, size) in float64, from one product with the identity; options of `operator_at`."""
    exact = problem.to(dtype=torch.float64)
    options = {"checkpoint": AdamCheckpoint(problem)} | options
    curvature = operator_at(exact, exact.weights(), Comm(), operator, **options)
    matrix = curvature.matvec(torch.eye(exact.size, dtype=torch.float64))
    return ((matrix + matrix.T) / 2).numpy()


class AdamCheckpoint:
    """A checkpoint of an Adam run as far as the operators look at it, with second moments drawn once."""

    step = 10
    optimizer = stepper = "Adam"
    settings: ClassVar[dict[str, Any]] = {"betas": [0.9, 0.99], "eps": 1e-3, "amsgrad": False}

    def __init__(self, problem: Problem) -> None:
        self.run = self.info = self
        generator = torch.Generator().manual_seed(1)
        self.state: dict[str, Tensor] = {}
        for name, shape, _ in problem.named_slices():
            self.state[f"exp_avg_sq/{name}"] = 1e-3 * torch.rand(shape, generator=generator)
            self.state[f"step/{name}"] = torch.tensor(10.0)

    def optimizer_state(self) -> dict[str, Tensor]:
        return self.state


@functools.cache
def mlp_eigenvalues() -> NDArray[np.float64]:
    """All 2,410 eigenvalues of the trained digits MLP's Hessian, ascending (exact to float64)."""
    return np.linalg.eigvalsh(dense(mlp_problem(batch_size=2000)))


def matrix_with(eigenvalues: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """A symmetric matrix with these eigenvalues and random eigenvectors."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))
    return (q * eigenvalues) @ q.T


def mpirun(ranks: int, *arguments: str, timeout: float = 800) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` under `mpirun -n RANKS` (also for one rank); skips without an mpirun."""
    found = launch.find_mpirun()
    if found is None:
        pytest.skip("no mpirun: install the extra [mpi] or a site MPI")
    words = launch.mpirun_command(ranks) or [found, "-n", "1"]
    environment = {**launch.environment(), "PYTHONPATH": str(PROGRAMS.parent)}
    return subprocess.run(
        [*words, sys.executable, *arguments],
        capture_output=True, text=True, timeout=timeout, env=environment, check=False,
    )
