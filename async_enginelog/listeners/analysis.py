"""The engine's analysers at work on the frames of a recording: side by side, each in order."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeAlias, TypeVar

from ..context import bind
from ..framing import Frame
from ..tables import AUDIO_FRAME
from .calls import Call, Callee, Calls

__all__ = ["Analyser", "Analysis", "analysers_by_name"]

R = TypeVar("R")

Analyser: TypeAlias = Callable[[R, Frame], Any]

# The analysers for which the table of frames has columns.
NAMES = tuple(
    column.removeprefix("dt_start_") for column in AUDIO_FRAME.columns if column.startswith("dt_start_")
)

# An analyser without a name of its own: its times are those of the processing as a whole.
UNNAMED = ""


def analysers_by_name(on_frame: Analyser[R] | Mapping[str, Analyser[R]] | None) -> dict[str, Callee]:
    """
    Return the analysers of an engine, of which there may be none, one, or several by name.

    Raises:
        TypeError: If one can't be called.
        ValueError: If the table of frames has no columns for a name.

    """
    if not isinstance(on_frame, Mapping):
        return {} if on_frame is None else {UNNAMED: Callee.of(on_frame, "on_frame")}
    for name in on_frame:
        if name not in NAMES:
            raise ValueError(
                f"there are no columns for an analyser {name!r}; there are for {', '.join(NAMES)}"
            )
    return {name: Callee.of(analyser, f"the analyser {name!r}") for name, analyser in on_frame.items()}


class _Work:
    """A frame, what is to be logged of it, and how many analysers aren't done with it."""

    __slots__ = ("columns", "frame", "left")

    def __init__(self, frame: Frame, left: int) -> None:
        self.frame = frame
        self.columns: dict[str, Any] = {}
        self.left = left

    def note(self, name: str, call: Call, count: int | None) -> None:
        """Add what became of a call."""
        columns = self.columns
        if name:
            columns[f"dt_start_{name}"], columns[f"dt_end_{name}"] = call.started, call.ended
        if f"{name}_record_cnt" in AUDIO_FRAME.columns:
            columns[f"{name}_record_cnt"] = count
        if call.started and call.ended:
            first = columns.get("dt_processing_start", call.started)
            last = columns.get("dt_processing_end", call.ended)
            columns["dt_processing_start"] = min(first, call.started)
            columns["dt_processing_end"] = max(last, call.ended)


def _count_of(result: Any) -> int | None:
    """Return how many records an analyser made: it says a number, or returns what has a length."""
    for count in (operator.index, len):
        try:
            return count(result)
        except Exception:  # noqa: S112  # it may be of any kind, with methods of its own
            continue
    return None


class Analysis(Generic[R]):
    """
    Hand the frames of a recording to each analyser, in order, each at its own pace.

    An analyser that raises gets the next frame all the same. One that doesn't return in
    time is told of, and gets no frame until it does; the others go on.

    Args:
        analysers: Who analyses, by name.
        calls: Who calls them.
        recording: What is handed to them along with each frame.
        recording_id: Its id, bound for them.
        done: Called with each frame that all are done with, and what is to be logged of it.
        failed: Called with an analyser, the frame, and what went wrong.
        max_backlog: How many frames may wait before :meth:`room` does.

    """

    def __init__(
        self,
        analysers: Mapping[str, Callee],
        calls: Calls,
        recording: R,
        recording_id: int,
        *,
        done: Callable[[Frame, dict[str, Any]], None],
        failed: Callable[[Callee, Frame, BaseException], None],
        max_backlog: int,
    ) -> None:
        self.backlog = 0
        self._calls = calls
        self._recording = recording
        self._recording_id = recording_id
        self._done, self._failed = done, failed
        self._max_backlog = max_backlog
        # Set while there is room for more frames.
        self._room = asyncio.Event()
        self._room.set()
        # A queue and a task for each analyser; None ends the task.
        self._queues: list[asyncio.Queue[_Work | None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        for name, analyser in analysers.items():
            queue: asyncio.Queue[_Work | None] = asyncio.Queue()
            work = self._work(name, analyser, queue)
            self._queues.append(queue)
            self._tasks.append(asyncio.create_task(work, name=f"analyser-{name or 'on_frame'}"))

    def put(self, frame: Frame) -> None:
        """Queue a frame; never waits."""
        work = _Work(frame, len(self._queues))
        if not self._queues:
            self._done(frame, work.columns)
            return
        self.backlog += 1
        if self.backlog >= self._max_backlog:
            self._room.clear()
        for queue in self._queues:
            queue.put_nowait(work)

    async def room(self) -> None:
        """Return when there is room for more frames. Cancelling is safe."""
        await self._room.wait()

    async def finish(self) -> None:
        """Return when all frames are done; there must be no more. Cancelling leaves those that wait."""
        self._room.set()  # nobody needs it any more, and those who wait needn't wait for the end
        for queue in self._queues:
            queue.put_nowait(None)
        await asyncio.gather(*self._tasks)

    async def _work(self, name: str, analyser: Callee, queue: asyncio.Queue[_Work | None]) -> None:
        call: Call | None = None
        while (work := await queue.get()) is not None:
            # It hangs in an earlier frame if it is still at work.
            if call is None or not call.is_running:
                call = await self._analyse(name, analyser, work)
            work.left -= 1
            if not work.left:
                self._end(work)

    async def _analyse(self, name: str, analyser: Callee, work: _Work) -> Call:
        """Let an analyser work on a frame."""
        with bind(recording_id=self._recording_id, frame_no=work.frame.number):
            call = self._calls.begin(analyser, self._recording, work.frame)
        fault = call.error if await call.wait() else call.too_late()
        if fault is not None:
            self._failed(analyser, work.frame, fault)
        work.note(name, call, _count_of(call.result) if fault is None else None)
        return call

    def _end(self, work: _Work) -> None:
        self.backlog -= 1
        if self.backlog < self._max_backlog:
            self._room.set()
        self._done(work.frame, work.columns)
