"""picologging, logging in C++ (https://microsoft.github.io/picologging)."""

from __future__ import annotations

import queue
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import picologging
import picologging.handlers

from ..rows import FILE, FUNCTION, NARROW, RECORDING, text_of
from .base import Log, Rival
from .names import PICOLOGGING
from .sink import Sink

__all__ = ["RIVALS"]


class KeepingQueueHandler(picologging.handlers.QueueHandler):
    """
    Queues records as they are.

    The default merges message and arguments into a text, and queues a new record that has nothing but that
    text: the columns, which can only be brought as arguments, would be lost. To queue the record itself is
    cheaper than the default, and than what the standard library's handler does: in picologging's favour.

    """

    def prepare(self, record: picologging.LogRecord) -> picologging.LogRecord:
        """Return what is queued."""
        return record


class SQLiteHandler(picologging.Handler):
    """Writes the arguments of records; picologging drops ``extra``."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._sink = Sink(path)

    def emit(self, record: picologging.LogRecord) -> None:
        """Write a record, with others."""
        table, columns = record.args
        if table == NARROW:
            columns["dt_added"] = columns["dt_function_message_queued"] = text_of(record.created)
        self._sink.add(table, columns)

    def handle(self, record: picologging.LogRecord) -> None:
        """Handle a record, without a filter."""
        self.emit(record)

    def close(self) -> None:
        """Write what is left."""
        self._sink.close()
        super().close()


@asynccontextmanager
async def _open(path: Path) -> AsyncIterator[Log]:
    records: queue.SimpleQueue[Any] = queue.SimpleQueue()
    handler = SQLiteHandler(path)
    listener = picologging.handlers.QueueListener(records, handler)
    listener.start()
    logger = picologging.getLogger("engine")
    logger.setLevel(picologging.INFO)
    logger.addHandler(KeepingQueueHandler(records))

    def function(number: int) -> None:
        logger.info(
            "Start %s %s",
            NARROW,
            {
                "python_function_name": FUNCTION,
                "python_file_name": FILE,
                "recording_id": RECORDING,
                "audio_chunk_no": number,
                "frame_no": number // 10,
                "start_stop_or_error_msg": "Start",
                "websocket_connection_id": 17,
            },
        )

    def row(table: str, columns: dict[str, Any]) -> None:
        logger.info("row %s %s", table, columns)

    yield Log(function, row, awaits=False)
    listener.stop()
    handler.close()


RIVALS = [
    Rival(
        PICOLOGGING,
        _open,
        "QueueHandler, QueueListener, and a SQLite handler that batches; records are queued as they are",
        "picologging",
    )
]
