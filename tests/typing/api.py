"""
The package as its users' type checker sees it; run by mypy, never by Python.

Each ignored error is one that has to be reported: mypy complains of an ignore that isn't needed.

"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator
from datetime import datetime
from pathlib import Path
from typing import Any, assert_type, overload

import async_enginelog
from async_enginelog import (
    EngineLog,
    Frame,
    FrameCutter,
    LogHandler,
    Statistics,
    current_log,
    logged,
    mask_headers,
)
from async_enginelog.steps import Step


async def opens_and_closes(path: Path) -> None:
    """A log is its own context, and knows its counts."""
    async with EngineLog(path) as log:
        assert_type(log, EngineLog)
        assert_type(log.statistics(), Statistics)
    async with EngineLog("engine_log.db") as log:
        await log.flush()


async def logs(log: EngineLog, now: datetime) -> None:
    """The log functions take their columns, each with its type."""
    await log.log_steps(step_name="resample", recording_id=1, dt_step_called=now)
    await log.log_audio_frame_metadata(recording_id=1, audio_frame_no=2, yn_run_fft=True)
    await log.log_audio_frame_metadata(recording_id=1, audio_frame_no=2, yn_run_fft="Y", dt_start_fft=None)
    await log.log_websocket_connection(client_port=8080, client_headers={"Host": "engine"})
    await log.log_process_registry(cpu_percent=1.5, memory_usage_mb=100, active_tasks=["a"])
    await log.log_resource_usage(cpu_percent=12, disk_io_total_bytes=2**40, thread_count=52)
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


@logged
def plain(recording_id: int, *, frame_no: int = 1) -> str:
    """Be a plain function."""
    return ""


@logged(start=False)
async def coroutine(recording_id: int) -> str:
    """Be an asynchronous function."""
    return ""


@logged
def generator(end: int) -> Generator[int, str, bytes]:
    """Be a generator."""
    yield end
    return b""


@logged
async def async_generator(end: int) -> AsyncGenerator[int, str]:
    """Be an asynchronous generator."""
    yield end


@logged(start=False)
async def async_iterator(end: int) -> AsyncIterator[int]:
    """Be an asynchronous generator that says less of itself."""
    yield end


@overload
def overloaded(value: int) -> int: ...
@overload
def overloaded(value: str) -> str: ...
@logged
def overloaded(value: int | str) -> int | str:
    """Be two functions."""
    return value


class Analyser:
    """Has methods of all kinds."""

    @logged
    async def method(self, frame_no: int) -> str:
        """Be a method."""
        return ""

    @logged
    @classmethod
    def outside(cls, frame_no: int) -> str:
        """Be a class method."""
        return ""

    @classmethod
    @logged
    def inside(cls, frame_no: int) -> str:
        """Be one, decorated inside."""
        return ""

    @logged(start=False)
    @staticmethod
    def static(frame_no: int) -> str:
        """Be a static method."""
        return ""


async def decorates(analyser: Analyser) -> None:
    """A logged function has the signature that it has without."""
    assert_type(plain(1, frame_no=2), str)
    assert_type(await coroutine(recording_id=1), str)
    begun: Coroutine[Any, Any, str] = coroutine(1)
    assert_type(await begun, str)
    assert_type(generator(1), Generator[int, str, bytes])
    assert_type(async_generator(1), AsyncGenerator[int, str])
    assert_type(async_iterator(1), AsyncIterator[int])
    assert_type(overloaded(1), int)
    assert_type(overloaded(""), str)
    assert_type(await analyser.method(1), str)
    assert_type(analyser.outside(1), str)
    assert_type(Analyser.inside(1), str)
    assert_type(Analyser.static(1), str)
    wrapped: Callable[[int], Coroutine[Any, Any, str]] = logged(coroutine, start=False)
    assert_type(await wrapped(1), str)


async def is_told_of_wrong_calls(analyser: Analyser) -> None:
    """So a wrong call of it is an error, as is decorating what can't be called."""
    plain("1")  # type: ignore[arg-type]
    plain(1, frame=2)  # type: ignore[call-arg]
    await coroutine()  # type: ignore[call-arg]
    await analyser.method("1")  # type: ignore[arg-type]
    analyser.outside("1")  # type: ignore[arg-type]
    Analyser.static()  # type: ignore[call-arg]
    logged(5)  # type: ignore[call-overload]
    logged(start="no")  # type: ignore[call-overload]


async def takes_steps(log: EngineLog) -> None:
    """A step is for both kinds of `with`; a handler takes a log."""
    async with log.step("resample") as step:
        assert_type(step, Step)
    with log.step("resample"):
        pass
    log.step(1)  # type: ignore[arg-type]
    logging.getLogger().addHandler(LogHandler(log, level=logging.INFO))
    LogHandler("engine_log.db")  # type: ignore[arg-type]
