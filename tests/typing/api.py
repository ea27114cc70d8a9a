"""
The package as its users' type checker sees it; run by mypy, never by Python.

Each ignored error is one that has to be reported: mypy complains of an ignore that isn't needed.

"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import assert_type

import async_enginelog
from async_enginelog import EngineLog, Frame, FrameCutter, Statistics, current_log, mask_headers


async def opens_and_closes(path: Path) -> None:
    """A log is its own context, and knows its counts."""
    async with EngineLog(path) as log:
        assert_type(log, EngineLog)
        assert_type(log.statistics(), Statistics)
    async with EngineLog("engine_log.db") as log:
        await log.flush()


async def logs(log: EngineLog, now: datetime) -> None:
    """The nine coroutines take their columns, each with its type."""
    await log.log_steps(step_name="resample", recording_id=1, dt_step_called=now)
    await log.log_audio_frame_metadata(recording_id=1, audio_frame_no=2, yn_run_fft=True)
    await log.log_audio_frame_metadata(recording_id=1, audio_frame_no=2, yn_run_fft="Y", dt_start_fft=None)
    await log.log_websocket_connection(client_port=8080, client_headers={"Host": "engine"})
    await log.log_process_registry(cpu_percent=1.5, memory_usage_mb=100, active_tasks=["a"])
    await log.log_row("ENGINE_DB_LOG_STEPS", {"STEP_NAME": "resample"})
    await async_enginelog.log_steps(step_name="resample")
    await current_log().log_websocket_message(message_type="START")


async def is_told_of_mistakes(log: EngineLog) -> None:
    """A misspelt column, a wrong type and a positional argument are errors before the program runs."""
    await log.log_steps(step_nme="resample")  # type: ignore[call-arg]
    await log.log_steps(recording_id="1")  # type: ignore[arg-type]
    await log.log_steps(dt_step_called=1.5)  # type: ignore[arg-type]
    await log.log_steps("resample")  # type: ignore[call-arg, arg-type]
    await async_enginelog.log_steps(step_nme="resample")  # type: ignore[call-arg]


def cuts() -> None:
    """Frames have types, too."""
    cutter = FrameCutter()
    for frame in cutter.feed(b""):
        assert_type(frame, Frame)
    assert_type(cutter.flush(), Frame | None)
    assert_type(mask_headers([("Host", "engine")]), dict[str, str])
