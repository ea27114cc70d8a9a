"""
Who holds SQLite's locks on a log, as Linux tells it: found out without touching file or locks.

SQLite locks bytes of the ``-shm``, and in exclusive mode of the database itself
(https://www.sqlite.org/walformat.html#wal_locks). Elsewhere than on Linux nothing is known of that.

"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from .doctor_facts import Holder, Holders

__all__ = ["find_holders", "holders_in"]

LOCKS = Path("/proc/locks")

# What it means to have a byte locked: of the -shm, or, to keep everybody else out, of the database.
ROLES = {
    ("WRITE", 120): "writers",
    **{("READ", byte): "readers" for byte in range(123, 128)},
    ("WRITE", 0x40000002): "exclusive",
}

# Who holds a lock each time in so many looks keeps it; healthy processes are gone at the second.
LOOKS = 20
BETWEEN_LOOKS = 0.1

_LOCK = re.compile(
    r"^\d+: POSIX +\S+ +(?P<kind>READ|WRITE) (?P<pid>\d+) "
    r"(?P<major>[0-9a-f]+):(?P<minor>[0-9a-f]+):(?P<inode>\d+) (?P<first>\d+) ",
    re.MULTILINE,
)


class _Held(NamedTuple):
    """A lock of SQLite that a process holds; of readers the byte is one of five."""

    process_id: int
    role: str
    byte: int


def holders_in(text: str, database: os.stat_result | None, shm: os.stat_result | None) -> Iterator[_Held]:
    """Find the locks of SQLite in the text of ``/proc/locks``."""
    for lock in _LOCK.finditer(text):
        device = os.makedev(int(lock["major"], 16), int(lock["minor"], 16))
        file = device, int(lock["inode"])
        of_shm = shm is not None and file == (shm.st_dev, shm.st_ino)
        of_database = database is not None and file == (database.st_dev, database.st_ino)
        role = ROLES.get((lock["kind"], int(lock["first"])))
        if role and (of_database if role == "exclusive" else of_shm):
            yield _Held(int(lock["pid"]), role, int(lock["first"]))


async def find_holders(path: Path) -> Holders:
    """
    Return who keeps locks on the database at ``path``; takes two seconds if there is anybody.

    This process isn't among them. Where the system doesn't tell, nobody is, and that is said.

    """
    kept = _look(path)
    if kept is None:
        return Holders(known=False)
    for _ in range(LOOKS - 1):
        if not kept:
            break
        await asyncio.sleep(BETWEEN_LOOKS)
        kept &= _look(path) or set()
    return Holders(_with_role(kept, "readers"), _with_role(kept, "writers"), _with_role(kept, "exclusive"))


def _with_role(kept: set[_Held], role: str) -> tuple[Holder, ...]:
    numbers = {held.process_id for held in kept if held.role == role}
    return tuple(Holder(number, _name_of(number)) for number in sorted(numbers))


def _look(path: Path) -> set[_Held] | None:
    try:
        text = LOCKS.read_text("ascii", "replace")
    except OSError:
        return None
    found = holders_in(text, _stat(path), _stat(path.with_name(f"{path.name}-shm")))
    return {held for held in found if held.process_id not in (0, os.getpid())}


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _name_of(process_id: int) -> str:
    try:
        return psutil.Process(process_id).name()
    except psutil.Error:
        return "unknown"
