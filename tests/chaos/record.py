"""
The attacker's own record of what a victim did: a small file that both have mapped into memory.

The victim writes down that a call begins, and that it has returned. The kernel keeps what was written,
however the victim dies. Nothing of this goes through the log.

"""

from __future__ import annotations

import mmap
from pathlib import Path

__all__ = ["MAX_STREAMS", "Record"]

MAX_STREAMS = 64
_HEAD = 16
_BYTES = 8 * (_HEAD + 2 * MAX_STREAMS)


def _slot(number: int) -> property:
    def get(self: Record) -> int:
        return self._slots[number]

    def put(self: Record, value: int) -> None:
        self._slots[number] = value

    return property(get, put)


class Record:
    """
    What a victim did, in numbers that survive it.

    Attributes:
        began: For each stream, the number of the last row whose call has begun.
        returned: For each stream, the number of the last row whose call has returned.
        stage: 0 before opening; 1 opening; 2 open; 3 closing; 4 closed.
        call_cpu: The longest call, or step of one that suspends, in nanoseconds of CPU time of its thread.
        call_wait: The longest that a call, or step of one, made its thread wait, in nanoseconds; see
            :mod:`~tests.chaos.waits`.
        turn_wait: The same for a turn of the loop, whoever's it was.
        calls: How many calls of tasks have returned.
        calls_cpu: What they took together, in nanoseconds of CPU time.
        stall: The longest time without a turn of the loop, in nanoseconds.
        dropped: What ``statistics().dropped`` said last.
        on_console: How many rows the log had put on the console when a call last returned.
        failed_calls: Calls that raised something other than LogClosed.
        in_asyncio: 1 if a signal handler raised while asyncio was at work, and not for the library.
        fire: Nanoseconds of the monotonic clock when an order was carried out.

    """

    stage = _slot(0)
    call_cpu = _slot(1)
    call_wait = _slot(2)
    stall = _slot(3)
    dropped = _slot(4)
    failed_calls = _slot(5)
    fire = _slot(6)
    calls = _slot(8)
    calls_cpu = _slot(9)
    turn_wait = _slot(10)
    on_console = _slot(11)
    in_asyncio = _slot(12)
    # For whatever an attack wants to know.
    extra = _slot(7)

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_BYTES))
        with path.open("r+b") as file:
            self._slots = memoryview(mmap.mmap(file.fileno(), _BYTES)).cast("q")
        self.began = self._slots[_HEAD : _HEAD + MAX_STREAMS]
        self.returned = self._slots[_HEAD + MAX_STREAMS :]

    def note_call(self, cpu: int, wait: int) -> None:
        """Take note of how long a call took, if none took longer."""
        if cpu > self.call_cpu:
            self.call_cpu = cpu
        if wait > self.call_wait:
            self.call_wait = wait
