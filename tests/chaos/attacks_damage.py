"""Corruption: bytes flipped, pages lost, files cut; the engine starts, saves what it can, and goes on."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from async_enginelog.setaside import replace_damaged

from .attack import Attack, Broken, Outcome
from .balance import NOTHING, Balance, settle
from .damage import (
    DAMAGES,
    difference,
    lines_in,
    noise,
    rows_on_pages,
    swap,
    touched_pages,
    try_damages,
)
from .disks import held
from .victims import Started, outcome, recover, start

__all__ = ["ATTACKS", "Damage", "closed_log", "harm_database"]

# So many bytes at the begin of a database say that it is one of SQLite's, and how it is made.
HEAD = 60
# So often a damaged copy is made of one log.
COPIES = 6
# Small enough to die in any of several segments.
SEGMENT = 128 * 1024


class Damage(NamedTuple):
    """How many rows stood where it was done, at most, and what it was, in words."""

    rows: int
    what: str


class _Log(NamedTuple):
    """A log that is to be damaged: where it is, and who wrote it."""

    database: Path
    victim: Started

    def copy_to(self, folder: Path) -> Path:
        """Copy all of it, and return the database."""
        shutil.copytree(self.database.parent, folder)
        return folder / self.database.name


def closed_log(folder: Path, chance: random.Random) -> _Log:
    """Make a log that was closed."""
    folder.mkdir()
    with start(folder / "e.db", rows=chance.randrange(100, 1500)) as victim:
        victim.wait()
    return _Log(folder / "e.db", victim)


def _killed_log(folder: Path, chance: random.Random, *, locked: bool = False, **orders: int) -> _Log:
    """Make a log whose engine was killed; with the database locked, all its rows wait in the spool."""
    folder.mkdir()
    database = folder / "e.db"
    if locked:
        recover(database)
        with held(database):
            victim = _killed(database, chance, orders)
    else:
        victim = _killed(database, chance, orders)
    return _Log(database, victim)


def _killed(database: Path, chance: random.Random, orders: dict[str, int]) -> Started:
    with start(database, rate=2000.0, **orders) as victim:  # type: ignore[arg-type]
        victim.wait_for_rows(chance.randrange(500, 3000))
        victim.kill()
    return victim


class _Tally:
    """What came of all the copies."""

    def __init__(self) -> None:
        self.times = self.excused = self.noticed = 0
        self.total = NOTHING
        self.victims: list[Started] = []

    def take(self, balance: Balance, excused: int, what: str) -> None:
        """Take in what came of one copy; rows that stood in the damaged places are excused."""
        if balance.doubled:
            raise Broken(f"{what}: {balance.doubled} rows doubled: {balance}")
        if balance.lost > excused:
            raise Broken(f"{what}: {balance.lost} rows lost, {excused} stood where the damage is: {balance}")
        self.total += balance._replace(faults=[])
        self.excused += excused

    def outcome(self, where: str) -> Outcome:
        """Return what came of the attack."""
        lost = f"lost are rows that stood in {where} that were overwritten: {self.excused:,} did"
        told = f"{self.noticed} of {self.times} times the engine itself found the damage, and saved the rest"
        why = [lost] * bool(self.total.lost) + [told] * bool(self.noticed)
        return outcome(self.times, self.total, self.victims, "; ".join(why))


_Make = Callable[[Path, random.Random], _Log]
_Harm = Callable[[Path, random.Random], Damage]


def _attack(folder: Path, seconds: float, chance: random.Random, make: _Make, harm: _Harm) -> _Tally:
    """Make logs, damage copies of them, open them with an engine that logs more, and settle."""
    tally = _Tally()
    end = time.monotonic() + seconds
    while not tally.times or time.monotonic() < end:
        log = make(folder / f"log{tally.times}", chance)

        def examine(chosen: random.Random, log: _Log = log) -> None:
            _damage_copy(folder / "copy", log, chosen, harm, tally)

        try_damages(examine, COPIES, end, chance)
    return tally


def _damage_copy(place: Path, log: _Log, chance: random.Random, harm: _Harm, tally: _Tally) -> None:
    database, damage = log.copy_to(place), None
    try:
        damage = harm(database, chance)
        with start(database, rows=600, tasks=1, threads=1) as fresh:
            if code := fresh.wait():
                raise Broken(f"the engine ended with {code}: {fresh.last_words()}")
        tally.victims.append(fresh)
        tally.noticed += "is damaged" in fresh.console.read_text("utf-8", "replace")
        # What the engine didn't come upon, the command `enginelog salvage` finds.
        asyncio.run(replace_damaged(database))
        own = settle(database, [fresh], recovered=True, counted=False)
        tally.take(own, 0, "rows of the next engine")
        before = settle(database, [log.victim], recovered=True, counted=False)
        tally.take(before, damage.rows, "rows before")
        tally.times += 1
    except Broken as error:
        raise Broken(f"{error}; the damage: {damage and damage.what}") from None
    finally:
        shutil.rmtree(place)


def _database(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Damage the database."""
    return _attack(folder, seconds, chance, closed_log, harm_database).outcome("pages")


