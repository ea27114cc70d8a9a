"""How busy the machine is, measured again and again in a thread of its own."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil

from ..enginelog import EngineLog
from ..tables import RESOURCE_MONITOR
from .connections import now

__all__ = ["SHORTEST_INTERVAL", "MachineMonitor"]

# To measure takes half a millisecond of CPU.
SHORTEST_INTERVAL = 0.01

# How long to wait for the thread in the end, in seconds: longer only if the system hangs.
PATIENCE = 1.0


class MachineMonitor:
    """
    Log a row in ENGINE_DB_LOG_RESOURCE_MONITOR every ``interval`` seconds, the first after the first of them.

    What the system is asked may take its time, on a disk that hangs, say. So it is asked in a daemon
    thread, and the event loop never waits for it. What can't be measured is told on the logger
    ``async_enginelog``, and the rest is logged. It ends by itself when the log is closed.

    Args:
        log: An open log.
        interval: Seconds from one row to the next.

    Raises:
        ValueError: If ``interval`` isn't a number, or is less than 0.01.

    """

    def __init__(self, log: EngineLog, interval: float) -> None:
        if not isinstance(interval, int | float) or not SHORTEST_INTERVAL <= interval <= sys.float_info.max:
            raise ValueError(
                f"resources is {interval!r}; pass a number of seconds, at least {SHORTEST_INTERVAL}, or None"
            )
        self._log = log
        self._interval = interval
        # Of the last start.
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to measure. Never raises; if the system gives no thread, that is told."""
        self._stopped = threading.Event()
        thread = threading.Thread(
            target=self._watch, args=(self._stopped,), name="enginelog-resources", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            self._log.tell("resources", f"how busy the machine is can't be logged: {error}")
        else:
            self._thread = thread

    async def stop(self) -> None:
        """Measure no more; return when the last row is logged. Cancelling is safe; it may start again."""
        self._stopped.set()
        deadline = time.monotonic() + PATIENCE
        # The end of a thread can't be waited for in any other way without another thread.
        while self._thread is not None and self._thread.is_alive() and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    def _watch(self, stopped: threading.Event) -> None:
        self._measure()  # the CPU is measured from here on
        due = time.monotonic()
        while True:
            # Counted from when it was due, so that lateness doesn't add up.
            due = max(due + self._interval, time.monotonic())
            if stopped.wait(min(due - time.monotonic(), threading.TIMEOUT_MAX)):
                return
            columns = self._measure()
            if not self._log.is_open:
                return
            self._log.offer(RESOURCE_MONITOR, columns)

    def _measure(self) -> dict[str, Any]:
        columns: dict[str, Any] = {"dt_measurement": now()}
        for measure in _MEASURES:
            try:
                columns |= measure()
            except Exception as error:
                name = measure.__name__.strip("_")
                self._log.tell(f"resources {name}", f"{name} of the machine can't be measured: {error!r}")
        return columns


def _cpu() -> dict[str, float]:
    # Of all CPUs, since this thread asked before.
    return {"cpu_percent": psutil.cpu_percent()}


def _memory() -> dict[str, float]:
    memory = psutil.virtual_memory()
    return {"memory_percent": memory.percent, "memory_available_gb": memory.available / 2**30}


def _disks() -> dict[str, int]:
    moved = psutil.disk_io_counters()
    # A machine may have none.
    return {} if moved is None else {"disk_io_total_bytes": moved.read_bytes + moved.write_bytes}


def _threads() -> dict[str, int]:
    return {"thread_count": psutil.Process().num_threads()}


_MEASURES: tuple[Callable[[], dict[str, Any]], ...] = (_cpu, _memory, _disks, _threads)
