"""Rows into SQLite without a logging library: aiosqlite, and what the old engine did."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiosqlite

from async_enginelog.tables import TABLES

from ..rows import NARROW, insert_sql, narrow_values, stored_values
from .base import Collected, Log, Rival, collecting, grouped
from .names import EACH, MANY, OLD

__all__ = ["RIVALS", "make_old_tables"]

ARGUMENTS = tuple(TABLES[NARROW].columns)
INSERT = insert_sql(NARROW, ARGUMENTS)

# The tables and indexes as the old engine made them.
OLD_TABLES = Path(__file__).with_name("old_engine.sql")


@asynccontextmanager
async def _each(path: Path) -> AsyncIterator[Log]:
    async with aiosqlite.connect(path) as connection:
        await connection.execute("PRAGMA synchronous = NORMAL")

        async def function(number: int) -> None:
            await connection.execute(INSERT, narrow_values(number))
            await connection.commit()

        async def row(table: str, columns: dict[str, Any]) -> None:
            await connection.execute(insert_sql(table, tuple(columns)), stored_values(columns))
            await connection.commit()

        yield Log(function, row)


@asynccontextmanager
async def _many(path: Path) -> AsyncIterator[Log]:
    async with aiosqlite.connect(path) as connection:
        await connection.execute("PRAGMA synchronous = NORMAL")

        async def write(rows: Collected) -> None:
            for (table, arguments), values in grouped(rows).items():
                await connection.executemany(insert_sql(table, arguments), values)
            await connection.commit()

        async with collecting(write) as waiting:

            def function(number: int) -> None:
                waiting.append((NARROW, ARGUMENTS, narrow_values(number)))

            def row(table: str, columns: dict[str, Any]) -> None:
                waiting.append((table, tuple(columns), stored_values(columns)))

            yield Log(function, row, awaits=False)


@asynccontextmanager
async def _old(path: Path) -> AsyncIterator[Log]:
    """Open, insert and commit on the event loop, with the settings that SQLite has by default."""

    def function(number: int) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(INSERT, narrow_values(number))
            connection.commit()

    def row(table: str, columns: dict[str, Any]) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(insert_sql(table, tuple(columns)), stored_values(columns))
            connection.commit()

    yield Log(function, row, awaits=False)


def make_old_tables(path: Path) -> None:
    """Create a file as the old engine did."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLD_TABLES.read_text("utf-8"))


RIVALS = [
    Rival(EACH, _each, "as its first example does, on one connection, in WAL mode", "aiosqlite"),
    Rival(MANY, _many, "rows in a list, written by a task every 200 ms", "aiosqlite"),
    Rival(OLD, _old, "connect, insert, commit, close on the event loop, its own tables", own_tables=True),
]
