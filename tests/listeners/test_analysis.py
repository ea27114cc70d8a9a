"""Analysers at work: in order, side by side, whatever they do."""

from __future__ import annotations

import asyncio
import functools
import gc
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, NoReturn

import pytest

from async_enginelog import Frame, bound
from async_enginelog.listeners import calls as calls_module
from async_enginelog.listeners.analysis import NAMES, Analysis, analysers_by_name
from async_enginelog.listeners.calls import Callee, Calls

from .clients import RECORDING, SOON, until

TIMEOUT = 0.1


class Failure(NamedTuple):
    """What was told of an analyser that failed."""

    function: str
    frame_no: int
    error: BaseException


class Bench:
    """An analysis, and what came of it."""

    def __init__(self, calls: Calls, on_frame: Any, max_backlog: int) -> None:
        self.done: dict[int, dict[str, Any]] = {}
        self.failures: list[Failure] = []
        self._frames = 0
        self.analysis: Analysis[str] = Analysis(
            analysers_by_name(on_frame),
            calls,
            "the recording",
            RECORDING,
            done=lambda frame, columns: self.done.update({frame.number: columns}),
            failed=self._failed,
            max_backlog=max_backlog,
        )

    def _failed(self, analyser: Callee, frame: Frame, error: BaseException) -> None:
        self.failures.append(Failure(analyser.place.function, frame.number, error))

    def put(self, frames: int = 1) -> None:
        """Queue further frames."""
        for _ in range(frames):
            self._frames += 1
            self.analysis.put(Frame(self._frames, 0, 99, bytes([self._frames])))

    async def all_done(self) -> None:
        """Return when all frames so far are done."""
        await until(lambda: len(self.done) == self._frames)

    def failed_frames(self) -> list[int]:
        """Return the numbers of the frames for which an analyser failed."""
        return [failure.frame_no for failure in self.failures]


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't wait long for those who won't be cancelled."""
    monkeypatch.setattr(calls_module, "GRACE", 0.02)


@asynccontextmanager
async def analysing(
    on_frame: Any, *, timeout: float = TIMEOUT, threads: int = 2, max_backlog: int = 1000
) -> AsyncIterator[Bench]:
    """Analyse with these; all frames are done in the end, and nothing went wrong unnoticed."""
    troubles: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
    calls = Calls(timeout, threads)
    bench = Bench(calls, on_frame, max_backlog)
    try:
        yield bench
        await bench.analysis.finish()
    finally:
        calls.close()
    gc.collect()
    await asyncio.sleep(0)
    assert troubles == []


class Gate:
    """A function that hangs in a thread, for the frames it is told to, until it is opened."""

    def __init__(self, *frames: int) -> None:
        self.hangs_for = set(frames)
        self.opened = threading.Event()
        self.seen: list[int] = []

    def __call__(self, recording: str, frame: Frame) -> int:
        self.seen.append(frame.number)
        if frame.number in self.hangs_for:
            self.opened.wait(SOON)
        return 1


class Stubborn:
    """A coroutine function that won't be cancelled."""

    def __init__(self, *frames: int, error: BaseException | None = None) -> None:
        self.hangs_for = set(frames)
        self.error = error
        self.opened = asyncio.Event()
        self.seen: list[int] = []

    async def __call__(self, recording: str, frame: Frame) -> int:
        self.seen.append(frame.number)
        while frame.number in self.hangs_for and not self.opened.is_set():
            try:
                await self.opened.wait()
            except asyncio.CancelledError:
                pass
        if self.error is not None:
            raise self.error
        return 1


def seen_by(*names: str) -> tuple[dict[str, Callable[[str, Frame], None]], list[tuple[str, int]]]:
    """Return analysers that note which frames they see, and the list of that."""
    seen: list[tuple[str, int]] = []

    def note(name: str, recording: str, frame: Frame) -> None:
        seen.append((name, frame.number))

    return {name: functools.partial(note, name) for name in names}, seen


# Each of these is an analyser that returns 3, whichever way.


def plain(recording: str, frame: Frame) -> int:
    return 3


async def coroutine(recording: str, frame: Frame) -> int:
    await asyncio.sleep(0)
    return 3


