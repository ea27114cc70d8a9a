"""This package."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from async_enginelog import EngineLog

from ..rows import FILE, FUNCTION, RECORDING
from .base import Log, Rival
from .names import OURS

__all__ = ["RIVALS", "methods_of"]


def methods_of(log: EngineLog) -> dict[str, Any]:
    """Return the log functions by table."""
    return {
        "ENGINE_DB_LOG_FUNCTIONS": log.log_function_execution,
        "ENGINE_DB_LOG_FUNCTION_ERROR": log.log_function_error,
        "ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME": log.log_audio_frame_metadata,
        "ENGINE_DB_LOG_PRE_SPLIT_AUDIO_FRAME": log.log_pre_split_audio_frame,
        "ENGINE_DB_LOG_RECORDING_CONFIG": log.log_recording_config,
        "ENGINE_DB_LOG_WEBSOCKET_CONNECTION": log.log_websocket_connection,
        "ENGINE_DB_LOG_WEBSOCKET_MESSAGE": log.log_websocket_message,
        "ENGINE_DB_LOG_STEPS": log.log_steps,
    }


@asynccontextmanager
async def _open(path: Path) -> AsyncIterator[Log]:
    async with EngineLog(path, timeout=120) as log:
        methods = methods_of(log)

        async def function(number: int) -> None:
            await log.log_function_execution(
                python_function_name=FUNCTION,
                python_file_name=FILE,
                recording_id=RECORDING,
                audio_chunk_no=number,
                frame_no=number // 10,
                start_stop_or_error_msg="Start",
                websocket_connection_id=17,
            )

        async def row(table: str, columns: dict[str, Any]) -> None:
            await methods[table](**columns)

        yield Log(function, row)


RIVALS = [Rival(OURS, _open, "await log.log_function_execution(…)", "async-enginelog")]
