"""
Which pages the write-ahead log of a database holds, and which commits in it SQLite doesn't see.

SQLite reads a damaged WAL up to the first page whose checksum is wrong, and says nothing of what
stands behind it (https://www.sqlite.org/fileformat2.html#walformat).

"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

__all__ = ["Wal", "read_wal", "unseen_commits"]

HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
# The first four bytes; the last bit tells the order of bytes for the checksums.
MAGIC_LITTLE, MAGIC_BIG = 0x377F0682, 0x377F0683
PAGE_SIZES = {1 << power for power in range(9, 17)}

_Checksum = tuple[int, int]


class Wal(NamedTuple):
    """
    What a WAL holds.

    Attributes:
        page_bytes: The size of a page; 0 if there is none in it.
        places: Where in the file the newest committed content of each page stands.
        pages: How many pages the database has, after the last commit; 0 if there is none.

    """

    page_bytes: int
    places: dict[int, int]
    pages: int


class _Frame(NamedTuple):
    """What stands before a page in a WAL, and where the page is."""

    place: int
    page_number: int
    # Of the whole database; 0 if this page isn't the last of a commit.
    pages_after_commit: int
    salts: bytes
    checksum: _Checksum
    # What the checksum is reckoned of, besides the page.
    begin: bytes


class _WalFile:
    """A WAL, frame by frame."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.seek(0)
        header = file.read(HEADER_BYTES).ljust(HEADER_BYTES, b"\0")
        magic, _, page_bytes, _ = struct.unpack(">4I", header[:16])
        self._words = struct.Struct(">II" if magic == MAGIC_BIG else "<II")
        self.page_bytes = page_bytes if page_bytes in PAGE_SIZES else 4096
        self.salts = header[16:24]
        self.checksum = _pair(header[24:])
        self.is_whole = magic in (MAGIC_LITTLE, MAGIC_BIG) and self.sum(header[:24], (0, 0)) == self.checksum

    def frames(self) -> Iterator[_Frame]:
        """Yield the frames that have their whole page, in order, whatever is in them."""
        end = self._file.seek(0, os.SEEK_END)
        place = HEADER_BYTES + FRAME_HEADER_BYTES
        while place + self.page_bytes <= end:
            self._file.seek(place - FRAME_HEADER_BYTES)
            header = self._file.read(FRAME_HEADER_BYTES)
            yield _Frame(place, *_pair(header[:8]), header[8:16], _pair(header[16:]), header[:8])
            place += self.page_bytes + FRAME_HEADER_BYTES

    def fits(self, frame: _Frame, before: _Checksum) -> bool:
        """Tell whether a frame is as it was written, behind one with the checksum ``before``."""
        self._file.seek(frame.place)
        return self.sum(self._file.read(self.page_bytes), self.sum(frame.begin, before)) == frame.checksum

    def sum(self, data: bytes, start: _Checksum) -> _Checksum:
        """Go on with a checksum."""
        first, second = start
        for one, other in self._words.iter_unpack(data):
            first = (first + one + second) & 0xFFFFFFFF
            second = (second + other + first) & 0xFFFFFFFF
        return first, second


def read_wal(file: BinaryIO) -> Wal:
    """Read a WAL as SQLite does: up to the last commit before anything that is damaged."""
    wal = _WalFile(file)
    places: dict[int, int] = {}
    of_open_commit: dict[int, int] = {}
    pages, before = 0, wal.checksum
    for frame in wal.frames() if wal.is_whole else ():
        if frame.salts != wal.salts or not wal.fits(frame, before):
            break
        before = frame.checksum
        of_open_commit[frame.page_number] = frame.place
        if frame.pages_after_commit:
            places |= of_open_commit
            of_open_commit.clear()
            pages = frame.pages_after_commit
    return Wal(wal.page_bytes if places else 0, places, pages)


def unseen_commits(file: BinaryIO, seen: int, end: int) -> int:
    """
    Return how many commits stand whole behind the frames that SQLite sees.

    A commit that was under way when the power failed isn't one: its last page is missing.

    Args:
        file: The WAL.
        seen: How many frames SQLite sees.
        end: Where to stop, in bytes.

    """
    wal = _WalFile(file)
    salts, before, commits = wal.salts, wal.checksum, 0
    for number, frame in enumerate(wal.frames(), 1):
        if number == 1 and not wal.is_whole:
            salts = frame.salts
        # Frames with other salts are of earlier times.
        if frame.place + wal.page_bytes > end:
            break
        if number > seen and frame.pages_after_commit and frame.salts == salts:
            commits += wal.fits(frame, before)
        before = frame.checksum
    return commits


def _pair(data: bytes) -> _Checksum:
    first, second = struct.unpack(">2I", data)
    return first, second
