"""Death: an engine dies in each of the ways it can, in the middle of whatever its log is doing."""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from .attack import Attack, Broken, Outcome, Skipped
from .balance import NOTHING, Balance, console_lines
from .deeds import SHORTAGE
from .stages import RARE, STAGES, Moment, some_moment
from .victim import OPEN
from .victims import PATIENCE, Started, account, outcome, start

# So many engines die on one file, each recovering those before it, before the balance is made.
CHAIN = 4

# Segments that fill up within a few thousand rows.
SEGMENT_BYTES = 1024 * 1024

# A victim that hasn't come to the moment of its death by then is told to die where it is.
REACH = 1.0

WAYS = {
    "SIGKILL": "What was accepted survives kill -9.",
    "SIGTERM": "What was accepted survives a signal that nobody handles.",
    "SIGINT": "Ctrl-C ends the engine, and nothing is lost.",
    "os._exit": "What was accepted survives an exit without any clean-up.",
    "raise": "An exception that nobody handles ends the engine, and nothing is lost.",
    "sys.exit": "sys.exit() in a handler ends the engine, and nothing is lost.",
    "sys.exit in a signal handler": "An exception in the middle of whatever the log does harms no row.",
    "segfault": "What was accepted survives a segmentation fault.",
    "out of memory": "With no memory left (RLIMIT_AS), what was accepted survives, if it is on the disk.",
}

ONLY_LINUX = MAY_LOSE = {"out of memory"}


def _die(way: str) -> Any:
    """Return the attack of dying in a way, at each stage in turn."""

    def attack(folder: Path, seconds: float, chance: random.Random) -> Outcome:
        if way in ONLY_LINUX and sys.platform != "linux":
            raise Skipped("needs Linux")
        stages = [stage for stage in STAGES if stage not in RARE]
        chance.shuffle(stages)
        return _deaths(folder, seconds, chance, way, itertools.cycle(stages))

    return attack


def recovery_again_and_again(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Kill engines while they recover others, which were killed while they recovered others."""
    return _deaths(folder, seconds, chance, "SIGKILL", itertools.repeat("recovery"))


def _deaths(folder: Path, seconds: float, chance: random.Random, way: str, stages: Iterator[str]) -> Outcome:
    end = time.monotonic() + seconds
    total, everybody, where = NOTHING, list[Started](), Counter[str]()
    while time.monotonic() < end or not everybody:
        place = folder / f"{len(everybody)}"
        place.mkdir()
        chain = [_first(place / "e.db", chance)]
        while len(chain) <= CHAIN and (time.monotonic() < end or len(chain) < 2):
            moment = some_moment(next(stages), chance)
            victim, reached = _die_at(place / "e.db", moment, way)
            where[moment.stage if reached else "elsewhere"] += 1
            chain.append(victim)
        total += account(place / "e.db", chain)
        everybody += chain
    seen = ", ".join(f"{stage} {times}" for stage, times in sorted(where.items()))
    why = _excuse(total, everybody) if way in MAY_LOSE else ""
    return outcome(sum(where.values()), total, everybody, f"{why}died in {seen}")


def _excuse(total: Balance, victims: list[Started]) -> str:
    """Say what can't be kept where nothing can be written: rows that were on their way to the console."""
    unsaid = sum(
        max(0, victim.record.on_console - sum(1 for _ in console_lines(victim.console))) for victim in victims
    )
    # What is lost is counted before and after the recovery.
    if total.lost > 2 * unsaid:
        raise Broken(f"{total.lost} rows are lost, {unsaid} were on their way to the console: {total}")
    return (
        f"lost are rows on their way to the console, in memory alone: {unsaid:,} were; " if total.lost else ""
    )


def _first(database: Path, chance: random.Random) -> Started:
    """Leave rows in a spool and, mostly, a database of an older schema."""
    schema = chance.choice([1, 2, 3, 99])
    # At the first schema, the tenth table isn't there: its rows, and those behind them, wait.
    setup = ["tests.chaos.stages:keep_schema_old"]
    with start(database, segment_bytes=SEGMENT_BYTES, setup=setup, extra={"schema": schema}) as victim:
        victim.wait_for_rows(chance.randrange(1000, 5000))
        victim.kill()
    return victim


def _die_at(database: Path, moment: Moment, way: str) -> tuple[Started, bool]:
    """Start an engine that dies at a moment; tell whether it came to it."""
    with start(
        database,
        segment_bytes=SEGMENT_BYTES,
        checkpoint_pages=30 if moment.stage == "checkpoint" else 0,
        chores=["flush"] + ["backup"] * (moment.stage == "backup"),
        setup=["tests.chaos.stages:arm"],
        extra={"moment": moment, "way": way},
    ) as victim:
        if not victim.wait_until(lambda: victim.record.stage >= OPEN or victim.record.fire > 0, PATIENCE):
            raise Broken(f"the engine died before it was attacked: {victim.last_words()}")
        if moment.stage == "aclose":
            victim.order("close")
        reached = victim.wait_for_fire(REACH)
        if not reached:
            victim.order(way)
        if way == "out of memory":
            # It may go on for as long as it finds memory; or wait for good, in Python itself, for a thread
            # that has started and found none (https://github.com/python/cpython/issues/140746).
            victim.wait_until(lambda: False, 2 * SHORTAGE)
            victim.kill()
        victim.wait()
    return victim, reached


# A death takes less than a second.
_attack = partial(Attack, least=0.3)

ATTACKS = [
    *(
        _attack(
            f"death: {way}", promise, _die(way), may_lose=way in MAY_LOSE, may_raise=way == "out of memory"
        )
        for way, promise in WAYS.items()
    ),
    _attack(
        "death: recovery",
        "An engine killed while it recovers others, again and again, loses and doubles nothing.",
        recovery_again_and_again,
    ),
]
