"""Salvage: who saves what is left of a damaged database is killed at it, again and again."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from async_enginelog.setaside import replace_damaged

from .attack import Attack, Broken, Outcome
from .attacks_damage import closed_log, harm_database
from .balance import NOTHING, settle
from .stages import some_moment
from .victims import ROOT, Started, outcome, start

# So often at most, before one may bring it to an end.
KILLS = 4

# It takes no longer until a salvage has come to a moment, in seconds.
REACH = 2.0


def salvage_again_and_again(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Damage logs; kill whoever saves them; have an engine log to each in the end, and settle."""
    end = time.monotonic() + seconds
    total, everybody, deaths, excused = NOTHING, list[Started](), 0, 0
    while time.monotonic() < end or not deaths:
        log = closed_log(folder / f"log{len(everybody)}", chance)
        damaged = harm_database(log.database, chance, begin=True)
        engines = [_killed_at_it(log.database, chance) for _ in range(chance.randint(1, KILLS))]
        with start(log.database, rows=600, tasks=1, threads=1) as last:
            if code := last.wait():
                raise Broken(f"the engine ended with {code}: {last.last_words()}")
        asyncio.run(replace_damaged(log.database))
        own = settle(log.database, [*engines, last], recovered=True, counted=False)
        before = settle(log.database, [log.victim], recovered=True, counted=False)
        if own.lost or before.lost > damaged.rows:
            raise Broken(f"of the killed: {own}; of those before: {before}; the damage: {damaged}")
        total += own + before._replace(faults=[])
        everybody += [*engines, last]
        deaths, excused = deaths + len(engines), excused + damaged.rows
    why = f"lost are rows that stood in pages that were overwritten: {excused:,} did" if total.lost else ""
    return outcome(deaths, total, everybody, why)


def _killed_at_it(database: Path, chance: random.Random) -> Started:
    """Start an engine that finds the damage and dies at it, or is killed beside a command that does."""
    extra: dict[str, Any] = {"moment": some_moment("salvage", chance), "way": "SIGKILL"}
    with start(database, rate=1000.0, setup=["tests.chaos.stages:arm"], extra=extra) as victim:
        if chance.random() < 0.3:
            _kill_the_command(database, chance)
        victim.wait_for_fire(chance.uniform(0.0, REACH))
        victim.kill()
        victim.wait()
    return victim


def _kill_the_command(database: Path, chance: random.Random) -> None:
    command = [sys.executable, "-m", "async_enginelog", "salvage", str(database)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(chance.uniform(0.2, 1.0))
        process.kill()


ATTACKS = [
    Attack(
        "damage: salvage",
        "Who is killed while it saves what is left of a database loses nothing of it, however often.",
        salvage_again_and_again,
        may_lose=True,
    )
]
