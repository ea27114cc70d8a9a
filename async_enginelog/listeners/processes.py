"""A process that says again and again that it is alive, how large it is, and what it does."""

from __future__ import annotations

import asyncio
import heapq
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import orjson
import psutil

from ..enginelog import EngineLog
from ..failures import check_log
from ..tables import PROCESS_REGISTRY
from ..values import as_text, fit_text
from .connections import now
from .machine import MachineMonitor

__all__ = ["Heartbeat", "condensed"]

# A span shorter than this, in seconds, says nothing of how busy a process is.
SHORTEST_CPU_SPAN = 0.1

# After so many tasks, the other ones have their turn: to name them takes 0.2 ms. (To ask asyncio for
# 10,000 tasks takes 2 to 6 ms, at once: it has no other way.)
TASKS_AT_ONCE = 500

# What the JSON of a list of names may take, and of each name, in UTF-16 units.
LIST_WIDTH = PROCESS_REGISTRY.columns["active_tasks"].width
NAME_WIDTH = 100
# The longest last entry, with its quotes and comma.
MORE_WIDTH = len('"… 999999999 more",')
TIMES = "\N{MULTIPLICATION SIGN}"


class Heartbeat:
    """
    Keep one row of this process in ENGINE_DB_LOG_PROCESS_REGISTRY up to date.

    ::

        async with EngineLog() as log, Heartbeat(log):
            ...

    The row is logged at once, filled in again every ``interval`` seconds, and a last time when the
    block is left. What the columns say:

    - ``start_time``: when the process began, not the log; ``last_heartbeat``: when this was logged;
    - ``active_tasks``: the running tasks of the event loop by name, those without a name of their
      own by their coroutine: ``["handler ×200","enginelog-writer"]``; what doesn't fit is counted;
    - ``database_connections``: how many connections to its database ``log`` holds: 1, or 0 while the
      database fails. Those that the engine opens itself aren't known, and not counted;
    - ``memory_usage_mb``: resident memory, in MiB;
    - ``cpu_percent``: CPU time of all threads since the heartbeat before, in percent of one CPU;
      not known in the first.

    With ``resources``, how busy the machine is goes into ENGINE_DB_LOG_RESOURCE_MONITOR, a row every so many
    seconds: CPU of all CPUs in percent, memory used in percent and available in GiB, bytes that its disks
    have moved since it was started, threads of this process.

    What can't be measured is told on the logger ``async_enginelog``, and the rest is logged. Nothing
    here raises, and no process is ever killed. It ends by itself when the log is closed.

    One task at a time may be in the block. Cancelling the one that leaves it is safe; only the last
    row may be missing then.

    Args:
        log: An open log.
        interval: Seconds from one heartbeat to the next.
        resources: Seconds from one row on the machine to the next, at least 0.01; :obj:`None` for none.

    Raises:
        TypeError: If ``log`` isn't a log.
        ValueError: If ``interval`` isn't a positive number, or ``resources`` is too small.

    """  # noqa: RUF002  # the sign that is stored

    def __init__(self, log: EngineLog, interval: float = 30.0, resources: float | None = None) -> None:
        check_log(log)
        if not isinstance(interval, int | float) or not 0 < interval <= sys.float_info.max:
            raise ValueError(f"interval is {interval!r}; pass a positive number of seconds")
        self._log = log
        self._interval = interval
        self._monitor = None if resources is None else MachineMonitor(log, resources)
        self._task: asyncio.Task[None]
        # When the CPU time was looked at last, and what it was, in seconds.
        self._cpu_seen: tuple[float, float]

    async def __aenter__(self) -> Self:
        self._cpu_seen = time.monotonic(), time.process_time()
        await self._beat()
        self._task = asyncio.create_task(self._beat_on(), name="enginelog-heartbeat")
        if self._monitor is not None:
            self._monitor.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._task.cancel()
        if self._monitor is not None:
            await self._monitor.stop()
        await asyncio.wait({self._task})
        if self._log.is_open:
            await self._beat()

    async def _beat_on(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = _next_due(due, self._interval, loop.time())
            await asyncio.sleep(due - loop.time())
            if not self._log.is_open:
                return
            await self._beat()

    async def _beat(self) -> None:
        # None of these takes longer than microseconds, but for the tasks if there are thousands.
        columns: dict[str, Any] = {"process_id": os.getpid()}
        with self._telling_faults("start_time"):
            columns["start_time"] = datetime.fromtimestamp(self._process.create_time(), UTC)
        with self._telling_faults("memory_usage_mb"):
            columns["memory_usage_mb"] = self._process.memory_info().rss / 2**20
        with self._telling_faults("cpu_percent"):
            columns["cpu_percent"] = self._cpu_percent()
        with self._telling_faults("database_connections"):
            # The writer's, the only one of a log; it is closed as soon as there is a fault.
            columns["database_connections"] = self._log.database_connections
        with self._telling_faults("active_tasks"):
            columns["active_tasks"] = condensed(await _task_names())
        columns["last_heartbeat"] = now()
        self._log.offer(PROCESS_REGISTRY, columns)

    @contextmanager
    def _telling_faults(self, column: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._log.tell(f"heartbeat {column}", f"{column} of a heartbeat can't be measured: {error!r}")

    @cached_property
    def _process(self) -> psutil.Process:
        return psutil.Process()

    def _cpu_percent(self) -> float | None:
        moment, used = time.monotonic(), time.process_time()
        span, used_in_span = moment - self._cpu_seen[0], used - self._cpu_seen[1]
        if span < SHORTEST_CPU_SPAN:
            return None
        self._cpu_seen = moment, used
        return 100 * used_in_span / span


def _next_due(due: float, interval: float, now: float) -> float:
    """
    Return when the heartbeat after the one that was ``due`` is due.

    Counted from then, and not from when it came, so that lateness doesn't add up. Heartbeats
    that were missed meanwhile aren't made up for.

    """
    return max(due + interval, now)


async def _task_names() -> Counter[str]:
    """Return the names of the running tasks, and how many have each."""
    names: Counter[str] = Counter()
    for number, task in enumerate(asyncio.all_tasks(), 1):
        names[_name_of(task)] += 1
        if number % TASKS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return names


def _name_of(task: asyncio.Task[Any]) -> str:
    name = task.get_name()
    if not (name.startswith("Task-") and name[5:].isdecimal()):
        return name
    # Not each kind of coroutine has a name.
    return getattr(task.get_coro(), "__qualname__", None) or name


def condensed(names: Counter[str], width: int = LIST_WIDTH) -> list[str]:
    """
    Return names with their counts, the most frequent first, as a list whose JSON fits a column.

    Args:
        names: How many tasks have each name.
        width: What the JSON may take, in UTF-16 units. What doesn't fit is counted in the last
            entry: ``"… 12 more"``.

    """
    entries: list[str] = []
    left_out = names.total()
    room = width - len("[]") - MORE_WIDTH
    # No entry takes less than two quotes and a comma.
    for name, count in heapq.nsmallest(width // 3, names.items(), key=lambda item: (-item[1], item[0])):
        entry = fit_text(as_text(name, NAME_WIDTH), NAME_WIDTH) + (f" {TIMES}{count}" if count > 1 else "")
        room -= _json_units(entry) + len(",")
        if room < 0:
            break
        entries.append(entry)
        left_out -= count
    return [*entries, f"… {left_out} more"] if left_out else entries


def _json_units(text: str) -> int:
    return len(orjson.dumps(text).decode().encode("utf-16-le")) // 2
