"""
How long a thread was made to wait, told apart from a machine that is busy with others.

Of the time that passes on the wall, a thread computes for a part, and waits for a processor for another: that
is the machine's doing, and Linux counts both. The rest it sleeps, as something isn't ready: a disk, a lock, a
timer. Or the GIL. But who waits for that wakes up every 5 ms to ask for it, which is a *voluntary context
switch* each time; who waits for a disk is switched once. So of each switch, 5 ms are forgiven, and no more.
What isn't found is a wait made of many that are shorter than that.

"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .record import Record

__all__ = ["BOUND", "CAN_TELL", "Stopwatch", "watch_turns"]

# No call may compute for so long, and neither a call nor a turn of the loop may wait for so long, in seconds.
# Nothing of the log's own comes near it; but a new page of the spool waits while the file system is busy with
# its journal, on a machine whose other programs keep its disk busy: 0.12 s once in hundreds of runs.
BOUND = 0.25

_SCHEDULER = Path("/proc/thread-self/schedstat")

# Elsewhere, nobody counts all of this; there, only the time of the processor is judged.
CAN_TELL = sys.platform == "linux" and _SCHEDULER.exists()

if CAN_TELL:
    import resource

# In nanoseconds; a tenth more, as a timer is never early.
_GIL = int(sys.getswitchinterval() * 1.1e9)


class Stopwatch:
    """
    Measure what the thread that makes it does, again and again.

    Attributes:
        cpu: For how long it computed, in nanoseconds.
        asleep: For how long it slept, waits for the GIL left out.

    """

    def __init__(self) -> None:
        self.cpu = self.asleep = 0
        self._file = os.open(_SCHEDULER, os.O_RDONLY) if CAN_TELL else -1

    def __enter__(self) -> Stopwatch:
        return self

    def __exit__(self, *_: object) -> None:
        if CAN_TELL:
            os.close(self._file)

    def start(self) -> None:
        """Begin to measure."""
        if CAN_TELL:
            self._switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
            self._scheduled = os.pread(self._file, 100, 0)
        self._cpu = time.thread_time_ns()
        self._wall = time.perf_counter_ns()

    def stop(self) -> None:
        """End; the attributes say what came of it."""
        wall = time.perf_counter_ns() - self._wall
        self.cpu = time.thread_time_ns() - self._cpu
        self.asleep = 0
        # Most take microseconds, and need no further thought.
        if CAN_TELL and wall - self.cpu > _GIL:
            switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - self._switches
            queued = _queued(os.pread(self._file, 100, 0)) - _queued(self._scheduled)
            if switches:
                self.asleep = max(0, wall - self.cpu - queued - switches * _GIL)


def _queued(scheduled: bytes) -> int:
    """Return for how long a thread has waited for a processor."""
    # https://docs.kernel.org/scheduler/sched-stats.html
    return int(scheduled.split()[1])


def watch_turns(loop: asyncio.AbstractEventLoop, record: Record) -> None:
    """
    Measure each turn of a loop, and write down the longest that it was made to wait in one.

    In those of the log, and all others: the engine under attack has none that waits, but where it is told to
    block its loop. Other loops than those of asyncio itself don't run what is measured here.

    """
    watch, run = Stopwatch(), asyncio.Handle._run

    def measured(handle: Any) -> None:
        if handle._loop is not loop or handle._callback is time.sleep:
            run(handle)
            return
        try:
            watch.start()
        finally:  # a signal handler may raise anywhere; the turn must not be skipped for it
            run(handle)
        watch.stop()
        record.turn_wait = max(record.turn_wait, watch.asleep)

    setattr(asyncio.Handle, "_run", measured)  # noqa: B010 - mypy would have it as it is
