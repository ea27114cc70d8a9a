"""Load: more than the disk can take, for long, in millions; and several engines on one file, under fire."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import psutil

from .attack import Attack, Broken, Outcome, Skipped
from .balance import settle
from .disks import held
from .victims import PATIENCE, ROOT, Started, account, outcome, recover, start

MEGABYTE = 2**20

# The database is to be had for so much of each second, in seconds, so that it takes a tenth.
TURN, TENTH = 1.0, 0.1

# Below so many seconds, what is measured is noise, and isn't judged.
LONG = 30.0


def ten_times(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Log 24,000 rows a second while the disk is there for a tenth of the time; then see it catch up."""
    database = folder / "e.db"
    with start(database, tasks=3, threads=1, rate=6000.0, options={"timeout": PATIENCE}) as victim:
        victim.wait_for_stage()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with held(database):
                victim.wait_until(lambda: False, min(TURN, max(seconds, 0.2)) - TENTH)
            victim.wait_until(lambda: False, TENTH)
        begun, rows = time.monotonic(), victim.rows
        code = victim.close()
        caught_up = time.monotonic() - begun
    if code:
        raise Broken(f"the engine ended with {code}: {victim.last_words()}")
    why = f"{rows / seconds:,.0f} rows a second; all was committed {caught_up:.1f} s later"
    return outcome(1, account(database, [victim]), [victim], why)


class _Sample(NamedTuple):
    """What an engine has of its machine at a moment."""

    memory: int
    handles: int
    calls: int
    call_cpu: int


