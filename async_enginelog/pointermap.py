"""
What a SQLite file says of its own pages, if it has ``auto_vacuum``. Performs no I/O.

Each file that this package makes has this map; files from before its version 1.0, and those that somebody
has vacuumed without it, haven't (https://www.sqlite.org/fileformat2.html#pointer_map_or_ptrmap_pages).

"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, TypeAlias

__all__ = ["CHILD", "FIRST_OVERFLOW", "LATER_OVERFLOW", "LEAVES", "ROOT", "Link", "Pages", "PointerMap"]

# What it says of a page.
ROOT, FREE, FIRST_OVERFLOW, LATER_OVERFLOW, CHILD = range(1, 6)
# Pages that may hold rows, as far as it knows.
LEAVES = frozenset({None, ROOT, CHILD})

# A map that leads further is broken.
MAX_DEPTH = 20

Pages: TypeAlias = Callable[[int], bytes]


class Link(NamedTuple):
    """What the map says of a page; no kind where it is broken."""

    kind: int | None
    parent: int


class PointerMap:
    """
    The pointer map of a file.

    Args:
        pages: Gives any page of the file by its number; nothing behind the end.
        size: Of each page, in bytes.

    """

    def __init__(self, pages: Pages, size: int) -> None:
        self._pages = pages
        self._size = size

    def is_there(self, count: int) -> bool:
        """
        Tell whether a file of ``count`` pages has a map at all.

        Its header says so, but that may be damaged: what counts first is what stands where the map would.

        """
        places = range(2, count + 1, self._size // 5 + 1)
        return any(self._fits(place, count) for place in places) or any(self._pages(1)[52:56])

    def link(self, number: int) -> Link:
        """Return what it says of a page."""
        if number == 1:
            return Link(ROOT, 0)
        place = self._place(number)
        data = self._pages(place)
        if len(data) < self._size or not _is_map(data):
            return Link(None, 0)
        if place == number:
            return Link(FREE, 0)  # no rows in it
        entry = 5 * (number - place - 1)
        return Link(data[entry] or None, int.from_bytes(data[entry + 1 : entry + 5], "big"))

    def root(self, number: int) -> int | None:
        """Return the page at which the table begins that a page belongs to, if the map tells."""
        for _ in range(MAX_DEPTH):
            kind, parent = self.link(number)
            if kind == ROOT:
                return number
            if kind != CHILD:
                return None
            number = parent
        return None

    def _place(self, number: int) -> int:
        # The second page, and then each behind as many as it has entries, of 5 bytes, for.
        entries = self._size // 5
        return (number - 2) // (entries + 1) * (entries + 1) + 2

    def _fits(self, place: int, count: int) -> bool:
        """Tell whether a page says something of each page that it would have to, and nothing impossible."""
        numbers = range(place + 1, min(place + self._size // 5, count) + 1)
        links = [self.link(number) for number in numbers]
        rest = self._pages(place)[5 * len(links) : self._size // 5 * 5]
        return (
            bool(links)
            and not any(rest)
            and all(
                link.kind is not None
                and (link.parent == 0 if link.kind <= FREE else 0 < link.parent <= count)
                for link in links
            )
        )


@lru_cache(64)
def _is_map(page: bytes) -> bool:
    """Tell whether a page can be one of the map, all of it."""
    return max(page[: len(page) // 5 * 5 : 5]) <= CHILD
