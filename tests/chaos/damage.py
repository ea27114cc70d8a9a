"""Ways to damage a file, and how many rows of a database or a spool stood where it was damaged."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from async_enginelog import tables

from .attack import Skipped

__all__ = ["DAMAGES", "lines_in", "rows_on_pages", "swap", "touched_pages"]

PAGE = 4096
# A cell of these holds what two calls have logged.
PAIRS = {tables.AUDIO_FRAME.name, tables.RECORDING_CONFIG.name, tables.WEBSOCKET_CONNECTION.name}


def flip_bits(data: bytearray, chance: random.Random) -> None:
    """Flip a few bits, anywhere."""
    for _ in range(chance.choice([1, 1, 2, 8, 64])):
        place = chance.randrange(len(data))
        data[place] ^= 1 << chance.randrange(8)


def overwrite(data: bytearray, chance: random.Random) -> None:
    """Overwrite a few pages or parts of pages, with chance or with zeros."""
    for _ in range(chance.choice([1, 1, 2, 8])):
        size = chance.choice([16, 512, PAGE, PAGE])
        place = chance.randrange(0, max(1, len(data) - size), 1 if size < PAGE else PAGE)
        size = min(size, len(data) - place)
        data[place : place + size] = chance.choice([bytes(size), chance.randbytes(size)])


def hit_begin(data: bytearray, chance: random.Random) -> None:
    """Damage the begin, where the most important things stand."""
    begin = chance.choice([0, 16, 40, 60, 96])
    size = chance.choice([1, 4, 100, PAGE])
    data[begin : begin + size] = chance.randbytes(len(data[begin : begin + size]))


def cut(data: bytearray, chance: random.Random) -> None:
    """Cut off the end."""
    del data[chance.randrange(1, len(data)) :]


def swap(data: bytearray, chance: random.Random) -> None:
    """Put one page in the place of another, as a disk does that loses its way."""
    pages = len(data) // PAGE
    if pages > 1:
        one, other = chance.sample(range(pages), 2)
        data[one * PAGE : (one + 1) * PAGE] = data[other * PAGE : (other + 1) * PAGE]


DAMAGES: list[Callable[[bytearray, random.Random], None]] = [flip_bits, overwrite, hit_begin, cut, swap]


def touched_pages(before: bytes, after: bytes) -> set[int]:
    """Return the pages, from 1, that aren't as they were."""
    return {
        place // PAGE + 1
        for place in range(0, len(before), PAGE)
        if before[place : place + PAGE] != after[place : place + PAGE]
    }


def rows_on_pages(database: Path, pages: set[int]) -> int:
    """
    Return how many rows at most stood on some pages of a database that is whole.

    Raises:
        Skipped: If this SQLite can't tell.

    """
    with closing(sqlite3.connect(database)) as connection:
        try:
            found = connection.execute(
                "SELECT name, pageno, pagetype, ncell FROM dbstat WHERE name LIKE 'ENGINE_DB_LOG_%' "
                "AND name IN (SELECT name FROM sqlite_schema WHERE type = 'table')"
            ).fetchall()
        except sqlite3.OperationalError:
            raise Skipped("this SQLite has no table dbstat, which tells what stood on a page") from None
    return sum(
        {"leaf": count, "overflow": 1}.get(kind, 0) * (2 if name in PAIRS else 1)
        for name, page, kind, count in found
        if page in pages
    )


def lines_in(before: bytes, after: bytes) -> int:
    """Return how many lines of a spool aren't as they were, or stand behind one that is cut."""
    return (Counter(before.split(b"\n")[:-1]) - Counter(after.split(b"\n")[:-1])).total()
