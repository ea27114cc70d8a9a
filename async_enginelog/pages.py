"""
Read rows off the pages of a SQLite file, whatever is broken around them. Performs no I/O.

A page that is whole gives all its rows, also if nothing leads to it any more. Whose rows they are
is another question (see :mod:`~async_enginelog.trees`; https://www.sqlite.org/fileformat2.html).

"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, TypeAlias

from .pointermap import FIRST_OVERFLOW, LATER_OVERFLOW, Pages, PointerMap

__all__ = ["PAGE_BYTES", "Page", "Record", "free_pages", "page_bytes_of"]

# The size of a page where nothing tells it.
PAGE_BYTES = 4096
# A file that says it has more columns is broken.
MAX_COLUMNS = 2000

# First bytes of a page: of an index, and of a table, with children and without.
INDEX_INNER, TABLE_INNER, INDEX_LEAF, TABLE_LEAF = 2, 5, 10, 13

# Bytes of a value by its serial type; from 12 on they are reckoned.
SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)

Record: TypeAlias = tuple[int | None, list[Any]]


class _Broken(ValueError):
    """What is here can't be a row."""


def page_bytes_of(header: bytes) -> int:
    """Return the size of the pages of a file, by its first 100 bytes; the usual one if they are broken."""
    size = int.from_bytes(header[16:18], "big")
    size = 65_536 if size == 1 else size
    return size if 512 <= size <= 65_536 and size & (size - 1) == 0 else PAGE_BYTES


def free_pages(pages: Pages, count: int, size: int) -> frozenset[int] | None:
    """
    Return the pages that SQLite keeps for new rows; :obj:`None` if its list of them is broken.

    Args:
        pages: Gives any page of the file by its number.
        count: How many there are.
        size: Of each page, in bytes.

    """
    header = pages(1)[32:40]
    trunk, expected = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:], "big")
    free: set[int] = set()
    found = 0
    while trunk:
        data = pages(trunk) if 1 < trunk <= count else b""
        leaves = int.from_bytes(data[4:8], "big")
        if trunk in free or len(data) < size or leaves > size // 4 - 2:
            return None
        free.add(trunk)
        numbers = struct.unpack_from(f">{leaves}I", data, 8)
        found += 1 + leaves
        free.update(numbers)
        trunk = int.from_bytes(data[:4], "big")
    is_whole = found == len(free) == expected and all(1 < number <= count for number in free)
    return frozenset(free) if is_whole else None


class Page:
    """
    One page of a file.

    Args:
        pages: Gives any page of the file by its number; nothing behind the end.
        number: Which one, from 1.
        size: Of each page, in bytes.
        pointers: What the file says of its pages, if it does.

    """

    def __init__(self, pages: Pages, number: int, size: int, pointers: PointerMap | None = None) -> None:
        self._pages = pages
        self._size = size
        self._pointers = pointers
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

    @property
    def cells(self) -> int:
        """How many rows, entries or ways to other pages it says it has."""
        return int.from_bytes(self._data[self._start + 3 : self._start + 5], "big")

    @property
    def is_broken(self) -> bool:
        """Whether it isn't a page of a tree, or has less than it says it has."""
        if self.kind in (TABLE_INNER, INDEX_INNER):
            return False
        return self.kind not in (TABLE_LEAF, INDEX_LEAF) or len(self.rows()) < self.cells

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
        """Return the pages below it."""
        if self.kind not in (TABLE_INNER, INDEX_INNER):
            return []
        data = self._data
        pointers = [*self._places(), self._start + 8]
        return [int.from_bytes(data[place : place + 4], "big") for place in pointers]

    def ways(self) -> list[tuple[int, int, int]]:
        """Return each page below it, if it is one of a table, and between which rowids the rows there are."""
        ways = []
        after = -(1 << 63)
        for place in self._places():
            try:
                up_to = _rowid(self._data, place + 4)[0]
            except IndexError:
                break
            ways.append((int.from_bytes(self._data[place : place + 4], "big"), after, up_to))
            after = up_to
        return ways

    def _places(self) -> Iterator[int]:
        """Yield where its cells begin."""
        data = self._data
        array = self._start + (12 if self.kind in (INDEX_INNER, TABLE_INNER) else 8)
        for index in range(array, min(array + 2 * self.cells, len(data) - 1), 2):
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
            rowid, place = _rowid(data, place)
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
        been = {0, 1}
        while size > 0:
            data = self._pages(number) if number not in been else b""
            been.add(number)
            said = self._pointers.link(number).kind if self._pointers else None
            if len(data) < self._size or said not in (None, expected):
                raise _Broken
            expected = LATER_OVERFLOW
            parts.append(data[4 : 4 + size])
            size -= len(parts[-1])
            number = int.from_bytes(data[:4], "big")
        if number:  # the way goes on: these are pages of something else
            raise _Broken
        return b"".join(parts)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for index in range(place, place + 8):
        byte = data[index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, index + 1
    return value << 8 | data[place + 8], place + 9


def _rowid(data: bytes, place: int) -> tuple[int, int]:
    value, place = _varint(data, place)
    return value - ((value >> 63) << 64), place


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
