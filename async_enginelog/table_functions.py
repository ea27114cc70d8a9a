"""
A log function for each table.

Arguments are the columns; :obj:`None` means not known. A later call for the same thing fills columns in. Each
raises TypeError, ValueError or LogClosed, as :meth:`~async_enginelog.EngineLog.log_row` does.

"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Unpack

from . import rows, tables
from .lines import RowEncoder, encoder_of

__all__ = ["TableFunctions"]


class TableFunctions:
    """What an :class:`~async_enginelog.EngineLog` has for each table."""

    def _accept(self, encode: RowEncoder, columns: dict[str, Any]) -> bool:
        """Take a row in; tell whether the caller should give way."""
        raise NotImplementedError

    def _give_way(self) -> Coroutine[Any, Any, None]:
        raise NotImplementedError

    async def log_function_execution(self, **columns: Unpack[rows.FunctionExecution]) -> None:
        """Log that a function started, ended or failed (ENGINE_DB_LOG_FUNCTIONS)."""
        if self._accept(_FUNCTIONS, columns):  # type: ignore[arg-type]
            await self._give_way()

    async def log_function_error(self, **columns: Unpack[rows.FunctionError]) -> None:
        """Log an exception (ENGINE_DB_LOG_FUNCTION_ERROR)."""
        if self._accept(_FUNCTION_ERROR, columns):  # type: ignore[arg-type]
            await self._give_way()

    async def log_audio_frame_metadata(self, **columns: Unpack[rows.AudioFrame]) -> None:
        """Log a 100 ms frame, or more about it (ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME)."""
        if self._accept(_AUDIO_FRAME, columns):  # type: ignore[arg-type]
            await self._give_way()

    async def log_pre_split_audio_frame(self, **columns: Unpack[rows.PreSplitAudioFrame]) -> None:
        """Log a client's frame, or more about it (ENGINE_DB_LOG_PRE_SPLIT_AUDIO_FRAME)."""
        if self._accept(_PRE_SPLIT_AUDIO_FRAME, columns):  # type: ignore[arg-type]
            await self._give_way()

    async def log_recording_config(self, **columns: Unpack[rows.RecordingConfig]) -> None:
        """Log a recording, or more about it (ENGINE_DB_LOG_RECORDING_CONFIG)."""
        if self._accept(_RECORDING_CONFIG, columns):  # type: ignore[arg-type]
            await self._give_way()

    async def log_websocket_connection(self, **columns: Unpack[rows.WebsocketConnection]) -> None:
        """Log a connection, or more about it (ENGINE_DB_LOG_WEBSOCKET_CONNECTION)."""
        if self._accept(_WEBSOCKET_CONNECTION, columns):  # type: ignore[arg-type]
            await self._give_way()

    async def log_websocket_message(self, **columns: Unpack[rows.WebsocketMessage]) -> None:
        """Log a message, or more about it (ENGINE_DB_LOG_WEBSOCKET_MESSAGE)."""
        if self._accept(_WEBSOCKET_MESSAGE, columns):  # type: ignore[arg-type]
            await self._give_way()

    async def log_process_registry(self, **columns: Unpack[rows.ProcessRegistry]) -> None:
        """Log a process, or more about it (ENGINE_DB_LOG_PROCESS_REGISTRY)."""
        if self._accept(_PROCESS_REGISTRY, columns):  # type: ignore[arg-type]
            await self._give_way()

    async def log_steps(self, **columns: Unpack[rows.Step]) -> None:
        """Log a step inside a function (ENGINE_DB_LOG_STEPS)."""
        if self._accept(_STEPS, columns):  # type: ignore[arg-type]
            await self._give_way()

    async def log_resource_usage(self, **columns: Unpack[rows.ResourceUsage]) -> None:
        """Log how busy the machine is (ENGINE_DB_LOG_RESOURCE_MONITOR)."""
        if self._accept(_RESOURCE_MONITOR, columns):  # type: ignore[arg-type]
            await self._give_way()


_FUNCTIONS = encoder_of(tables.FUNCTIONS)
_FUNCTION_ERROR = encoder_of(tables.FUNCTION_ERROR)
_AUDIO_FRAME = encoder_of(tables.AUDIO_FRAME)
_PRE_SPLIT_AUDIO_FRAME = encoder_of(tables.PRE_SPLIT_AUDIO_FRAME)
_RECORDING_CONFIG = encoder_of(tables.RECORDING_CONFIG)
_WEBSOCKET_CONNECTION = encoder_of(tables.WEBSOCKET_CONNECTION)
_WEBSOCKET_MESSAGE = encoder_of(tables.WEBSOCKET_MESSAGE)
_PROCESS_REGISTRY = encoder_of(tables.PROCESS_REGISTRY)
_STEPS = encoder_of(tables.STEPS)
_RESOURCE_MONITOR = encoder_of(tables.RESOURCE_MONITOR)
