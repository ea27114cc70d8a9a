"""
Which table each page of a SQLite file belongs to, as the pages tell that lead to it. Performs no I/O.

So SQLite itself finds them. A page that is damaged leads nowhere, or to pages of other tables: what two
tables lay claim to belongs to neither.

"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

from .pages import INDEX_INNER, INDEX_LEAF, TABLE_INNER, TABLE_LEAF, Page

__all__ = ["Trees"]

_NOBODY = 0xFFFFFFFF


class Trees:
    """
    The trees of a file.

    Args:
        count: How many pages there are.

    """

    def __init__(self, count: int) -> None:
        self._kinds = bytearray(count + 1)
        self._children: dict[int, list[int]] = {}
        # Only numbers: a file may have millions of pages.
        self._roots = array("I", bytes(4 * (count + 1)))
        self._broken: set[int] = set()

    def add(self, page: Page) -> None:
        """Look at a page, before the trees are grown; those without a number of their own are in none."""
        if page.number >= len(self._kinds):
            return
        self._kinds[page.number] = page.kind
        if children := page.children():
            self._children[page.number] = children

    def grow(self, roots: Iterable[int]) -> Iterator[None]:
        """Find the pages of each tree, by the page at which it begins, step by step."""
        for root in roots:
            yield from self._grow(root)

    def root(self, number: int) -> int | None:
        """Return the page at which the tree begins that a page belongs to, if it is that of one only."""
        found = self._roots[number] if number < len(self._roots) else 0
        return found if found not in (0, _NOBODY) else None

    def is_whole(self, root: int) -> bool:
        """Tell whether each page of a tree can be one of it."""
        return self.root(root) == root and root not in self._broken

    def pages(self, root: int) -> list[int]:
        """Return the pages of a tree that is whole."""
        found = [root]
        for number in found:
            found += [child for child in self._children.get(number, ()) if self.root(child) == root]
        return found

    def _grow(self, root: int) -> Iterator[None]:
        in_table = 0 < root < len(self._kinds) and self._kinds[root] in (TABLE_INNER, TABLE_LEAF)
        family = (TABLE_INNER, TABLE_LEAF) if in_table else (INDEX_INNER, INDEX_LEAF)
        waiting = [root]
        while waiting:
            number = waiting.pop()
            if not 0 < number < len(self._kinds) or self._kinds[number] not in family:
                self._broken.add(root)
                continue
            before = self._roots[number]
            if before:
                self._broken |= {before, root}
                if before in (root, _NOBODY):
                    continue
            self._roots[number] = _NOBODY if before else root
            if number in self._children:
                waiting += self._children[number]
                yield
