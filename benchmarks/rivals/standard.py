"""The standard library's logging (https://docs.python.org/3/howto/logging-cookbook.html#blocking-handlers)."""

from __future__ import annotations

import logging
import logging.handlers
import queue
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ..rows import FILE, FUNCTION, NARROW, RECORDING, text_of
from .base import Log, Rival
from .names import QUEUE_HANDLER
from .sink import Sink

__all__ = ["RIVALS"]


class SQLiteHandler(logging.Handler):
    """Writes what records bring with them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._sink = Sink(path)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, with others."""
        columns: dict[str, Any] = record.columns  # type: ignore[attr-defined]
        if record.table == NARROW:  # type: ignore[attr-defined]
            columns["dt_added"] = columns["dt_function_message_queued"] = text_of(record.created)
        self._sink.add(record.table, columns)  # type: ignore[attr-defined]

    def close(self) -> None:
        """Write what is left."""
        self._sink.close()
        super().close()


@asynccontextmanager
async def _open(path: Path) -> AsyncIterator[Log]:
    records: queue.SimpleQueue[Any] = queue.SimpleQueue()
    handler = SQLiteHandler(path)
    listener = logging.handlers.QueueListener(records, handler)
    listener.start()
    logger = logging.getLogger("engine")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    queue_handler = logging.handlers.QueueHandler(records)
    logger.addHandler(queue_handler)

    def function(number: int) -> None:
        logger.info(
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

    def row(table: str, columns: dict[str, Any]) -> None:
        logger.info("row", extra={"table": table, "columns": columns})

    yield Log(function, row, awaits=False)
    listener.stop()
    logger.removeHandler(queue_handler)
    handler.close()


RIVALS = [Rival(QUEUE_HANDLER, _open, "QueueHandler, QueueListener, and a SQLite handler that batches")]
