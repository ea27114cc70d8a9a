"""The disk: full, read-only, failing, taken away; its files deleted and replaced."""

from __future__ import annotations

import errno
import os
import random
import resource
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from .attack import Attack, Broken, Outcome
from .balance import NOTHING
from .disk_files import FILE_ATTACKS
from .disks import Ballast, held, pause, remount, small_disk
from .faults import READ_ONLY, Faults, Operation
from .turns import RATE, SEGMENT, logging_victim, must_live, places, turns
from .victim import Victim
from .victims import Started, account, outcome, start

DISK_ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT)
RATES = (3, 30, 300, 1000)


def _database_full(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Fill the disk of the database; its spool is on another."""
    return _fill(folder, seconds, chance, spool_apart=True, fill_spool=False)


def _spool_full(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Fill the disk of the spool; the database is on another, and locked now and then."""
    return _fill(folder, seconds, chance, spool_apart=True, fill_spool=True)


def _all_full(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Fill the one disk of both."""
    return _fill(folder, seconds, chance, spool_apart=False, fill_spool=False)


def _fill(
    folder: Path, seconds: float, chance: random.Random, *, spool_apart: bool, fill_spool: bool
) -> Outcome:
    victims: list[Started] = []
    total, times = NOTHING, 0
    for turn, end in enumerate(turns(seconds)):
        place = folder / f"disk{turn}"
        database = place / "e.db"
        mine: list[Started] = []
        with ExitStack() as stack:
            disk = stack.enter_context(small_disk(place, chance.uniform(6, 24)))
            spool = database.with_name("e.db-spool")
            if spool_apart:
                spool = stack.enter_context(small_disk(spool, chance.uniform(1.5, 6)))
            ballast = Ballast(spool if fill_spool else disk)
            with logging_victim(database, mine) as victim:
                victim.wait_for_rows(chance.randrange(500))
                while pause(chance.uniform(0.0, 0.2), end):
                    ballast.take()
                    times += 1
                    if fill_spool:
                        with held(database):
                            pause(chance.uniform(0.2, 1.0), end)
                    else:
                        pause(chance.uniform(0.1, 1.0), end)
                    must_live(victim)
                    ballast.give()
                ballast.give()
            total += account(database, mine)
        victims += mine
    return outcome(times, total, victims, places(total))


def _open_on_full_disk(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Open a log on a full disk, a new one or one that is there; give room later."""
    victims: list[Started] = []
    total, times = NOTHING, 0
    for turn, _ in enumerate(turns(seconds)):
        place = folder / f"disk{turn}"
        database = place / "e.db"
        mine: list[Started] = []
        with small_disk(place, 16) as disk:
            if turn % 2 == 0:
                with logging_victim(database, mine) as victim:
                    victim.wait_for_rows(200)
            ballast = Ballast(disk)
            ballast.take()
            times += 1
            with logging_victim(database, mine) as victim:
                victim.wait_for_rows(300)
                if "console alone" not in _said(victim, "console alone"):
                    raise Broken(
                        f"nobody was told that the log is open without a spool: {victim.last_words()}"
                    )
                ballast.give()
                pause(1.2, time.monotonic() + 1.2)
            total += account(database, mine)
        if not total.places["committed"]:
            raise Broken("the log didn't come to itself when there was room again")
        victims += mine
    return outcome(times, total, victims, places(total))


def _said(victim: Started, words: str) -> str:
    """Return what the victim said once these words are among it, or soon after."""
    deadline = time.monotonic() + 5
    while words not in (text := victim.console.read_text("utf-8", "replace")):
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return text


def _open_on_read_only_disk(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Open a log on a disk that is mounted read-only; make it writable later."""
    victims: list[Started] = []
    total, times = NOTHING, 0
    for turn, _ in enumerate(turns(seconds)):
        place = folder / f"disk{turn}"
        database = place / "e.db"
        mine: list[Started] = []
        with small_disk(place, 16) as disk:
            with logging_victim(database, mine) as victim:
                victim.wait_for_rows(200)
            remount(disk, "ro")
            times += 1
            with logging_victim(database, mine) as victim:
                victim.wait_for_rows(chance.randrange(100, 400))
                remount(disk, "rw")
                pause(1.2, time.monotonic() + 1.2)
            total += account(database, mine)
        victims += mine
    return outcome(times, total, victims, places(total))


class _Trouble(NamedTuple):
    """What fails, with which errors, how often in a thousand, and whether the engine is killed meanwhile."""

    operations: Sequence[Operation]
    errors: Sequence[int]
    per_mille: Sequence[int]
    kills: bool = False


def _read_only(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Let every change of a file fail with EROFS for a while, as after a read-only remount."""
    return _inject(folder, seconds, chance, _Trouble([READ_ONLY], [errno.EROFS], [1000]))


def _io_errors(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Let system calls fail, of one kind or two, now and then or always."""
    return _inject(folder, seconds, chance, _Trouble(_pairs(*Operation), DISK_ERRORS, RATES))


def _io_errors_and_kills(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """
    Let those fail that the spool needs only when it is made, and kill the engine in the middle of it.

    Not those that bring rows to the console: what waits for it, for some milliseconds, dies with the engine.

    """
    kinds = Operation.WRITE, Operation.SYNC, Operation.TRUNCATE, Operation.READ, Operation.REMOVE
    return _inject(folder, seconds, chance, _Trouble(_pairs(*kinds), DISK_ERRORS, RATES, kills=True))


def _pairs(*operations: Operation) -> list[Operation]:
    return [first | second for first in operations for second in operations]


def _inject(folder: Path, seconds: float, chance: random.Random, trouble: _Trouble) -> Outcome:
    faults = Faults(folder)
    database = folder / "e.db"
    victims: list[Started] = []
    for end in turns(seconds, each=2.0 if trouble.kills else 4.0):
        with start(database, segment_bytes=SEGMENT, checkpoint_pages=50, rate=RATE, env=faults.env) as victim:
            victims.append(victim)
            victim.wait_for_stage()
            end = max(end, time.monotonic() + chance.uniform(0.3, 1.0))
            # The first one hits for certain.
            kind, rate = trouble.operations[0], 1000
            while pause(chance.uniform(0.0, 0.2), end):
                faults.begin(kind, chance.choice(trouble.errors), rate)
                pause(chance.uniform(0.05, 0.8), end)
                must_live(victim)
                if not trouble.kills or chance.random() < 0.8:
                    faults.end()
                kind, rate = chance.choice(trouble.operations), chance.choice(trouble.per_mille)
            if trouble.kills:
                victim.kill()
                victim.wait()
            faults.end()
            if not trouble.kills:
                pause(0.2, time.monotonic() + 0.2)
                if code := victim.close():
                    raise Broken(f"the engine ended with {code}: {victim.last_words()}")
    total = account(database, victims)
    if not faults.injected:
        raise Broken("no fault was injected: the attack is of no use")
    return outcome(faults.injected, total, victims, places(total))


def limit_file_size(victim: Victim) -> None:
    """Allow the victim no file larger than so many bytes: what a quota or a small file system does."""
    # Its console is written by somebody else, without a limit.
    console = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=2)
    assert console.stdin is not None
    os.dup2(console.stdin.fileno(), 2)
    limit = int(victim.orders.extra["limit"])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def _file_size(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Limit the size of files: of the database, of its WAL, or of the spool, whichever comes first."""
    victims: list[Started] = []
    total, times = NOTHING, 0
    for turn, end in enumerate(turns(seconds)):
        place = folder / f"place{turn}"
        place.mkdir()
        database = place / "e.db"
        mine: list[Started] = []
        limit = chance.choice([64, 256, 512, 1024]) * 1024
        orders: dict[str, Any] = {
            "setup": ["tests.chaos.attacks_disk:limit_file_size"],
            "extra": {"limit": limit},
            # Nothing can be committed any more in the end: closing says so after its timeout.
            "options": {"timeout": 0.5},
            "rate": 400.0,
        }
        with start(database, segment_bytes=SEGMENT, checkpoint_pages=50, **orders) as victim:
            mine.append(victim)
            victim.wait_for_stage()
            pause(4, end)
            times += 1
            must_live(victim)
            victim.close()
        total += account(database, mine)
        victims += mine
    return outcome(times, total, victims, places(total))


ATTACKS = [
    Attack(
        "disk: full, the database's",
        "Rows wait in the spool, and are committed when there is room.",
        _database_full,
    ),
    Attack("disk: full, the spool's", "Rows go to the console; a full disk is no SIGBUS.", _spool_full),
    Attack("disk: full, all of it", "Rows are in the spool or on the console, each once.", _all_full),
    Attack(
        "disk: full when opening",
        "The log opens on the console alone, says so, and comes to itself.",
        _open_on_full_disk,
    ),
    Attack("disk: read-only when opening", "The same on a read-only disk.", _open_on_read_only_disk),
    Attack("disk: read-only in mid-run", "Rows wait in the spool or go to the console.", _read_only),
    Attack("disk: I/O errors", "Whatever fails: no row is lost or doubled, no call raises.", _io_errors),
    Attack(
        "disk: I/O errors and SIGKILL",
        "Rows in the spool survive the engine, whatever fails besides.",
        _io_errors_and_kills,
    ),
    Attack("disk: file size limit", "The limit of a quota is a full disk like others.", _file_size),
    *FILE_ATTACKS,
]
