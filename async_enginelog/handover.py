"""See to it that threads get the GIL from a busy event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

__all__ = ["hand_over"]

T = TypeVar("T")

# A turn of the event loop longer than this, in seconds, keeps threads from the GIL.
BUSY_TURN = 50e-6
# How long the loop then rests: long enough for a thread to wake up and take it.
REST = 50e-6
# How soon to look again whether a loop that was idle still is, in seconds.
LOOK_AGAIN = 0.002


async def hand_over(call: Awaitable[T]) -> T:
    """
    Await what a thread does, and see to it that the thread gets the GIL.

    An event loop that is busy with many short turns releases the GIL in each, but takes it
    again before a waiting thread has woken up, and never keeps it long enough for that thread to
    demand it: the thread starves, for seconds if need be. So while the loop is busy and the
    thread at work, the loop rests in each turn for a moment. Measured with SQLite's thread and turns
    of 0.2 ms: 195,000 rows a second instead of 400.

    Cancelling cancels ``call``, in the task of the caller.

    """
    rests = _Rests(asyncio.get_running_loop())
    try:
        return await call
    finally:
        rests.end()


class _Rests:
    """Make the loop rest for a moment in each busy turn, until the end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.Handle
        self._begin_turn()

    def _begin_turn(self) -> None:
        self._began = self._loop.time()
        self._handle = self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        if self._loop.time() - self._began < BUSY_TURN:
            # An idle loop waits without the GIL.
            self._handle = self._loop.call_later(LOOK_AGAIN, self._begin_turn)
        else:
            time.sleep(REST)
            self._begin_turn()

    def end(self) -> None:
        self._handle.cancel()