class Plain:
    def __call__(self, recording: str, frame: Frame) -> int:
        return 3

    async def method(self, recording: str, frame: Frame) -> int:
        return 3


class Asynchronous:
    async def __call__(self, recording: str, frame: Frame) -> int:
        return 3


class Made(int):
    """A number that is made of a recording and a frame; its class can be called, asynchronously or not."""

    def __new__(cls, recording: str, frame: Frame) -> Made:
        return super().__new__(cls, 3)

    async def __call__(self) -> NoReturn:
        raise AssertionError("nobody calls the number")


def returns_a_coroutine(recording: str, frame: Frame) -> Awaitable[int]:
    return coroutine(recording, frame)


KINDS: list[Callable[..., Any]] = [
    *(plain, coroutine, Plain(), Plain().method, Asynchronous(), Made, returns_a_coroutine),
    *(functools.partial(plain), functools.partial(coroutine), lambda *given: coroutine(*given)),
]


class TestAnalysers:
    @pytest.mark.parametrize("analyser", KINDS)
    async def test_are_of_any_kind(self, analyser: Callable[..., Any]) -> None:
        """A function, a coroutine function, an object, a method, a class, a lambda around one of them."""
        async with analysing({"fft": analyser}) as bench:
            bench.put(2)
        assert bench.failures == []
        for columns in bench.done.values():
            assert columns["fft_record_cnt"] == 3
            assert columns["dt_start_fft"] <= columns["dt_end_fft"]
            assert columns["dt_processing_start"] == columns["dt_start_fft"]
            assert columns["dt_processing_end"] == columns["dt_end_fft"]

    async def test_may_be_none(self) -> None:
        """Without analysers, a frame is done at once."""
        async with analysing(None) as bench:
            bench.put(2)
            assert bench.done == {1: {}, 2: {}}

    async def test_may_be_one(self) -> None:
        """One without a name has the times of the processing as a whole, and no count of its own."""
        async with analysing(plain) as bench:
            bench.put()
        assert bench.done[1].keys() == {"dt_processing_start", "dt_processing_end"}

    async def test_are_side_by_side(self) -> None:
        """Several work at the same time, each in the order of the frames; the row has the times of all."""
        both = threading.Barrier(2, timeout=SOON)

        def meet(recording: str, frame: Frame) -> None:
            both.wait()

        other, seen = seen_by("ons")
        async with analysing({"fft": meet, "crepe": meet, **other}) as bench:
            bench.put(3)
        assert seen == [("ons", 1), ("ons", 2), ("ons", 3)]
        for columns in bench.done.values():
            names = ("fft", "crepe", "ons")
            assert columns["dt_processing_start"] == min(columns[f"dt_start_{name}"] for name in names)
            assert columns["dt_processing_end"] == max(columns[f"dt_end_{name}"] for name in names)

    @pytest.mark.parametrize("name", NAMES)
    async def test_have_the_names_of_the_table(self, name: str) -> None:
        """Those analysers have columns for which the table of frames has them; some have no count."""
        async with analysing({name: plain}) as bench:
            bench.put()
        expected = {f"dt_start_{name}", f"dt_end_{name}", "dt_processing_start", "dt_processing_end"}
        assert bench.done[1].keys() - expected <= {f"{name}_record_cnt"}

    @pytest.mark.parametrize("analyser", [plain, coroutine])
    async def test_know_what_they_work_on(self, analyser: Callable[..., Any]) -> None:
        """Recording and frame are bound; the recording and the frame themselves are the arguments."""
        seen: list[Any] = []

        def look(recording: str, frame: Frame) -> Any:
            seen.append((bound().recording_id, bound().frame_no, recording, frame.audio))
            return analyser(recording, frame)

        async with analysing(look) as bench:
            bench.put(2)
        assert seen == [(RECORDING, n, "the recording", bytes([n])) for n in (1, 2)]
        assert bound().recording_id is None

    def test_must_have_columns(self) -> None:
        """A name that the table doesn't know is refused, with those that it knows."""
        with pytest.raises(ValueError, match="no columns for an analyser 'ftt'; there are for fft, ons"):
            analysers_by_name({"ftt": plain})

    def test_must_be_functions(self) -> None:
        """What can't be called is refused."""
        with pytest.raises(TypeError, match="the analyser 'fft' is 7; pass a function"):
            analysers_by_name({"fft": 7})  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="on_frame is 7; pass a function"):
            analysers_by_name(7)  # type: ignore[arg-type]

    def test_must_not_be_generators(self) -> None:
        """A generator function would do nothing when it is called."""

        def numbers(recording: str, frame: Frame) -> Iterator[int]:
            yield 1

        async def later(recording: str, frame: Frame) -> AsyncIterator[int]:
            yield 1

        for analyser in (numbers, later):
            with pytest.raises(TypeError, match="'fft' is a generator function, .*; return a list"):
                analysers_by_name({"fft": analyser})


