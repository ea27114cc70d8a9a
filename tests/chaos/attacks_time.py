"""Time: clocks that step, zones that change in mid-run, and the ends of the calendar."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from async_enginelog.tables import TABLES

from . import numbered
from .attack import Attack, Broken, Outcome
from .balance import NOTHING, settle
from .disks import pause
from .faults import Faults
from .victim import Victim
from .victims import Started, account, outcome, recover, start

RATE = 1500.0

DAY, YEAR = 86_400.0, 365.2425 * 86_400
STEPS = [
    sign * step for sign in (-1, 1) for step in (0.01, 1.0, 60.0, 3600.0, DAY, YEAR, 56 * YEAR, 200 * YEAR)
]
# A zone whose clocks are set forward and back some seconds after the times that are logged begin.
ZONE = "XST0XDT-1,J1/00:00:02,J1/01:00:05"
ZONES = ["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Chatham", "Asia/Kathmandu", ZONE]


def _clock(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Let the clock step, by seconds or centuries, while the engine is killed and started again."""
    place = folder / "place"
    place.mkdir()
    database = place / "e.db"
    faults = Faults(place)
    victims: list[Started] = []
    times = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        # Python itself doesn't start beyond the years 1678 and 2261.
        faults.shift_clock(chance.choice([0, chance.choice(STEPS)]))
        with start(database, rate=RATE, segment_bytes=128 * 1024, env=faults.env) as victim:
            victims.append(victim)
            if not victim.wait_for_stage():
                raise Broken(f"the engine doesn't start: {victim.last_words()}")
            turn_ends = min(end, time.monotonic() + chance.uniform(1, 3))
            while pause(chance.uniform(0.02, 0.3), turn_ends):
                faults.shift_clock(chance.choice(STEPS))
                times += 1
            if victim.record.failed_calls:
                raise Broken(f"{victim.record.failed_calls} streams ended by an exception of a call")
            if chance.random() < 0.5:
                victim.kill()
                victim.wait()
            elif code := victim.close():
                raise Broken(f"the engine ended with {code}: {victim.last_words()}")
    _must_have_grown(database)
    return outcome(times, account(database, victims), victims)


def _must_have_grown(database: Path) -> None:
    """See to it that the numbers of runs and of commits only grow, whatever the clock says."""
    with closing(sqlite3.connect(database)) as connection:
        runs = connection.execute(
            "SELECT ENGINE_RUN_ID FROM ENGINE_LOG_RUN ORDER BY LAST_LOG_SEQ, 1"
        ).fetchall()
        doubled = connection.execute(
            f"SELECT count(*) - count(DISTINCT LOG_SEQ) FROM {TABLES['ENGINE_DB_LOG_STEPS'].name}"
        ).fetchone()
    if runs != sorted(runs) or doubled != (0,):
        raise Broken(f"numbers went back with the clock: {runs}, {doubled}")


def change_zone(victim: Victim) -> None:
    """Change the zone of the process again and again, as a program may."""

    def change() -> None:
        chance = random.Random(0)
        while True:
            os.environ["TZ"] = chance.choice(ZONES)
            time.tzset()
            time.sleep(0.02)

    threading.Thread(target=change, daemon=True).start()


def _zones(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Change the time zone of the engine in mid-run: what is stored in UTC stays the same."""
    database = folder / "e.db"
    with start(database, rate=RATE, setup=["tests.chaos.attacks_time:change_zone"]) as victim:
        victim.wait_for_stage()
        time.sleep(seconds)
        victim.close()
    return outcome(int(seconds / 0.02), account(database, [victim]), [victim])


def _daylight_saving(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Store local times while clocks are set forward and back: each is what a clock on the wall showed."""
    database = folder / "e.db"
    orders: dict[str, Any] = {"env": {"TZ": ZONE}, "options": {"timezone": "local"}}
    rows = int((6 + seconds) * 1000)
    with start(database, rows=rows, tasks=1, threads=0, **orders) as victim:
        victim.wait_for_rows(rows // 2)
        victim.kill()
    with _zone(ZONE):
        # Who commits a row makes a local time of it.
        recover(database, timezone="local")
        balance = settle(database, [victim], recovered=True, as_stored=_local)
        shifts = {_local(numbered.EPOCH + timedelta(seconds=second))[11:13] for second in range(8)}
    if len(shifts) < 2:
        raise Broken("the clocks were not set in the time of the attack, which is of no use")
    return outcome(1, balance, [victim])


def _local(moment: datetime) -> str:
    return moment.astimezone().replace(tzinfo=None).isoformat(" ", "microseconds")


def _at_the_ends(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Log times of the years 1 and 9999, in zones that would shift them out of the calendar."""
    # As many as there are in the last minute of the year 9999.
    rows = 50_000
    total, victims = NOTHING, list[Started]()
    end = time.monotonic() + seconds
    while not victims or time.monotonic() < end:
        for begin in (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)):
            place = folder / f"place{len(victims)}"
            place.mkdir()
            zone = chance.choice(ZONES)
            orders: dict[str, Any] = {
                "setup": ["tests.chaos.attacks_time:begin_at"],
                "extra": {"begin": begin.isoformat()},
            }
            options = {"timezone": chance.choice(["utc", "local"])}
            with start(
                place / "e.db", rows=rows, rate=RATE, tasks=1, threads=1,
                env={"TZ": zone}, options=options, **orders,
            ) as victim:  # fmt: skip
                time.sleep(min(1.0, seconds / 2))
                victim.close()
            victims.append(victim)
            with _zone(zone), _epoch(begin):
                as_stored = _at_end if options["timezone"] == "local" else _as_utc
                total += settle(place / "e.db", [victim], recovered=True, as_stored=as_stored)
    return outcome(len(victims), total, victims)


def begin_at(victim: Victim) -> None:
    """Have the times that are logged begin at the end of the calendar."""
    numbered.EPOCH = datetime.fromisoformat(victim.orders.extra["begin"])


@contextmanager
def _epoch(begin: datetime) -> Iterator[None]:
    before, numbered.EPOCH = numbered.EPOCH, begin
    try:
        yield
    finally:
        numbered.EPOCH = before


def _as_utc(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(" ", "microseconds")


def _at_end(moment: datetime) -> str:
    try:
        return _local(moment)
    except OverflowError:  # there is no such local time: it is stored as it is in UTC
        return _as_utc(moment)


@contextmanager
def _zone(name: str) -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
        time.tzset()


ATTACKS = [
    Attack("time: clock steps", "Rows and runs stay apart and in order, whatever the clock says.", _clock),
    Attack("time: years 1 and 9999", "Times at the ends of the calendar are stored as well.", _at_the_ends),
    Attack("time: zone changes", "Times in UTC stay the same when the zone of the process changes.", _zones),
    Attack("time: daylight saving", "A local time is what the clock on the wall showed.", _daylight_saving),
]