def soak(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Log as fast as a disk can take it: in a minute, what an engine logs in hours. Nothing may grow."""
    if sys.platform == "win32":
        raise Skipped("there, handles are counted otherwise")
    database = folder / "e.db"
    settled = {"timeout": PATIENCE}
    with start(database, tasks=2, threads=1, rate=4000.0, chores=["flush"], options=settled) as victim:
        victim.wait_for_stage()
        samples = []
        end = time.monotonic() + seconds
        while time.monotonic() < end and victim.process.poll() is None:
            victim.wait_until(lambda: False, seconds / 24)
            samples.append(_sample(victim))
        code = victim.close()
    if code:
        raise Broken(f"the engine ended with {code}: {victim.last_words()}")
    why = _judged(samples, seconds)
    balance = settle(database, [victim], recovered=True)
    return outcome(1, balance, [victim], why)


def _sample(victim: Started) -> _Sample:
    process = psutil.Process(victim.process.pid)
    with process.oneshot():
        # What the process has for itself: the segments of the spool are the kernel's to keep or to write out.
        memory = process.memory_full_info().uss
        handles = process.num_fds()
    return _Sample(memory, handles, victim.record.calls, victim.record.calls_cpu)


def _judged(samples: Sequence[_Sample], seconds: float) -> str:
    """Compare the last third with the second; the first is for warming up."""
    third = len(samples) // 3
    middle, last = samples[third : 2 * third + 1], samples[2 * third :]
    # It goes up and down with the segment that is being filled.
    memory = [max(sample.memory for sample in part) / MEGABYTE for part in (middle, last)]
    handles = [max(sample.handles for sample in part) for part in (middle, last)]
    calls = [_call_time(part) for part in (middle, last)]
    hours = samples[-1].calls / 100 / 3600
    seen = (
        f"as many calls as in {hours:.1f} h at 100 a second; memory {memory[0]:.1f} MB, later "
        f"{memory[1]:.1f}; handles {handles[0]}, later {handles[1]}; mean call {calls[0]:.1f} µs, later "
        f"{calls[1]:.1f}"
    )
    if seconds >= LONG and (
        memory[1] > memory[0] + 8 or handles[1] > handles[0] + 4 or calls[1] > calls[0] * 1.5 + 2
    ):
        raise Broken(f"something grows: {seen}")
    return seen


def _call_time(part: Sequence[_Sample]) -> float:
    calls = part[-1].calls - part[0].calls
    return (part[-1].call_cpu - part[0].call_cpu) / max(1, calls) / 1e3


# From so many seconds on, so many rows.
MILLIONS = (300.0, 10_000_000), (LONG, 1_000_000), (1.0, 100_000), (0.0, 10_000)

VERBS = "verify", "tail", "stats", "prune --older-than 3650d --dry-run"


def millions(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Log 10,000,000 rows (fewer in a short run), and compare what one does with them with an empty file."""
    rows = next(rows for least, rows in MILLIONS if seconds >= least)
    empty, database = folder / "empty.db", folder / "e.db"
    recover(empty)
    with start(database, tasks=2, threads=0, rows=rows // 2, options={"timeout": 3600.0}) as victim:
        victim.wait_for_stage()
        begun = time.monotonic()
        if code := victim.wait(3600.0):
            raise Broken(f"the engine ended with {code}: {victim.last_words()}")
        rate = rows / (time.monotonic() - begun)
    seen = [f"{rows:,} rows at {rate:,.0f} a second into {database.stat().st_size / MEGABYTE:,.0f} MB"]
    for verb in VERBS if seconds >= 1.0 else VERBS[:1]:
        small, large = _time_of(verb, empty), _time_of(verb, database)
        seen.append(f"{verb.partition(' ')[0]} {large:.2f} s (empty file: {small:.2f} s)")
    balance = settle(database, [victim], recovered=True)
    return outcome(1, balance, [victim], "; ".join(seen))


def _time_of(verb: str, database: Path) -> float:
    command = [sys.executable, "-m", "async_enginelog", *verb.split(), str(database)]
    begun = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Broken(f"enginelog {verb} ended with {done.returncode}: {done.stdout} {done.stderr}")
    return time.monotonic() - begun


ENGINES = 4


def four_processes(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Have engines on one file die and start anew, while others hold locks and snapshots."""
    database = folder / "e.db"
    recover(database)
    end = time.monotonic() + seconds
    everybody: list[Started] = []
    alive: list[Started] = []
    deaths = 0
    with _trouble(database, chance.random()):
        while time.monotonic() < end or not deaths:
            while len(alive) < ENGINES:
                alive.append(start(database, tasks=2, threads=1, rate=1000.0, segment_bytes=MEGABYTE))
                everybody.append(alive[-1])
            victim = alive.pop(chance.randrange(ENGINES))
            victim.wait_until(lambda: False, chance.uniform(0.0, 0.6))
            way = chance.choice(["SIGKILL", "SIGKILL", "SIGTERM", "os._exit", "segfault", "raise", "close"])
            victim.order(way)
            if not victim.wait_until(lambda: False, 0.2) and victim.process.poll() is None:
                victim.kill()  # it closes its log under a lock, or hasn't begun to listen
            victim.wait()
            deaths += 1
    for victim in alive:
        victim.close()
    return outcome(deaths, account(database, everybody), everybody)


@contextmanager
def _trouble(database: Path, seed: float) -> Iterator[None]:
    """Hold locks and snapshots, check the WAL in, and vacuum, one after the other, until the end."""
    stopped, errors = Event(), list[BaseException]()
    thread = Thread(target=_make_trouble, args=(database, random.Random(seed), stopped, errors))
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
    if errors:
        raise errors[0]


def _make_trouble(database: Path, chance: random.Random, stopped: Event, errors: list[BaseException]) -> None:
    try:
        while not stopped.is_set():
            how = chance.choice(["BEGIN EXCLUSIVE", "BEGIN", "PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM"])
            if how.startswith("BEGIN"):
                with held(database, how):
                    stopped.wait(chance.uniform(0.0, 1.0))
            else:
                _execute(database, how)
            stopped.wait(chance.uniform(0.0, 0.5))
    except BaseException as error:
        errors.append(error)


def _execute(database: Path, sql: str) -> None:
    """Execute a statement as a shell would, in a process of its own; it may find the file locked."""
    script = "import sqlite3, sys; sqlite3.connect(sys.argv[1], isolation_level=None).execute(sys.argv[2])"
    done = subprocess.run([sys.executable, "-c", script, str(database), sql], capture_output=True, text=True)
    if done.returncode and "locked" not in done.stderr:
        raise Broken(f"{sql}: {done.stderr}")


# A moment will do to see that nothing is wrong, if not how it goes on.
_attack = partial(Attack, least=0.3)

ATTACKS = [
    _attack(
        "load: 10 times the disk", "What the disk can't take at once waits, and is committed.", ten_times
    ),
    _attack("load: soak", "Memory, handles and the time of a call stay as they are.", soak),
    _attack("load: millions", "A large log is as good as a small one.", millions),
    _attack(
        "load: 4 processes",
        "Engines on one file die, recover each other and wait for locks; each row is there once.",
        four_processes,
    ),
]
