"""
The last resort: what can't be kept on the disk is said on the console, off the event loop.

Warnings go to the logger ``async_enginelog``; rows that the spool can't take go to
standard error, each as one line that ``enginelog replay`` finds again in any capture::

    enginelog-row 1763872243 17 ["ENGINE_DB_LOG_STEPS",{"step_name":"resample"}]

that is, the run, the number of the row among those the run put on the console, the row.

"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .background import NO_MEMORY_DELAY, Background
from .terminal import harmless

__all__ = ["Console", "ConsoleRow", "rows_in"]

logger = logging.getLogger("async_enginelog")

# What a row begins with.
MARK = "enginelog-row"
# Mark, run and number take about so many bytes.
HEAD_BYTES = 40

# Lines that may wait for a console that doesn't read. A line has at most 64 KiB, commonly
# 300 bytes.
MAX_WAITING = 10_000

# So many bytes of rows are written at once: what Linux writes to a pipe as a whole. One row at a time would
# be slower, and a process that is killed would take more of them along.
MAX_BYTES = 4096

# The same trouble is told again after so many seconds.
QUIET = 30.0


class ConsoleRow(NamedTuple):
    """A row found in a console capture."""

    run: int
    number: int
    line: bytes


class Console:
    """
    Say things on the console without waiting for it. Any thread may call it.

    Attributes:
        rows: Rows that were put on the console.
        dropped: Rows that found no place at all, as the console didn't take them either.

    """

    def __init__(self) -> None:
        self.rows = 0
        self.dropped = 0
        # Rows with their runs and numbers, those just being written included.
        self._rows: deque[ConsoleRow] = deque()
        self._is_writing = False
        self._last_number = 0
        # Reentrant: while it is held, Python may throw something away that logs as it ends.
        self._lock = threading.RLock()
        self._background = Background("enginelog-console")
        self._last_warnings: dict[str, float] = {}

    def put_row(self, run: int, line: bytes) -> bool:
        """Queue a row for standard error; tell whether there was room for it."""
        with self._lock:
            if len(self._rows) >= MAX_WAITING:
                self.dropped += 1
                return False
            self._rows.append(ConsoleRow(run, self._last_number + 1, line))
            self.rows += 1
            self._last_number += 1
            if not self._is_writing:
                self._background.submit(self._write_all)
                self._is_writing = True
        return True

    def _write_all(self) -> None:
        while True:
            try:
                if not self._write_some():
                    return
            except MemoryError:  # the rows stay where they are, until there is some
                time.sleep(NO_MEMORY_DELAY)

    def _write_some(self) -> bool:
        """Write some of the rows that wait; tell whether there were any."""
        with self._lock:
            rows = self._next_rows()
            if not rows:
                self._is_writing = False
                return False
        written = _write(rows)
        with self._lock:
            for _ in rows:
                self._rows.popleft()
            self.rows -= len(rows) - written
            self.dropped += len(rows) - written
        return True

    def _next_rows(self) -> list[ConsoleRow]:
        rows: list[ConsoleRow] = []
        size = 0
        for row in self._rows:
            size += len(row.line) + HEAD_BYTES
            if rows and size > MAX_BYTES:
                break
            rows.append(row)
        return rows

    def warn(self, subject: str, message: str) -> None:
        """Log ``message``, unless ``subject`` was warned of a short while ago."""
        now = time.monotonic()
        if now - self._last_warnings.get(subject, -QUIET) >= QUIET:
            self._last_warnings[subject] = now
            self._log(message)

    def works_again(self, subject: str, message: str) -> None:
        """Log that what :meth:`warn` told is over."""
        if self._last_warnings.pop(subject, None) is not None:
            self._log(message)

    def _log(self, message: str) -> None:
        # It may quote what a client sent: that neither moves a terminal's cursor nor is taken for a row.
        plain = harmless(message).replace(MARK, "enginelog\\x2drow")
        self._background.submit(lambda: logger.warning("%s", plain))

    def close(self, timeout: float) -> None:
        """Wait until all is said, up to ``timeout`` seconds."""
        self._background.close(timeout)


def _write(rows: list[ConsoleRow]) -> int:
    """Write rows to standard error; return how many were."""
    texts = [text for row in rows if (text := _text_of(row))]
    try:
        sys.stderr.write("".join(texts))
        sys.stderr.flush()
    except MemoryError:
        raise
    except Exception:  # closed, none at all, or somebody's own
        return 0
    return len(texts)


def _text_of(row: ConsoleRow) -> str | None:
    try:
        return f"{MARK} {row.run} {row.number} {_ascii(row.line.decode().rstrip())}\n"
    except UnicodeDecodeError:  # damage
        return None


def _ascii(line: str) -> str:
    """Return a JSON line that survives any encoding the console may have, and does a terminal no harm."""
    return re.sub(r"[^ -~]", lambda match: json.dumps(match[0])[1:-1], line)


def rows_in(capture: Iterable[bytes]) -> Iterator[ConsoleRow]:
    """
    Find the rows in the lines of a console capture, whatever stands before or behind them.

    A row that was cut, or mixed with other output, isn't found; the caller can tell by
    the gap in the numbers.

    """
    for text in capture:
        for match in re.finditer(rb'enginelog-row (\d{1,18}) (\d{1,18}) (?=\[")', text):
            if line := _row_at_start(text[match.end() :]):
                yield ConsoleRow(int(match[1]), int(match[2]), line)


def _row_at_start(text: bytes) -> bytes | None:
    characters = text.decode("utf-8", "surrogateescape")
    try:
        row, end = json.JSONDecoder().raw_decode(characters)
    except (ValueError, RecursionError):
        return None
    whole = len(row) == 2 and isinstance(row[0], str) and isinstance(row[1], dict)
    return characters[:end].encode("utf-8", "surrogateescape") if whole else None
