"""A SQLite handler for loggers that bring a thread of their own, and a thread for those that don't."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from ..rows import insert_sql, stored_values
from .base import COLLECT, Collected, grouped

__all__ = ["Sink", "SinkThread"]

# So many rows are written at once, or those of 200 ms.
BATCH_ROWS = 1000


class Sink:
    """
    Write rows in batches, with executemany in one transaction.

    Generous: handlers that one finds commit each row.

    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._rows: Collected = []
        self._written = time.monotonic()

    def add(self, table: str, columns: dict[str, Any]) -> None:
        """Take a row; write those that wait if they are many or old."""
        self._rows.append((table, tuple(columns), stored_values(columns)))
        if len(self._rows) >= BATCH_ROWS or time.monotonic() - self._written > COLLECT:
            self.write()

    def write(self) -> None:
        """Write and commit all rows that wait."""
        self._connection.execute("BEGIN IMMEDIATE")
        for (table, arguments), rows in grouped(self._rows).items():
            self._connection.executemany(insert_sql(table, arguments), rows)
        self._connection.execute("COMMIT")
        self._rows = []
        self._written = time.monotonic()

    def close(self) -> None:
        """Write what is left."""
        self.write()
        self._connection.close()


class SinkThread:
    """A sink with a queue and a thread before it."""

    def __init__(self, path: Path) -> None:
        self._sink = Sink(path)
        self._queue: queue.SimpleQueue[tuple[str, dict[str, Any]] | None] = queue.SimpleQueue()
        self.put = self._queue.put
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (row := self._queue.get()) is not None:
            self._sink.add(*row)
        self._sink.close()

    def close(self) -> None:
        """Write what is left."""
        self._queue.put(None)
        self._thread.join()
