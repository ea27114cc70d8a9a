"""
The files of a spool: what they are called, how they are made, and how lines are read off them.

The spool of ``engine_log.db`` is the folder ``engine_log.db-spool``. In it, each run has a
lock file ``<run>.lock``, held while the run is alive, and segments ``<run>-000001.jsonl`` …:
a header line, then a line for each row, then zero bytes to the preallocated end.

"""

from __future__ import annotations

import errno
import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import orjson

from .ownership import FILE_MODE

__all__ = [
    "FORMAT",
    "READ_BYTES",
    "SEGMENT_BYTES",
    "Header",
    "Position",
    "beside",
    "create_segment",
    "first_lines",
    "is_disk_fault",
    "lock_path",
    "read_header",
    "read_lines",
    "segment_path",
    "segments_of",
    "size_of",
    "slices",
    "spool_folder",
]

FORMAT = 1
SEGMENT_BYTES = 16 * 1024 * 1024
# What is read at once; many times the longest line.
READ_BYTES = 2 * 1024 * 1024
_ZEROS = bytes(256 * 1024)


# What a disk, or the system, has to say that is over one day. The path is right then.
_DISK_FAULTS = {
    getattr(errno, name, None)
    for name in ("EDQUOT", "EFBIG", "EIO", "EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "EROFS", "ESTALE")
}


class Position(NamedTuple):
    """A place in a spool: up to where its rows are committed. Offset 0 is before the header."""

    segment: int
    offset: int


class Header(NamedTuple):
    """Who writes a spool; stands at the beginning of each segment."""

    run: int
    host: str
    process_id: int
    version: str
    started: str  # ISO 8601, UTC

    def line(self) -> bytes:
        """Return the header as a JSON line."""
        return orjson.dumps({"enginelog_spool": FORMAT, **self._asdict()}, option=orjson.OPT_APPEND_NEWLINE)


def spool_folder(database: Path) -> Path:
    """Return the folder of the spools of ``database``."""
    return database.with_name(f"{database.name}-spool")


def lock_path(folder: Path, run: int) -> Path:
    """Return the file that the process of ``run`` keeps locked."""
    return folder / f"{run}.lock"


def segment_path(folder: Path, run: int, number: int) -> Path:
    """Return the file of segment ``number`` (from 1) of ``run``."""
    return folder / f"{run}-{number:06}.jsonl"


def segments_of(folder: Path, run: int) -> Iterator[tuple[int, Path]]:
    """Yield number and path of each segment of ``run``, in order."""
    matches = (re.fullmatch(rf"{run}-(\d+)\.jsonl", path.name) for path in folder.glob(f"{run}-*.jsonl"))
    found = ((int(match[1]), folder / match[0]) for match in matches if match)
    yield from sorted(found)


def is_disk_fault(error: OSError) -> bool:
    """Tell whether an error speaks of the disk or the system, not of a path that is wrong."""
    return error.errno is not None and error.errno in _DISK_FAULTS


def create_segment(path: Path, header: bytes, size_bytes: int) -> mmap.mmap:
    """
    Create a segment, with its room on the disk, and map it into memory.

    Raises:
        OSError: If the disk is full, or the file can't be made.

    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, FILE_MODE)
    try:
        _allocate(descriptor, size_bytes)
        segment = mmap.mmap(descriptor, size_bytes)
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    os.close(descriptor)
    segment.write(header)
    return segment


def _allocate(descriptor: int, size_bytes: int) -> None:
    # A page that has no room on the disk when it is first written is a SIGBUS, which
    # kills the engine. So the room is taken now, for real, not by a sparse file.
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)
            return
        except OSError as error:  # some file systems can't
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    written = 0
    while written < size_bytes:
        written += os.write(descriptor, _ZEROS[: size_bytes - written])


def read_header(path: Path) -> Header | None:
    """Return the header of a segment; :obj:`None` if it has none, or none that can be read."""
    with path.open("rb") as file:
        line = file.readline(65_536)
    try:
        fields = orjson.loads(line)
        return Header(**{name: fields[name] for name in Header._fields})
    except (ValueError, TypeError, KeyError):
        return None


def read_lines(file: BinaryIO, offset: int, max_lines: int) -> tuple[bytes, int]:
    """
    Read whole lines from ``offset``, the header left out.

    A zero byte ends the rows: behind it is room that was never written, or a line that
    was torn when its process died. Such a line is left out; its call hadn't returned.

    Returns:
        The lines, with their newlines, and the offset behind them.

    """
    file.seek(offset)
    if offset == 0:
        offset = len(file.readline(65_536))
    data = file.read(READ_BYTES)
    zero = data.find(0)
    if zero >= 0:
        data = data[:zero]
    data = first_lines(data, max_lines)
    return data, offset + len(data)


def first_lines(data: bytes, max_lines: int) -> bytes:
    """Return the first ``max_lines`` of whole lines."""
    whole = data[: data.rfind(b"\n") + 1]
    if whole.count(b"\n") <= max_lines:  # nearly always, and a tenth of the time
        return whole
    parts = data.split(b"\n", max_lines)
    return data[: len(data) - len(parts[-1])]


def slices(data: bytes, size_bytes: int) -> Iterator[bytes]:
    """Yield whole lines, of so many bytes together and one line more at most; none if there are none."""
    first = 0
    while first < len(data):
        end = data.find(b"\n", min(first + size_bytes, len(data)) - 1) + 1
        yield data[first:end]
        first = end


def beside(path: Path, suffix: str) -> Path:
    """Return the file that SQLite, or this package, keeps beside a database."""
    return path.with_name(path.name + suffix)


def size_of(path: Path) -> int:
    """Return the size of a file in bytes; 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
