"""
What SQLite has open in this process, and what becomes of it when nobody closes it.

A loop may be closed under its connection, the process may end, and it may fork: no lock is left, and
nothing hangs.

"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Handle", "Stoppable", "is_open_here", "stop", "stop_at_exit", "tidy_up"]

# Who forks waits so long, in seconds, for what SQLite is at.
FORK_PATIENCE = 0.25


class Stoppable(Protocol):
    """A connection of aiosqlite's."""

    def stop(self) -> object:
        """Have its thread close it and end; waits for nothing."""


# Connections whose threads run, or may. As a signal handler can raise anything at any line, each is noted
# before its thread starts and forgotten after that was told to stop; and held, as Python would throw away a
# connection that is half open without a word to its thread.
_running_loops: dict[Stoppable, asyncio.AbstractEventLoop] = {}
_guard: threading.Thread | None = None
_inherited: list[Any] = []


class Handle(sqlite3.Connection):
    """What SQLite has open, and the thread that uses it; a script may be a function that is called there."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.name = str(arguments[0])
        self.thread = threading.current_thread()
        # Held while SQLite is at work; see _halt().
        self.at_work = threading.RLock()
        with _handles_lock:
            _handles.add(self)

    def execute(self, *statement: Any) -> sqlite3.Cursor:
        """Execute a statement; a fork waits for it, as for what follows."""
        with self.at_work:
            return super().execute(*statement)

    def executescript(self, script: Any, /) -> sqlite3.Cursor:
        """Execute a script, or call it with this connection."""
        with self.at_work:
            if not callable(script):
                return super().executescript(script)
            script(self)
        return self.cursor()

    def commit(self) -> None:
        """Commit what was written."""
        with self.at_work:
            super().commit()


_handles: weakref.WeakSet[Handle] = weakref.WeakSet()
# Reentrant: whatever runs while it is held may fork, as signal handlers do.
_handles_lock = threading.RLock()


def is_open_here(path: Path) -> bool:
    """Tell whether a connection of this process has a database open, whose locks are those of the process."""
    handles = _known_handles()
    names = {str(path), path.absolute().as_uri()}
    return any(handle.thread.is_alive() and handle.name.partition("?")[0] in names for handle in handles)


def tidy_up() -> None:
    """
    Close what closed loops left open.

    When a loop is closed while a statement is under way, aiosqlite's thread dies of it, and leaves the
    transaction as it is: locked, for as long as anything refers to the connection.

    """
    for connection, loop in list(_running_loops.items()):
        if loop.is_closed():
            stop(connection)
    for handle in _known_handles():
        if not handle.thread.is_alive():
            handle.close()


def stop_at_exit(connection: Stoppable) -> None:
    """
    See to it that a connection that nobody closes doesn't hang the exit of the interpreter.

    The interpreter waits for aiosqlite's thread, which waits for a connection to be closed.
    So a daemon thread waits for the main thread to end, and tells those connections to stop
    whose event loop doesn't run any more.

    """
    global _guard
    _running_loops[connection] = asyncio.get_running_loop()
    if _guard is None or not _guard.is_alive():
        _guard = threading.Thread(target=_stop_connections, name="enginelog-exit", daemon=True)
        _guard.start()


def stop(connection: Stoppable) -> None:
    """Have the thread of a connection close it and end, unless it has; never waits."""
    connection.stop()
    _running_loops.pop(connection, None)


def _stop_connections() -> None:
    threading.main_thread().join()
    while True:
        for connection, loop in list(_running_loops.items()):
            if not loop.is_running():
                stop(connection)
        time.sleep(0.05)


def _halt() -> None:
    """
    Let SQLite do nothing in a fork, but don't wait for it for long.

    A child inherits the locks that SQLite holds at the moment, on its own memory and on the file, and nobody
    who would give them up: it would hang when it opens a database, or find its own locked for ever.

    """
    deadline = time.monotonic() + FORK_PATIENCE
    for handle in _known_handles():
        handle.at_work.acquire(timeout=max(0.0, deadline - time.monotonic()))


def _go_on() -> None:
    for handle in _known_handles():
        with suppress(RuntimeError):  # of those that weren't halted in time
            handle.at_work.release()


def _known_handles() -> list[Handle]:
    with _handles_lock:
        return list(_handles)


def _keep_inherited() -> None:
    """Never touch the parent's connections in a forked child, not even to delete them."""
    # https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_
    global _handles_lock
    _handles_lock = threading.RLock()  # the parent's may have been held in the fork
    _inherited.extend(_running_loops)
    _inherited.extend(_handles)
    _running_loops.clear()
    _handles.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_halt, after_in_parent=_go_on, after_in_child=_keep_inherited)