def _database_without_map(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Damage a database without a pointer map, as files from before version 1.0 are."""
    return _attack(folder, seconds, chance, _log_without_map, harm_database).outcome("pages")


def _log_without_map(folder: Path, chance: random.Random) -> _Log:
    log = closed_log(folder, chance)
    with closing(sqlite3.connect(log.database)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
    return log


def harm_database(database: Path, chance: random.Random, *, begin: bool = False) -> Damage:
    """Damage a database, in its begin for certain if so."""
    clean = database.with_name("clean.db")
    shutil.copy(database, clean)
    before, after = _damage(database, chance)
    if begin:
        # What SQLite knows its files by; what the library knows its own by stands behind it.
        after = noise(chance, HEAD) + after[HEAD:]
        database.write_bytes(after)
    return Damage(rows_on_pages(clean, touched_pages(before, after)), difference(before, after))


def _damage(path: Path, chance: random.Random) -> tuple[bytes, bytes]:
    before = path.read_bytes()
    data = bytearray(before)
    chance.choice(DAMAGES)(data, chance)
    path.write_bytes(data)
    return before, bytes(data)


def _wal(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Damage the WAL, or its index, of an engine that was killed."""
    return _attack(folder, seconds, chance, _killed_log, _harm_wal).outcome("frames")


def _harm_wal(database: Path, chance: random.Random) -> Damage:
    suffix = chance.choice(["-wal", "-wal", "-wal", "-shm"])
    before, after = _damage(database.with_name(database.name + suffix), chance)
    # All rows that were committed in it are in the segment of the spool, which isn't full, too.
    return Damage(0, f"{suffix}: {difference(before, after)}")


def _spool(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Damage a segment of the spool of an engine that was killed, with rows in it that wait."""

    def make(place: Path, chance: random.Random) -> _Log:
        return _killed_log(place, chance, locked=True, segment_bytes=SEGMENT)

    return _attack(folder, seconds, chance, make, _harm_spool).outcome("lines")


def _harm_spool(database: Path, chance: random.Random) -> Damage:
    segment = chance.choice(sorted(database.with_name(f"{database.name}-spool").glob("*.jsonl")))
    before = segment.read_bytes()
    data = bytearray(before[: before.find(b"\0") if b"\0" in before else None])
    if not data:
        return Damage(0, f"{segment.name} is empty")
    # Not what copies a page to another place: then rows are there twice, and nobody can tell.
    chance.choice([damage for damage in DAMAGES if damage is not swap])(data, chance)
    after = bytes(data) + bytes(len(before) - len(data)) * chance.randrange(2)
    segment.write_bytes(after)
    return Damage(lines_in(before, after), f"{segment.name}: {difference(before, after)}")


def _locks(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Damage lock files and the memory of the runs; put folders in their place."""
    return _attack(folder, seconds, chance, _killed_log, _harm_locks).outcome("files")


def _harm_locks(database: Path, chance: random.Random) -> Damage:
    spool, what = database.with_name(f"{database.name}-spool"), list[str]()
    for _ in range(chance.randrange(1, 4)):
        names = ["last-run", "last-run.new", "last-run.lock", "salvage.lock"]
        path = chance.choice([*spool.glob("*.lock"), *(spool / name for name in names)])
        if path.is_dir():
            continue
        path.unlink(missing_ok=True)
        kind = chance.randrange(5)
        if kind == 0 and path.suffix != ".lock":
            path.mkdir()
        elif kind:
            numbers = [b"", b"-5", b"9" * 400, b"\xff" * 100, b"1", noise(chance, 50), b"9" * 18]
            path.write_bytes(chance.choice(numbers))
        what.append(f"{path.name}: {('a folder', 'gone')[not path.exists()] if not kind else 'other bytes'}")
    return Damage(0, ", ".join(what))


ATTACKS = [
    Attack(
        "damage: database",
        "The engine starts and goes on; rows are lost only with the pages they stood on.",
        _database,
        may_lose=True,
    ),
    Attack(
        "damage: database without auto_vacuum",
        "The same for a file that says nothing of whose its pages are.",
        _database_without_map,
        may_lose=True,
    ),
    Attack("damage: WAL and its index", "Rows that SQLite loses are committed again, once.", _wal),
    Attack(
        "damage: spool",
        "Lines that can't be read are set aside; all others are committed.",
        _spool,
        may_lose=True,
    ),
    Attack("damage: locks and last-run", "The engine starts, and recovers what was left.", _locks),
]
