"""Addition as programs that call each other, after Reed & de Freitas (2016) and Cai, Shin & Song (2017).

The environment is a tape of four rows (both numbers, carries, the sum), each with a pointer; columns count from the
right, unwritten places are BLANK. A call of a program is a frame: what its core sees at every step (four digits under
the pointers), and what it does (an action, or RETURN). Frames start afresh, so the frames of all calls are the data.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

BLANK = 10  # a place with nothing written
ROWS = 4  # first number, second number, carries, sum
PROGRAMS = ("ADD", "ADD1", "CARRY", "LSHIFT")
RETURN = ("RETURN",)
MOVES = tuple((move, row) for move in ("LEFT", "RIGHT") for row in range(ROWS))
WRITES = (*(("WRITE", 3, digit) for digit in range(10)), ("WRITE", 2, 1))

Action = tuple[str | int, ...]
Observation = tuple[int, ...]
Frame = tuple[str, tuple[tuple[Observation, Action], ...]]  # a call: its program, what was seen and done at each step
Number = tuple[int, ...]  # digits, the last one first

ACTIONS: tuple[Action, ...] = (RETURN, *((name,) for name in PROGRAMS), *MOVES, *WRITES)
NUMBER = {action: number for number, action in enumerate(ACTIONS)}
_SCRIPTS: dict[str, tuple[Action, ...]] = {
    "CARRY": (("LEFT", 2), ("WRITE", 2, 1), ("RIGHT", 2), RETURN),
    "LSHIFT": (*(("LEFT", row) for row in range(ROWS)), RETURN),
}


class Tape:
    """The environment of one addition."""

    def __init__(self, first: Number, second: Number) -> None:
        self.rows: list[dict[int, int]] = [dict(enumerate(first)), dict(enumerate(second)), {}, {}]
        self.at = [0] * ROWS

    def seen(self) -> Observation:
        return tuple(row.get(at, BLANK) for row, at in zip(self.rows, self.at, strict=True))

    def do(self, action: Action) -> None:
        """A move or a write; calls and returns leave the tape as it is."""
        row = int(action[1]) if len(action) > 1 else 0
        if action[0] == "WRITE":
            self.rows[row][self.at[row]] = int(action[2])
        elif action[0] in ("LEFT", "RIGHT"):
            self.at[row] += 1 if action[0] == "LEFT" else -1

    def sum(self) -> Number:
        """What is written as the sum, up to the first blank."""
        written = (self.rows[3].get(i, BLANK) for i in itertools.count())
        return tuple(itertools.takewhile(lambda digit: digit != BLANK, written))


def teacher(program: str, seen: Observation, done: Sequence[Action], recursive: bool) -> Action:
    """The next action of a call that has done `done` and sees `seen`."""
    if program == "ADD":
        if done and done[-1] == ("ADD1",):
            return ("LSHIFT",)
        if done and recursive:  # the rest of the columns by a call of itself
            return ("ADD",) if done[-1] == ("LSHIFT",) else RETURN
        return RETURN if set(seen[:3]) == {BLANK} else ("ADD1",)
    if program == "ADD1":
        total = sum(digit for digit in seen[:3] if digit != BLANK)
        if not done:
            return ("WRITE", 3, total % 10)
        return ("CARRY",) if len(done) == 1 and total >= 10 else RETURN
    return _SCRIPTS[program][len(done)]


def frames(tape: Tape, program: str, recursive: bool) -> Iterator[Frame]:
    """The frames of a call done right, with those of the calls that it makes; the tape is worked on."""
    steps: list[tuple[Observation, Action]] = []
    while not steps or steps[-1][1] != RETURN:
        seen = tape.seen()
        action = teacher(program, seen, [step[1] for step in steps], recursive)
        steps.append((seen, action))
        tape.do(action)
        if action[0] in PROGRAMS:
            yield from frames(tape, str(action[0]), recursive)
    yield program, tuple(steps)


@lru_cache(maxsize=1)
def verification_set() -> tuple[Frame, ...]:
    """Every frame that recursive addition of any two numbers can need: right on these, right on all.

    A call of ADD sees one column (digits, a blank where a number has ended, a carry) and the next one to its left; what
    lies further it leaves to the call that it makes, after which all is blank. So a core that is right on this finite
    set adds numbers of every length, by induction over the columns (Cai et al. 2017, section 3).
    """
    found: dict[Frame, None] = {}
    places = (*range(10), BLANK)
    for a, b, carry in itertools.product(places, places, (BLANK, 1)):
        left = [(BLANK,) if digit == BLANK else places for digit in (a, b)]
        for c, d in itertools.product(*left):
            tape = Tape((), ())
            for row, column in enumerate(((a, c), (b, d), (carry,))):
                tape.rows[row] = {i: digit for i, digit in enumerate(column) if digit != BLANK}
            found |= dict.fromkeys(frames(tape, "ADD", recursive=True))
    return tuple(found)


def problems(count: int, digits: int, seed: int) -> list[tuple[Number, Number]]:
    """Pairs of numbers of up to `digits` digits, drawn so that many different columns (a, b, carry) occur."""
    lot = random.Random(seed)
    covered: set[Observation] = set()
    found = []
    for _ in range(count):
        some = [(number(lot, lot.randint(1, digits)), number(lot, lot.randint(1, digits))) for _ in range(100)]
        columns = [_columns(*pair) for pair in some]
        best = max(range(len(some)), key=lambda i: len(columns[i] - covered))
        covered |= columns[best]
        found.append(some[best])
    return found


def number(lot: random.Random, digits: int) -> Number:
    """Digits of a random number, the last one first; the leading one is not 0."""
    return (*(lot.randrange(10) for _ in range(digits - 1)), lot.randint(1, 9))


def _columns(first: Number, second: Number) -> set[Observation]:
    """What the first step of ADD1 sees in every column: two digits and a carry."""
    found, carry = set(), BLANK
    for a, b in itertools.zip_longest(first, second, fillvalue=BLANK):
        found.add((a, b, carry))
        carry = 1 if sum(digit for digit in (a, b, carry) if digit != BLANK) >= 10 else BLANK
    return found | ({(BLANK, BLANK, 1)} if carry == 1 else set())


def run(tape: Tape, core: Callable[[str, tuple[Observation, ...]], Action], most: int) -> bool:
    """Let a core add: `core(program, what a call has seen so far)` is its next action. False after `most` steps."""
    stack: list[tuple[str, list[Observation]]] = [("ADD", [])]
    for _ in range(most):
        program, seen = stack[-1]
        seen.append(tape.seen())
        action = core(program, tuple(seen))
        tape.do(action)
        if action == RETURN:
            stack.pop()
            if not stack:
                return True
        elif action[0] in PROGRAMS:
            stack.append((str(action[0]), []))
    return False
