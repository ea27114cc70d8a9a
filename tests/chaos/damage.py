"""
Ways to damage a file, and how many rows of a database or a spool stood where it was damaged.

Hypothesis chooses which and where: what stands in for chance is its own, so that it can search among the
damages that break a promise for the smallest.

"""

from __future__ import annotations

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from async_enginelog import tables

from .attack import Broken, Skipped

__all__ = [
    "DAMAGES", "PAGE", "difference", "lines_in", "noise", "rows_on_pages", "swap", "touched_pages",
    "try_damages",
]  # fmt: skip

PAGE = 4096

# So long the smallest damage that breaks a promise is looked for, in seconds.
SEARCH = 60.0
# A cell of these holds what two calls have logged.
PAIRS = {tables.AUDIO_FRAME.name, tables.RECORDING_CONFIG.name, tables.WEBSOCKET_CONNECTION.name}


class _Enough(BaseException):
    """The time is up."""


def try_damages(
    examine: Callable[[random.Random], None], number: int, end: float, chance: random.Random
) -> None:
    """
    Have hypothesis choose damages.

    Args:
        examine: Does one damage, chosen by what it is given, and looks what becomes of it.
        number: How many, at most.
        end: When to end, as the monotonic clock has it; but not before the first.
        chance: What the choice depends on.

    Raises:
        Broken: What ``examine`` raised of the smallest damage for which it does.

    """
    broken: list[Broken] = []
    tried = 0
    enough = False

    def example(chosen: random.Random) -> None:
        nonlocal tried, enough
        tried += 1
        if tried > 1 and time.monotonic() > end + SEARCH * bool(broken):
            enough = True
            raise _Enough
        try:
            examine(chosen)
        except Broken as error:
            broken.append(error)
            raise

    chosen = settings(
        max_examples=number,
        phases=(Phase.generate, Phase.shrink),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    try:
        seed(chance.getrandbits(64))(chosen(given(st.randoms())(example)))()
    except (Exception, _Enough):
        # Hypothesis ends with the smallest. It may complain that it was stopped, or that engines don't do the
        # same each time.
        if broken:
            raise broken[-1] from None
        if not enough:
            raise


def noise(chance: random.Random, size: int) -> bytes:
    """Return bytes without a meaning, chosen by one number: each choice is one that hypothesis looks into."""
    return random.Random(chance.getrandbits(32)).randbytes(size)


def difference(before: bytes, after: bytes) -> str:
    """Say what was done to a file."""
    places = [place for place, (one, other) in enumerate(zip(before, after, strict=False)) if one != other]
    where = f" from {places[0]} to {places[-1]}" if places else ""
    return f"{len(places)} bytes{where} are others, the size was {len(before)} and is {len(after)}"


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
        data[place : place + size] = chance.choice([bytes(size), noise(chance, size)])


def hit_begin(data: bytearray, chance: random.Random) -> None:
    """Damage the begin, where the most important things stand."""
    begin = chance.choice([0, 16, 40, 60, 96])
    size = chance.choice([1, 4, 100, PAGE])
    data[begin : begin + size] = noise(chance, len(data[begin : begin + size]))


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
