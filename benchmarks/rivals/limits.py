"""What no log can beat: a call that does nothing but keep the row, and SQLite alone."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from async_enginelog.batch import Statement, prepare
from async_enginelog.lines import decode, encoder_of
from async_enginelog.tables import TABLES

from ..rows import FILE, FUNCTION, RECORDING, SHAPES
from .base import Log, Rival
from .names import NOTHING

__all__ = ["RIVALS", "STATEMENT_ROWS", "calling", "complete", "limit"]

STATEMENT_ROWS = 1024


def calling(keep: Callable[[dict[str, Any]], object]) -> Log:
    """Return a log whose calls do no more with a row than ``keep`` does."""

    async def log(**columns: Any) -> None:
        keep(columns)

    async def function(number: int) -> None:
        await log(
            python_function_name=FUNCTION,
            python_file_name=FILE,
            recording_id=RECORDING,
            audio_chunk_no=number,
            frame_no=number // 10,
            start_stop_or_error_msg="Start",
            websocket_connection_id=17,
        )

    async def row(table: str, columns: dict[str, Any]) -> None:
        await log(**columns)

    return Log(function, row)


@asynccontextmanager
async def _open(path: Path) -> AsyncIterator[Log]:
    rows: list[dict[str, Any]] = []
    yield calling(rows.append)


def limit(path: Path, shape: str, rows: int) -> tuple[float, float]:
    """
    Insert rows with the statements of our writer in one transaction, without an event loop.

    Rows and statements are made before.

    Returns:
        Seconds, and CPU seconds.

    """
    statements = _statements(shape, rows)
    with closing(sqlite3.connect(path, isolation_level=None, cached_statements=256)) as connection:
        connection.execute("PRAGMA synchronous = NORMAL")
        begun, cpu = time.perf_counter(), time.process_time()
        connection.execute("BEGIN IMMEDIATE")
        for sql, parameters in statements:
            connection.execute(sql, parameters)
        connection.execute("COMMIT")
        return time.perf_counter() - begun, time.process_time() - cpu


def _statements(shape: str, rows: int) -> list[tuple[str, Sequence[Any]]]:
    made = (SHAPES[shape](number) for number in range(1, rows + 1))
    lines = [encoder_of(TABLES[name])(columns) for name, columns in made]
    statements: list[tuple[str, Sequence[Any]]] = []
    for first in range(0, rows, STATEMENT_ROWS):
        decoded, _ = decode(b"".join(lines[first : first + STATEMENT_ROWS]))
        statements += [complete(statement, first) for statement in prepare(decoded).statements]
    return statements


def complete(statement: Statement, first: int) -> tuple[str, Sequence[Any]]:
    """Return a statement with what the committer gives it: the time, the run, its first row's number."""
    sql, parameters = statement
    return sql, ("2026-01-31 12:34:56.123456", 1, first, *parameters)


RIVALS = [Rival(NOTHING, _open, "an empty coroutine that appends the row to a list")]
