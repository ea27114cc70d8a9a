"""Loop and process: what an engine can do to the loop, the tasks, the threads and the process of its log."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .attack import Attack, Broken, Outcome, Skipped
from .balance import NOTHING, Balance, settle
from .cancelling import Walked
from .damage import PAGE
from .victims import PATIENCE, Started, account, outcome, recover, start

# Of a parent that forks.
CHILDREN = 4

Check = Callable[[Started], None]


def _live(
    folder: Path,
    seconds: float,
    what: Callable[[Started], str | None],
    *,
    recovers: bool = False,
    check: Check | None = None,
    **orders: Any,
) -> Outcome:
    """
    Have engines live, one after the other, each on a file of its own.

    Args:
        folder: Where the files are.
        seconds: For how long.
        what: Done to each while it lives; may return what was seen.
        recovers: Whether the next opening may find something to recover.
        check: Looks at each when it has ended.
        orders: Of the victims.

    """
    end = time.monotonic() + seconds
    total, everybody, seen = NOTHING, list[Started](), None
    while time.monotonic() < end or not everybody:
        database = folder / f"{len(everybody)}" / "e.db"
        database.parent.mkdir()
        with start(database, **orders) as victim:
            seen = what(victim) or seen
            code = victim.wait()
        if code:
            raise Broken(f"the engine ended with {code}: {victim.last_words()}")
        if victim.record.failed_calls:
            raise Broken(f"{victim.record.failed_calls} calls raised: {victim.last_words()}")
        if check is not None:
            check(victim)
        everybody.append(victim)
        total += _settled(database, victim, recovers)
    return outcome(len(everybody), total, everybody, seen or "")


def _settled(database: Path, victim: Started, recovers: bool) -> Balance:
    if recovers:
        return account(database, [victim])
    # It closed its log: nothing may be left to do for the next opening.
    balance = settle(database, [victim], recovered=True)
    left = [path.name for path in database.with_name(f"{database.name}-spool").glob("*.jsonl")]
    if left:
        raise Broken(f"a log that was closed left {left}")
    recover(database)
    return balance


def _log_for(seconds: float) -> Callable[[Started], None]:
    def what(victim: Started) -> None:
        victim.wait_for_stage()
        victim.wait_until(lambda: False, seconds)
        victim.order("close")

    return what


def blocked_loop(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Block the loop, for 5 s if there is time, while threads go on logging."""
    length = min(5.0, seconds / 2)

    def block(victim: Started) -> str:
        victim.wait_for_rows(chance.randrange(1000))
        victim.order("block")
        victim.wait_for_fire(5.0)
        rows, begun = victim.rows, time.monotonic()
        victim.wait_until(lambda: False, length)
        by_threads = (victim.rows - rows) / (time.monotonic() - begun)
        victim.order("close")
        return f"blocked for {length:g} s, in which two threads logged {by_threads:,.0f} rows a second"

    return _live(folder, seconds, block, tasks=2, threads=2, extra={"block": length})


