"""What a doubter does to the library, to see whether the attacks notice: set up in each victim."""

from __future__ import annotations

import time
from itertools import count
from typing import Any

from async_enginelog.database import Database
from async_enginelog.spool import Spool
from async_enginelog.writer import Writer

from .victim import Victim

__all__ = ["call_raises", "call_waits", "loop_waits", "never_syncs"]

# Of so many rows, one.
ROWS = 500
# For so long, in seconds.
WAIT = 0.3


def call_waits(victim: Victim) -> None:
    """Have a call wait, as for a disk, now and then."""
    append, rows = Spool.append, count(1)

    def waiting(spool: Spool, line: bytes) -> bool:
        if next(rows) % ROWS == 0:
            time.sleep(WAIT)
        return append(spool, line)

    setattr(Spool, "append", waiting)  # noqa: B010


def call_raises(victim: Victim) -> None:
    """Have a call fail, as if the disk had, now and then."""
    append, rows = Spool.append, count(1)

    def failing(spool: Spool, line: bytes) -> bool:
        if next(rows) % ROWS == 0:
            raise OSError("the disk fails")
        return append(spool, line)

    setattr(Spool, "append", failing)  # noqa: B010


def loop_waits(victim: Victim) -> None:
    """Have the writer wait on the loop, where nobody's call does."""
    take_note = Writer._take_note

    def waiting(writer: Writer) -> None:
        if writer._spool.appended:
            time.sleep(WAIT)
        take_note(writer)

    setattr(Writer, "_take_note", waiting)  # noqa: B010


def never_syncs(victim: Victim) -> None:
    """Have SQLite leave it to the kernel when what was committed reaches the disk."""
    open_database = Database.open

    async def careless(*arguments: Any, **options: Any) -> Database:
        database = await open_database(*arguments, **options)
        await database.execute("PRAGMA synchronous = OFF")
        return database

    setattr(Database, "open", careless)  # noqa: B010
