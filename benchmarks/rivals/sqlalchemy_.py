"""SQLAlchemy's asyncio extension: insert many (https://docs.sqlalchemy.org/en/20/orm/extensions/asyncio.html)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Column, MetaData, Table, Text, event, insert
from sqlalchemy.ext.asyncio import create_async_engine

from async_enginelog.tables import TABLES

from ..rows import FILE, FUNCTION, NARROW, RECORDING, stored_values, utc_text
from .base import Collected, Log, Rival, collecting, grouped
from .names import SQLALCHEMY

__all__ = ["RIVALS"]

_METADATA = MetaData()


@lru_cache(maxsize=64)
def _table(name: str) -> Table:
    # The names of the columns are those of the arguments: SQLite doesn't mind the case. Values go through as
    # they are.
    return Table(name, _METADATA, *(Column(argument, Text) for argument in TABLES[name].columns))


@asynccontextmanager
async def _open(path: Path) -> AsyncIterator[Log]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")

    def set_up(connection: Any, _: object) -> None:
        connection.cursor().execute("PRAGMA synchronous = NORMAL")

    event.listen(engine.sync_engine, "connect", set_up)

    async def write(rows: Collected) -> None:
        async with engine.begin() as connection:
            for (table, _), values in grouped(rows).items():
                await connection.execute(insert(_table(table)).prefix_with("OR REPLACE"), values)

    async with collecting(write) as waiting:

        def function(number: int) -> None:
            now = utc_text(datetime.now(UTC))
            columns = {
                "dt_added": now,
                "python_function_name": FUNCTION,
                "python_file_name": FILE,
                "recording_id": RECORDING,
                "audio_chunk_no": number,
                "frame_no": number // 10,
                "start_stop_or_error_msg": "Start",
                "websocket_connection_id": 17,
                "dt_function_message_queued": now,
            }
            waiting.append((NARROW, (), columns))

        def row(table: str, columns: dict[str, Any]) -> None:
            values = dict(zip(columns, stored_values(columns), strict=True))
            waiting.append((table, tuple(columns), values))

        yield Log(function, row, awaits=False)
    await engine.dispose()


RIVALS = [Rival(SQLALCHEMY, _open, "rows in a list, insert() of all by a task every 200 ms", "SQLAlchemy")]
