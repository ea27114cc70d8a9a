"""The engine's analysers at work on the frames of a recording: side by side, each in order."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from collections.abc import Callable, Mapping, Sized
from contextvars import copy_context
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from ..background import Background
from ..context import bind
from ..framing import Frame
from ..tables import AUDIO_FRAME
from .connections import now

__all__ = ["NAMES", "Analyser", "Analysers", "Analysis", "Call"]

R = TypeVar("R")

Analyser: TypeAlias = Callable[[R, Frame], Any]

# The analysers for which the table of frames has columns.
NAMES = tuple(
    column.removeprefix("dt_start_") for column in AUDIO_FRAME.columns if column.startswith("dt_start_")
)

# An analyser without a name of its own: its times are those of the processing as a whole.
UNNAMED = ""


class Analysers(Generic[R]):
    """
    The analysers of an engine, and the threads of those that aren't coroutine functions.

    Args:
        on_frame: One analyser, or several by name.
        timeout: How long one may take for a frame, in seconds.
        threads: How many run in threads at once, for all recordings together.

    Raises:
        TypeError: If one can't be called.
        ValueError: If the table of frames has no columns for a name.

    """

    def __init__(
        self, on_frame: Analyser[R] | Mapping[str, Analyser[R]] | None, *, timeout: float, threads: int
    ) -> None:
        self.timeout = timeout
        self._threads = Background("enginelog-analyser", threads)
        if not isinstance(on_frame, Mapping):
            on_frame = {} if on_frame is None else {UNNAMED: on_frame}
        self.by_name: dict[str, Analyser[R]] = dict(on_frame)
        for name, analyser in self.by_name.items():
            if name not in (UNNAMED, *NAMES):
                raise ValueError(
                    f"there are no columns for an analyser {name!r}; there are for {', '.join(NAMES)}"
                )
            if not callable(analyser):
                raise TypeError(f"the analyser {name or 'on_frame'!r} is {analyser!r}; pass a function")

    def call(self, function: Callable[..., Any], *arguments: object) -> Call:
        """Let a function of the engine begin: a coroutine function in a task, others in a thread."""
        return Call(self._threads, function, arguments)

    def close(self) -> None:
        """Let the threads end. One that hangs is left behind; it can't keep the process from ending."""
        self._threads.close(0)


class Call:
    """
    A function of the engine at work.

    Attributes:
        started: When it really began; :obj:`None` if it didn't.
        ended: When it ended.
        future: Its result.

    """

    def __init__(
        self, threads: Background, function: Callable[..., Any], arguments: tuple[object, ...]
    ) -> None:
        self.started: datetime | None = None
        self.ended: datetime | None = None
        self._in_thread: concurrent.futures.Future[Any] | None = None
        self.future: asyncio.Future[Any]
        if _is_coroutine_function(function):
            self.future = asyncio.ensure_future(self._await(function, arguments))
        else:
            run = partial(copy_context().run, self._run, function, arguments)
            self._in_thread = threads.submit(run)
            self.future = asyncio.wrap_future(self._in_thread)

    def _run(self, function: Callable[..., Any], arguments: tuple[object, ...]) -> Any:
        self.started = now()
        try:
            return function(*arguments)
        finally:
            self.ended = now()

    async def _await(self, function: Callable[..., Any], arguments: tuple[object, ...]) -> Any:
        self.started = now()
        try:
            return await function(*arguments)
        finally:
            self.ended = now()

    @property
    def is_running(self) -> bool:
        """Whether it is still at work, also after it was given up."""
        return not (self._in_thread or self.future).done()

    def give_up(self) -> None:
        """Wait for it no longer. A task is cancelled; a thread can't be."""
        self.future.cancel()


