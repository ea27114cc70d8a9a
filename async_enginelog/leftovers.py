"""
What dead runs left in their spools: found, held under their lock, read, and removed.

"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from .ownership import planted
from .segments import Header, Position, lock_path, read_header, read_lines, segments_of
from .spool import drop_lock, take_lock

__all__ = ["Leftover", "is_alive", "planted_file", "runs_in", "take_leftover"]


def runs_in(folder: Path) -> list[int]:
    """Return the runs, dead and alive, that have files in ``folder``, oldest first."""
    names = [path.name for path in folder.glob("*")] if folder.is_dir() else []
    matches = (re.fullmatch(r"(\d+)(?:\.lock|-\d+\.jsonl)", name) for name in names)
    return sorted({int(match[1]) for match in matches if match})


def planted_file(folder: Path, run: int) -> str | None:
    """
    Say which segment of ``run`` another account may have put there, or written to; :obj:`None` if none.

    Its rows could be anybody's invention, so nobody should take them for the engine's.

    Raises:
        OSError: If nothing can be known of them.

    """
    found = (planted(folder, path) for _, path in segments_of(folder, run))
    return next((why for why in found if why), None)


def _planted_lock(folder: Path, run: int) -> str | None:
    # Whoever may read a lock can take it: who may write to it says nothing.
    return planted(folder, lock_path(folder, run), modes=False)


def is_alive(folder: Path, run: int) -> bool:
    """Tell whether the process of ``run`` is alive, by its lock."""
    if run not in runs_in(folder):
        return False
    if not lock_path(folder, run).exists() or _planted_lock(folder, run):
        # Taking it would make it: of the account that only looks. And what a stranger locks says nothing.
        return False
    lock = take_lock(folder, run)
    if lock is None:
        return True
    drop_lock(lock, remove=not any(segments_of(folder, run)))
    return False


class Leftover:
    """The spool of a dead run, held under its lock until :meth:`let_go`."""

    def __init__(self, folder: Path, run: int, lock: FileLock) -> None:
        self.run = run
        self.segments = dict(segments_of(folder, run))
        self._lock = lock

    def header(self) -> Header:
        """Return who wrote the spool, as far as it is known."""
        headers = (read_header(path) for path in self.segments.values())
        unknown = Header(self.run, "", 0, "", self.last_sign_of_life().isoformat())
        return next((header for header in headers if header is not None), unknown)

    def last_sign_of_life(self) -> datetime:
        """Return when the spool was last written to, as the file system has it."""
        times = [path.stat().st_mtime for path in self.segments.values()]
        return datetime.fromtimestamp(max(times, default=self.run), UTC)

    def read(self, position: Position, max_lines: int) -> tuple[bytes, Position]:
        """Return whole lines from ``position``, none at the end, and the place behind them."""
        for number, path in self.segments.items():
            if number < position.segment:
                continue
            offset = position.offset if number == position.segment else 0
            with path.open("rb") as file:
                data, offset = read_lines(file, offset, max_lines)
            if not data:
                data, offset = _damaged_line(path, offset)
            if data:
                return data, Position(number, offset)
        return b"", position

    def let_go(self, *, remove: bool) -> None:
        """Give up the lock; remove the files first if all is committed."""
        if remove:
            for path in self.segments.values():
                path.unlink(missing_ok=True)
        drop_lock(self._lock, remove=remove)


def _damaged_line(path: Path, offset: int) -> tuple[bytes, int]:
    """
    Return what is damaged by zero bytes but has whole lines behind it, to be set aside.

    Commonly there is nothing behind the first zero byte, or a line without its end, torn when
    the process died: its call hadn't returned. But a power failure may leave a hole.

    """
    with path.open("rb") as file:
        file.seek(offset)
        rest = file.read()
    begin = len(rest) - len(rest.lstrip(b"\0"))
    end = rest.find(b"\n", rest.find(b"\0") if begin == 0 else begin) + 1
    if end == 0:
        return b"", offset
    # A control character keeps the line from being taken for a whole one.
    return re.sub(rb"\0+", b"\x01", rest[:end]), offset + end


def take_leftover(folder: Path, run: int) -> Leftover | None:
    """
    Take the spool of ``run`` if its process is dead; :obj:`None` if it is alive.

    Raises:
        OSError: If nothing can be known of its files, or they may be the work of another account.

    """
    if why := _planted_lock(folder, run):
        raise PermissionError(_left_alone(why))
    lock = take_lock(folder, run)
    if lock is None:
        return None
    try:
        why = planted_file(folder, run)
    except OSError:
        drop_lock(lock, remove=False)
        raise
    if why:
        drop_lock(lock, remove=False)
        raise PermissionError(_left_alone(why))
    return Leftover(folder, run, lock)


def _left_alone(why: str) -> str:
    return (
        f"{why}. It is left alone, as its rows may be invented; if they are this engine's, give it to its "
        "account (chown) and take the right to write from all others (chmod o-w)"
    )
