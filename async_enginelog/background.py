"""A daemon thread that does small jobs in order, so that the event loop never waits for a disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

__all__ = ["Background"]

T = TypeVar("T")

_Jobs: TypeAlias = "SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]"


class Background:
    """
    Run jobs one after the other in a thread of their own.

    The thread starts with the first job. It is a daemon: a disk or a console that
    hangs can't keep the process from ending.

    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: _Jobs = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Queue ``job``; any thread may call this. The future gets its result or exception."""
        future: Future[T] = Future()
        with self._lock:
            self._jobs.put((future, job))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=_work, args=(self._jobs,), name=self._name, daemon=True
                )
                self._thread.start()
        return future

    def close(self, timeout: float) -> None:
        """Let the thread end after the jobs that wait; wait for it up to ``timeout`` seconds."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                # A later job gets a thread and a queue of its own: this thread may hang.
                self._jobs.put(None)
                self._jobs = SimpleQueue()
        if thread is not None:
            thread.join(timeout)


def _work(jobs: _Jobs) -> None:
    while (entry := jobs.get()) is not None:
        future, job = entry
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(job())
        except BaseException as error:
            future.set_exception(error)
