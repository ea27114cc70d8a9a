"""Log the start, the end and the failure of a block of code."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import perf_counter
from typing import NamedTuple

from async_enginelog import EngineLog


def now() -> datetime:
    """Return the present time. With a time zone, the log needn't guess which was meant."""
    return datetime.now(UTC)


class About(NamedTuple):
    """What a function works on: goes into each of its rows."""

    recording_id: int | None = None
    frame_no: int | None = None
    connection_id: int | None = None


@asynccontextmanager
async def logged(log: EngineLog, function: str, file: str, about: About) -> AsyncIterator[None]:
    """
    Log that ``function`` started, and that it ended or failed.

    An exception is logged with its traceback and goes on to whoever calls.

    """

    async def say(what: str) -> None:
        await log.log_function_execution(
            python_function_name=function,
            python_file_name=file,
            recording_id=about.recording_id,
            frame_no=about.frame_no,
            start_stop_or_error_msg=what,
            websocket_connection_id=about.connection_id,
        )

    began = perf_counter()
    await say("Start")
    try:
        yield
    except Exception as error:
        await say(f"Error: {error}")
        await log_error(log, error, function, file, about)
        raise
    await say(f"End ({perf_counter() - began:.3f}s)")


async def log_error(log: EngineLog, error: Exception, function: str, file: str, about: About) -> None:
    """Log an exception with its traceback."""
    await log.log_function_error(
        python_function_name=function,
        python_file_name=file,
        error_message_text=f"{type(error).__name__}: {error}",
        traceback_text="".join(traceback.format_exception(error)),
        recording_id=about.recording_id,
        audio_frame_no=about.frame_no,
    )
