"""What an attack is, what comes of it, and how one is judged."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .waits import BOUND

__all__ = ["Attack", "Broken", "Outcome", "Skipped", "all_attacks", "longest", "verdict"]

# Each has a list called ATTACKS. They are run in this order.
MODULES = (
    "attacks_death",
    "attacks_disk",
    "attacks_locks",
    "attacks_damage",
    "attacks_salvage",
    "attacks_prune",
    "attacks_time",
    "attacks_process",
    "attacks_load",
)


class Broken(AssertionError):
    """A promise that can't be told by counting rows is broken; the text says which, and by what."""


class Skipped(Exception):
    """An attack can't be made here; the text says why."""


class Outcome(NamedTuple):
    """
    What came of an attack.

    ``longest_call`` is CPU time of the calling thread, which the machine can't make longer than it is;
    ``longest_wait`` is how long a call, or a turn of the loop, made its thread sleep, see
    :mod:`~tests.chaos.waits`; ``longest_stall`` is wall-clock time in which the event loop of a victim did
    not have a turn. All are in seconds, and :obj:`None` if the attack doesn't measure them.

    """

    times: int
    rows: int
    lost: int = 0
    doubled: int = 0
    longest_call: float | None = None
    longest_wait: float | None = None
    longest_stall: float | None = None
    # Why physics forbids 0, or what was left out and why; may also say what was seen.
    why: str = ""
    # Calls that raised something other than that the log is closed.
    raised: int = 0


Run = Callable[[Path, float, random.Random], Outcome]


@dataclass(frozen=True)
class Attack:
    """
    An attack on a promise.

    Attributes:
        name: What it is called in the table and on the command line.
        promise: What must hold, in one sentence.
        run: Attacks in an empty folder for so many seconds; chance comes from its last argument only.
            Raises :exc:`Broken` if something other than rows is not as promised, and :exc:`Skipped`
            if it can't be made here.
        may_lose: Whether physics forbids that nothing is lost; the outcome then says why.
        may_raise: Whether calls may raise something: a MemoryError, where there is none left.
        least: In fewer seconds than these it is of no use.
        usual: For so many seconds it is made if nothing else is said.
        full: For so many in the full form.

    """

    name: str
    promise: str
    run: Run
    may_lose: bool = False
    may_raise: bool = False
    least: float = 1.0
    usual: float = 30.0
    full: float = 60.0


def verdict(attack: Attack, outcome: Outcome) -> str:
    """Return "holds"; "physics" if rows were lost that nothing could have kept; else what is BROKEN."""
    if broken := ", ".join(_broken(attack, outcome)):
        return f"BROKEN: {broken}"
    return "physics" if outcome.lost else "holds"


def _broken(attack: Attack, outcome: Outcome) -> Iterator[str]:
    if outcome.lost and not (attack.may_lose and outcome.why):
        yield "rows are lost"
    if outcome.doubled:
        yield "rows are doubled"
    if outcome.raised and not attack.may_raise:
        yield f"{outcome.raised} calls raised"
    if (outcome.longest_call or 0.0) > BOUND:
        yield f"a call computed for {outcome.longest_call:.2f} s"
    if (outcome.longest_wait or 0.0) > BOUND:
        yield f"a call or the loop waited for {outcome.longest_wait:.2f} s"


def longest(*seconds: float | None) -> float | None:
    """Return the longest of some times, of which any may not have been measured."""
    return max((second for second in seconds if second is not None), default=None)


def all_attacks() -> Iterator[Attack]:
    """Yield the attacks of all modules, in order."""
    for name in MODULES:
        try:
            module = importlib.import_module(f"{__package__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__package__}.{name}":
                raise
        else:
            yield from module.ATTACKS
