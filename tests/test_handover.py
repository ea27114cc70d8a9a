"""Threads get the GIL from a busy event loop."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from async_enginelog.handover import FIRST_TURN, LONGEST_TURN, REST, SHORT_TURN, Turns, hand_over


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


class TestTurns:
    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> Clock:
        """A clock that goes on only when told, or while somebody sleeps."""
        clock = Clock()
        monkeypatch.setattr("async_enginelog.handover.time.perf_counter", lambda: clock.now)
        monkeypatch.setattr("async_enginelog.handover.time.sleep", clock.sleep)
        return clock

    def test_thread_rests_when_its_turn_is_over(self, clock: Clock) -> None:
        """Not before, as each rest costs; and then anew."""
        turns = Turns()
        for turn in (FIRST_TURN, FIRST_TURN * 1.5):
            check_turn(turns, clock, turn)
            clock.rests.clear()

    def test_turns_become_longer(self, clock: Clock) -> None:
        """Who has a lot to do rests less often."""
        turns = Turns()
        for _ in range(10):
            clock.now += SHORT_TURN
            turns.give_way()
        clock.rests.clear()
        check_turn(turns, clock, SHORT_TURN)

    @pytest.mark.parametrize(
        ("kept", "turn"),
        [(0.0, FIRST_TURN * 1.5), (0.002, 0.002), (1.0, LONGEST_TURN), (0.0001, FIRST_TURN * 1.5)],
    )
    def test_turn_is_as_long_as_that_of_the_loop(self, clock: Clock, kept: float, turn: float) -> None:
        """Who kept the GIL for long is kept waiting for as long, within limits."""
        turns = Turns()
        clock.now += FIRST_TURN * 1.1
        clock.late = kept + REST
        turns.give_way()
        clock.rests.clear()
        check_turn(turns, clock, turn)


def check_turn(turns: Turns, clock: Clock, seconds: float) -> None:
    """Make sure that a turn is so long, not shorter and not longer."""
    clock.now += seconds * 0.9
    turns.give_way()
    assert clock.rests == []
    clock.now += seconds * 0.2
    turns.give_way()
    assert clock.rests == [REST]


class Clock:
    """A clock for tests, and what was slept by it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.late = 0.0
        self.rests: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Sleep for so long, and for how late the sleeper gets its turn again."""
        self.rests.append(seconds)
        self.now += seconds + self.late
