"""What an engine says with :mod:`logging`, as rows of its log."""

from __future__ import annotations

import copy
import logging
import threading
from datetime import UTC, datetime

from .context import bound
from .failures import ErrorLog, check_log, describe, log_failure
from .places import Place
from .tables import STEPS

__all__ = ["LogHandler"]

# What the log itself is made of: rows about rows would have no end.
IGNORED = {"aiosqlite", "async_enginelog", "filelock"}


class LogHandler(logging.Handler):
    """
    Bring the records of :mod:`logging` into an engine's log.

    ::

        logging.getLogger().addHandler(LogHandler(log))

    A record is a row in ENGINE_DB_LOG_STEPS, with the message as STEP_NAME, function, file and time of the
    record, and with what is bound where it is made. One with an exception is a row in
    ENGINE_DB_LOG_FUNCTION_ERROR instead; unless the exception has one already, for instance of a function
    with :func:`~async_enginelog.logged`: then it is a step, too.

    Records may come from any thread. None waits for another, or for a disk; none raises, also if its message
    can't be formatted (then it is brought in as it is), and also after the log is closed (then nothing is
    done). What the log itself says (loggers ``async_enginelog``, ``aiosqlite``, ``filelock``), and what is
    said while a record is brought in, is left out.

    Args:
        log: Where to.
        level: The least level of the records it takes, as of any handler.

    Raises:
        TypeError: If ``log`` isn't a log.
        ValueError: If there is no such level.

    """

    def __init__(self, log: ErrorLog, level: int | str = logging.NOTSET) -> None:
        check_log(log)
        super().__init__(level)
        self._log = log
        # Whether the present thread is inside of here.
        self._inside = threading.local()

    def handle(self, record: logging.LogRecord) -> bool:
        """Bring a record in if the filters let it pass, whatever is wrong with it; tell whether they did."""
        # Without the lock that handlers have: the log takes rows from all threads at once.
        if str(record.name).partition(".")[0] in IGNORED or getattr(self._inside, "yes", False):
            return False
        self._inside.yes = True
        try:
            passed: object = self.filter(record)
            if isinstance(passed, logging.LogRecord):  # a filter may put another in its place
                record = passed
            if passed:
                self.emit(record)
            return bool(passed)
        except Exception:
            # The log is closed, or a filter is wrong. Not handleError(): it would print that for each record
            # from now on, on a standard error that may be a pipe that nobody reads.
            return False
        finally:
            self._inside.yes = False

    def emit(self, record: logging.LogRecord) -> None:
        """
        Make a row of a record.

        Raises:
            LogClosed: If the log isn't open; :meth:`handle` keeps that to itself.

        """
        about, place, message = bound(), Place(record.funcName, record.filename), self._message_of(record)
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if error is not None:
            message = f"{message}: {describe(error)}"
            if log_failure(self._log, error, place, about, message=message):
                return
        self._log.log_row_nowait(
            STEPS.name,
            {
                "step_name": message,
                "python_function_name": place.function,
                "python_file_name": place.file,
                "recording_id": about.recording_id,
                "audio_chunk_no": about.audio_chunk_no,
                "frame_no": about.frame_no,
                "dt_step_called": datetime.fromtimestamp(record.created, UTC),
            },
        )

    def _message_of(self, record: logging.LogRecord) -> str:
        try:
            if record.exc_info:
                # Its traceback has a column of its own, and isn't to be part of the message.
                record = copy.copy(record)
                record.exc_info = record.exc_text = None
            return self.format(record)
        except Exception as error:  # its arguments don't fit, or are somebody's own
            text = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
            return f"{text} ({describe(error)})"
