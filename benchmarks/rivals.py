"""
The ways to get rows into the same table that are measured side by side.

Each logs the nine columns of ENGINE_DB_LOG_FUNCTIONS into a database that our migrations made,
indexes included, in WAL mode with ``synchronous=NORMAL``.

"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiosqlite

from async_enginelog import EngineLog
from async_enginelog.database import Database

COLUMNS = (
    "DT_ADDED, PYTHON_FUNCTION_NAME, PYTHON_FILE_NAME, RECORDING_ID, AUDIO_CHUNK_NO, FRAME_NO, "
    "START_STOP_OR_ERROR_MSG, WEBSOCKET_CONNECTION_ID, DT_FUNCTION_MESSAGE_QUEUED"
)
INSERT = f"INSERT INTO ENGINE_DB_LOG_FUNCTIONS ({COLUMNS}) VALUES "
MARKS = "(?,?,?,?,?,?,?,?,?)"
RECORDING = 202508290514312002

# Logs row `number`.
Log = Callable[[int], Awaitable[None]]
# Opens a database and gives the function that logs; all is committed when it is left.
Rival = Callable[[Path], AbstractAsyncContextManager[Log]]


def row(number: int) -> tuple[object, ...]:
    """Return a row as a tuple, both times as the text that is stored."""
    now = datetime.now(UTC).isoformat(" ", "microseconds")[:26]
    return (now, "process_frame", "listen_for_frames.py", RECORDING, number, number // 10, "Start", 17, now)


async def make_database(path: Path) -> None:
    """Create the tables, so that nobody's first row pays for them."""
    await (await Database.open(path, create=True)).close()


@asynccontextmanager
async def ours(path: Path) -> AsyncIterator[Log]:
    """Await EngineLog.log_function_execution()."""
    async with EngineLog(path, timeout=60) as log:

        async def call(number: int) -> None:
            await log.log_function_execution(
                python_function_name="process_frame",
                python_file_name="listen_for_frames.py",
                recording_id=RECORDING,
                audio_chunk_no=number,
                frame_no=number // 10,
                start_stop_or_error_msg="Start",
                websocket_connection_id=17,
            )

        yield call


@asynccontextmanager
async def aiosqlite_each(path: Path) -> AsyncIterator[Log]:
    """Use aiosqlite as its first example does: execute, commit, for each row."""
    async with aiosqlite.connect(path) as connection:
        await connection.execute("PRAGMA synchronous = NORMAL")

        async def call(number: int) -> None:
            await connection.execute(INSERT + MARKS, row(number))
            await connection.commit()

        yield call


@asynccontextmanager
async def aiosqlite_executemany(path: Path) -> AsyncIterator[Log]:
    """Collect rows in a list; a task writes them with executemany every 50 ms."""
    async with aiosqlite.connect(path) as connection:
        await connection.execute("PRAGMA synchronous = NORMAL")
        waiting: list[tuple[object, ...]] = []
        closing = asyncio.Event()

        async def write() -> None:
            while waiting or not closing.is_set():
                rows, waiting[:] = waiting[:], []
                if rows:
                    await connection.executemany(INSERT + MARKS, rows)
                    await connection.commit()
                else:
                    await asyncio.sleep(0.05)

        writer = asyncio.create_task(write())

        async def call(number: int) -> None:
            waiting.append(row(number))
            if len(waiting) >= 2000:
                await asyncio.sleep(0)

        yield call
        closing.set()
        await writer


def raw_rows_per_second(path: Path, rows: int) -> float:
    """Measure the limit: sqlite3, no event loop, statements of 1,024 rows, a transaction for each."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 2000")
    statement = INSERT + ",".join([MARKS] * 1024)
    batches = max(1, rows // 1024)
    data = [row(number) for number in range(batches * 1024)]
    start = time.perf_counter()
    for first in range(0, len(data), 1024):
        parameters = [value for line in data[first : first + 1024] for value in line]
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(statement, parameters)
        connection.execute("COMMIT")
    seconds = time.perf_counter() - start
    connection.close()
    return len(data) / seconds


def count_rows(path: Path) -> int:
    """Return how many rows are committed."""
    connection = sqlite3.connect(path)
    [(rows,)] = connection.execute("SELECT count(*) FROM ENGINE_DB_LOG_FUNCTIONS").fetchall()
    connection.close()
    return int(rows)