def closed_loop(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Close loops under open logs, with rows under way."""
    life = "tests.chaos.lives:loses_loops"
    return _live(folder, seconds, _nothing, recovers=True, tasks=10, threads=0, life=life)


def cancel_at_every_await(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Cancel tasks wherever they are suspended in the library, each place in a life of its own."""
    template = folder / "template"
    template.mkdir()
    # Each life begins with a database of an older schema, and rows of a dead run.
    with start(
        template / "e.db",
        setup=["tests.chaos.stages:keep_schema_old"],
        extra={"schema": 2},
        segment_bytes=256 * 1024,
        rate=500.0,
    ) as dead:
        dead.wait_for_rows(200)
        dead.kill()
    damaged = folder / "damaged"
    shutil.copytree(template, damaged)
    recover(damaged / "e.db")
    with (damaged / "e.db").open("r+b") as file:
        # A page without rows: all of them can be saved.
        file.write(bytes(PAGE))
    streams = (dead.first_stream, dead.streams, dead.orders.record, str(dead.console))
    lives = folder / "lives"
    lives.mkdir()
    extra = {
        "templates": {"": str(template), "mends": str(damaged)},
        "dead": [streams],
        "seconds": seconds,
        "seed": chance.random(),
    }
    with start(lives / "e.db", life="tests.chaos.cancelling:walk", extra=extra, tasks=1, threads=0) as walker:
        if walker.wait(seconds + 4 * PATIENCE):
            raise Broken(walker.last_words())
    walked = Walked(*json.loads(walker.last_words(1)))
    unreached = ", ".join(f"{module} {len(lines)}" for module, lines in walked.unreached.items())
    seen = (
        f"{walked.chains} chains of {walked.cancelled} awaits, {walked.left} chains left; of the "
        f"{walked.awaits} awaits that an engine may come to, no task was ever suspended at "
        f"{walked.awaits - walked.reached}: {unreached}"
    )
    return outcome(walker.record.extra, Balance(walker.rows, 0, 0, Counter(), []), [walker], seen)


def fork(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Fork while tasks and threads log."""
    if not hasattr(os, "fork"):
        raise Skipped("this system has no fork()")
    locked = 0

    def count(victim: Started) -> None:
        nonlocal locked
        locked += victim.record.extra

    # A child that can't commit is no fault, see there; its rows are recovered like those of the dead.
    ended = _live(
        folder,
        seconds,
        _nothing,
        recovers=True,
        check=count,
        tasks=2 + CHILDREN,
        threads=0,
        rate=1000.0,
        options={"timeout": 1.0},
        life="tests.chaos.lives:forks",
    )
    children = CHILDREN * ended.times
    return ended._replace(
        why=f"{locked} of {children} children, forked within a commit, found the file locked"
    )


def threads(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Log from 16 threads and two tasks at once."""
    what = _log_for(min(seconds * 0.6, 5.0))
    return _live(folder, seconds, what, tasks=2, threads=16)


def eager_tasks(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Log where tasks begin at once."""
    if not hasattr(asyncio, "eager_task_factory"):
        raise Skipped("eager tasks came with Python 3.12")
    what = _log_for(min(seconds * 0.6, 5.0))
    return _live(folder, seconds, what, tasks=4, life="tests.chaos.lives:eager_tasks")


def uvloop(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Log on the other event loop."""
    if importlib.util.find_spec("uvloop") is None:
        raise Skipped("uvloop isn't installed")
    what = _log_for(min(seconds * 0.6, 5.0))
    return _live(folder, seconds, what, tasks=4, threads=2, life="tests.chaos.lives:on_uvloop")


def development_mode(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Log under ``python -X dev -W error``."""
    if (3, 12) <= sys.version_info < (3, 12, 4):
        # https://github.com/python/cpython/issues/117995
        raise Skipped("Python 3.12 before 3.12.4 warns of ?1 in SQL, without reason")

    def is_silent(victim: Started) -> None:
        # In this mode, asyncio tells of turns that take more than 0.1 s; on a busy machine, any may.
        lines = [line for line in victim.last_words().splitlines() if not line.startswith("Executing")]
        if lines:
            raise Broken(f"it said: {lines}")

    what = _log_for(min(seconds * 0.5, 5.0))
    python = ["-X", "dev", "-W", "error"]
    return _live(folder, seconds, what, check=is_silent, python=python, chores=["flush", "backup"])


def exit_without_close(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Come to the end of the program with logs open on three loops."""
    extra = {"exit": chance.random() < 0.5}
    life = "tests.chaos.lives:forgets_to_close"
    return _live(folder, seconds, _nothing, recovers=True, tasks=3, threads=0, life=life, extra=extra)


def fifty_logs(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Open and close 50 logs in one process, and count what is left."""
    if sys.platform == "win32":
        raise Skipped("there, handles are counted otherwise")
    life = "tests.chaos.lives:fifty_logs"
    return _live(folder, seconds, _nothing, tasks=50 if seconds >= 1.0 else 16, threads=0, rows=30, life=life)


def _nothing(victim: Started) -> None:
    pass


# A moment will do to see that nothing is wrong, if not how it goes on.
_attack = partial(Attack, least=0.3)

ATTACKS = [
    _attack(
        "process: blocked loop", "A loop that is blocked loses nothing, and threads go on.", blocked_loop
    ),
    _attack("process: closed loop", "A loop closed under the log loses nothing that was taken.", closed_loop),
    _attack(
        "process: cancellation",
        "A task cancelled at any await of the library loses nothing, hangs nothing, and leaves nothing.",
        cancel_at_every_await,
        usual=120.0,
        full=600.0,
    ),
    _attack(
        "process: fork", "A fork takes nothing from the parent's log, and children can have theirs.", fork
    ),
    _attack("process: 16 threads", "Threads may log beside the loop, each row once.", threads),
    _attack("process: eager tasks", "Nothing depends on when a task begins.", eager_tasks),
    _attack("process: uvloop", "Another event loop is as good.", uvloop),
    _attack("process: -X dev -W error", "Python has nothing to warn of.", development_mode),
    _attack("process: no close", "A forgotten close loses nothing and hangs no exit.", exit_without_close),
    _attack("process: 50 logs", "A closed log leaves no thread, no handle and no memory.", fifty_logs),
]
