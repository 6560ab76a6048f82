"""A neural programmer-interpreter that adds, with or without recursion (Cai, Shin & Song 2017): 24,536 weights."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..loss.objective import convex
from ..loss.problem import Problem
from . import _adding
from ._adding import ACTIONS, BLANK, NUMBER, PROGRAMS, ROWS, Action, Frame, Observation, Tape
from ._layers import set_seed

IGNORED = -100  # targets after the end of a frame


def build(
    recursive: bool = True,
    traces: int = 150,
    digits: int = 3,
    hidden: int = 32,
    data_seed: int = 0,
    seed: int | None = None,
    batch_size: int = 512,
) -> Problem:
    """Teacher forcing on the calls of correct additions: cross-entropy of the next action, the mean over steps.

    Calls of looping traces add all columns in one frame; recursive ones add one column and call themselves. Test data
    are the calls of 60 other additions of twice as many digits.

    Args:
        recursive: how the traces add.
        traces: additions to train on, drawn so that many different columns occur.
        digits: most digits of a number.
        hidden: width of the LSTM.
        data_seed: which additions.
        seed: of the initial weights; None takes them from torch's generator, which `landscape train --seed` sets.
        batch_size: calls a batch of the curvature jobs; it changes no number.
    """
    if min(traces, digits, hidden) < 1:
        raise UsageError(f"traces, digits and hidden must be at least 1, got {traces}, {digits} and {hidden}")
    set_seed(seed)
    model = Core(hidden)
    train = _called(_adding.problems(traces, digits, data_seed), recursive)
    lot = random.Random(data_seed + 1)
    longer = [(_adding.number(lot, 2 * digits), _adding.number(lot, 2 * digits)) for _ in range(60)]
    return Problem(
        model, action_loss, tensors(train), batch_size=batch_size, test_data=tensors(_called(longer, recursive)),
        count=lambda batch: int((batch[1] >= 0).sum()), name=f"addition_npi, {'recursive' if recursive else 'looping'}",
    )  # fmt: skip


class Core(nn.Module):
    """What is seen and which program runs (calls, steps, 5) -> logits of the next action (calls, steps, actions).

    An LSTM written out, since every operator needs its second derivatives in forward mode as well.
    """

    def __init__(self, hidden: int = 32, code: int = 64) -> None:
        super().__init__()
        self.see = nn.Linear(ROWS * (BLANK + 1), code)
        self.program = nn.Embedding(len(PROGRAMS), code)
        self.inputs = nn.Linear(2 * code, 4 * hidden)
        self.recurrent = nn.Linear(hidden, 4 * hidden, bias=False)
        self.act = nn.Linear(hidden, len(ACTIONS))
        nn.init.normal_(self.see.weight)  # columns are told apart from the start: ten times fewer steps
        with torch.no_grad():
            self.inputs.bias[hidden : 2 * hidden] += 1  # the forget gate begins open (Jozefowicz et al. 2015)

    def forward(self, calls: Tensor) -> Tensor:
        digits = nn.functional.one_hot(calls[..., :ROWS], BLANK + 1).flatten(2).to(self.act.weight.dtype)
        code = torch.cat([torch.tanh(self.see(digits)), self.program(calls[..., ROWS])], dim=2)
        gates = self.inputs(code)  # (calls, steps, 4 hidden)
        h = c = gates.new_zeros(len(calls), self.act.in_features)
        found = []
        for step in range(calls.shape[1]):
            enter, forget, leave, new = (gates[:, step] + self.recurrent(h)).chunk(4, dim=1)
            c = torch.sigmoid(forget) * c + torch.sigmoid(enter) * torch.tanh(new)
            h = torch.sigmoid(leave) * torch.tanh(c)
            found.append(h)
        logits: Tensor = self.act(torch.stack(found, dim=1))
        return logits


@convex
def action_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy over the steps of the frames."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


def tensors(frames: Sequence[Frame]) -> tuple[Tensor, Tensor]:
    """(what is seen and the program's number (calls, steps, 5), numbers of the actions (calls, steps))."""
    steps = max(len(called) for _, called in frames)
    seen, done = [], []
    for program, called in frames:
        rest, number = steps - len(called), PROGRAMS.index(program)
        seen.append([(*observation, number) for observation, _ in called] + [(BLANK,) * ROWS + (number,)] * rest)
        done.append([NUMBER[action] for _, action in called] + [IGNORED] * rest)
    return torch.tensor(seen), torch.tensor(done)


def _called(pairs: Sequence[tuple[_adding.Number, _adding.Number]], recursive: bool) -> list[Frame]:
    return [frame for pair in pairs for frame in _adding.frames(Tape(*pair), "ADD", recursive)]


# ---------------------------------------------------------------------- what it has learnt


@torch.no_grad()
def verified(model: nn.Module) -> tuple[int, int]:
    """(calls of the verification set done right at every step, calls): all of them is a proof for every length."""
    right = total = 0
    for inputs, targets in _verification():
        right += int((model(inputs).argmax(dim=2) == targets).all(dim=1).sum())
        total += len(inputs)
    return right, total


@lru_cache(maxsize=1)
def _verification() -> tuple[tuple[Tensor, Tensor], ...]:
    """The verification set as tensors, calls of one length together."""
    by_length: dict[int, list[Frame]] = {}
    for frame in _adding.verification_set():
        by_length.setdefault(len(frame[1]), []).append(frame)
    return tuple(tensors(frames) for frames in by_length.values())


def accuracy(model: nn.Module, digits: int, count: int = 20, seed: int = 0) -> float:
    """Share of random additions of two numbers of so many digits that the network itself does right, call by call."""
    lot, core = random.Random(seed * 1_000_003 + digits), _Interpreter(model)
    right = 0
    for _ in range(count):
        first, second = _adding.number(lot, digits), _adding.number(lot, digits)
        tape = Tape(first, second)
        finished = _adding.run(tape, core, 30 * (digits + 3))
        right += finished and tape.sum() == _digits(_value(first) + _value(second))
    return right / count


class _Interpreter:
    """The core as a function of what a call has seen; calls that begin alike share their steps."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self._known = model, dict[tuple[str, tuple[Observation, ...]], Action]()

    @torch.no_grad()
    def __call__(self, program: str, seen: tuple[Observation, ...]) -> Action:
        known = self._known.get((program, seen))
        if known is None:
            inputs = torch.tensor([[*o, PROGRAMS.index(program)] for o in seen])[None]
            known = self._known[program, seen] = ACTIONS[int(self.model(inputs)[0, -1].argmax())]
        return known


def _value(digits: _adding.Number) -> int:
    return int("".join(map(str, reversed(digits))))


def _digits(value: int) -> _adding.Number:
    return tuple(int(digit) for digit in reversed(str(value)))
