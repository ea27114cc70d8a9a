"""aiologging: logging whose calls are coroutines (https://github.com/m6mok/aiologging)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiologging
import aiosqlite
from aiologging.handlers.base import BufferedAsyncHandler

from ..rows import FILE, FUNCTION, NARROW, RECORDING, insert_sql, stored_values, text_of
from .base import COLLECT, Log, Rival, grouped
from .names import AIOLOGGING

__all__ = ["RIVALS"]


class SQLiteHandler(BufferedAsyncHandler):
    """Writes what records bring with them, in batches."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        super().__init__(buffer_size=1000, flush_interval=COLLECT)
        self._connection = connection

    async def _emit(self, record: logging.LogRecord, formatted_message: str) -> None:
        raise NotImplementedError  # flush() takes all records

    async def flush(self, records: list[logging.LogRecord]) -> None:
        """Write records."""
        rows = []
        for record in records:
            table, columns = record.table, record.columns  # type: ignore[attr-defined]
            if table == NARROW:
                columns["dt_added"] = columns["dt_function_message_queued"] = text_of(record.created)
            rows.append((table, tuple(columns), stored_values(columns)))
        for (table, arguments), values in grouped(rows).items():
            await self._connection.executemany(insert_sql(table, arguments), values)
        await self._connection.commit()


@asynccontextmanager
async def _open(path: Path) -> AsyncIterator[Log]:
    async with aiosqlite.connect(path) as connection:
        await connection.execute("PRAGMA synchronous = NORMAL")
        logger = aiologging.getLogger("engine")
        logger.setLevel(logging.INFO)
        logger.addHandler(SQLiteHandler(connection))

        async def function(number: int) -> None:
            await logger.info(
                "Start",
                extra={
                    "table": NARROW,
                    "columns": {
                        "python_function_name": FUNCTION,
                        "python_file_name": FILE,
                        "recording_id": RECORDING,
                        "audio_chunk_no": number,
                        "frame_no": number // 10,
                        "start_stop_or_error_msg": "Start",
                        "websocket_connection_id": 17,
                    },
                },
            )

        async def row(table: str, columns: dict[str, Any]) -> None:
            await logger.info("row", extra={"table": table, "columns": columns})

        yield Log(function, row)
        await aiologging.shutdown()


RIVALS = [Rival(AIOLOGGING, _open, "a buffered handler that writes with aiosqlite", "aiologging")]
