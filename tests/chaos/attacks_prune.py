"""Retention: an engine that prunes all the time dies, finds its disk failing and its database locked."""

from __future__ import annotations

import errno
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from async_enginelog import Keep, retention, upkeep

from . import numbered
from .attack import Attack, Broken, Outcome
from .balance import NOTHING, Balance, settle
from .disks import held, pause
from .faults import Faults, Operation
from .stages import some_moment
from .victim import Victim
from .victims import ROOT, Started, outcome, recover, start

# What is older goes, in seconds.
AGE = 1.0
# Rows a second of each stream: their times, 1,009 µs from one to the next, go with the clock.
RATE = 991.0
# For so long an engine lives, in seconds: some of what it logs grows old meanwhile.
LIFE = 1.5, 2.5

DEATHS = "SIGKILL", "SIGTERM", "SIGINT", "os._exit", "segfault", "raise", "sys.exit"
FAILING = Operation.WRITE, Operation.SYNC, Operation.TRUNCATE, Operation.READ


def prune_all_the_time(victim: Victim) -> None:
    """Have the victim prune without a pause what is older than a second; times of rows begin now."""
    upkeep.ROUND, upkeep.SHARE, upkeep.SHORTEST = 0.01, 1.0, 0.001
    retention.SETTLED = timedelta(seconds=AGE / 2)
    victim.orders.options["keep"] = Keep(age=timedelta(seconds=AGE))
    start_streams = victim._start_streams

    def start_now() -> Any:
        victim.record.extra = time.time_ns() // 1000
        numbered.EPOCH = _moment(victim.record.extra)
        return start_streams()

    setattr(victim, "_start_streams", start_now)  # noqa: B010


