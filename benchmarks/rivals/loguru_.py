"""loguru with ``enqueue=True`` (https://loguru.readthedocs.io/en/stable/overview.html)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from loguru import logger

from ..rows import FILE, FUNCTION, NARROW, RECORDING, utc_text
from .base import Log, Rival
from .names import LOGURU
from .sink import Sink

__all__ = ["RIVALS"]


class SQLiteSink:
    """Writes what messages bring with them; runs in loguru's thread."""

    def __init__(self, path: Path) -> None:
        self._sink = Sink(path)

    def write(self, message: Any) -> None:
        """Write a message, with others."""
        columns = message.record["extra"]
        if message.record["message"] == NARROW:
            now = utc_text(message.record["time"])
            columns["dt_added"] = columns["dt_function_message_queued"] = now
        self._sink.add(message.record["message"], columns)

    def stop(self) -> None:
        """Write what is left."""
        self._sink.close()


@asynccontextmanager
async def _open(path: Path) -> AsyncIterator[Log]:
    logger.remove()
    handler = logger.add(SQLiteSink(path), enqueue=True, format="{message}")

    def function(number: int) -> None:
        logger.info(
            NARROW,
            python_function_name=FUNCTION,
            python_file_name=FILE,
            recording_id=RECORDING,
            audio_chunk_no=number,
            frame_no=number // 10,
            start_stop_or_error_msg="Start",
            websocket_connection_id=17,
        )

    def row(table: str, columns: dict[str, Any]) -> None:
        logger.info(table, **columns)

    yield Log(function, row, awaits=False)
    logger.complete()
    logger.remove(handler)


RIVALS = [Rival(LOGURU, _open, "enqueue=True, and a sink that writes in batches", "loguru")]
