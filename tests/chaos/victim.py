"""
The engine under attack, in a process of its own: ``python -m tests.chaos.victim ORDERS``.

ORDERS is JSON, see :mod:`~tests.chaos.orders`. Further orders come on standard input, one word a line, as
:mod:`~tests.chaos.deeds` has them. What it logs is said in :mod:`~tests.chaos.numbered`, what it did is
written down in :mod:`~tests.chaos.record`.

"""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import json
import signal
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from async_enginelog import EngineLog, LogClosed, database, segments

from .deeds import AT_ONCE, CHORES, ENDINGS, close
from .numbered import call
from .orders import Orders
from .record import Record
from .waits import Stopwatch, watch_turns

__all__ = ["OPEN", "Measured", "Victim"]

# Other tasks have a turn after so many calls, as in any engine.
BREATH = 64
# How often the loop is looked at, in seconds.
PULSE = 0.002

OPENING, OPEN, CLOSING, CLOSED = 1, 2, 3, 4


class Victim:
    """The engine: it opens its log, logs until it is told how to end, and ends so."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.record = Record(Path(orders.record))
        self.log: EngineLog
        self.loop: asyncio.AbstractEventLoop
        # What the main task does at the end.
        self.ending: asyncio.Future[Callable[[Victim], Any]]
        self._done = threading.Event()

    async def run(self) -> None:
        """Live and die."""
        self.loop = asyncio.get_running_loop()
        watch_turns(self.loop, self.record)
        self.ending = self.loop.create_future()
        threading.Thread(target=self._listen, daemon=True).start()
        pulse = asyncio.create_task(self._take_pulse())
        self.record.stage = OPENING
        async with EngineLog(self.orders.database, **self.orders.options) as self.log:
            self.record.stage = OPEN
            chores = [asyncio.create_task(self._do_chore(name)) for name in self.orders.chores]
            streams = self._start_streams()
            ending = await self._until_end(streams)
            try:
                result = ending(self)
                if isinstance(result, Awaitable):
                    await result
            finally:
                await _cancel(*chores)
                self.record.stage = CLOSING
        self.record.stage = CLOSED
        self._done.set()
        await asyncio.gather(*streams)
        await _cancel(pulse)

    async def _until_end(self, streams: list[asyncio.Future[None]]) -> Callable[[Victim], Any]:
        if self.orders.rows:
            asyncio.gather(*streams).add_done_callback(lambda _: self._end(close))
        return await self.ending

    def _listen(self) -> None:
        """Take orders from standard input."""
        for line in sys.stdin:
            self.obey(line.strip())

    def obey(self, order: str) -> None:
        """Carry out an order, in whatever thread."""
        self.record.fire = time.monotonic_ns()
        if order in AT_ONCE:
            AT_ONCE[order](self)
        elif order in ENDINGS:
            self.loop.call_soon_threadsafe(self._end, ENDINGS[order])
        else:
            asyncio.run_coroutine_threadsafe(CHORES[order](self), self.loop)

    def _end(self, ending: Callable[[Victim], Any]) -> None:
        if not self.ending.done():
            self.ending.set_result(ending)

    async def _take_pulse(self) -> None:
        """Measure how long the loop goes without a turn."""
        record = self.record
        while True:
            before = time.perf_counter_ns()
            await asyncio.sleep(PULSE)
            late = time.perf_counter_ns() - before - int(PULSE * 1e9)
            record.stall = max(record.stall, late)
            if record.stage == OPEN:
                record.dropped = self.log.statistics().dropped

    async def _do_chore(self, name: str) -> None:
        while True:
            await CHORES[name](self)
            await asyncio.sleep(PULSE)

    # -- logging --------------------------------------------------------------------------------

    def _start_streams(self) -> list[asyncio.Future[None]]:
        tasks, threads = self.orders.tasks, self.orders.threads
        streams: list[asyncio.Future[None]] = [
            asyncio.ensure_future(self.log_in_task(index)) for index in range(tasks)
        ]
        for index in range(tasks, tasks + threads):
            future: asyncio.Future[None] = self.loop.create_future()
            threading.Thread(target=self.log_in_thread, args=(index, future), daemon=True).start()
            streams.append(future)
        return streams

    def _goes_on(self, number: int) -> bool:
        return not self._done.is_set() and (not self.orders.rows or number < self.orders.rows)

    async def log_in_task(self, index: int) -> None:
        """Log the rows of a stream in this task, from 1 on, until the log is closed."""
        record, stream, number = self.record, self.orders.first_stream + index, 0
        functions = {name: getattr(self.log, name) for name in dir(self.log) if name.startswith("log_")}
        begun = time.monotonic()
        with _failures_counted(record), Stopwatch() as watch:
            while self._goes_on(number):
                number += 1
                function, _, columns = call(stream, number)
                log = functions[function]
                record.began[index] = number
                await Measured(log(**columns), record, watch)
                record.returned[index] = number
                record.on_console = self.log._console.rows
                record.calls += 1
                await self._wait_for_turn(number, begun)

    async def _wait_for_turn(self, number: int, begun: float) -> None:
        if self.orders.rate:
            early = begun + number / self.orders.rate - time.monotonic()
            if early > 0:
                await asyncio.sleep(early)
        elif number % BREATH == 0:
            await asyncio.sleep(0)

    def log_in_thread(self, index: int, future: asyncio.Future[None]) -> None:
        """Do the same in this thread; then, tell the future."""
        record, stream, number = self.record, self.orders.first_stream + index, 0
        begun = time.monotonic()
        with _failures_counted(record), Stopwatch() as watch:
            while self._goes_on(number):
                number += 1
                _, table, columns = call(stream, number)
                record.began[index] = number
                watch.start()
                self.log.log_row_nowait(table.name, columns)
                watch.stop()
                record.returned[index] = number
                record.on_console = self.log._console.rows
                record.note_call(watch.cpu, watch.asleep)
                # Without a rate, a thread still must not log faster than any disk can take it.
                early = begun + number / (self.orders.rate or 2000.0) - time.monotonic()
                if early > 0:
                    time.sleep(early)
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(_set_done, future)


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Measured:
    """Await a call, and measure each of its steps: while it is suspended, others use the time."""

    def __init__(self, call: Coroutine[Any, Any, None], record: Record, watch: Stopwatch) -> None:
        self.call = call
        self._record = record
        self._watch = watch

    def __await__(self) -> Generator[Any, Any, None]:
        step = partial(self.call.send, None)
        while True:
            self._watch.start()
            try:
                awaited = step()
            except StopIteration:
                return
            finally:
                self._watch.stop()
                self._record.note_call(self._watch.cpu, self._watch.asleep)
                self._record.calls_cpu += self._watch.cpu
            try:
                yield awaited
                step = partial(self.call.send, None)
            except BaseException as error:
                step = partial(self.call.throw, error)


class _failures_counted:  # noqa: N801  # reads as a statement
    """End a stream by whatever a call raises; count what isn't that the log is closed."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> bool:
        if kind is None or not issubclass(kind, Exception):
            return False
        if not issubclass(kind, LogClosed):
            self._record.failed_calls += 1
        return True


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main(orders: Orders) -> None:
    """Set up as ordered, and run."""
    if orders.segment_bytes:
        segments.SEGMENT_BYTES = orders.segment_bytes
    if orders.checkpoint_pages:
        database.CHECKPOINT_PAGES = orders.checkpoint_pages
    victim = Victim(orders)
    # What a shell starts in the background inherits that SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform != "win32":
        signal.signal(signal.SIGUSR1, partial(_exit_wherever, victim.record))
        # Who hangs is asked where.
        faulthandler.register(signal.SIGUSR2)
    for name in orders.setup:
        _function(name)(victim)
    if orders.life:
        _function(orders.life)(victim)
    else:
        asyncio.run(victim.run())


def _exit_wherever(record: Record, number: int, frame: FrameType | None) -> NoReturn:
    """Raise in the middle of whatever the main thread is doing."""
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_stack(frame)]
    of_ours = any(module.startswith("async_enginelog.") for module in modules)
    record.in_asyncio = modules[0].startswith("asyncio.") and not of_ours
    sys.exit(4)


def _function(name: str) -> Callable[[Victim], Any]:
    module, _, function = name.partition(":")
    found: Callable[[Victim], Any] = getattr(importlib.import_module(module), function)
    return found


if __name__ == "__main__":
    main(Orders(**json.loads(sys.argv[1])))