class Index:
    """A number of another library, such as numpy."""

    def __index__(self) -> int:
        return 7


class Broken:
    """Something whose length can't be told."""

    def __len__(self) -> int:
        raise OSError("no idea")


@pytest.mark.parametrize(
    ("result", "count"),
    [
        *((0, 0), (3, 3), (True, 1), (Index(), 7), ([], 0), ((1, 2), 2), ({1: 2}, 1)),
        *((None, None), (3.0, None), (object(), None), (Broken(), None)),
    ],
)
async def test_count(result: object, count: int | None) -> None:
    """A number, or the length of what is returned, is the count of records; of other things there is none."""
    async with analysing({"fft": lambda recording, frame: result}) as bench:
        bench.put()
    assert bench.done[1]["fft_record_cnt"] == count
    assert bench.failures == []


class TestFailing:
    @pytest.mark.parametrize("is_async", [False, True])
    @pytest.mark.parametrize(
        "error",
        [ValueError("boom"), SystemExit(1), asyncio.CancelledError(), GeneratorExit(), BaseException("all")],
    )
    async def test_is_told_and_goes_on(self, error: BaseException, is_async: bool) -> None:
        """Whatever an analyser raises is told, with the frame; it gets the next one all the same."""

        def fail(recording: str, frame: Frame) -> int:
            if frame.number == 2:
                raise error
            return 1

        async def fail_async(recording: str, frame: Frame) -> int:
            return fail(recording, frame)

        other, seen = seen_by("ons")
        async with analysing({"fft": fail_async if is_async else fail, **other}) as bench:
            bench.put(3)
        [failure] = bench.failures
        assert failure.function.endswith("fail_async" if is_async else "fail")
        assert (failure.frame_no, failure.error) == (2, error)
        assert [bench.done[n]["fft_record_cnt"] for n in (1, 2, 3)] == [1, None, 1]
        assert bench.done[2]["dt_start_fft"] <= bench.done[2]["dt_end_fft"]
        assert len(seen) == 3

    async def test_with_stop_iteration(self) -> None:
        """Also a StopIteration, which no future would take."""

        def fail(recording: str, frame: Frame) -> int:
            return next(iter(()))

        async with analysing(fail) as bench:
            bench.put()
        assert isinstance(bench.failures[0].error, StopIteration)

    async def test_in_the_coroutine_that_is_returned(self) -> None:
        """What fails after a plain function returned it is told as well."""

        async def fail(recording: str, frame: Frame) -> int:
            raise ValueError("boom")

        async with analysing({"fft": lambda *given: fail(*given)}) as bench:
            bench.put()
        assert str(bench.failures[0].error) == "boom"
        assert bench.done[1]["fft_record_cnt"] is None

    async def test_with_wrong_arguments(self) -> None:
        """A function of other arguments fails for each frame, and is told each time."""
        async with analysing({"fft": lambda: 1, "ons": Stubborn().seen.append}) as bench:
            bench.put(2)
        assert sorted(bench.failed_frames()) == [1, 1, 2, 2]
        assert {type(failure.error) for failure in bench.failures} == {TypeError}

    async def test_for_want_of_a_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """If the system gives no thread, that is told for the frame, and tried again with the next."""

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        async with analysing({"fft": plain, "ons": coroutine}) as bench:
            with monkeypatch.context() as patched:
                patched.setattr(threading.Thread, "start", refuse)
                bench.put()
                await bench.all_done()
            bench.put()
        assert [str(failure.error) for failure in bench.failures] == ["can't start new thread"]
        assert [bench.done[n].get("fft_record_cnt") for n in (1, 2)] == [None, 3]
        assert [bench.done[n]["ons_record_cnt"] for n in (1, 2)] == [3, 3]

    async def test_for_want_of_a_task(self) -> None:
        """If somebody's task factory fails, that is told for the frame, and tried again with the next."""

        def refuse(loop: asyncio.AbstractEventLoop, run: Any, **more: Any) -> asyncio.Task[Any]:
            if run.__qualname__ == "Call._await":
                raise RuntimeError("no more tasks")
            return asyncio.Task(run, loop=loop, **more)

        loop = asyncio.get_running_loop()
        async with analysing({"fft": plain, "ons": coroutine}) as bench:
            loop.set_task_factory(refuse)
            bench.put()
            await bench.all_done()
            loop.set_task_factory(None)
            bench.put()
        assert {str(failure.error) for failure in bench.failures} == {"no more tasks"}
        assert [bench.done[n].get("ons_record_cnt") for n in (1, 2)] == [None, 3]


