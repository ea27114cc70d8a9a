"""How something ended, in words; and one row for each exception, however many functions it leaves."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Protocol

from .context import Bound
from .places import Place
from .tables import FUNCTION_ERROR

__all__ = ["ErrorLog", "check_log", "describe", "ending", "log_failure"]

# More of a message doesn't fit into any column.
MAX_MESSAGE = 1000
# The column of a traceback keeps its end, which is at most so many calls.
MAX_FRAMES = 50
# An exception that has more causes and parts than this is told without them: thousands would keep the
# event loop busy for a second.
MAX_EXCEPTIONS = 100

# Says on an exception in which run it got its row. It has to stand on the exception itself: of the
# built-in ones there is no weak reference, and a strong one would keep alive all that they hold.
MARK = "_enginelog_run"


class ErrorLog(Protocol):
    """What is needed of a log."""

    @property
    def run_id(self) -> int:
        """The run of the log."""

    def log_row_nowait(self, table: str, columns: Mapping[str, object]) -> None:
        """Log a row; raise if it can't be."""


def check_log(log: object) -> None:
    """Raise :exc:`TypeError` unless ``log`` is a log: now, and not at the first row."""
    if isinstance(log, type) or not callable(getattr(log, "log_row_nowait", None)):
        raise TypeError(f"log is {log!r}; pass an EngineLog")


def describe(error: BaseException) -> str:
    """Return type and message of an exception, such as ``"ValueError: boom"``."""
    name = type(error).__name__
    try:
        message = str(error)
        return f"{name}: {message[:MAX_MESSAGE]}" if message else name
    except Exception:  # anybody may write a __str__
        return f"{name}: <exception str() failed>"


def ending(error: BaseException | None, seconds: float) -> str:
    """
    Tell how something ended that took so many seconds, such as ``"End (0.071s)"``.

    Args:
        error: The exception it ended with. A cancellation is none that failed, nor is the end of a
            generator that is closed, nor the way in which an iterator says that it has no more.
        seconds: How long it took.

    """
    match error:
        case None | StopIteration() | StopAsyncIteration():
            return f"End ({seconds:.3f}s)"
        case asyncio.CancelledError():
            return f"Cancelled ({seconds:.3f}s)"
        case GeneratorExit():
            return f"Closed ({seconds:.3f}s)"
        case _:
            return f"Error: {describe(error)}"


def _is_failure(error: BaseException) -> bool:
    """Tell whether an exception says that something failed."""
    no_failures = asyncio.CancelledError | GeneratorExit | StopIteration | StopAsyncIteration
    return not isinstance(error, no_failures)


def log_failure(
    log: ErrorLog, error: BaseException, place: Place, about: Bound, *, message: str | None = None
) -> bool:
    """
    Log an exception, and tell whether: not if it isn't a failure, nor if it has its row already.

    So the row is of the innermost function that logs. An exception that is kept and raised again is the
    same one, and has no second row.

    Args:
        log: Where to.
        error: The exception.
        place: Where it was met.
        about: What was worked on.
        message: What is said of it; by default its type and message.

    Raises:
        LogClosed: If the log isn't open.
        RecursionError: If there is no room left to log it, in the depth of a recursion. Then it has no row
            yet, and a function further out can log it.

    """
    if not _is_failure(error) or error.__dict__.get(MARK) == log.run_id:
        return False
    log.log_row_nowait(
        FUNCTION_ERROR.name,
        {
            "python_function_name": place.function,
            "python_file_name": place.file,
            "error_message_text": describe(error) if message is None else message,
            "traceback_text": _traceback_of(error),
            "recording_id": about.recording_id,
            "audio_frame_no": about.frame_no,
            "audio_chunk_no": about.audio_chunk_no,
        },
    )
    error.__dict__[MARK] = log.run_id
    return True


def _traceback_of(error: BaseException) -> str:
    """Return the traceback of an exception as Python prints it, without what no column has room for."""
    try:
        lines = _with_all(error)
    except Exception:  # groups within groups within groups; attributes that are somebody's own
        lines = _alone(error)
    return "".join(lines)


def _with_all(error: BaseException) -> list[str]:
    relatives = sum(1 for _ in islice(_with_relatives(error), MAX_EXCEPTIONS + 1))
    return (
        _alone(error) if relatives > MAX_EXCEPTIONS else traceback.format_exception(error, limit=-MAX_FRAMES)
    )


def _alone(error: BaseException) -> list[str]:
    return [*traceback.format_tb(error.__traceback__, limit=-MAX_FRAMES), describe(error)]


def _with_relatives(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, and those that led to it or are part of it."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += (one.__cause__, one.__context__)
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
