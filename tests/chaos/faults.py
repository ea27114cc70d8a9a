"""
Have system calls of a victim fail, and its clock go wrong, and see what it syncs: the attacker's side of
``faults.c``.

"""

from __future__ import annotations

import atexit
import enum
import mmap
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from .attack import Skipped

__all__ = ["READ_ONLY", "Faults", "Operation", "Syncs"]

SOURCE = Path(__file__).with_name("faults.c")
_SLOTS = 10


class Operation(enum.IntFlag):
    """What can fail."""

    WRITE = 1
    SYNC = 2
    TRUNCATE = 4
    MAP = 8
    ALLOCATE = 16
    CREATE = 32
    READ = 64
    REMOVE = 128


# What fails on a disk that became read-only.
READ_ONLY = Operation.WRITE | Operation.TRUNCATE | Operation.ALLOCATE | Operation.CREATE | Operation.REMOVE


class Syncs(NamedTuple):
    """
    What SQLite has written to the disk.

    Attributes:
        wal: How often a WAL was synced.
        database: The same for a database.
        out_of_order: How often a database was written to from a WAL that wasn't synced, or a WAL begun anew
            before what was in it was synced in the database: the power mustn't fail then.

    """

    wal: int
    database: int
    out_of_order: int


class Faults:
    """
    What goes wrong in the victims that are started with :attr:`env`.

    Args:
        folder: The files in it are meant, and no others.

    Raises:
        Skipped: If there is no compiler here, or no such thing as LD_PRELOAD.

    """

    def __init__(self, folder: Path) -> None:
        library = _library()
        control = folder.with_name(f"{folder.name}-faults")
        control.write_bytes(bytes(8 * _SLOTS))
        with control.open("r+b") as file:
            self._slots = memoryview(mmap.mmap(file.fileno(), 8 * _SLOTS)).cast("q")
        self.env = {
            "LD_PRELOAD": str(library),
            "FAULTS_CONTROL": str(control),
            "FAULTS_FOLDER": f"{folder}/",
        }

    def begin(self, operations: Operation, error: int, per_mille: int = 1000) -> None:
        """Have calls fail from now on."""
        self._slots[1], self._slots[2] = error, per_mille
        self._slots[0] = int(operations)

    def end(self) -> None:
        """Have none fail any more."""
        self._slots[0] = 0

    @property
    def injected(self) -> int:
        """How many calls have failed."""
        return self._slots[3]

    @property
    def syncs(self) -> Syncs:
        """What SQLite has written to the disk so far."""
        return Syncs(self._slots[5], self._slots[6], self._slots[9])

    def shift_clock(self, seconds: float) -> None:
        """Have the clock on the wall be wrong by so much."""
        self._slots[4] = int(seconds * 1000)


@cache
def _library() -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if sys.platform != "linux" or compiler is None:
        raise Skipped("injecting faults needs Linux and a C compiler")
    library = Path(tempfile.mkdtemp(prefix="enginelog-faults-")) / "faults.so"
    atexit.register(shutil.rmtree, library.parent, ignore_errors=True)
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        raise Skipped(f"the fault injector can't be compiled: {made.stderr.strip()[-200:]}")
    return library