@pytest.mark.parametrize("is_async", [True, False])
def test_keyboard_interrupt(is_async: bool) -> None:
    """Ctrl+C that meets a coroutine function ends the program; in a thread there is none."""

    async def interrupted(recording: str, frame: Frame) -> None:
        raise KeyboardInterrupt

    def interrupted_in_thread(recording: str, frame: Frame) -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        async with analysing(interrupted if is_async else interrupted_in_thread) as bench:
            bench.put()

    if is_async:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(main())
    else:
        asyncio.run(main())
    gc.collect()


class TestHangingTask:
    async def test_is_cancelled(self) -> None:
        """A coroutine function that hangs is cancelled and told; it gets the next frame."""
        cancelled: list[int] = []

        async def hang(recording: str, frame: Frame) -> int:
            try:
                await asyncio.sleep(SOON if frame.number == 1 else 0)
            except asyncio.CancelledError:
                cancelled.append(frame.number)
                raise
            return 1

        other, seen = seen_by("ons")
        async with analysing({"fft": hang, **other}) as bench:
            bench.put(3)
            await until(lambda: len(seen) == 3)  # the other one goes on meanwhile
            assert bench.done == {}
        [failure] = bench.failures
        assert (failure.frame_no, type(failure.error)) == (1, TimeoutError)
        assert str(failure.error) == "it took longer than 0.1 seconds, and was cancelled"
        assert cancelled == [1]
        assert [bench.done[n]["fft_record_cnt"] for n in (1, 2, 3)] == [None, 1, 1]
        assert bench.done[1]["dt_start_fft"] is not None
        assert bench.done[1]["dt_end_fft"] is None or bench.done[1]["dt_end_fft"]

    @pytest.mark.parametrize("error", [None, ValueError("late")])
    async def test_may_swallow_that(self, error: BaseException | None) -> None:
        """One that won't be cancelled gets no frames until it returns; what it then says isn't heard."""
        stubborn = Stubborn(1, error=error)
        other, seen = seen_by("ons")
        async with analysing({"fft": stubborn, **other}) as bench:
            bench.put(3)
            await bench.all_done()
            assert stubborn.seen == [1]
            assert len(seen) == 3
            assert bench.failed_frames() == [1]
            stubborn.error = None
            stubborn.opened.set()
            await until(lambda: not [t for t in asyncio.all_tasks() if "_await" in repr(t.get_coro())])
            bench.put()
            await bench.all_done()
            assert stubborn.seen == [1, 4]
        assert [bench.done[n].get("fft_record_cnt") for n in (1, 2, 3, 4)] == [None, None, None, 1]

    async def test_may_outlive_the_recording(self) -> None:
        """One that hangs when its recording is finished is kept until it returns, however it does."""
        stubborn = Stubborn(1, error=ValueError("nobody hears that"))
        async with analysing(stubborn) as bench:
            bench.put()
            await bench.analysis.finish()
            bench.analysis = Bench(Calls(1, 1), None, 1).analysis
            gc.collect()
            stubborn.opened.set()
            await asyncio.sleep(0)

    async def test_may_be_what_a_function_returned(self) -> None:
        """A coroutine that a plain function returned is cancelled as well."""
        async with analysing(lambda *given: asyncio.sleep(SOON)) as bench:
            bench.put()
        assert str(bench.failures[0].error) == "it took longer than 0.1 seconds, and was cancelled"


