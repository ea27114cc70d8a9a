"""
Read rows off the pages of a SQLite file, whatever is broken around them. Performs no I/O.

A page that is whole gives all its rows, also if nothing leads to it any more. Whose rows they are
tells the pointer map, which files with ``auto_vacuum`` have, as all of this package's do
(https://www.sqlite.org/fileformat2.html).

"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

__all__ = ["LEAVES", "PAGE_BYTES", "Page", "Pages", "Record", "page_bytes_of"]

# The size of a page where nothing tells it.
PAGE_BYTES = 4096
# A file that says it has more columns, or links its pages further, is broken.
MAX_COLUMNS = 2000
MAX_DEPTH = 20

# First bytes of a page: of an index, and of a table, with children and without.
INDEX_INNER, TABLE_INNER, INDEX_LEAF, TABLE_LEAF = 2, 5, 10, 13
# What the pointer map says of a page.
ROOT, FREE, FIRST_OVERFLOW, LATER_OVERFLOW, CHILD = range(1, 6)
# Pages that may hold rows, as far as the pointer map knows.
LEAVES = frozenset({None, ROOT, CHILD})

# Bytes of a value by its serial type; from 12 on they are reckoned.
SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)

Pages: TypeAlias = Callable[[int], bytes]
Record: TypeAlias = tuple[int | None, list[Any]]


class _Broken(ValueError):
    """What is here can't be a row."""


class _Link(NamedTuple):
    """What the pointer map says of a page; no kind where it is broken."""

    kind: int | None
    parent: int


def page_bytes_of(header: bytes) -> int:
    """Return the size of the pages of a file, by its first 100 bytes; the usual one if they are broken."""
    size = int.from_bytes(header[16:18], "big")
    size = 65_536 if size == 1 else size
    return size if 512 <= size <= 65_536 and size & (size - 1) == 0 else PAGE_BYTES


class Page:
    """
    One page of a file.

    Args:
        pages: Gives any page of the file by its number; nothing behind the end.
        number: Which one, from 1.
        size: Of each page, in bytes.

    """

    def __init__(self, pages: Pages, number: int, size: int) -> None:
        self._pages = pages
        self._size = size
        self._data = pages(number)
        self._start = 100 if number == 1 else 0
        self.number = number

    @property
    def kind(self) -> int:
        """Its first byte."""
        return self._data[self._start] if len(self._data) > self._start else 0

    @property
    def has_rows_of_table(self) -> bool:
        """Whether rows of a table stand in it, and no others."""
        return self.kind == TABLE_LEAF

    @property
    def has_rows_of_index(self) -> bool:
        """Whether entries of an index stand in it; a table WITHOUT ROWID is one."""
        return self.kind in (INDEX_LEAF, INDEX_INNER)

    def link(self) -> _Link:
        """Return what the pointer map says of it."""
        return _link(self._pages, self.number, self._size)

    def root(self) -> int | None:
        """Return the page at which the table begins that it belongs to, if the pointer map tells."""
        number = self.number
        for _ in range(MAX_DEPTH):
            kind, parent = _link(self._pages, number, self._size)
            if kind == ROOT:
                return number
            if kind != CHILD:
                return None
            number = parent
        return None

    def rows(self) -> list[Record]:
        """Return the rows in it that are whole, with their rowids (none in an index)."""
        rows: list[Record] = []
        for place in self._places():
            try:
                rows.append(self._row(place))
            except (_Broken, IndexError):
                pass
        return rows

    def children(self) -> list[int]:
        """Return the pages below it, if it is one of a table."""
        if self.kind != TABLE_INNER:
            return []
        data = self._data
        pointers = [*self._places(), self._start + 8]
        return [int.from_bytes(data[place : place + 4], "big") for place in pointers]

    def _places(self) -> Iterator[int]:
        """Yield where its cells begin."""
        begin, data = self._start, self._data
        count = int.from_bytes(data[begin + 3 : begin + 5], "big")
        array = begin + (12 if self.kind in (INDEX_INNER, TABLE_INNER) else 8)
        for index in range(array, min(array + 2 * count, len(data) - 1), 2):
            yield data[index] << 8 | data[index + 1]

    def _row(self, place: int) -> Record:
        data = self._data
        if place < self._start + 8:
            raise _Broken
        if self.kind == INDEX_INNER:
            place += 4
        size, place = _varint(data, place)
        rowid = None
        if self.kind not in (INDEX_LEAF, INDEX_INNER):
            rowid, place = _varint(data, place)
            rowid -= (rowid >> 63) << 64
        return rowid, _values(self._payload(place, size))

    def _payload(self, place: int, size: int) -> bytes:
        usable = self._size
        in_index = self.kind in (INDEX_LEAF, INDEX_INNER)
        most = (usable - 12) * 64 // 255 - 23 if in_index else usable - 35
        if size <= most:
            return self._slice(place, size)
        least = (usable - 12) * 32 // 255 - 23
        here = least + (size - least) % (usable - 4)
        here = here if here <= most else least
        overflow = int.from_bytes(self._slice(place + here, 4), "big")
        return self._slice(place, here) + self._overflow(overflow, size - here)

    def _slice(self, place: int, size: int) -> bytes:
        if place + size > len(self._data):
            raise _Broken
        return self._data[place : place + size]

    def _overflow(self, number: int, size: int) -> bytes:
        parts: list[bytes] = []
        expected = FIRST_OVERFLOW
        while size > 0:
            data = self._pages(number) if number > 1 else b""
            if len(data) < self._size or _link(self._pages, number, self._size).kind not in (None, expected):
                raise _Broken
            expected = LATER_OVERFLOW
            parts.append(data[4 : 4 + size])
            size -= len(parts[-1])
            number = int.from_bytes(data[:4], "big")
        return b"".join(parts)


