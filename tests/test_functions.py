"""What @logged promises: rows of what functions do, and functions that do what they did before."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import re
import types
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_enginelog import EngineLog, bind
from async_enginelog.functions import logged

from .conftest import Query

RECORDING = 202508290514312002
FILE = "test_functions.py"

Told = Callable[[], Awaitable[list[tuple[str, str]]]]
Errors = Callable[[], Awaitable[list[tuple[str, str]]]]


def timeless(text: str) -> str:
    """Return an ending without the time it took."""
    return re.sub(r"\(\d+\.\d{3}s\)", "(s)", text)


@pytest.fixture
async def log(path: Path) -> AsyncIterator[EngineLog]:
    """Give a log that is open."""
    async with EngineLog(path) as log:
        yield log


@pytest.fixture
def told(log: EngineLog, query: Query) -> Told:
    """Return what was told of functions, in order: names and messages without times."""

    async def read() -> list[tuple[str, str]]:
        await log.flush()
        rows = query(
            "SELECT PYTHON_FUNCTION_NAME, START_STOP_OR_ERROR_MSG "
            "FROM ENGINE_DB_LOG_FUNCTIONS ORDER BY LOG_SEQ"
        )
        return [(name.rpartition(".")[2], timeless(message)) for name, message in rows]

    return read


@pytest.fixture
def errors(log: EngineLog, query: Query) -> Errors:
    """Return the functions and messages of the errors, in order."""

    async def read() -> list[tuple[str, str]]:
        await log.flush()
        rows = query(
            "SELECT PYTHON_FUNCTION_NAME, ERROR_MESSAGE_TEXT "
            "FROM ENGINE_DB_LOG_FUNCTION_ERROR ORDER BY LOG_SEQ"
        )
        return [(name.rpartition(".")[2], message) for name, message in rows]

    return read


def started_and(name: str, ending: str) -> list[tuple[str, str]]:
    """Return the two rows of a call."""
    return [(name, "Start"), (name, ending)]


@logged
def double(value: int) -> int:
    """Return twice the value."""
    return 2 * value


@logged
async def double_later(value: int) -> int:
    """Return twice the value, a turn later."""
    await asyncio.sleep(0)
    return 2 * value


@logged
def count(end: int) -> Generator[int, None, str]:
    """Count up to the end."""
    yield from range(end)
    return "done"


@logged
async def count_later(end: int) -> AsyncGenerator[int, None]:
    """Count up to the end, with a turn between."""
    for number in range(end):
        await asyncio.sleep(0)
        yield number


class TestCalls:
    async def test_a_plain_function(self, log: EngineLog, told: Told) -> None:
        """A call has a row when it starts and one when it ended; the result is the function's."""
        assert double(3) == 6
        assert await told() == started_and("double", "End (s)")

    async def test_an_async_function(self, log: EngineLog, told: Told) -> None:
        """So has the call of an asynchronous function, from its first to its last moment."""
        assert await double_later(3) == 6
        assert await told() == started_and("double_later", "End (s)")

    async def test_without_start(self, log: EngineLog, told: Told) -> None:
        """Without the start, there is one row."""

        @logged(start=False)
        def quick() -> int:
            return 1

        @logged(start=False)
        async def quick_later() -> int:
            return 2

        @logged(start=False)
        def items() -> Generator[int, None, None]:
            yield 3

        @logged(start=False)
        async def items_later() -> AsyncGenerator[int, None]:
            yield 4

        numbers = [quick(), await quick_later(), *items(), *[item async for item in items_later()]]
        assert numbers == [1, 2, 3, 4]
        names = ["quick", "quick_later", "items", "items_later"]
        assert await told() == [(name, "End (s)") for name in names]

    async def test_what_a_row_says(self, log: EngineLog, query: Query) -> None:
        """A row has function and file, what is worked on, when it was, and how long that took."""

        class Engine:
            @logged
            async def analyse(self, recording: str, *, FRAME_NO: int, **columns: int) -> None:  # noqa: N803
                await asyncio.sleep(0.02)

        with bind(websocket_connection_id=5, frame_no=1):
            await Engine().analyse(str(RECORDING), FRAME_NO=7, chunk=2)
        await log.flush()
        start, end = query(
            "SELECT PYTHON_FUNCTION_NAME, PYTHON_FILE_NAME, RECORDING_ID, AUDIO_CHUNK_NO, FRAME_NO, "
            "WEBSOCKET_CONNECTION_ID, START_STOP_OR_ERROR_MSG, DT_FUNCTION_MESSAGE_QUEUED "
            "FROM ENGINE_DB_LOG_FUNCTIONS ORDER BY LOG_SEQ"
        )
        name = "TestCalls.test_what_a_row_says.Engine.analyse"
        assert start[:7] == (name, FILE, RECORDING, 2, 7, 5, "Start")
        assert end[:6] == start[:6]
        assert 0.02 <= float(re.fullmatch(r"End \((\d\.\d{3})s\)", end[6])[1]) < 5  # type: ignore[index]
        assert start[7] < end[7]

    async def test_a_thread_logs_too(self, log: EngineLog, told: Told, query: Query) -> None:
        """In a thread, where no event loop runs, a call is logged with what is bound."""
        with bind(recording_id=RECORDING):
            assert await asyncio.to_thread(double, 3) == 6
        assert await told() == started_and("double", "End (s)")
        assert query("SELECT DISTINCT RECORDING_ID FROM ENGINE_DB_LOG_FUNCTIONS") == [(RECORDING,)]

    async def test_calls_side_by_side(self, log: EngineLog, told: Told) -> None:
        """Calls of several tasks don't get in each other's way."""
        assert await asyncio.gather(*map(double_later, range(5))) == [0, 2, 4, 6, 8]
        rows = await told()
        assert sorted(rows) == sorted(5 * started_and("double_later", "End (s)"))

    @pytest.mark.parametrize("is_open", [False, True])
    async def test_without_a_log(self, path: Path, is_open: bool) -> None:
        """Before a log is open, and after it is closed, functions just run."""
        if is_open:
            async with EngineLog(path):
                pass
        assert double(3) == await double_later(3) == 6
        assert list(count(2)) == [item async for item in count_later(2)] == [0, 1]
        with pytest.raises(TypeError, match="unsupported operand"):
            double(None)  # type: ignore[arg-type]
        assert path.exists() is is_open

    async def test_a_log_that_closes_under_a_call(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A function that outlives the log returns; that its row is missing is said, once."""

        @logged
        async def outlive(go: asyncio.Event) -> int:
            await go.wait()
            return 1

        go = asyncio.Event()
        async with EngineLog(path) as log:
            task = asyncio.create_task(outlive(go))
            while not log.statistics().accepted:
                await asyncio.sleep(0)
        go.set()
        assert await task == 1
        async with asyncio.timeout(5):
            while "isn't logged: this EngineLog is closed" not in caplog.text:
                await asyncio.sleep(0.01)


class TestErrors:
    async def test_an_error_has_a_row_in_both_tables(self, log: EngineLog, told: Told, query: Query) -> None:
        """The call says with what it ended; the exception has a row with its traceback, and goes on."""

        @logged
        def fail(recording_id: int, frame_no: int, chunk: int) -> None:
            raise ValueError("boom")

        with pytest.raises(ValueError, match="boom"):
            fail(RECORDING, 7, 2)
        assert await told() == started_and("fail", "Error: ValueError: boom")
        [(traceback, *columns)] = query(
            "SELECT TRACEBACK_TEXT, ERROR_MESSAGE_TEXT, PYTHON_FUNCTION_NAME, PYTHON_FILE_NAME, "
            "RECORDING_ID, AUDIO_FRAME_NO, AUDIO_CHUNK_NO FROM ENGINE_DB_LOG_FUNCTION_ERROR"
        )
        name = "TestErrors.test_an_error_has_a_row_in_both_tables.fail"
        assert columns == ["ValueError: boom", name, FILE, RECORDING, 7, 2]
        assert traceback.endswith('    raise ValueError("boom")\nValueError: boom\n')

    async def test_one_exception_has_one_row(self, log: EngineLog, told: Told, errors: Errors) -> None:
        """Each function it leaves says so; the row of the exception is that of the innermost."""

        @logged
        def inner() -> None:
            raise ValueError("boom")

        @logged
        def items() -> Generator[int, None, None]:
            yield 1
            inner()

        @logged
        async def items_later() -> AsyncGenerator[int, None]:
            for item in items():
                yield item

        @logged
        async def outer() -> None:
            async for _ in items_later():
                pass

        with pytest.raises(ValueError, match="boom"):
            await asyncio.create_task(outer())
        endings = (await told())[4:]
        assert endings == [
            (name, "Error: ValueError: boom") for name in ("inner", "items", "items_later", "outer")
        ]
        assert await errors() == [("inner", "ValueError: boom")]

    async def test_another_exception_has_another_row(self, log: EngineLog, errors: Errors) -> None:
        """One that is raised instead, or later, is another."""

        @logged
        def inner() -> None:
            raise ValueError("boom")

        @logged
        def outer() -> None:
            try:
                inner()
            except ValueError as error:
                raise KeyError("frame") from error

        for _ in range(2):
            with pytest.raises(KeyError):
                outer()
        rows = [("inner", "ValueError: boom"), ("outer", "KeyError: 'frame'")]
        assert await errors() == rows + rows

    async def test_a_cancellation_is_no_error(self, log: EngineLog, told: Told, errors: Errors) -> None:
        """A task that is cancelled says so in each of its functions, and nothing is an error."""

        @logged
        async def wait() -> None:
            await asyncio.Event().wait()

        @logged
        async def outer() -> None:
            await wait()

        task = asyncio.create_task(outer())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await told())[2:] == [("wait", "Cancelled (s)"), ("outer", "Cancelled (s)")]
        assert await errors() == []

    async def test_a_timeout_is_an_error_where_it_is_one(
        self, log: EngineLog, told: Told, errors: Errors
    ) -> None:
        """Inside of a timeout there is a cancellation, outside an error."""

        @logged
        async def wait() -> None:
            await asyncio.Event().wait()

        @logged
        async def limited() -> None:
            async with asyncio.timeout(0):
                await wait()

        with pytest.raises(TimeoutError):
            await limited()
        assert (await told())[2:] == [("wait", "Cancelled (s)"), ("limited", "Error: TimeoutError")]
        assert await errors() == [("limited", "TimeoutError")]

    async def test_the_end_of_an_iterator_is_no_error(
        self, log: EngineLog, told: Told, errors: Errors
    ) -> None:
        """A method that says there are no more items ended well."""

        class Items:
            @logged(start=False)
            def __next__(self) -> int:
                raise StopIteration

            @logged(start=False)
            async def __anext__(self) -> int:
                raise StopAsyncIteration

        with pytest.raises(StopIteration):
            next(Items())
        with pytest.raises(StopAsyncIteration):
            await anext(Items())
        assert await told() == [("__next__", "End (s)"), ("__anext__", "End (s)")]
        assert await errors() == []

    async def test_an_exception_that_can_not_speak(self, log: EngineLog, told: Told, errors: Errors) -> None:
        """An exception whose __str__ fails goes on as it is, and has its rows."""

        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no")

        @logged
        def fail() -> None:
            raise Mute

        with pytest.raises(Mute):
            fail()
        assert (await told())[1] == ("fail", "Error: Mute: <exception str() failed>")
        assert await errors() == [("fail", "Mute: <exception str() failed>")]

    async def test_groups_and_their_parts(self, log: EngineLog, errors: Errors) -> None:
        """A group is an exception of its own; its parts have their rows where they were raised."""

        @logged
        async def fail(frame_no: int) -> None:
            raise ValueError(frame_no)

        @logged
        async def all_at_once() -> None:
            async with asyncio.TaskGroup() as group:
                for frame_no in range(2):
                    group.create_task(fail(frame_no))

        with pytest.raises(ExceptionGroup):
            await all_at_once()
        assert await errors() == [
            ("fail", "ValueError: 0"),
            ("fail", "ValueError: 1"),
            ("all_at_once", "ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions)"),
        ]

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    async def test_what_ends_the_program_is_told(
        self, log: EngineLog, told: Told, kind: type[BaseException]
    ) -> None:
        """An interrupt goes on, too, and the call says that it ended with it."""

        @logged
        def interrupted() -> None:
            raise kind

        with pytest.raises(kind):
            interrupted()
        assert (await told())[1] == ("interrupted", f"Error: {kind.__name__}")

    async def test_a_recursion_without_end(self, log: EngineLog, told: Told, errors: Errors) -> None:
        """At the limit of recursion the function fails as it does without, once, and the log goes on."""

        @logged
        def descend() -> None:
            descend()

        @logged
        async def descend_later() -> None:
            await descend_later()

        with pytest.raises(RecursionError):
            descend()
        with pytest.raises(RecursionError):
            await descend_later()
        names = [name for name, _ in await errors()]
        assert names == ["descend", "descend_later"]
        assert double(3) == 6
        assert (await told())[-2:] == started_and("double", "End (s)")

    async def test_at_any_depth(self, log: EngineLog) -> None:
        """However near the limit is, it is the exception of the function that arrives, or the limit's."""

        @logged
        def fail() -> None:
            raise ValueError("boom")

        def at_depth(depth: int) -> None:
            if depth:
                at_depth(depth - 1)
            else:
                fail()

        arrived = []
        for depth in range(800, 1000):
            try:
                at_depth(depth)
            except (ValueError, RecursionError) as error:
                arrived.append(type(error))
        assert len(arrived) == 200
        assert arrived == sorted(arrived, key=[ValueError, RecursionError].index)


class TestGenerators:
    async def test_from_the_first_to_the_last_item(self, log: EngineLog, told: Told) -> None:
        """A generator starts when its body does, and ends when that ends: not when it is made."""
        generator = count(2)
        assert await told() == []
        assert next(generator) == 0
        assert await told() == [("count", "Start")]
        assert next(generator) == 1
        with pytest.raises(StopIteration) as stop:
            next(generator)
        assert stop.value.value == "done"
        assert await told() == started_and("count", "End (s)")

    async def test_async_from_the_first_to_the_last_item(self, log: EngineLog, told: Told) -> None:
        """So does an asynchronous generator."""
        generator = count_later(1)
        assert await told() == []
        assert await anext(generator) == 0
        assert await told() == [("count_later", "Start")]
        with pytest.raises(StopAsyncIteration):
            await anext(generator)
        assert await told() == started_and("count_later", "End (s)")

    async def test_closed_before_the_end(self, log: EngineLog, told: Told, errors: Errors) -> None:
        """One that is closed says so, and that is no error."""
        generator, later = count(2), count_later(2)
        next(generator)
        generator.close()
        await anext(later)
        await later.aclose()
        assert await told() == [
            *started_and("count", "Closed (s)"),
            *started_and("count_later", "Closed (s)"),
        ]
        assert await errors() == []

    async def test_closed_and_content(self, log: EngineLog, told: Told) -> None:
        """One that ends by itself when it is closed was closed, too."""

        @logged
        def items() -> Generator[int, None, None]:
            try:
                yield 1
            except GeneratorExit:
                return

        @logged
        async def items_later() -> AsyncGenerator[int, None]:
            try:
                yield 1
            except GeneratorExit:
                return

        generator, later = items(), items_later()
        next(generator)
        generator.close()
        await anext(later)
        await later.aclose()
        assert [row[1] for row in await told()] == ["Start", "Closed (s)", "Start", "Closed (s)"]

    async def test_closed_in_vain(self, log: EngineLog, told: Told) -> None:
        """One that stays when it is closed is complained of as without; it ends when it is thrown away."""

        @logged
        async def items_later() -> AsyncGenerator[int, None]:
            try:
                yield 1
            except GeneratorExit:
                yield 2

        later = items_later()
        await anext(later)
        with pytest.raises(RuntimeError, match="async generator ignored GeneratorExit"):
            await later.aclose()
        assert await told() == [("items_later", "Start")]
        del later
        gc.collect()
        assert await told() == started_and("items_later", "Closed (s)")

    async def test_abandoned(self, log: EngineLog, told: Told) -> None:
        """One that is forgotten before its end is closed by Python, or by the event loop; it says so."""
        next(count(2))
        async for _ in count_later(2):
            break
        gc.collect()
        for _ in range(3):  # the loop closes it in a task
            await asyncio.sleep(0)
        assert sorted(await told()) == sorted(
            [*started_and("count", "Closed (s)"), *started_and("count_later", "Closed (s)")]
        )

    async def test_never_begun(self, log: EngineLog, told: Told) -> None:
        """One whose body never started has no rows."""
        count(2).close()
        await count_later(2).aclose()
        with pytest.raises(ValueError, match="before"):
            count(2).throw(ValueError("before"))
        assert await told() == []

    def test_the_loop_closes_one_generator(
        self, path: Path, query: Query, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A loop that is shut down closes it from outside to inside, and has nothing to complain of."""
        closed = []

        @logged
        async def slow() -> AsyncGenerator[int, None]:
            try:
                yield 1
            finally:
                await asyncio.sleep(0)
                closed.append(True)

        async def leave_open() -> None:
            async with EngineLog(path):
                generators = [slow() for _ in range(5)]
                for generator in generators:
                    await anext(generator)
                await asyncio.get_running_loop().shutdown_asyncgens()

        asyncio.run(leave_open())
        assert closed == [True] * 5
        assert caplog.messages == []
        endings = query("SELECT START_STOP_OR_ERROR_MSG FROM ENGINE_DB_LOG_FUNCTIONS ORDER BY LOG_SEQ")[5:]
        assert [timeless(message) for (message,) in endings] == ["Closed (s)"] * 5

    async def test_a_context_manager(self, log: EngineLog, told: Told) -> None:
        """What contextlib makes of it lasts as long as its block."""

        @asynccontextmanager
        @logged
        async def block() -> AsyncGenerator[int, None]:
            yield 1

        async with block() as number:
            assert number == 1
            assert await told() == [("block", "Start")]
        assert await told() == started_and("block", "End (s)")

    @pytest.mark.parametrize("kind", ["plain", "async"])
    async def test_exceptions_do_not_stay(self, log: EngineLog, kind: str) -> None:
        """An exception that passed through is freed at once, with all it holds: nothing here refers to it."""

        class Audio:
            pass

        @logged
        def items() -> Generator[int, None, None]:
            yield 1

        @logged
        async def items_later() -> AsyncGenerator[int, None]:
            yield 1

        async def throw(audio: Audio) -> None:
            if kind == "plain":
                generator = items()
                next(generator)
                generator.throw(ValueError(audio))
            else:
                later = items_later()
                await anext(later)
                await later.athrow(ValueError(audio))

        audio = Audio()
        freed = weakref.ref(audio)
        gc.disable()
        try:
            with pytest.raises(ValueError, match="Audio"):
                await throw(audio)
            del audio
            assert freed() is None
        finally:
            gc.enable()


class TestWhatItTakes:
    async def test_methods(self, log: EngineLog, told: Told) -> None:
        """Methods, class methods and static methods are logged, whichever decorator comes first."""

        class Engine:
            @logged
            def method(self, frame_no: int) -> tuple[object, int]:
                return self, frame_no

            @logged
            @classmethod
            def outside(cls, frame_no: int) -> tuple[object, int]:
                return cls, frame_no

            @classmethod
            @logged
            def inside(cls, frame_no: int) -> tuple[object, int]:
                return cls, frame_no

            @logged(start=False)
            @staticmethod
            def static(frame_no: int) -> tuple[object, int]:
                return None, frame_no

            @staticmethod
            @logged
            async def static_inside(frame_no: int) -> tuple[object, int]:
                return None, frame_no

        engine = Engine()
        assert engine.method(7) == (engine, 7)
        assert engine.outside(7) == Engine.outside(7) == engine.inside(7) == (Engine, 7)
        assert engine.static(7) == Engine.static(7) == await engine.static_inside(7) == (None, 7)
        assert await told() == [
            *started_and("method", "End (s)"),
            *2 * started_and("outside", "End (s)"),
            *started_and("inside", "End (s)"),
            *2 * [("static", "End (s)")],
            *started_and("static_inside", "End (s)"),
        ]

    async def test_arguments_of_methods(self, log: EngineLog, query: Query) -> None:
        """Positions are right whatever Python adds in front."""

        class Engine:
            @logged(start=False)
            def method(self, frame_no: int) -> None: ...

            @logged(start=False)
            @classmethod
            def klass(cls, frame_no: int) -> None: ...

            @logged(start=False)
            @staticmethod
            def static(frame_no: int) -> None: ...

        Engine().method(1)
        Engine().klass(2)
        Engine().static(3)
        logged(Engine().method, start=False)(4)
        await log.flush()
        frames = query("SELECT FRAME_NO FROM ENGINE_DB_LOG_FUNCTIONS ORDER BY LOG_SEQ")
        assert frames == [(1,), (2,), (3,), (4,), (4,)]

    async def test_objects_that_can_be_called(self, log: EngineLog, told: Told) -> None:
        """A partial call and an object with a __call__ are logged for what they are."""

        class Analyser:
            async def __call__(self) -> int:
                await asyncio.sleep(0)
                return 1

        class Counter:
            def __call__(self) -> int:
                return 1

        coroutine = logged(Analyser())()
        assert logged(functools.partial(double, 3))() == 6
        assert logged(Counter())() == logged(len)([1]) == await coroutine == 1
        names = [name for name, _ in await told()]
        assert names == ["double"] * 4 + ["Counter"] * 2 + ["len"] * 2 + ["Analyser"] * 2

    async def test_generators_that_can_be_awaited(self, log: EngineLog, told: Told) -> None:
        """What types.coroutine() made of a generator can still be awaited."""

        @logged
        @types.coroutine
        def turn() -> Generator[None, None, int]:
            yield
            return 1

        assert await turn() == 1
        assert await told() == started_and("turn", "End (s)")

    def test_it_looks_as_before(self) -> None:
        """Name, docstring, signature and kind of a function stay right."""
        for function, is_kind in (
            (double_later, inspect.iscoroutinefunction),
            (count, inspect.isgeneratorfunction),
            (count_later, inspect.isasyncgenfunction),
        ):
            assert is_kind(function)
            assert is_kind(logged(start=False)(function))
        assert str(inspect.signature(double)) == "(value: 'int') -> 'int'"
        assert (double.__name__, double.__doc__, double.__module__) == (
            "double",
            "Return twice the value.",
            __name__,
        )

    @pytest.mark.parametrize(
        ("thing", "message"),
        [
            (EngineLog, "logged() was given the class EngineLog; decorate its methods"),
            (5, "logged() was given 5, which can't be called; decorate a function"),
            (property(double), "which can't be called; decorate a function"),
        ],
    )
    def test_wrong_things(self, thing: Any, message: str) -> None:
        """A class, and what can't be called, is refused with what to do instead."""
        with pytest.raises(TypeError, match=re.escape(message)):
            logged(thing)


class TestHarmless:
    async def test_wrong_arguments_are_the_functions(self, log: EngineLog, told: Told) -> None:
        """A call that can't be is the TypeError that it was, and is told."""
        wrong: Any = double
        with pytest.raises(TypeError, match=r"double\(\) missing 1 required positional argument: 'value'"):
            wrong()
        with pytest.raises(TypeError, match=r"count_later\(\) got an unexpected keyword argument 'start'"):
            await anext(count_later(start=1))  # type: ignore[call-arg]
        message = "Error: TypeError: double() missing 1 required positional argument: 'value'"
        assert (await told())[1] == ("double", message)

    async def test_arguments_that_can_not_be_read(self, log: EngineLog, told: Told) -> None:
        """An argument that makes reading it fail is the function's alone: the call isn't logged."""

        class Odd(int):
            def __le__(self, other: object) -> bool:
                raise RuntimeError("no")

            __ge__ = __le__

        @logged
        def take(frame_no: int) -> bool:
            return True

        assert take(Odd(7))
        assert await told() == []

    async def test_the_context_is_the_callers(self, log: EngineLog) -> None:
        """A function runs in the task and the context of its caller: what it sets there stays set."""
        variable = contextvars.ContextVar("variable", default=0)

        @logged
        async def change() -> asyncio.Task[Any] | None:
            variable.set(1)
            return asyncio.current_task()

        assert await change() is asyncio.current_task()
        assert variable.get() == 1

    async def test_a_result_is_not_lost(self, log: EngineLog) -> None:
        """After the body nothing is waited for: a cancellation at its end comes after the result."""

        @logged
        async def finish() -> int:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            return 1

        results = []

        async def work() -> None:
            results.append(await finish())
            await asyncio.sleep(0)

        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(work())
        assert results == [1]

    async def test_others_have_their_turn(self, log: EngineLog) -> None:
        """Thousands of calls that never wait give way to other tasks, before their bodies."""
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        @logged
        async def nothing() -> None: ...

        task = asyncio.create_task(count_turns())
        for _ in range(3000):
            await nothing()
        task.cancel()
        assert turns > 1

    async def test_a_cancellation_before_the_body(self, log: EngineLog, told: Told) -> None:
        """A call that is cancelled while it gives way is told as one that was cancelled."""
        bodies = 0

        @logged
        async def nothing() -> None:
            nonlocal bodies
            bodies += 1

        async def work() -> None:
            while True:
                await nothing()

        task = asyncio.create_task(work())
        await asyncio.sleep(0)  # until it gives way
        assert bodies > 0
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        rows = await told()
        assert rows[-2:] == started_and("nothing", "Cancelled (s)")
        assert len(rows) == 2 * bodies + 2

    async def test_a_coroutine_without_a_task(self, log: EngineLog, told: Told) -> None:
        """A coroutine that no task drives can't give way; it runs nevertheless."""

        @logged
        async def nothing() -> int:
            return 1

        def drive() -> None:
            try:
                for _ in range(3000):
                    with pytest.raises(StopIteration, match="1"):
                        nothing().send(None)
            finally:
                done.set()

        done = asyncio.Event()
        asyncio.get_running_loop().call_soon(drive)
        await done.wait()
        assert len(await told()) == 6000


# -- generators behave as they do without ---------------------------------------------------------

# What a generator does at each of its yields, when it goes on there.
ACTIONS = st.lists(
    st.sampled_from(["go on", "fail", "return", "swallow", "replace", "fail later"]), max_size=5
)
# What is done to it.
OPERATIONS = st.lists(
    st.sampled_from(["next", "send", "throw", "throw exit", "throw stop", "close"]), max_size=7
)


def react(action: str, error: BaseException) -> tuple[str, Exception | None]:
    """Tell what a generator says of an exception that it swallows, and what it raises afterwards."""
    if action == "replace":
        raise KeyError("replaced")
    if action == "fail later":
        return "", LookupError("later")
    if action != "swallow":
        raise error
    return f"swallowed {type(error).__name__}", None


def talk(actions: list[str]) -> Generator[tuple[str, object], object, str]:
    """Do what the list says, and yield what was heard."""
    heard: object = None
    for action in actions:
        later = None
        try:
            heard = yield action, heard
        except (ValueError, GeneratorExit) as error:
            if action == "return":
                return "early"
            heard, later = react(action, error)
        if later is not None:
            raise later
        if action == "fail":
            raise OSError("failed")
    return "done"


async def talk_later(actions: list[str]) -> AsyncGenerator[tuple[str, object], object]:
    """Do the same, with turns between."""
    heard: object = None
    for action in actions:
        later = None
        await asyncio.sleep(0)
        try:
            heard = yield action, heard
        except (ValueError, GeneratorExit) as error:
            if isinstance(error, GeneratorExit) and not error.args:
                raise  # of aclose(): one that stays then can't be brought to its end any more
            await asyncio.sleep(0)
            if action == "return":
                return
            heard, later = react(action, error)
        if later is not None:
            raise later
        if action == "fail":
            raise OSError("failed")


def seen(error: BaseException) -> tuple[str, ...]:
    """Return what can be seen of an exception, but for its traceback."""
    relatives = (error.__context__, error.__cause__)
    return (type(error).__name__, str(error), *(type(relative).__name__ for relative in relatives))


def thrown(operation: str, stop: type[Exception]) -> BaseException:
    """Return the exception that an operation throws in."""
    kinds: dict[str, type[BaseException]] = {
        "throw": ValueError,
        "throw exit": GeneratorExit,
        "throw stop": stop,
    }
    return kinds[operation]("thrown")


def drive(generator: Generator[Any, Any, Any], operations: list[str]) -> list[object]:
    """Return what comes of each operation."""
    calls: dict[str, Callable[[], object]] = {
        "next": lambda: next(generator),
        "send": lambda: generator.send(1),
        "close": generator.close,
    }
    outcomes: list[object] = []
    for operation in [*operations, *["close"] * 6]:  # one that stays when it is closed leaves in the end
        try:
            call = calls.get(operation)
            outcomes.append(call() if call else generator.throw(thrown(operation, StopIteration)))
        except BaseException as error:
            outcomes.append(seen(error))
    return outcomes


async def drive_later(generator: AsyncGenerator[Any, Any], operations: list[str]) -> list[object]:
    """Return what comes of each operation of an asynchronous generator."""
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "next": lambda: anext(generator),
        "send": lambda: generator.asend(1),
        "close": generator.aclose,
    }
    outcomes: list[object] = []
    for operation in [*operations, *["close"] * 6]:
        try:
            call = calls.get(operation)
            awaitable = call() if call else generator.athrow(thrown(operation, StopAsyncIteration))
            outcomes.append(await awaitable)
        except BaseException as error:
            outcomes.append(seen(error))
    return outcomes


def count_pairs(query: Query) -> list[tuple[int, int]]:
    """Return how many starts and how many endings there are."""
    return query(
        "SELECT count(*) FILTER (WHERE START_STOP_OR_ERROR_MSG = 'Start'), "
        "count(*) FILTER (WHERE START_STOP_OR_ERROR_MSG <> 'Start') FROM ENGINE_DB_LOG_FUNCTIONS"
    )


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_generators_behave_as_without(path: Path, query: Query, kind: str) -> None:
    """Whatever is sent and thrown into it, logged or not, the same comes out; and each start has an end."""
    logged_talk, logged_talk_later = logged(talk), logged(talk_later)

    async def compare(actions: list[str], operations: list[str]) -> None:
        if kind == "plain":
            expected = drive(talk(actions), operations)
            assert drive(logged_talk(actions), operations) == expected
        else:
            expected = await drive_later(talk_later(actions), operations)
            assert await drive_later(logged_talk_later(actions), operations) == expected

    with asyncio.Runner() as runner:
        log = runner.run(EngineLog(path).open())

        @settings(max_examples=300, deadline=None)
        @given(ACTIONS, OPERATIONS)
        def check(actions: list[str], operations: list[str]) -> None:
            runner.run(compare(actions, operations))

        check()
        runner.run(log.aclose())
    [(starts, endings)] = count_pairs(query)
    assert starts == endings > 0