class TestHangingThread:
    @pytest.fixture
    def gate(self) -> Iterator[Gate]:
        """An analyser that hangs with its first frame; it has returned when the test has."""
        gate = Gate(1)
        yield gate
        gate.opened.set()

    async def test_gets_no_frames_until_it_returns(self, gate: Gate) -> None:
        """One that hangs in a thread is told of once; the others go on; when it returns, it gets frames."""
        other, seen = seen_by("ons")
        async with analysing({"fft": gate, **other, "crepe": coroutine}) as bench:
            bench.put(3)
            await bench.all_done()
            assert (gate.seen, len(seen)) == ([1], 3)
            assert [bench.done[n]["crepe_record_cnt"] for n in (1, 2, 3)] == [3, 3, 3]
            gate.opened.set()
            await until(lambda: bench_can_go_on(bench, gate))
        [failure] = bench.failures
        assert (
            str(failure.error) == "it takes longer than 0.1 seconds; it isn't called again until it returns"
        )
        assert gate.seen[0] == 1
        assert gate.seen[-1] > 3
        assert bench.done[gate.seen[-1]]["fft_record_cnt"] == 1

    async def test_leaves_a_thread_to_the_others(self, gate: Gate) -> None:
        """With a single thread that hangs, there is another one for those that work."""
        other, seen = seen_by("ons", "crepe")
        async with analysing({"fft": gate, **other}, threads=1) as bench:
            bench.put(5)
            await until(lambda: {number for _, number in seen} >= {2, 3, 4, 5})

    async def test_leaves_as_many_as_there_may_be(self, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where all threads hang, frames aren't analysed, but done; what began to wait is not done later."""
        monkeypatch.setattr(calls_module, "MAX_REPLACED", 0)
        other, seen = seen_by("ons")
        async with analysing({"fft": gate, **other}, threads=1) as bench:
            bench.put(3)
            await bench.all_done()
            assert sorted(bench.failed_frames()) == [1, 1]
            texts = {str(failure.error) for failure in bench.failures}
            assert "no thread was free for it within 0.1 seconds: others hang, or there are too few" in texts
            assert seen == []
            gate.opened.set()
            await until(lambda: bench_can_go_on(bench, gate) and seen)
        assert ("ons", 1) not in seen

    async def test_does_not_hold_up_finishing(self, gate: Gate) -> None:
        """A recording is finished though an analyser hangs, also if nobody waits for that."""
        async with analysing({"fft": gate}) as bench:
            bench.put(100)
            async with asyncio.timeout(SOON / 2):
                await bench.analysis.finish()
            assert len(bench.done) == 100

    def test_does_not_hold_up_the_exit(self) -> None:
        """A process ends though an analyser hangs in a thread, and says nothing of it."""
        script = """
            import asyncio, threading
            from async_enginelog import Frame
            from async_enginelog.listeners.calls import Callee, Calls

            async def main():
                call = Calls(0.05, 1).begin(Callee.of(threading.Event().wait, "it"))
                assert not await call.wait()

            asyncio.run(main())
            print("ended")
        """
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
            capture_output=True,
            text=True,
            timeout=SOON,
            check=False,
        )
        assert (done.stdout, done.stderr, done.returncode) == ("ended\n", "", 0)

    def test_may_return_when_the_loop_is_closed(self, gate: Gate) -> None:
        """A function that returns when nobody waits any more does so without a word."""
        threads: list[threading.Thread] = []

        async def main() -> None:
            calls = Calls(TIMEOUT, 1)
            assert not await calls.begin(Callee.of(gate, "it"), "", Frame(1, 0, 99, b"")).wait()
            threads.extend(calls._threads._threads)
            calls.close()

        asyncio.run(main())
        gate.opened.set()
        for thread in threads:
            thread.join(SOON)
            assert not thread.is_alive()


