"""structlog, set up for speed (https://www.structlog.org/en/stable/performance.html)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from ..rows import FILE, FUNCTION, NARROW, RECORDING
from .base import Log, Rival
from .names import STRUCTLOG, STRUCTLOG_ASYNC
from .sink import SinkThread

__all__ = ["RIVALS"]


class QueueLogger:
    """The end of the chain: puts what was logged into a queue."""

    def __init__(self, thread: SinkThread) -> None:
        self._thread = thread

    def info(self, table: str, columns: dict[str, Any]) -> None:
        """Take a row."""
        self._thread.put((table, columns))


def _as_row(_: object, __: str, event: dict[str, Any]) -> tuple[tuple[str, dict[str, Any]], dict[str, Any]]:
    """Turn an event into a row, as the renderer at the end of the chain."""
    table, now = event.pop("event"), event.pop("timestamp")
    if table == NARROW:
        event["dt_added"] = event["dt_function_message_queued"] = now[:10] + " " + now[11:26]
    return (table, event), {}


def _logger(thread: SinkThread) -> Any:
    structlog.configure(
        cache_logger_on_first_use=True,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _as_row,
        ],
        logger_factory=lambda: QueueLogger(thread),
    )
    return structlog.get_logger()


@asynccontextmanager
async def _sync(path: Path) -> AsyncIterator[Log]:
    thread = SinkThread(path)
    logger = _logger(thread)

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
    thread.close()


@asynccontextmanager
async def _async(path: Path) -> AsyncIterator[Log]:
    thread = SinkThread(path)
    logger = _logger(thread)

    async def function(number: int) -> None:
        await logger.ainfo(
            NARROW,
            python_function_name=FUNCTION,
            python_file_name=FILE,
            recording_id=RECORDING,
            audio_chunk_no=number,
            frame_no=number // 10,
            start_stop_or_error_msg="Start",
            websocket_connection_id=17,
        )

    async def row(table: str, columns: dict[str, Any]) -> None:
        await logger.ainfo(table, **columns)

    yield Log(function, row)
    thread.close()


RIVALS = [
    Rival(STRUCTLOG, _sync, "logger.info(…), a queue, and a thread that writes in batches", "structlog"),
    Rival(STRUCTLOG_ASYNC, _async, "await logger.ainfo(…), the rest the same", "structlog"),
]
