"""Named steps inside a function: a row when one begins, a row when it ends, a number for both."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from contextlib import suppress
from itertools import count
from time import perf_counter
from typing import Any, Protocol, Self

from .context import Bound, bound
from .failures import ErrorLog, ending, log_failure
from .places import Place
from .tables import STEPS, Table
from .values import fit_text

__all__ = ["Step", "StepLog", "StepNumbers"]

# So many recordings have their numbers remembered; that of a recording of long ago begins again at 1.
MAX_RECORDINGS = 1000
# So much of a name is kept in the row of the end, for there to be room for how it ended.
NAME_WIDTH = 70


class StepLog(ErrorLog, Protocol):
    """What is needed of a log."""

    def offer(self, table: Table, columns: dict[str, Any]) -> None:
        """Log a row, and never raise."""


class StepNumbers:
    """Number the steps of each recording from 1, and those without a recording. Any thread may ask."""

    def __init__(self) -> None:
        self._without_recording = count(1)
        # The last number of each recording, that of the recording asked for last at the end.
        self._last: OrderedDict[int, int] = OrderedDict()
        # Reentrant: while it is held, a generator may be thrown away, and log that it closes.
        self._lock = threading.RLock()

    def next(self, recording_id: int | None) -> int:
        """Return the next number of a recording, or of the run if there is none."""
        if recording_id is None:
            return next(self._without_recording)
        with self._lock:
            number = self._last[recording_id] = self._last.get(recording_id, 0) + 1
            self._last.move_to_end(recording_id)
            if len(self._last) > MAX_RECORDINGS:
                self._last.popitem(last=False)
        return number


class Step:
    """
    A step of the function that calls :meth:`EngineLog.step`, for ``with`` or ``async with``.

    The first row has its name; the second one, of the same STEP_ID, also how it ended, such as
    ``"resample: End (0.071s)"``. An exception passes through, and has its row in
    ENGINE_DB_LOG_FUNCTION_ERROR. Nothing here waits; no fault of the log leaves it.

    """

    def __init__(self, log: StepLog, numbers: StepNumbers, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a step is {name!r}; pass a text")
        self._log = log
        self._numbers = numbers
        self._name = name
        # The caller of EngineLog.step(), which calls this.
        self._place = Place.of_code(sys._getframe(2).f_code)
        self._about = Bound()
        self._number: int | None = None
        self._began = 0.0

    def __enter__(self) -> Self:
        self._about = bound()
        with suppress(Exception):  # an offer never raises, unless there is no room left in a recursion
            self._number = self._numbers.next(self._about.recording_id)
            self._offer(self._name)
        self._began = perf_counter()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        seconds = perf_counter() - self._began
        with suppress(Exception):
            self._offer(f"{fit_text(self._name, NAME_WIDTH)}: {ending(error, seconds)}")
            if error is not None:
                log_failure(self._log, error, self._place, self._about)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.__exit__(kind, error, traceback)

    def _offer(self, name: str) -> None:
        self._log.offer(
            STEPS,
            {
                "step_name": name,
                "python_function_name": self._place.function,
                "python_file_name": self._place.file,
                "recording_id": self._about.recording_id,
                "audio_chunk_no": self._about.audio_chunk_no,
                "frame_no": self._about.frame_no,
                "step_id": self._number,
            },
        )
