"""Addition by programs: traces that add, a verification set that is complete, a network that learns to follow them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from landscape.learning.training import MiniBatches, make_optimizer, train_step
from landscape.loss.loading import build_problem
from landscape.problems import _adding, addition_npi
from landscape.problems._adding import Tape, frames, run, teacher


def ideal(recursive: bool) -> Callable[[str, tuple[_adding.Observation, ...]], _adding.Action]:
    """A core that does what the teacher does, from what its call has seen alone."""

    def core(program: str, seen: tuple[_adding.Observation, ...]) -> _adding.Action:
        done: list[_adding.Action] = []
        for observation in seen:
            done.append(teacher(program, observation, done, recursive))
        return done[-1]

    return core


@pytest.mark.parametrize("recursive", [True, False])
def test_the_programs_add(recursive: bool) -> None:
    lot = random.Random(0)
    for digits in (1, 2, 7, 30):
        for _ in range(10):
            first, second = _adding.number(lot, digits), _adding.number(lot, lot.randint(1, digits))
            tape = Tape(first, second)
            assert run(tape, ideal(recursive), 30 * (digits + 3))
            total = sum(int("".join(map(str, reversed(number)))) for number in (first, second))
            assert tape.sum() == tuple(int(digit) for digit in reversed(str(total)))


def test_recursive_calls_are_short_and_in_the_verification_set_and_looping_ones_are_not() -> None:
    known = set(_adding.verification_set())
    assert max(len(called) for _, called in known) == 5
    lot = random.Random(1)
    for digits in (1, 3, 12, 40):
        pair = _adding.number(lot, digits), _adding.number(lot, digits)
        assert set(frames(Tape(*pair), "ADD", True)) <= known
        longest = max(frames(Tape(*pair), "ADD", False), key=lambda frame: len(frame[1]))
        assert len(longest[1]) >= 2 * digits + 1


def test_the_default_traces_hold_every_column() -> None:
    pairs = _adding.problems(150, 3, 0)
    columns = {called[0][0][:3] for pair in pairs for name, called in frames(Tape(*pair), "ADD", True)
               if name == "ADD1"}  # fmt: skip
    wanted = {called[0][0][:3] for name, called in _adding.verification_set() if name == "ADD1"}
    assert columns == wanted


def test_a_core_that_never_returns_is_stopped_and_wrong() -> None:
    assert not run(Tape((1,), (2,)), lambda program, seen: ("LEFT", 0), 50)


def test_a_small_network_learns_its_traces_and_is_judged_by_its_own_steps() -> None:
    problem = build_problem("addition_npi", {"traces": 3, "digits": 1, "hidden": 8, "seed": 0})
    inputs, targets = problem.batches[0]
    assert problem.samples == int((targets >= 0).sum())
    loose: Any = problem.model(inputs[:, :2])
    torch.testing.assert_close(problem.model(inputs)[:, :2], loose)  # a step depends on what was seen so far alone
    optimizer, batches = make_optimizer("adam", problem.model, {"lr": 0.02}), MiniBatches(problem, 0, 0)
    for step in range(60):
        train_step(problem, optimizer, batches.at(step))
    assert problem.evaluate(problem.weights())["accuracy"] > 0.8
    right, total = addition_npi.verified(problem.model)
    assert 0 < right < total == len(_adding.verification_set())
    assert addition_npi.accuracy(problem.model, 5, 3) < 1
