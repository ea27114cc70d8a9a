"""A wait is told apart from a thread that computes, and from one that has to wait for the GIL."""

from __future__ import annotations

import threading
import time

import pytest

from .waits import CAN_TELL, Stopwatch

pytestmark = pytest.mark.skipif(not CAN_TELL, reason="only Linux tells for how long a thread has slept")

WAIT = 0.05


def compute(seconds: float) -> None:
    """Keep the GIL for so long, as far as others let one."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_wait_is_found() -> None:
    """A thread that sleeps, for whatever reason, is found to."""
    with Stopwatch() as watch:
        watch.start()
        time.sleep(WAIT)
        watch.stop()
    assert watch.asleep / 1e9 > WAIT / 2
    assert watch.cpu / 1e9 < WAIT / 2


def test_a_wait_for_the_gil_is_none() -> None:
    """A thread that others keep from the GIL doesn't wait."""
    others = [threading.Thread(target=compute, args=(4 * WAIT,)) for _ in range(3)]
    with Stopwatch() as watch:
        for other in others:
            other.start()
        watch.start()
        compute(WAIT)
        watch.stop()
        for other in others:
            other.join()
    assert watch.cpu / 1e9 > WAIT / 2
    assert watch.asleep / 1e9 < WAIT / 2