def _is_coroutine_function(function: object) -> bool:
    """Tell whether calling a function, or an object, makes a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # its kind matters, not that it is there
    )


class _Work:
    """A frame, what is to be logged of it, and how many analysers aren't done with it."""

    __slots__ = ("columns", "frame", "left")

    def __init__(self, frame: Frame, left: int) -> None:
        self.frame = frame
        self.columns: dict[str, Any] = {}
        self.left = left

    def note(self, name: str, call: Call, result: object) -> None:
        """Add what became of a call."""
        columns = self.columns
        if name:
            columns[f"dt_start_{name}"], columns[f"dt_end_{name}"] = call.started, call.ended
        if f"{name}_record_cnt" in AUDIO_FRAME.columns:
            columns[f"{name}_record_cnt"] = _count_of(result)
        if call.started and call.ended:
            columns["dt_processing_start"] = min(
                columns.get("dt_processing_start", call.started), call.started
            )
            columns["dt_processing_end"] = max(columns.get("dt_processing_end", call.ended), call.ended)


def _count_of(result: object) -> int | None:
    """Return how many records an analyser made: it says a number, or returns them."""
    if isinstance(result, int):
        return int(result)
    return len(result) if isinstance(result, Sized) else None


class Analysis(Generic[R]):
    """
    Hand the frames of a recording to each analyser, in order, each at its own pace.

    An analyser that raises gets the next frame all the same. One that doesn't return in
    time is told of, and gets no frame until it does; the others go on.

    Args:
        analysers: Who analyses.
        recording: What is handed to them along with each frame.
        recording_id: Its id, bound for them.
        done: Called with each frame that all are done with, and what is to be logged of it.
        failed: Called with the name of an analyser, the frame, and what went wrong.
        max_backlog: How many frames may wait before :meth:`room` does.

    """

    def __init__(
        self,
        analysers: Analysers[R],
        recording: R,
        recording_id: int,
        *,
        done: Callable[[Frame, dict[str, Any]], None],
        failed: Callable[[str, Frame, BaseException], None],
        max_backlog: int,
    ) -> None:
        self.backlog = 0
        self._analysers = analysers
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
        for name in analysers.by_name:
            queue: asyncio.Queue[_Work | None] = asyncio.Queue()
            task_name = f"analyser-{name or 'on_frame'}-{recording_id}"
            self._queues.append(queue)
            self._tasks.append(asyncio.create_task(self._work(name, queue), name=task_name))

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
        for queue in self._queues:
            queue.put_nowait(None)
        await asyncio.gather(*self._tasks)

    async def _work(self, name: str, queue: asyncio.Queue[_Work | None]) -> None:
        stuck: Call | None = None
        while (work := await queue.get()) is not None:
            if stuck is None or not stuck.is_running:
                stuck = await self._analyse(name, work)
            work.left -= 1
            if not work.left:
                self._end(work)

    def _end(self, work: _Work) -> None:
        self.backlog -= 1
        if self.backlog < self._max_backlog:
            self._room.set()
        self._done(work.frame, work.columns)

    async def _analyse(self, name: str, work: _Work) -> Call | None:
        """Let an analyser work on a frame; return the call if it doesn't return."""
        with bind(recording_id=self._recording_id, frame_no=work.frame.number):
            call = self._analysers.call(self._analysers.by_name[name], self._recording, work.frame)
        try:
            await asyncio.wait({call.future}, timeout=self._analysers.timeout)
        except asyncio.CancelledError:
            call.give_up()
            raise
        if not call.future.done():
            call.give_up()
            work.note(name, call, None)
            self._failed(name, work.frame, self._timed_out(call))
            return call
        self._note_result(name, work, call)
        return None

    def _note_result(self, name: str, work: _Work, call: Call) -> None:
        result = None
        try:
            result = call.future.result()
            if inspect.isawaitable(result):
                raise TypeError(f"it returned {result!r}; define it with `async def`")
        except BaseException as error:
            self._failed(name, work.frame, error)
        work.note(name, call, result)

    def _timed_out(self, call: Call) -> TimeoutError:
        seconds = f"{self._analysers.timeout:g} seconds"
        if call.started is None:
            return TimeoutError(
                f"no thread was free for it within {seconds}: others hang, or there are too few"
            )
        return TimeoutError(f"it didn't return within {seconds}; it gets no more frames until it does")
