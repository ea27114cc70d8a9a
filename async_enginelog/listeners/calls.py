"""Functions of the engine, called so that none can stop or hold up who calls."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from datetime import datetime
from typing import Any, NamedTuple

from ..background import Background
from ..places import Place
from .connections import now

__all__ = ["Call", "Callee", "Calls"]

# A thread that hangs is lost; so many are replaced.
MAX_REPLACED = 64

# How long a task has to end that is cancelled, in seconds, before it counts as one that hangs.
GRACE = 1.0


class Callee(NamedTuple):
    """
    A function of the engine, or an object that can be called.

    Attributes:
        function: The function.
        is_async: Whether it is a coroutine function; others run in threads.
        place: Its name and file.

    """

    function: Callable[..., Any]
    is_async: bool
    place: Place

    @classmethod
    def of(cls, function: Callable[..., Any], name: str) -> Callee:
        """
        Return what is known of a function.

        Raises:
            TypeError: If it can't be called, or is a generator function.

        """
        if not callable(function):
            raise TypeError(f"{name} is {function!r}; pass a function")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{name} is a generator function, which doesn't run when it is called; return a list"
            )
        is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            type(function).__call__
        )
        return cls(function, is_async, Place.of_function(function))


class Calls:
    """
    Call coroutine functions in tasks, and others in threads.

    Args:
        timeout: How long a call may take, in seconds.
        threads: How many functions run in threads at once.

    """

    def __init__(self, timeout: float, threads: int) -> None:
        self.timeout = timeout
        self._threads = Background("enginelog-analyser", threads)
        self._replaced = 0
        # The loop itself doesn't keep tasks from being collected.
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, callee: Callee, *arguments: object) -> Call:
        """Let a function begin, in a copy of the present context."""
        call = Call(self, callee.function, arguments)
        try:
            if callee.is_async:
                call.run_in_task()
            else:
                self._threads.submit(call.run_in_thread)
        except Exception as error:  # the system gives no thread, or somebody's task factory no task
            call.error, call.ended = error, now()
        return call

    def keep(self, task: asyncio.Task[None]) -> None:
        """Keep a task until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._is_done)

    def _is_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # else it would be told that nobody did

    def replace_thread(self) -> None:
        """Have another thread for one that hangs."""
        if self._replaced < MAX_REPLACED:
            self._replaced += 1
            self._threads.add_thread()

    def close(self) -> None:
        """Let the threads end. One that hangs is left behind; it can't keep the process from ending."""
        self._threads.close(0)


class Call:
    """
    A function at work. What it raises is kept, not raised.

    Attributes:
        started: When it really began; :obj:`None` if it didn't.
        ended: When it ended.
        result: What it returned.
        error: What it raised.

    """

    def __init__(self, calls: Calls, function: Callable[..., Any], arguments: tuple[object, ...]) -> None:
        self.started: datetime | None = None
        self.ended: datetime | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self._calls = calls
        self._function = function
        self._arguments = arguments
        self._context = copy_context()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._is_given_up = False
        # Done when it has ended, or was waited for long enough.
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it is still at work, or waits for a thread; also after it was given up."""
        return self.ended is None if self._task is None else not self._task.done()

    def run_in_task(self) -> None:
        """Call a coroutine function."""
        self._start_task(self._await(self._function, *self._arguments))

    def run_in_thread(self) -> None:
        """Call any other function; called in the thread."""
        if not self._is_given_up:
            self._context.run(self._run)
        self.ended = now()
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass

    async def wait(self) -> bool:
        """Return whether it ended in time. If it didn't, or when this is cancelled, it is given up."""
        try:
            has_ended = await self._wait()
            if has_ended and inspect.isawaitable(self.result):
                # A function that does no more than call a coroutine function, such as a lambda.
                self._start_task(self._await(lambda: self.result))
                has_ended = await self._wait()
        except asyncio.CancelledError:
            self._give_up()
            raise
        if not has_ended:
            self._give_up()
            if self._task is not None:
                await asyncio.wait({self._task}, timeout=GRACE)
        return has_ended

    def too_late(self) -> TimeoutError:
        """Return what is to be said of a call that didn't end in time."""
        seconds = f"{self._calls.timeout:g} seconds"
        if self.started is None:
            return TimeoutError(
                f"no thread was free for it within {seconds}: others hang, or there are too few"
            )
        if self._task is None:
            return TimeoutError(f"it takes longer than {seconds}; it isn't called again until it returns")
        return TimeoutError(f"it took longer than {seconds}, and was cancelled")

    def _run(self) -> None:
        self.started = now()
        try:
            self.result = self._function(*self._arguments)
        except BaseException as error:
            self.error = error

    def _start_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        # A copy: the thread may not be quite out of the context.
        try:
            self._task = self._loop.create_task(coroutine, context=self._context.copy())
        except BaseException:
            coroutine.close()
            raise
        self._task.add_done_callback(self._wake)
        self._calls.keep(self._task)

    async def _await(self, function: Callable[..., Awaitable[Any]], *arguments: object) -> None:
        self.started = self.started or now()
        try:
            self.result = await function(*arguments)
        except KeyboardInterrupt:  # not of the function: somebody wants the process to end
            raise
        except BaseException as error:
            self.error = error
        finally:
            self.ended = now()

    async def _wait(self) -> bool:
        if self.is_running:
            self._waiter = self._loop.create_future()
            timer = self._loop.call_later(self._calls.timeout, _finish, self._waiter)
            try:
                await self._waiter
            finally:
                timer.cancel()
        return not self.is_running

    def _wake(self, task: object = None) -> None:
        if self._waiter is not None and not self.is_running:
            _finish(self._waiter)

    def _give_up(self) -> None:
        """Wait for it no longer. A task is cancelled; a thread can't be."""
        self._is_given_up = True
        if self._task is not None:
            self._task.cancel()
        elif self.started is not None and self.ended is None:
            self._calls.replace_thread()


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
