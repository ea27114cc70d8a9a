"""
Cancellation at every await of the library: a walk along all of them.

A task that is suspended stands in a chain of awaits: the innermost one waits for something, the others for
it. The walker runs the lives of an engine (:mod:`~tests.chaos.walks`) again and again. It looks at each chain
in which any task is ever suspended in the library, and cancels the task there in a life of its own. After
each life it logs on, closes, and makes the balance.

"""

from __future__ import annotations

import ast
import asyncio
import json
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import async_enginelog
from async_enginelog import EngineLog

from .balance import settle
from .record import Record
from .victim import Measured, Victim
from .walks import LIVES, Own, finish_pruning, log_rows

__all__ = ["Walked", "walk"]

PACKAGE = Path(async_enginelog.__file__).parent

# Whose awaits aren't an engine's, but those of commands.
OF_COMMANDS = {"cli", "importing", "imports", "oldfile", "legacy", "reading", "pruning_preview"}

# Nothing in a life takes longer, in seconds.
PATIENCE = 20.0

# A place in the library: module and line. Where a task is suspended: the innermost await last.
Place = tuple[str, int]
Chain = tuple[Place, ...]


class Walked(NamedTuple):
    """
    What a walk has seen.

    Attributes:
        awaits: How many awaits there are in the modules that an engine runs.
        reached: At how many of these a task was ever suspended, and how many of those were in a chain that
            was cancelled.
        chains: How many chains were cancelled, and how many were left.
        unreached: By module, the lines of the others.

    """

    awaits: int
    reached: int
    cancelled: int
    chains: int
    left: int
    unreached: dict[str, list[int]]


def _awaits() -> Iterator[tuple[str, range]]:
    """Yield module and lines of each await that an engine may come to."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = _module(path)
        if module.partition("/")[0] in OF_COMMANDS:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Await):
                yield module, range(node.lineno, (node.end_lineno or node.lineno) + 1)
            elif isinstance(node, ast.AsyncWith | ast.AsyncFor):
                yield module, range(node.lineno, node.body[0].lineno)


def _module(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def walk(victim: Victim) -> None:
    """Live in a victim, for ``extra["seconds"]``; start from copies of the folders ``extra["templates"]``."""
    _Walker(victim).walk()


class _Walker:
    def __init__(self, victim: Victim) -> None:
        extra = victim.orders.extra
        self._folder = Path(victim.orders.database).parent
        self._victim = victim
        # By life, what it begins with; "" for all others.
        self._templates: dict[str, str] = extra["templates"]
        self._dead = [
            Own(first, streams, Record(Path(record)), Path(console))
            for first, streams, record, console in extra["dead"]
        ]
        self._chance = random.Random(extra["seed"])
        self._end = time.monotonic() + extra["seconds"]
        self._lives = 0

    def walk(self) -> None:
        """Walk along the awaits, in a random order, until all were cancelled or the time is up."""
        known = {(life, chain): None for life in LIVES for chain in self._live(life, None)}
        done: dict[tuple[str, Chain], None] = {}
        lines: set[Place] = set()
        while time.monotonic() < self._end or not done:
            left = [each for each in known if each not in done]
            if not left:
                break
            # First those with an await that wasn't in one before.
            fresh = [(life, chain) for life, chain in left if not lines.issuperset(chain)]
            life, chain = self._chance.choice(fresh or left)
            known |= {(life, seen): None for seen in self._live(life, chain)}
            done[life, chain] = None
            lines |= set(chain)
        self._victim.record.extra = len(done)
        # For the attacker, who reads the last line.
        print(json.dumps(_walked(known, done)), file=sys.stderr)

    def _live(self, life: str, target: Chain | None) -> set[Chain]:
        """Live once, with a cancellation at ``target``; return where tasks were suspended."""
        self._lives += 1
        place = self._folder / f"life-{self._lives}"
        shutil.copytree(self._templates.get(life, self._templates[""]), place)
        watch = _Watch(target, self._chance.choice((1, 1, 2, 5)))
        own = Own(self._victim.orders.first_stream, 1, Record(place / "record"), place / "nothing")
        what = f"{life}, cancelled at {target}"
        try:
            asyncio.run(_bounded(_life_and_after(life, place / "e.db", own, watch)))
        except BaseException as error:
            sys.exit(f"{what}: {error!r}")
        # What it prunes must be gone whole.
        may_go = (lambda stream, numbers: True) if life == "keeps" else None
        # Listeners log rows of their own.
        counted = life not in ("keeps", "listens")
        streams = [*self._dead, own]
        balance = settle(place / "e.db", streams, recovered=True, counted=counted, may_go=may_go)
        if balance.lost or balance.doubled:
            sys.exit(f"{what}: {balance}")
        self._check_threads(what)
        total = self._victim.record
        total.returned[0] += balance.rows
        total.note_call(own.record.call_cpu, own.record.call_wait)
        shutil.rmtree(place)
        return watch.seen

    def _check_threads(self, what: str) -> None:
        """Make sure that no thread is left but the one that waits for the end of the interpreter."""
        deadline = time.monotonic() + 5
        while True:
            left = [thread.name for thread in threading.enumerate() if thread.name != "enginelog-exit"]
            if len(left) <= 1:
                return
            if time.monotonic() > deadline:
                sys.exit(f"{what}: it left the threads {left}")
            time.sleep(0.01)


def _walked(known: dict[tuple[str, Chain], None], done: dict[tuple[str, Chain], None]) -> Walked:
    seen = {place for _, chain in known for place in chain}
    lines = {place for _, chain in done for place in chain}
    awaits = list(_awaits())
    reached = [each for each in awaits if _is_in(each, seen)]
    unreached: dict[str, list[int]] = {}
    for module, rows in awaits:
        if not _is_in((module, rows), seen):
            unreached.setdefault(module, []).append(rows[0])
    cancelled = sum(_is_in(each, lines) for each in awaits)
    return Walked(len(awaits), len(reached), cancelled, len(done), len(known) - len(done), unreached)


def _is_in(place: tuple[str, range], places: set[Place]) -> bool:
    module, rows = place
    return any((module, row) in places for row in rows)


async def _bounded(life: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(PATIENCE):
        await life


async def _life_and_after(name: str, database: Path, own: Own, watch: _Watch) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(watch.make_task)
    life: asyncio.Task[None] = loop.create_task(LIVES[name](database, own))
    await asyncio.wait({life})
    if not life.cancelled() and (error := life.exception()) is not None:
        raise error
    # What the library does in tasks of its own goes on.
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
    loop.set_task_factory(None)
    async with EngineLog(database) as log:
        await log_rows(log, own, 5)
        await log.flush()
    if name == "keeps":
        await finish_pruning(database)


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
        if isinstance(frame, FrameType) and PACKAGE in (path := Path(frame.f_code.co_filename)).parents:
            yield _module(path), frame.f_lineno
        if isinstance(frame, FrameType) and frame.f_code is Measured.__await__.__code__:
            coroutine = frame.f_locals["self"].call
        else:
            coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