def _link(pages: Pages, number: int, size: int) -> _Link:
    # Map pages are the second, and then each behind as many as it has entries, of 5 bytes, for.
    entries = size // 5
    if number == 1:
        return _Link(ROOT, 0)
    map_page = (number - 2) // (entries + 1) * (entries + 1) + 2
    if map_page == number:
        return _Link(FREE, 0)  # no rows in it
    entry = 5 * (number - map_page - 1)
    data = pages(map_page)
    if len(data) < size or not _is_map(data):
        return _Link(None, 0)
    return _Link(data[entry] or None, int.from_bytes(data[entry + 1 : entry + 5], "big"))


@lru_cache(64)
def _is_map(page: bytes) -> bool:
    """Tell whether a page can be one of the pointer map, all of it."""
    return max(page[: len(page) // 5 * 5 : 5]) <= CHILD


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for index in range(place, place + 8):
        byte = data[index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, index + 1
    return value << 8 | data[place + 8], place + 9


def _values(payload: bytes) -> list[Any]:
    """Return the values of a record; its header must account for each byte of it."""
    end, place = _varint(payload, 0)
    types: list[int] = []
    while place < end:
        if (kind := payload[place]) < 0x80:
            place += 1
        else:
            kind, place = _varint(payload, place)
        types.append(kind)
    sizes = [SIZES[kind] if kind < 10 else (kind - 12) // 2 for kind in types]
    if (
        place != end
        or not 0 < len(types) <= MAX_COLUMNS
        or min(sizes) < 0
        or end + sum(sizes) != len(payload)
    ):
        raise _Broken
    values: list[Any] = []
    for kind, size in zip(types, sizes, strict=True):
        values.append(_value(kind, payload[place : place + size]))
        place += size
    return values


def _value(kind: int, data: bytes) -> Any:
    if kind >= 13 and kind % 2:
        return data.decode("utf-8", "replace")
    if kind == 0:
        return None
    if kind < 7:
        return int.from_bytes(data, "big", signed=True)
    if kind == 7:
        return _real(data)
    return kind - 8 if kind < 10 else data


def _real(data: bytes) -> float:
    return float(struct.unpack(">d", data)[0])
