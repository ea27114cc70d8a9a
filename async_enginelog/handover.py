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


async def hand_over(call: Awaitable[T]) -> T:
    """
    Await what a thread does, and see to it that the thread gets the GIL.

    An event loop that is busy with many short turns releases the GIL in each, but takes it
    again before a waiting thread has woken up, and never keeps it long enough for that thread to
    demand it: the thread starves, for seconds if need be. So while the loop is busy and the
    thread at work, the loop rests in each turn for a moment. Measured with SQLite's thread and turns
    of 0.2 ms: 195,000 rows a second instead of 400.

    Cancelling cancels ``call``.

    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(_as_coroutine(call))
    try:
        while not task.done():
            before = loop.time()
            await asyncio.sleep(0)
            if loop.time() - before < BUSY_TURN:
                break  # the loop is idle: it waits without the GIL
            time.sleep(REST)  # noqa: ASYNC251  # that it blocks is the point
        return await task
    except asyncio.CancelledError:
        task.cancel()
        raise


async def _as_coroutine(call: Awaitable[T]) -> T:
    # aiosqlite's calls are awaitable, but no coroutines.
    return await call
