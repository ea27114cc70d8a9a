"""
Log what functions do: that they start, how long they take, how they end.

The wrappers do nothing but call and log, in the task, the thread and the context of the caller.
Of an asynchronous function, the log may give way to other tasks before the body begins, and there only:
after it, a cancellation could lose what it returns.

"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
from time import perf_counter
from typing import Any, ParamSpec, TypeVar, cast, overload

from .arguments import ArgumentReader
from .context import Bound, bound
from .enginelog import EngineLog, log_in_reach
from .failures import ending, log_failure
from .places import Place, whole
from .tables import FUNCTIONS

__all__ = ["logged"]

P = ParamSpec("P")
R = TypeVar("R")
Y = TypeVar("Y")
S = TypeVar("S")

# Whatever it is, it comes back as it went in: also methods, overloads, generics.
F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, Any, Any] | staticmethod[Any, Any]")


@overload
def logged(function: F, /, *, start: bool = True) -> F: ...


@overload
def logged(*, start: bool = True) -> Callable[[F], F]: ...


def logged(function: F | None = None, /, *, start: bool = True) -> F | Callable[[F], F]:
    """
    Log the calls of a function to the log that is open: its start, its end, its failure.

    ::

        @logged
        async def analyse(recording_id: int, frame_no: int) -> None: ...

    A call has two rows in ENGINE_DB_LOG_FUNCTIONS. One when its body starts; one when it ended
    (``"End (0.071s)"``), was cancelled (``"Cancelled (0.071s)"``), was closed before its end, as a generator
    may be (``"Closed (0.071s)"``), or failed (``"Error: ValueError: boom"``). What fails has a row in
    ENGINE_DB_LOG_FUNCTION_ERROR, too: one, however many logged functions the exception leaves.

    For functions, methods, class methods and static methods; plain, asynchronous, generators and
    asynchronous generators, whose bodies start with the first item and end after the last. The function
    behaves as it does without, but that wrong arguments are told when a body would start. If no log is
    open, it just runs; no fault of the log ever reaches it.

    Recording, frame, chunk and connection of the rows are what arguments of these names say
    (:class:`~async_enginelog.arguments.ArgumentReader`), else what is bound
    (:class:`~async_enginelog.bind`).

    Args:
        function: What to log.
        start: Whether to log the start; without, a call has one row.

    Raises:
        TypeError: If it is a class, or nothing that can be called.

    """
    if function is None:
        return lambda function: logged(function, start=start)
    # The order of decorators doesn't matter.
    if isinstance(function, classmethod | staticmethod):
        return cast(F, type(function)(logged(function.__func__, start=start)))
    if isinstance(function, type):
        raise TypeError(f"logged() was given the class {function.__qualname__}; decorate its methods")
    if not callable(function):
        raise TypeError(f"logged() was given {function!r}, which can't be called; decorate a function")
    return cast(F, _wrapped(function, _Function(function, start)))


def _wrapped(function: Callable[..., Any], known: _Function) -> Callable[..., Any]:
    # What an object does when it is called, its class knows.
    body = function if inspect.isroutine(whole(function)) else type(function).__call__
    if inspect.isasyncgenfunction(body):
        return _async_generator(function, known)
    if inspect.iscoroutinefunction(body):
        return _coroutine(function, known)
    if inspect.isgeneratorfunction(body):
        wrapper = _generator(function, known)
        is_awaitable = whole(body).__code__.co_flags & inspect.CO_ITERABLE_COROUTINE
        return types.coroutine(wrapper) if is_awaitable else wrapper
    return _plain(function, known)


# -- the wrappers ---------------------------------------------------------------------------------


def _plain(function: Callable[P, R], known: _Function) -> Callable[P, R]:
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with known.called(args, kwargs) as call:
            if call.logs_start:
                call.start()
            return function(*args, **kwargs)

    return wrapper


def _coroutine(function: Callable[P, Awaitable[R]], known: _Function) -> Callable[P, Coroutine[Any, Any, R]]:
    @functools.wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with known.called(args, kwargs) as call:
            if call.logs_start:
                await call.start_and_give_way()
            return await function(*args, **kwargs)

    return wrapper


def _generator(
    function: Callable[P, Generator[Y, S, R]], known: _Function
) -> Callable[P, Generator[Y, S, R]]:
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Generator[Y, S, R]:
        with known.called(args, kwargs) as call:
            if call.logs_start:
                call.start()
            generator = function(*args, **kwargs)
            sent: Any = None
            thrown: BaseException | None = None
            # Not `yield from`: it closes where a generator is thrown a GeneratorExit, and forgets what
            # one returns when it is closed.
            while True:
                try:
                    item = generator.send(sent) if thrown is None else generator.throw(thrown)
                except StopIteration as end:
                    call.was_closed = isinstance(thrown, GeneratorExit)
                    return cast(R, end.value)
                finally:
                    # An exception refers to this frame; this frame mustn't refer to it.
                    sent = thrown = None
                try:
                    sent = yield item
                except BaseException as error:
                    # Thrown in outside of this block: in here, it would become the context of others.
                    thrown = error

    return wrapper


def _async_generator(
    function: Callable[P, AsyncGenerator[Y, S]], known: _Function
) -> Callable[P, AsyncGenerator[Y, S]]:
    @functools.wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[Y, S]:
        with known.called(args, kwargs) as call:
            if call.logs_start:
                call.start()
            generator = function(*args, **kwargs)
            following = _first_item(generator)
            thrown: BaseException | None = None
            while True:
                try:
                    item = await following
                except StopAsyncIteration:
                    call.was_closed = isinstance(thrown, GeneratorExit)
                    return
                finally:
                    # As above; and what was awaited refers to what was thrown.
                    del following
                    thrown = None
                sent: Any = None
                try:
                    sent = yield item
                except BaseException as error:
                    thrown = error
                following = generator.asend(sent) if thrown is None else generator.athrow(thrown)

    return wrapper


def _first_item(generator: AsyncGenerator[Y, Any]) -> Awaitable[Y]:
    """
    Begin a generator of which the event loop isn't told; it knows the wrapper.

    A loop that is shut down closes all generators it knows, at the same time: it would close the inner one
    while the outer one does.

    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return generator.asend(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)


