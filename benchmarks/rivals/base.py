"""What a rival is: a way to get the same rows into the same tables."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple

from async_enginelog.database import Database
from async_enginelog.tables import TABLES

__all__ = [
    "COLLECT",
    "Collected",
    "Log",
    "Rival",
    "collecting",
    "count_rows",
    "grouped",
    "make_database",
]

# How long rivals who collect rows do so, in seconds: as long as we do.
COLLECT = 0.2

# Table, its columns by argument, and what they hold.
Inserts = dict[tuple[str, tuple[str, ...]], list[Any]]


class Log(NamedTuple):
    """A rival that is open."""

    # Logs row so many of nine columns, as a user would write the call.
    function: Callable[[int], Any]
    # Logs a row of any table: its name, and its columns by argument.
    row: Callable[[str, dict[str, Any]], Any]
    # Whether these two are to be awaited.
    awaits: bool = True

    def awaitable(self) -> tuple[Callable[[int], Awaitable[None]], Callable[..., Awaitable[None]]]:
        """Return the two as coroutine functions, whatever they are."""
        return (self.function, self.row) if self.awaits else (_async(self.function), _async(self.row))


class Rival(NamedTuple):
    """
    A way to log.

    Attributes:
        name: What it is called in the tables.
        open: Opens it on a database that has its tables; all is committed when it is left.
        how: How it is used.
        package: The package whose version is printed.
        own_tables: Whether it makes its own tables, as the old engine did.

    """

    name: str
    open: Callable[[Path], AbstractAsyncContextManager[Log]]
    how: str
    package: str | None = None
    own_tables: bool = False


def _async(function: Callable[..., None]) -> Callable[..., Awaitable[None]]:
    async def call(*arguments: Any) -> None:
        function(*arguments)

    return call


async def make_database(path: Path) -> None:
    """Create the tables, so that nobody's first row pays for them."""
    await (await Database.open(path, create=True)).close()


def count_rows(path: Path) -> int:
    """Return how many rows are committed, in all tables of the log."""
    counts = " + ".join(f"(SELECT count(*) FROM {table})" for table in TABLES)
    with closing(sqlite3.connect(path)) as connection:
        [(rows,)] = connection.execute(f"SELECT {counts}").fetchall()
    return int(rows)


def grouped(rows: Sequence[tuple[str, tuple[str, ...], Any]]) -> Inserts:
    """Collect rows by table and columns, for an executemany of each."""
    groups: Inserts = defaultdict(list)
    for table, arguments, values in rows:
        groups[table, arguments].append(values)
    return groups


Collected = list[tuple[str, tuple[str, ...], Any]]


@asynccontextmanager
async def collecting(write: Callable[[Collected], Awaitable[None]]) -> AsyncIterator[Collected]:
    """Collect rows in a list, which a task writes every 200 ms: what one writes when asked to batch."""
    waiting: Collected = []
    closing_down = asyncio.Event()

    async def write_all() -> None:
        while waiting or not closing_down.is_set():
            rows, waiting[:] = waiting[:], []
            if rows:
                await write(rows)
            else:
                await asyncio.sleep(COLLECT)

    task = asyncio.create_task(write_all())
    yield waiting
    closing_down.set()
    await task
