"""The files of a log: the right to them lost, their folder taken away, deleted, replaced."""

from __future__ import annotations

import ctypes
import random
import shutil
import struct
import sys
from pathlib import Path

from .attack import Attack, Broken, Outcome, Skipped
from .disks import pause
from .turns import logging_victim, must_live, places, turns
from .victim import Victim
from .victims import Started, account, outcome

__all__ = ["FILE_ATTACKS"]


def give_up_rights(victim: Victim) -> None:
    """Go on as an account like others: without what lets root read and write everything."""
    header = struct.pack("<Ii", 0x20080522, 0)  # the third version of the structure; this thread
    if ctypes.CDLL(None, use_errno=True).capset(header, bytes(24)):
        raise OSError(ctypes.get_errno(), "the capabilities of root can't be given up")


def _permission_lost(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Take from the engine the right to its folder and its files, and give it back."""
    if sys.platform != "linux":
        raise Skipped("taking rights away is done with Linux' capabilities")
    database = folder / "place" / "e.db"
    database.parent.mkdir()
    victims: list[Started] = []
    times = 0
    for end in turns(seconds):
        setup = ["tests.chaos.disk_files:give_up_rights"]
        with logging_victim(database, victims, setup=setup) as victim:
            while pause(chance.uniform(0.0, 0.3), end):
                paths = [database.parent, *database.parent.rglob("*")]
                taken = {path: _mode(path) for path in paths if chance.random() < 0.7}
                _change_modes(dict.fromkeys(taken, 0))
                times += 1
                pause(chance.uniform(0.1, 0.8), end)
                must_live(victim)
                _change_modes(taken)
    total = account(database, victims)
    return outcome(times, total, victims, places(total))


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        return 0o700


def _change_modes(modes: dict[Path, int]) -> None:
    for path, mode in modes.items():
        try:
            path.chmod(mode)
        except FileNotFoundError:
            pass


def _vanishing(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Take the folder of the log away, and bring it back: a disk that is unplugged, a share that is gone."""
    place, elsewhere = folder / "place", folder / "elsewhere"
    place.mkdir()
    database = place / "e.db"
    victims: list[Started] = []
    times = 0
    for end in turns(seconds):
        with logging_victim(database, victims) as victim:
            while pause(chance.uniform(0.05, 0.4), end):
                place.rename(elsewhere)
                times += 1
                pause(chance.uniform(0.05, 1.0), end)
                must_live(victim)
                if place.exists():
                    raise Broken("the folder was made anew: when the disk returns, what is in it is hidden")
                elsewhere.rename(place)
    total = account(database, victims)
    return outcome(times, total, victims, places(total))


def _deleted(folder: Path, seconds: float, chance: random.Random) -> Outcome:
    """Delete and replace whatever belongs to the log, but the database itself."""
    database = folder / "place" / "e.db"
    database.parent.mkdir()
    spool = database.with_name("e.db-spool")
    victims: list[Started] = []
    times = 0
    for end in turns(seconds):
        with logging_victim(database, victims) as victim:
            while pause(chance.uniform(0.1, 0.5), end):
                beside = [database.with_name(f"e.db{suffix}") for suffix in ("-wal", "-shm")]
                _destroy(chance.choice([*beside, spool, *spool.glob("*")]), chance)
                times += 1
                must_live(victim)
    total = account(database, victims)
    return outcome(times, total, victims, places(total))


def _destroy(path: Path, chance: random.Random) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    path.unlink(missing_ok=True)
    if chance.random() < 0.3 and path.parent.is_dir() and path.suffix != ".jsonl":
        path.write_bytes(chance.randbytes(chance.randrange(1, 5000)))


FILE_ATTACKS = [
    Attack("disk: permission lost", "Rows wait until the right to write is back.", _permission_lost),
    Attack("disk: path vanishes", "A path that vanishes and returns loses nothing.", _vanishing),
    Attack("disk: files deleted", "The engine goes on, and each row is there once.", _deleted),
]
