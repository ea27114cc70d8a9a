"""Watermarks: up to where somebody has read who reads by LOG_SEQ. What is above the lowest isn't pruned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from .database import Database
from .pruning_sql import NEWEST
from .values import time_text

__all__ = ["Watermark", "check_name", "drop_watermark", "read_watermarks", "set_watermark"]

MAX_NAME = 100

# Who says the same again hasn't moved, unless there is no more to read.
_SET = """
INSERT INTO ENGINE_LOG_WATERMARK (NAME, LOG_SEQ, DT_MOVED) VALUES (?1, ?2, ?3)
ON CONFLICT (NAME) DO UPDATE SET
    DT_MOVED = iif(LOG_SEQ <> excluded.LOG_SEQ OR excluded.LOG_SEQ = ?4, excluded.DT_MOVED, DT_MOVED),
    LOG_SEQ = excluded.LOG_SEQ
"""


class Watermark(NamedTuple):
    """
    A reader, and the LOG_SEQ up to which it has read.

    ``moved`` is when it last read on, or said that there was no more; UTC, as it is stored.

    """

    name: str
    log_seq: int
    moved: str

    def is_stale(self, newest: int, now: datetime, age: timedelta) -> bool:
        """Tell whether it is behind the newest LOG_SEQ, and hasn't moved for so long."""
        return self.log_seq < newest and self.moved < _text(now - age)


def check_name(name: str) -> str:
    """
    Return the name of a watermark.

    Raises:
        ValueError: If it is empty, too long, or can't be shown.

    """
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise ValueError(
            f"{name!r} can't be the name of a watermark; pass 1 to {MAX_NAME} characters that show"
        )
    return name


async def read_watermarks(database: Database) -> list[Watermark]:
    """Return all watermarks, the lowest first."""
    rows = await database.fetch(
        "SELECT NAME, LOG_SEQ, DT_MOVED FROM ENGINE_LOG_WATERMARK ORDER BY LOG_SEQ, NAME"
    )
    return [Watermark(*row) for row in rows]


async def set_watermark(database: Database, name: str, log_seq: int) -> int | None:
    """
    Say that a reader has read all up to ``log_seq``, itself included, and return what it had said before.

    Raises:
        ValueError: If the name can't be one, or so high a LOG_SEQ was never given.
        StorageError: If it can't be committed now.

    """
    check_name(name)
    await database.execute("BEGIN IMMEDIATE")
    [(newest,)] = await database.fetch(NEWEST)
    before = await database.fetch("SELECT LOG_SEQ FROM ENGINE_LOG_WATERMARK WHERE NAME = ?", (name,))
    if not 0 <= log_seq <= newest:
        await database.roll_back()
        raise ValueError(f"LOG_SEQ {log_seq:,} was never given; pass 0 to {newest:,}, which is the newest")
    await database.execute(_SET, (name, log_seq, _text(datetime.now(UTC)), newest))
    await database.commit()
    return before[0][0] if before else None


async def drop_watermark(database: Database, name: str) -> bool:
    """Forget a reader, and tell whether there was one of this name: it keeps nothing any more."""
    dropped = await database.fetch("DELETE FROM ENGINE_LOG_WATERMARK WHERE NAME = ? RETURNING NAME", (name,))
    await database.commit()
    return bool(dropped)


def _text(moment: datetime) -> str:
    return time_text(moment.isoformat(timespec="microseconds"))
