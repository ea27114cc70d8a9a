"""Load: more than the disk can take, for long, in millions; and several engines on one file, under fire."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import psutil

from async_enginelog.tables import TABLES

from .attack import Attack, Broken, Outcome, Skipped
from .attacks_death import WAYS
from .attacks_locks import must_be_whole
from .balance import Balance, settle
from .disks import held
from .numbered import KINDS, THINGS
from .stages import RARE, STAGES, some_moment
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
    verbs = ("verify", "tail", "stats") if seconds >= 1.0 else ()
    seen += [_beside(empty, database, verb)[0] for verb in verbs]
    balance = settle(database, [victim], recovered=True)
    balance += _pruned(empty, database, victim, seen)
    return outcome(1, balance._replace(rows=rows), [victim], "; ".join(seen))


def _pruned(empty: Path, database: Path, victim: Started, seen: list[str]) -> Balance:
    """Foretell the end of half of the rows, prune a tenth, settle: only the oldest are gone, and whole."""
    stored = _stored_rows(database)
    newest_old = _newest_of_the_oldest(database, stored // 10)
    for gone, how in (stored // 2, "--dry-run"), (stored // 10, ""):
        took, said = _beside(empty, database, f"prune --keep-rows {stored - gone} {how} --json")
        seen.append(took)
        told, actual = json.loads(said)["rows_in_all"], stored - _stored_rows(database)
        if not gone * 0.9 < told <= gone or actual != (0 if how else told):
            raise Broken(f"`{took}` says that of {stored} rows {told} are pruned; it were {actual}")

    def may_go(stream: int, numbers: list[int]) -> bool:
        return numbers[-1] <= newest_old[stream]

    return settle(database, [victim], recovered=True, may_go=may_go)


def _newest_of_the_oldest(database: Path, rows: int) -> dict[int, int]:
    """Return how far each stream was in its numbers when so many rows, the oldest, had been logged."""
    every = " UNION ALL ".join(f"SELECT LOG_SEQ FROM {table}" for table in TABLES)
    with closing(sqlite3.connect(database)) as connection:
        [(last,)] = connection.execute(f"{every} ORDER BY LOG_SEQ LIMIT 1 OFFSET {rows - 1}")
        found = connection.execute(
            f"SELECT RECORDING_ID / {THINGS}, max(STEP_ID) FROM ENGINE_DB_LOG_STEPS "
            f"WHERE LOG_SEQ <= {last} GROUP BY 1"
        ).fetchall()
    return {stream: number + len(KINDS) for stream, number in found}


def _stored_rows(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        counts = (connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES)
        return sum(counts)


def _beside(empty: Path, database: Path, verb: str) -> tuple[str, str]:
    """Do something to an empty log and to another; tell how long it took, and what was said of the other."""
    small, _ = _timed(verb, empty)
    large, said = _timed(verb, database)
    return f"{verb.removesuffix(' --json').strip()} {large:.2f} s (empty file: {small:.2f} s)", said


def _timed(verb: str, database: Path) -> tuple[float, str]:
    command = [sys.executable, "-m", "async_enginelog", *verb.split(), str(database)]
    begun = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Broken(f"enginelog {verb} ended with {done.returncode}: {done.stdout} {done.stderr}")
    return time.monotonic() - begun, done.stdout


ENGINES = 4


def four_processes(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Have engines on one file die in all ways, at all stages, while others hold locks and snapshots."""
    database = folder / "e.db"
    recover(database)
    end = time.monotonic() + seconds
    everybody: list[Started] = []
    alive: list[Started] = []
    stages = Counter[str]()
    with _trouble(database, chance.random()):
        while time.monotonic() < end or not stages:
            while len(alive) < ENGINES:
                alive.append(_doomed(database, chance))
                everybody.append(alive[-1])
            victim = alive.pop(chance.randrange(ENGINES))
            fired = victim.wait_for_fire(chance.uniform(0.0, 0.6))
            stages[victim.orders.extra["moment"].stage if fired else "elsewhere"] += 1
            victim.order(chance.choice([*WAYS, "close"]))
            if not victim.wait_until(lambda: False, 0.2) and victim.process.poll() is None:
                victim.kill()  # it closes its log under a lock, or hasn't begun to listen
            victim.wait()
    for victim in alive:
        victim.kill()
        victim.wait()
    seen = ", ".join(f"{stage} {times}" for stage, times in sorted(stages.items()))
    return outcome(stages.total(), account(database, everybody), everybody, f"died in {seen}")


def _doomed(database: Path, chance: random.Random) -> Started:
    """Start an engine that dies in some way, at a moment of some stage, if it comes to that in time."""
    moment = some_moment(chance.choice([stage for stage in STAGES if stage not in RARE]), chance)
    return start(
        database,
        tasks=2,
        threads=1,
        rate=1000.0,
        segment_bytes=MEGABYTE,
        chores=["backup"] * (moment.stage == "backup"),
        setup=["tests.chaos.stages:arm"],
        extra={"moment": moment, "way": chance.choice([*WAYS])},
    )


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
            how = chance.choice(
                ["BEGIN EXCLUSIVE", "BEGIN", "PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "backup"]
            )
            if how.startswith("BEGIN"):
                with held(database, how):
                    stopped.wait(chance.uniform(0.0, 1.0))
            elif how == "backup":
                _back_up(database)
            else:
                _execute(database, how)
            stopped.wait(chance.uniform(0.0, 0.5))
    except BaseException as error:
        errors.append(error)


def _back_up(database: Path) -> None:
    """Back up with the command, and look whether the copy is whole."""
    copy = database.with_name("copy.db")
    command = [sys.executable, "-m", "async_enginelog", "backup", str(copy), str(database)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        must_be_whole(copy)
    elif "locked" not in done.stderr:
        raise Broken(f"enginelog backup: {done.stderr}")
    copy.unlink(missing_ok=True)


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
        "load: 10 times the disk",
        "What the disk can't take at once waits, and is committed.",
        ten_times,
        usual=60.0,
    ),
    _attack(
        "load: soak", "Memory, handles and the time of a call stay as they are.", soak, usual=60.0, full=300.0
    ),
    _attack("load: millions", "A large log is as good as a small one.", millions, full=MILLIONS[0][0]),
    _attack(
        "load: 4 processes",
        "Engines on one file die, recover each other and wait for locks; each row is there once.",
        four_processes,
        may_raise=True,  # a MemoryError, where there is no memory left
    ),
]