# -- what they log --------------------------------------------------------------------------------


class _Function:
    """What is known of a function before it is called."""

    __slots__ = ("_arguments", "place", "start")

    def __init__(self, function: Callable[..., Any], start: bool) -> None:
        self.place = Place.of_function(function)
        self.start = start
        self._arguments = ArgumentReader(function)

    def called(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> _Call:
        """Return a call to log; one that logs nothing if no log is open."""
        try:
            log = log_in_reach()
            if log is not None:
                return _Call(log, self, self._arguments.read(args, kwargs, bound()))
        except Exception:
            # An argument with somebody's own idea of a number; a recursion at its limit.
            return _UNLOGGED
        return _UNLOGGED


class _Call:
    """
    One call, for the time of its body. No fault of the log leaves it.

    Attributes:
        logs_start: Whether its start is to be logged.
        was_closed: Whether its body ended because it was closed, though no exception says so.

    """

    __slots__ = ("_about", "_began", "_facts", "_log", "_place", "logs_start", "was_closed")

    def __init__(self, log: EngineLog, function: _Function, about: Bound) -> None:
        self._log = log
        self._place = place = function.place
        self._about = about
        # What both rows have in common.
        self._facts = {
            "python_function_name": place.function,
            "python_file_name": place.file,
            "recording_id": about.recording_id,
            "audio_chunk_no": about.audio_chunk_no,
            "frame_no": about.frame_no,
            "websocket_connection_id": about.websocket_connection_id,
        }
        self.logs_start = function.start
        self.was_closed = False
        self._began = perf_counter()

    def start(self) -> None:
        """Log that the body starts."""
        try:
            self._log.offer(FUNCTIONS, self._row("Start"))
        except Exception:  # an offer never raises, unless there is no room left in a recursion
            return
        self._began = perf_counter()

    async def start_and_give_way(self) -> None:
        """Do the same, and let the writer catch up if it is far behind."""
        try:
            await self._log.log_function_execution(**self._row("Start"))
        except Exception:
            return
        self._began = perf_counter()

    def __enter__(self) -> _Call:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        seconds = perf_counter() - self._began
        try:
            how = ending(GeneratorExit() if self.was_closed else error, seconds)
            self._log.offer(FUNCTIONS, self._row(how))
            if error is not None:
                log_failure(self._log, error, self._place, self._about)
        except Exception:
            return

    def _row(self, what: str) -> dict[str, Any]:
        return {**self._facts, "start_stop_or_error_msg": what}


class _Unlogged(_Call):
    """Calls of which nothing is logged."""

    __slots__ = ()

    def __init__(self) -> None:
        self.logs_start = False

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        pass


_UNLOGGED = _Unlogged()
