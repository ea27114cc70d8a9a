"""Small disks to fill up and take away, and locks that somebody else holds."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .attack import Skipped

__all__ = ["Ballast", "held", "pause", "remount", "small_disk"]

MEGABYTE = 1024 * 1024

_HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
connection.execute(sys.argv[2])
connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
print("held", flush=True)
sys.stdin.read()
connection.execute("COMMIT")
"""


@contextmanager
def small_disk(folder: Path, megabytes: float) -> Iterator[Path]:
    """
    Mount a disk in memory.

    Raises:
        Skipped: If this account may not.

    """
    folder.mkdir(exist_ok=True)
    size = int(megabytes * MEGABYTE)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        raise Skipped("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, how: str) -> None:
    """Make a disk read-only ("ro") or not ("rw")."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True, capture_output=True)


class Ballast:
    """A file that takes all room there is on a disk."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "ballast"

    def take(self) -> None:
        """Take what room is left, to the last byte."""
        with self._path.open("ab", buffering=0) as file:
            for size in (MEGABYTE, 4096, 1):
                with suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

    def give(self) -> None:
        """Give all of it back."""
        self._path.unlink(missing_ok=True)


@contextmanager
def held(database: Path, how: str = "BEGIN EXCLUSIVE") -> Iterator[None]:
    """Hold a lock on a database, or a snapshot of it, in another process."""
    command = [sys.executable, "-c", _HOLDER, str(database), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != "held\n":
            raise RuntimeError("the lock can't be held")
        try:
            yield
        finally:
            process.stdin.close()
            process.wait()


def pause(seconds: float, end: float) -> bool:
    """Sleep, but not beyond an end; tell whether that is still to come."""
    time.sleep(max(0.0, min(seconds, end - time.monotonic())))
    return time.monotonic() < end
