"""Locks and readers: whatever others do with the database, the writer goes on, or its rows wait."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from async_enginelog.database import WAL_LIMIT_BYTES
from async_enginelog.segments import size_of
from async_enginelog.tables import TABLES

from .attack import Attack, Broken, Outcome, Skipped
from .disks import held, pause
from .victims import Started, account, outcome, start

__all__ = ["ATTACKS", "must_be_whole"]

RATE = 1500.0
# So soon after a reader has gone must the WAL be of its usual size again, in seconds, under load.
BACK_TO_NORMAL = 20.0


def _exclusive(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Hold EXCLUSIVE all the time."""
    database = folder / "e.db"
    with start(database, rate=RATE) as victim:
        victim.wait_for_rows(500)
        with held(database):
            before = victim.rows
            time.sleep(seconds)
            if victim.rows - before < seconds * RATE / 4:
                raise Broken("the engine did not go on under the lock")
            _must_say(victim, "database is locked", database)
        _until(lambda: "works again" in _console(victim), 10, "the end of the lock isn't told")
        victim.close()
    return outcome(1, account(database, [victim]), [victim])


def _must_say(victim: Started, words: str, database: Path) -> None:
    if words not in _console(victim):
        raise Broken(f"{database.name}: nobody was told: {words}; {victim.last_words()}")


def _console(victim: Started) -> str:
    return victim.console.read_text("utf-8", "replace")


def _until(done: Callable[[], bool], timeout: float, otherwise: str) -> float:
    """Wait until something is so, and return how long it took."""
    begun = time.monotonic()
    while not done():
        if time.monotonic() - begun > timeout:
            raise Broken(f"{otherwise} within {timeout:g} s")
        time.sleep(0.01)
    return time.monotonic() - begun


def _locks(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Hold locks of all kinds for moments, again and again, while the engine is killed now and then."""
    database = folder / "e.db"
    end = time.monotonic() + seconds
    victims: list[Started] = []
    times = 0
    while time.monotonic() < end:
        with start(database, rate=RATE, segment_bytes=128 * 1024, checkpoint_pages=50) as victim:
            victims.append(victim)
            victim.wait_for_rows(50)
            turn_ends = min(end, time.monotonic() + chance.uniform(1, 3))
            while pause(chance.uniform(0, 0.1), turn_ends):
                with held(database, chance.choice(["BEGIN EXCLUSIVE", "BEGIN IMMEDIATE", "BEGIN"])):
                    pause(chance.uniform(0.01, 0.7), turn_ends)
                times += 1
            if chance.random() < 0.5:
                victim.kill()
                victim.wait()
            else:
                victim.close()
    return outcome(times, account(database, victims), victims)


def _snapshot(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Hold on to a snapshot under load: commits go on, the WAL grows by them, and shrinks again."""
    database = folder / "e.db"
    wal = database.with_name("e.db-wal")
    # From this, the WAL grows by 7 MB a second, and by 40 until the log spares it.
    with start(database, rate=RATE) as victim:
        victim.wait_for_rows(2000)
        with held(database, "BEGIN"):
            committed = _rows_in(database)
            time.sleep(seconds)
            largest = size_of(wal)
            grown = _rows_in(database) - committed
            if not grown:
                raise Broken("a reader has stopped the writer")
        took = _until(lambda: size_of(wal) <= WAL_LIMIT_BYTES, BACK_TO_NORMAL, "the WAL isn't back to normal")
        victim.close()
    told = "; told of" if "-wal has grown to" in _console(victim) else ""
    if largest > 5 * WAL_LIMIT_BYTES and not told:
        raise Broken("nobody was told that the WAL has grown")
    why = (
        f"{grown:,} rows were committed beside the reader; the WAL grew to {largest / 2**20:.0f} MiB{told}, "
        f"and was back {took:.1f} s after the reader had gone"
    )
    return outcome(1, account(database, [victim]), [victim], why)


def _rows_in(database: Path) -> int:
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        counts = (connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES)
        return sum(counts)


def _shell(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Back up and VACUUM with SQLite's own command, again and again."""
    shell = shutil.which("sqlite3")
    if shell is None:
        raise Skipped("the command sqlite3 isn't installed")
    database, copy = folder / "e.db", folder / "copy.db"
    end = time.monotonic() + seconds
    times = 0
    with start(database, rate=RATE) as victim:
        victim.wait_for_rows(500)
        while time.monotonic() < end:
            order = chance.choice([f".backup {copy}", f"VACUUM INTO '{copy}'", "VACUUM", "PRAGMA optimize"])
            copy.unlink(missing_ok=True)
            command = [shell, "-cmd", ".timeout 2000", str(database), order]
            subprocess.run(command, capture_output=True, timeout=60)
            if copy.exists() and size_of(copy):
                must_be_whole(copy)
            times += 1
        victim.close()
    return outcome(times, account(database, [victim]), [victim])


def must_be_whole(copy: Path) -> None:
    """Have SQLite look at a copy."""
    with closing(sqlite3.connect(copy)) as connection:
        [(found,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
    if found != "ok":
        raise Broken(f"a copy made in mid-run is damaged: {found}")


def _several(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Have four engines write to one file; kill one of them now and then, and start another."""
    database = folder / "e.db"
    end = time.monotonic() + seconds
    orders: dict[str, Any] = {"rate": RATE / 2, "segment_bytes": 128 * 1024, "checkpoint_pages": 50}
    alive = [start(database, **orders) for _ in range(4)]
    victims = list(alive)
    while time.monotonic() < end:
        time.sleep(chance.uniform(0.2, 0.6))
        victim = alive.pop(0)
        victim.wait_for_stage()
        if chance.random() < 0.7:
            victim.kill()
            victim.wait()
        else:
            victim.close()
        alive.append(start(database, **orders))
        victims.append(alive[-1])
    for victim in alive:
        victim.wait_for_stage()
        victim.close()
    return outcome(len(victims), account(database, victims), victims)


ATTACKS = [
    Attack(
        "locks: EXCLUSIVE", "The engine goes on under a lock of 30 s, and says why rows wait.", _exclusive
    ),
    Attack("locks: of all kinds", "Locks that come and go lose and double nothing.", _locks),
    Attack(
        "locks: pinned snapshot",
        "A reader never stops the writer; the WAL shrinks again.",
        _snapshot,
        usual=120.0,
        full=120.0,
    ),
    Attack("locks: the sqlite3 command", "VACUUM and backups in mid-run disturb nothing.", _shell),
    Attack("locks: four engines", "Engines that share a file lose nothing when one of them dies.", _several),
]
