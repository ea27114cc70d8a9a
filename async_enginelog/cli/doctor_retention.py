"""What the doctor is told of retention: asked of a database that is only read."""

from __future__ import annotations

from typing import NamedTuple

from ..database import Database
from ..pruning import INCREMENTAL
from ..pruning_sql import NEWEST
from ..watermarks import Watermark, read_watermarks

__all__ = ["Retention", "look_at_retention"]


class Retention(NamedTuple):
    """
    What a database says of retention.

    Attributes:
        watermarks: The lowest first.
        newest_log_seq: The highest LOG_SEQ that was given.
        auto_vacuum: SQLite's word for whether the file can become smaller.
        being_pruned: How many recordings are deleted in part.

    """

    watermarks: tuple[Watermark, ...] = ()
    newest_log_seq: int = 0
    auto_vacuum: int = INCREMENTAL
    being_pruned: int = 0


async def look_at_retention(database: Database) -> Retention:
    """Return what a database says; nothing of one that is older than the tables."""
    [(auto_vacuum,)] = await database.fetch("PRAGMA auto_vacuum")
    there = {name for (name,) in await database.fetch("SELECT name FROM sqlite_schema")}
    if not {"ENGINE_LOG_WATERMARK", "ENGINE_LOG_PRUNING"} <= there:
        return Retention(auto_vacuum=auto_vacuum)
    [(newest,)] = await database.fetch(NEWEST)
    [(being_pruned,)] = await database.fetch("SELECT count(*) FROM ENGINE_LOG_PRUNING")
    return Retention(tuple(await read_watermarks(database)), newest, auto_vacuum, being_pruned)
