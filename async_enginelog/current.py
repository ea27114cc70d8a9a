"""The log functions as functions of the package: they use the running loop's open log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

from . import rows
from .enginelog import current_log

__all__ = [
    "log_audio_frame_metadata",
    "log_function_error",
    "log_function_execution",
    "log_pre_split_audio_frame",
    "log_process_registry",
    "log_recording_config",
    "log_resource_usage",
    "log_row",
    "log_steps",
    "log_websocket_connection",
    "log_websocket_message",
]


async def log_function_execution(**columns: Unpack[rows.FunctionExecution]) -> None:
    """Do what :meth:`EngineLog.log_function_execution` does, with the running loop's log."""
    await current_log().log_function_execution(**columns)


async def log_function_error(**columns: Unpack[rows.FunctionError]) -> None:
    """Do what :meth:`EngineLog.log_function_error` does, with the running loop's log."""
    await current_log().log_function_error(**columns)


async def log_audio_frame_metadata(**columns: Unpack[rows.AudioFrame]) -> None:
    """Do what :meth:`EngineLog.log_audio_frame_metadata` does, with the running loop's log."""
    await current_log().log_audio_frame_metadata(**columns)


async def log_pre_split_audio_frame(**columns: Unpack[rows.PreSplitAudioFrame]) -> None:
    """Do what :meth:`EngineLog.log_pre_split_audio_frame` does, with the running loop's log."""
    await current_log().log_pre_split_audio_frame(**columns)


async def log_recording_config(**columns: Unpack[rows.RecordingConfig]) -> None:
    """Do what :meth:`EngineLog.log_recording_config` does, with the running loop's log."""
    await current_log().log_recording_config(**columns)


async def log_websocket_connection(**columns: Unpack[rows.WebsocketConnection]) -> None:
    """Do what :meth:`EngineLog.log_websocket_connection` does, with the running loop's log."""
    await current_log().log_websocket_connection(**columns)


async def log_websocket_message(**columns: Unpack[rows.WebsocketMessage]) -> None:
    """Do what :meth:`EngineLog.log_websocket_message` does, with the running loop's log."""
    await current_log().log_websocket_message(**columns)


async def log_process_registry(**columns: Unpack[rows.ProcessRegistry]) -> None:
    """Do what :meth:`EngineLog.log_process_registry` does, with the running loop's log."""
    await current_log().log_process_registry(**columns)


async def log_steps(**columns: Unpack[rows.Step]) -> None:
    """Do what :meth:`EngineLog.log_steps` does, with the running loop's log."""
    await current_log().log_steps(**columns)


async def log_resource_usage(**columns: Unpack[rows.ResourceUsage]) -> None:
    """Do what :meth:`EngineLog.log_resource_usage` does, with the running loop's log."""
    await current_log().log_resource_usage(**columns)


async def log_row(table: str, columns: Mapping[str, object]) -> None:
    """Do what :meth:`EngineLog.log_row` does, with the running loop's log."""
    await current_log().log_row(table, columns)
