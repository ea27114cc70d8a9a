"""A database that is damaged: its pages, as its last commit left them, and which table they belong to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .pages import PAGE_BYTES, TABLE_INNER, Page, free_pages, page_bytes_of
from .pointermap import LEAVES, PointerMap
from .segments import beside
from .trees import Trees
from .walfile import Wal, read_wal

__all__ = ["MAGIC", "Damaged", "Entry"]

# How each database begins.
MAGIC = b"SQLite format 3\0"

# So many bytes tell whether the size of the pages is right, and their numbers.
SAMPLE_BYTES = 1024 * 1024

# Where the begin of a file is missing, its pages get numbers from here on: none of them leads to one.
FAR = 1 << 31
# Files are cut at multiples of so many bytes.
SECTOR_BYTES = 512


class Entry(NamedTuple):
    """A table or an index, and the page at which it begins."""

    kind: str
    name: str
    root: int


class Damaged:
    """
    A damaged database.

    Attributes:
        page_bytes: The size of a page.
        count: How many pages there are.
        trees: Which page leads to which; yet to be grown.
        free: The pages that SQLite keeps for new rows; :obj:`None` if its list of them is broken.

    """

    def __init__(self, file: BinaryIO, wal_file: BinaryIO | None) -> None:
        self._file, self._wal_file = file, wal_file
        self._wal = read_wal(wal_file) if wal_file else Wal(0, {}, 0)
        self._size = file.seek(0, os.SEEK_END)
        self._first, self._begin = 1, 0
        self._pointers: PointerMap | None = None
        self._read = lru_cache(256)(self._read_from_file)
        in_wal = self._wal.page_bytes
        self._choose_page_bytes([in_wal] if in_wal else [self._said(), PAGE_BYTES])
        self.count = self._wal.pages or self._size // self.page_bytes
        if self._lost_its_begin():
            self._first = FAR
            self._choose_begin()
            self.count = 0
        elif (pointers := PointerMap(self._read, self.page_bytes)).is_there(self.count):
            self._pointers = pointers
        self.trees = Trees(self.count)
        self.free = free_pages(self._read, self.count, self.page_bytes)

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Damaged]:
        """Open the files of a database that no connection of this process writes to any more."""
        wal = beside(path, "-wal")
        with path.open("rb") as file:
            if not wal.exists():
                yield cls(file, None)
                return
            with wal.open("rb") as wal_file:
                yield cls(file, wal_file)

    @property
    def numbers(self) -> Iterable[int]:
        """The numbers of its pages."""
        if self._first == 1:
            return range(1, self.count + 1)
        # What is in the WAL is newer.
        return [*self._wal.places, *range(FAR, FAR + (self._size - self._begin) // self.page_bytes)]

    def page(self, number: int) -> Page:
        """Return a page."""
        return Page(self._read, number, self.page_bytes, self._pointers)

    def schema(self) -> Iterator[Entry]:
        """Yield the tables and indexes, as far as page 1 and those below it tell."""
        found = [1]
        for number in found:
            page = self.page(number)
            found += [child for child in page.children() if child not in found and child <= self.count]
            for _, values in page.rows() if page.has_rows_of_table else ():
                if len(values) == 5 and isinstance(values[3], int):
                    yield Entry(values[0], values[1], values[3])

    def roots_of(self, number: int) -> set[int] | None:
        """
        Return the pages at which the tables begin that a page may belong to.

        None at all if nothing tells; :obj:`None` if it is known that it has no rows.

        """
        kind = self._pointers.link(number).kind if self._pointers else None
        by_tree = self.trees.root(number)
        if by_tree is None and (kind not in LEAVES or (kind is None and number in (self.free or ()))):
            return None
        by_map = self._pointers.root(number) if self._pointers else None
        return {root for root in (by_tree, by_map) if root}

    def is_sure_of(self, number: int) -> bool:
        """Tell whether the file says of a page what kind of page it is."""
        return self._pointers is not None and self._pointers.link(number).kind is not None

    def sample(self) -> Iterator[Page]:
        """Yield its first pages."""
        for number in range(self._first, self._first + SAMPLE_BYTES // self.page_bytes):
            yield Page(self._read, number, self.page_bytes)

    def _said(self) -> int:
        self._file.seek(0)
        return page_bytes_of(self._file.read(100))

    def _choose_page_bytes(self, sizes: Iterable[int]) -> None:
        """Take the size of a page of those that gives most rows; the first if it doesn't matter."""
        self.page_bytes = max(dict.fromkeys(sizes), key=self._rows_with_size)
        self._read.cache_clear()

    def _rows_with_size(self, size: int) -> int:
        self.page_bytes = size
        return self._rows_in_sample()

    def _choose_begin(self) -> None:
        """Find where the first whole page begins."""
        self._begin = max(range(0, self.page_bytes, SECTOR_BYTES), key=self._rows_from)
        self._read.cache_clear()

    def _rows_from(self, begin: int) -> int:
        self._begin = begin
        return self._rows_in_sample()

    def _rows_in_sample(self) -> int:
        self._read.cache_clear()
        return sum(len(page.rows()) for page in self.sample() if page.has_rows_of_table)

    def _lost_its_begin(self) -> bool:
        """Tell whether the file begins in its middle, so that the numbers of its pages are wrong."""
        if self._read(1).startswith(MAGIC):
            return False
        found = [
            self._leads_to_its_rows(page)
            for page in self.sample()
            if page.number > 1 and page.kind == TABLE_INNER
        ]
        if found:
            return 2 * sum(found) < len(found)
        self._choose_begin()
        return self._begin > 0 or bool(Page(lambda _: self._read(1), FAR, self.page_bytes).rows())

    def _leads_to_its_rows(self, page: Page) -> bool:
        """Tell whether most pages below a page have the rows that it says they have."""
        ways = page.ways()
        return 2 * sum(self._has_first_row_of(*way) for way in ways) > len(ways)

    def _has_first_row_of(self, child: int, after: int, up_to: int) -> bool:
        page = Page(self._read, child, self.page_bytes)
        if page.kind == TABLE_INNER:
            return True
        rowids = [rowid for rowid, _ in page.rows() if rowid is not None] if page.has_rows_of_table else []
        return bool(rowids) and after < rowids[0] <= up_to

    def _read_from_file(self, number: int) -> bytes:
        place = self._wal.places.get(number)
        file = self._file
        if place is not None and self._wal_file is not None:
            file = self._wal_file
        elif number < self._first:
            return b""
        else:
            place = (number - self._first) * self.page_bytes + self._begin
        try:
            file.seek(place)
            return file.read(self.page_bytes)
        except OSError:  # a bad place on the disk
            return b""