def bench_can_go_on(bench: Bench, gate: Gate) -> bool:
    """Put another frame; tell whether the one that hung was given one since."""
    if len(bench.done) == bench._frames:
        bench.put()
    return len(gate.seen) > 1


class TestCall:
    async def test_may_end_before_it_is_waited_for(self) -> None:
        """A function that has returned before anybody waits has ended in time."""
        calls, ended = Calls(SOON, 1), threading.Event()
        call = calls.begin(Callee.of(lambda: 3, "it"))
        calls._threads.submit(ended.set)
        ended.wait(SOON)  # the loop doesn't hear of it meanwhile
        assert await call.wait()
        assert call.result == 3
        await asyncio.sleep(0)
        calls.close()

    async def test_may_be_given_up_before_it_begins(self) -> None:
        """What is given up at once ends, whether it has begun or not."""
        calls = Calls(SOON, 1)
        call = calls.begin(Callee.of(asyncio.Event().wait, "it"))
        call._give_up()
        await until(lambda: not calls._tasks)
        assert not call.is_running


class TestRoom:
    async def test_is_there_below_the_backlog(self) -> None:
        """As long as fewer frames wait than may, there is room; beyond, there is when one is done."""
        opened = asyncio.Event()

        async def wait(recording: str, frame: Frame) -> None:
            await opened.wait()

        async with analysing(wait, timeout=SOON, max_backlog=3) as bench:
            bench.put(2)
            async with asyncio.timeout(SOON):
                await bench.analysis.room()
            bench.put(2)
            assert bench.analysis.backlog == 4
            room = asyncio.create_task(bench.analysis.room())
            done, _ = await asyncio.wait({room}, timeout=0.02)
            assert not done
            opened.set()
            await room
            assert bench.analysis.backlog < 3

    async def test_is_of_the_slowest(self) -> None:
        """A frame waits until the slowest analyser is done with it."""
        opened = asyncio.Event()

        async def wait(recording: str, frame: Frame) -> None:
            await opened.wait()

        other, seen = seen_by("ons")
        async with analysing({"fft": wait, **other}, timeout=SOON, max_backlog=3) as bench:
            bench.put(3)
            await until(lambda: len(seen) == 3)
            assert bench.analysis.backlog == 3
            opened.set()

    async def test_is_there_when_no_more_comes(self) -> None:
        """Who waits for room goes on when the analysis is finished, or given up."""
        opened = asyncio.Event()

        async def wait(recording: str, frame: Frame) -> None:
            await opened.wait()

        async with analysing(wait, timeout=SOON, max_backlog=1) as bench:
            bench.put(3)
            room = asyncio.create_task(bench.analysis.room())
            finishing = asyncio.create_task(bench.analysis.finish())
            async with asyncio.timeout(SOON):
                await room
            opened.set()
            await finishing


class TestFinish:
    async def test_waits_for_all_frames(self) -> None:
        """When it returns, all frames are done."""
        async with analysing({"fft": coroutine, "ons": plain}) as bench:
            bench.put(50)
            await bench.analysis.finish()
            assert len(bench.done) == 50
            assert bench.analysis.backlog == 0

    @pytest.mark.parametrize("is_async", [True, False])
    async def test_cancelled_leaves_the_rest(self, is_async: bool) -> None:
        """If it is cancelled, what runs is given up, and what waits isn't begun."""
        stubborn, gate = Stubborn(), Gate(1)

        async def wait(recording: str, frame: Frame) -> None:
            stubborn.seen.append(frame.number)
            await stubborn.opened.wait()

        async with analysing(wait if is_async else gate, timeout=SOON) as bench:
            bench.put(5)
            seen = stubborn.seen if is_async else gate.seen
            await until(lambda: seen)
            finishing = asyncio.create_task(bench.analysis.finish())
            await asyncio.sleep(0)
            finishing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await finishing
            gate.opened.set()
            assert seen == [1]
            assert bench.analysis.backlog == 5
            bench.analysis = Bench(Calls(1, 1), None, 1).analysis