def _moment(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


@dataclass
class _Reader:
    """Somebody who has asked to keep what is above a LOG_SEQ; rows above these numbers certainly are."""

    numbers: dict[int, int] = field(default_factory=dict)
    came: bool = False

    def come(self, database: Path, victims: list[Started]) -> None:
        with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
            connection.execute(
                "INSERT INTO ENGINE_LOG_WATERMARK (NAME, LOG_SEQ, DT_MOVED) "
                "SELECT 'chaos', coalesce(max(LAST_LOG_SEQ), 0), datetime() FROM ENGINE_LOG_RUN"
            )
        # Only what is logged from here on has certainly got a higher LOG_SEQ.
        for victim in victims:
            for index in range(victim.streams):
                self.numbers[victim.first_stream + index] = victim.record.began[index]
        self.came = True

    def keeps(self, stream: int, number: int) -> bool:
        return self.came and number > self.numbers.get(stream, 0)


@dataclass
class _Log:
    """A log, who wrote it, and who reads it."""

    database: Path
    victims: list[Started] = field(default_factory=list)
    reader: _Reader = field(default_factory=_Reader)

    def start(self, **orders: Any) -> Started:
        setup = ["tests.chaos.attacks_prune:prune_all_the_time", *orders.pop("setup", [])]
        orders |= {"segment_bytes": 128 * 1024, "checkpoint_pages": 50, "tasks": 1, "threads": 1}
        victim = start(self.database, rate=RATE, setup=setup, **orders)
        self.victims.append(victim)
        return victim

    def balance(self) -> Balance:
        """Settle: each row is there once, or was allowed to go, with all that belongs to it."""
        total = NOTHING
        oldest = datetime.now(UTC) - timedelta(seconds=AGE)
        recover(self.database)
        for victim in self.victims:
            numbered.EPOCH, before = _moment(victim.record.extra), numbered.EPOCH
            try:
                may_go = partial(self._may_go, oldest)
                total += settle(self.database, [victim], recovered=True, counted=False, may_go=may_go)
            finally:
                numbered.EPOCH = before
        return total

    def _may_go(self, oldest: datetime, stream: int, numbers: list[int]) -> bool:
        return numbered.time_of(numbers[-1]) < oldest and not self.reader.keeps(stream, numbers[-1])


_Trouble = Callable[[_Log, random.Random, float], None]


def _attack(folder: Path, seconds: float, chance: random.Random, trouble: _Trouble) -> Outcome:
    """Have engines live in trouble, on a log without a reader and, if there is time, on another with one."""
    readers = [False, True] if seconds > 4 * LIFE[0] else [False]
    logs, total = list[_Log](), NOTHING
    for has_reader in readers:
        place = folder / f"place{len(logs)}"
        place.mkdir()
        logs.append(_Log(place / "e.db"))
        _live(logs[-1], seconds / len(readers), chance, trouble, has_reader=has_reader)
        total += logs[-1].balance()
    pruned = total.places["pruned"]
    if not pruned and len(logs) > 1:
        raise Broken("nothing was pruned: the attack is of no use")
    victims = [victim for log in logs for victim in log.victims]
    return outcome(len(victims), total, victims, f"{pruned:,} of the rows were pruned")


def _live(log: _Log, seconds: float, chance: random.Random, trouble: _Trouble, *, has_reader: bool) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end or not log.victims or log.reader.came < has_reader:
        if has_reader and log.victims and not log.reader.came:
            log.reader.come(log.database, log.victims)
        trouble(log, chance, time.monotonic() + chance.uniform(*LIFE))


def _deaths(log: _Log, chance: random.Random, end: float) -> None:
    """Die in the middle of pruning; now and then, kill the command that does the same."""
    way = chance.choice(DEATHS)
    extra = {"moment": some_moment("pruning", chance), "way": way}
    # Every other one lives to see its rows grow old.
    setup = ["tests.chaos.stages:arm"] * (len(log.victims) % 2)
    with log.start(setup=setup, extra=extra) as victim:
        if chance.random() < 0.3:
            _prune_and_die(log.database, chance)
        if not victim.wait_for_fire(end - time.monotonic()):
            victim.order(way)
        victim.wait()


def _prune_and_die(database: Path, chance: random.Random) -> None:
    command = [sys.executable, "-m", "async_enginelog", "prune", str(database), "--older-than", f"{AGE:g}s"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(chance.uniform(0.2, 1.0))
        process.kill()


def _disk_faults(log: _Log, chance: random.Random, end: float) -> None:
    """Have system calls fail for moments, and kill the engine now and then."""
    faults = Faults(log.database.parent)
    with log.start(env=faults.env) as victim:
        victim.wait_for_stage()
        for _ in _until(end, chance):
            faults.begin(chance.choice(FAILING), chance.choice((errno.EIO, errno.ENOSPC)), 300)
            pause(chance.uniform(0.02, 0.2), end)
            faults.end()
        _end(victim, chance)


def _locks(log: _Log, chance: random.Random, end: float) -> None:
    """Hold locks and snapshots for moments, and kill the engine now and then."""
    with log.start() as victim:
        victim.wait_for_stage()
        for _ in _until(end, chance):
            with held(log.database, chance.choice(["BEGIN EXCLUSIVE", "BEGIN IMMEDIATE", "BEGIN"])):
                pause(chance.uniform(0.02, 0.3), end)
        _end(victim, chance)


def _until(end: float, chance: random.Random) -> Iterator[None]:
    while pause(chance.uniform(0.0, 0.3), end):
        yield


def _end(victim: Started, chance: random.Random) -> None:
    if chance.random() < 0.6:
        victim.kill()
        victim.wait()
    elif code := victim.close():
        raise Broken(f"the engine ended with {code}: {victim.last_words()}")


ATTACKS = [
    Attack(f"prune: {name}", promise, partial(_attack, trouble=trouble))
    for name, promise, trouble in (
        (
            "death",
            "Who dies while it prunes has deleted things whole or not at all, none too early.",
            _deaths,
        ),
        ("disk faults", "The same where the disk fails meanwhile.", _disk_faults),
        ("locks", "The same where others hold locks.", _locks),
    )
]
