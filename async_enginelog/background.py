"""Daemon threads that do jobs, so that the event loop never waits for a disk or an analyser."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

__all__ = ["NO_MEMORY_DELAY", "Background"]

T = TypeVar("T")

# How soon a thread that found no memory tries again, in seconds.
NO_MEMORY_DELAY = 0.001

_Jobs: TypeAlias = "SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]"


class Background:
    """
    Run jobs one after the other in a thread of their own, or side by side in several.

    A thread starts with a job, as long as there are fewer. They are daemons: a disk, a
    console or an analyser that hangs can't keep the process from ending. If no further thread can be
    started, those that run do its jobs.

    Args:
        name: The name of each thread.
        threads: How many there may be.

    """

    def __init__(self, name: str, threads: int = 1) -> None:
        self._name = name
        self._max_threads = threads
        self._jobs: _Jobs = SimpleQueue()
        self._threads: list[threading.Thread] = []
        # Reentrant: while it is held, Python may throw something away that submits a job as it ends.
        self._lock = threading.RLock()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """
        Queue ``job``; any thread may call this. The future gets its result or exception.

        Raises:
            RuntimeError: If there is no thread, and none can be started.

        """
        future: Future[T] = Future()
        with self._lock:
            self._start_thread()
            self._jobs.put((future, job))
        return future

    def add_thread(self) -> None:
        """Let one more thread work, in place of one that hangs."""
        with self._lock:
            self._max_threads += 1
            self._start_thread()

    def _start_thread(self) -> None:
        if len(self._threads) >= self._max_threads:
            return
        thread = threading.Thread(target=_work, args=(self._jobs,), name=self._name, daemon=True)
        try:
            # Python 3.11 would wait for good for the thread to start; later ones refuse by themselves.
            if sys.is_finalizing():
                raise RuntimeError("can't create a thread at the end of the interpreter")
            thread.start()
        except RuntimeError:  # the system gives no more
            if not self._threads:
                raise
        else:
            self._threads.append(thread)

    def close(self, timeout: float) -> None:
        """Let the threads end after the jobs that wait; wait for them up to ``timeout`` seconds."""
        with self._lock:
            threads, self._threads = self._threads, []
            # Later jobs get threads and a queue of their own: these may hang.
            jobs, self._jobs = self._jobs, SimpleQueue()
        for _ in threads:
            jobs.put(None)
        deadline = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _work(jobs: _Jobs) -> None:
    while _do_next(jobs):
        pass


def _do_next(jobs: _Jobs) -> bool:
    """Do one job, and keep nothing of it; tell whether there may be more."""
    entry = _next_job(jobs)
    if entry is None:
        return False
    future, job = entry
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(job())
        except BaseException as error:
            future.set_exception(error)
    return True


def _next_job(jobs: _Jobs) -> tuple[Future[Any], Callable[[], Any]] | None:
    while True:
        try:
            return jobs.get()
        except MemoryError:  # who ends now isn't replaced
            time.sleep(NO_MEMORY_DELAY)
