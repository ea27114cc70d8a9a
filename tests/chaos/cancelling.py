"""
Cancellation at every await of the library: a walk along all of them.

A task that is suspended stands in a chain of awaits: the innermost one waits for something, the others for
it. The walker runs an engine's life again and again. It looks at each chain in which any task is ever
suspended in the library, and cancels the task there in a life of its own. After each life it logs on, closes,
and makes the balance.

"""

from __future__ import annotations

import ast
import asyncio
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import async_enginelog
from async_enginelog import EngineLog, StorageError
from async_enginelog.maintenance import Maintenance

from .balance import settle
from .numbered import call
from .record import Record
from .victim import Victim

__all__ = ["awaits_in_reach", "walk"]

PACKAGE = Path(async_enginelog.__file__).parent

# The modules in which the life below may be suspended.
MODULES = (
    *("enginelog", "writer", "committer", "recovery", "database"),
    *("connection", "maintenance", "spool", "handover", "unfinished"),
)

# Enough rows to make the caller give way to the writer.
BURST = 1100

# Nothing in a life takes longer, in seconds.
PATIENCE = 20.0

# Where a task is suspended: module and line, the innermost await last.
Chain = tuple[tuple[str, int], ...]


def awaits_in_reach() -> int:
    """Return how many awaits there are in the modules that are walked."""
    count = 0
    for module in MODULES:
        tree = ast.parse((PACKAGE / f"{module}.py").read_text("utf-8"))
        count += sum(isinstance(node, ast.Await | ast.AsyncWith | ast.AsyncFor) for node in ast.walk(tree))
    return count


def walk(victim: Victim) -> None:
    """Live in a victim, for ``extra["seconds"]``; start from copies of the folder ``extra["template"]``."""
    _Walker(victim).walk()


@dataclass
class _Streams:
    """Streams for the balance."""

    first_stream: int
    streams: int
    record: Record
    console: Path


class _Walker:
    def __init__(self, victim: Victim) -> None:
        extra = victim.orders.extra
        self._folder = Path(victim.orders.database).parent
        self._victim = victim
        self._template = Path(extra["template"])
        self._dead = [
            _Streams(first, streams, Record(Path(record)), Path(console))
            for first, streams, record, console in extra["dead"]
        ]
        self._chance = random.Random(extra["seed"])
        self._end = time.monotonic() + extra["seconds"]
        self._life = 0

    def walk(self) -> None:
        """Walk along the awaits, in a random order, until all were cancelled or the time is up."""
        known: dict[Chain, None] = {}
        done: set[Chain] = set()
        target: Chain | None = None
        while time.monotonic() < self._end or self._life < 2:
            known |= dict.fromkeys(self._live(target))
            left = [chain for chain in known if chain not in done]
            if not left:
                break
            target = self._chance.choice(left)
            done.add(target)
        lines = {place for chain in done for place in chain}
        self._victim.record.extra = self._life - 1
        # For the attacker, who reads the last line.
        print(len(lines), len(done), len(known) - len(done), file=sys.stderr)

    def _live(self, target: Chain | None) -> set[Chain]:
        """Live once, with a cancellation at ``target``; return where tasks were suspended."""
        self._life += 1
        place = self._folder / f"life-{self._life}"
        shutil.copytree(self._template, place)
        watch = _Watch(target, self._chance.choice((1, 1, 2, 5)))
        own = _Streams(self._victim.orders.first_stream, 1, Record(place / "record"), place / "nothing")
        try:
            asyncio.run(_bounded(_life_and_after(place / "e.db", own, watch)))
        except BaseException as error:
            sys.exit(f"cancelled at {target}: {error!r}")
        balance = settle(place / "e.db", [*self._dead, own], recovered=True)
        if balance.lost or balance.doubled:
            sys.exit(f"cancelled at {target}: {balance}")
        self._check_threads(target)
        self._victim.record.returned[0] += balance.rows
        shutil.rmtree(place)
        return watch.seen

    def _check_threads(self, target: Chain | None) -> None:
        """Make sure that no thread is left but the one that waits for the end of the interpreter."""
        deadline = time.monotonic() + 5
        while True:
            left = [thread.name for thread in threading.enumerate() if thread.name != "enginelog-exit"]
            if len(left) <= 1:
                return
            if time.monotonic() > deadline:
                sys.exit(f"cancelled at {target}: it left the threads {left}")
            time.sleep(0.01)


async def _bounded(life: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(PATIENCE):
        await life


async def _life_and_after(database: Path, own: _Streams, watch: _Watch) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(watch.make_task)
    life = loop.create_task(_life(database, own))
    await asyncio.wait({life})
    if not life.cancelled() and (error := life.exception()) is not None:
        raise error
    # What the library does in tasks of its own goes on.
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
    loop.set_task_factory(None)
    async with EngineLog(database) as log:
        await _log_rows(log, own, 5)
        await log.flush()


async def _life(database: Path, own: _Streams) -> None:
    """Open, recover what the dead have left, log in a burst, flush, back up, and close."""
    async with EngineLog(database) as log:
        await _log_rows(log, own, BURST)
        await log.flush()
        await _back_up(database)
        await _log_rows(log, own, 5)


async def _log_rows(log: EngineLog, own: _Streams, rows: int) -> None:
    record = own.record
    for _ in range(rows):
        number = record.began[0] = record.began[0] + 1
        function, _, columns = call(own.first_stream, number)
        try:
            await getattr(log, function)(**columns)
        finally:
            # Also if it was cancelled: the row was taken before the call was suspended.
            record.returned[0] = number


async def _back_up(database: Path) -> None:
    copy = database.with_name("copy.db")
    copy.unlink(missing_ok=True)
    copy.touch()
    source = await Maintenance.open(database, create=False)
    try:
        with suppress(StorageError):
            await source.copy_to(copy, lambda left, pages: None)
    finally:
        await source.close()


class _Watch:
    """Look at each suspension of each task, and cancel the task at one of them."""

    def __init__(self, target: Chain | None, times: int) -> None:
        self._target = target
        self._left = times
        self.seen: set[Chain] = set()

    def make_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        """Make a task as the loop does, and look at its coroutine."""
        return asyncio.Task(_Watched(coroutine, self.look), loop=loop, **options)

    def look(self, coroutine: Any) -> None:
        """Look where a coroutine is suspended."""
        chain = tuple(_chain(coroutine))
        if not chain:
            return
        self.seen.add(chain)
        if chain == self._target:
            self._left -= 1
            task = asyncio.current_task()
            # It may come up less often than it should in this life; then nothing is cancelled.
            if self._left == 0 and task is not None:
                asyncio.get_running_loop().call_soon(task.cancel)


class _Watched(Coroutine[Any, Any, Any]):
    """A coroutine that tells whenever it is suspended."""

    def __init__(self, coroutine: Any, tell: Callable[[Any], None]) -> None:
        self._coroutine = coroutine
        self._tell = tell

    def send(self, value: Any) -> Any:
        awaited = self._coroutine.send(value)
        self._tell(self._coroutine)
        return awaited

    def throw(self, *error: Any) -> Any:
        awaited = self._coroutine.throw(*error)
        self._tell(self._coroutine)
        return awaited

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise NotImplementedError("only tasks run it")


def _chain(coroutine: Any) -> Generator[tuple[str, int], None, None]:
    """Yield where in the library each part of a suspended coroutine stands."""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if isinstance(frame, FrameType) and (path := Path(frame.f_code.co_filename)).parent == PACKAGE:
            yield path.stem, frame.f_lineno
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
