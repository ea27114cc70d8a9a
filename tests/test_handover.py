"""Threads get the GIL from a busy event loop."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from async_enginelog.handover import hand_over


async def test_result_and_exception() -> None:
    """What the call returns or raises is what the caller gets."""
    assert await hand_over(asyncio.to_thread(lambda: 17)) == 17
    with pytest.raises(ZeroDivisionError):
        await hand_over(asyncio.to_thread(lambda: 1 // 0))


async def test_cancelling_cancels_the_call() -> None:
    """Cancelling the caller cancels what it waits for."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(hand_over(future))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert future.cancelled()


async def test_thread_gets_its_turns_beside_a_busy_loop() -> None:
    """A thread that needs the GIL again and again ends although the loop never rests by itself."""
    done = threading.Event()

    async def compute() -> None:
        while not done.is_set():
            end = time.perf_counter() + 0.0002
            while time.perf_counter() < end:
                pass
            await asyncio.sleep(0)

    def work() -> None:
        for _ in range(200):
            time.sleep(0)  # gives up the GIL, and wants it back
        done.set()

    computing = asyncio.create_task(compute())
    try:
        async with asyncio.timeout(60):
            await hand_over(asyncio.to_thread(work))
    finally:
        done.set()
        await computing


async def test_idle_loop_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that was idle in the beginning may be busy later."""
    rests: list[float] = []
    monkeypatch.setattr("async_enginelog.handover.LOOK_AGAIN", 0.001)
    monkeypatch.setattr("async_enginelog.handover.time.sleep", rests.append)
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(hand_over(future))
    await asyncio.sleep(0.05)
    for _ in range(20):
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass
        await asyncio.sleep(0)
    future.set_result(None)
    await task
    assert rests
