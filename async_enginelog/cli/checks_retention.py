"""What the doctor checks of retention: readers that hold rows back, room that can't be given back. No I/O."""

from __future__ import annotations

from datetime import timedelta

from ..pruning import INCREMENTAL
from .common import plural
from .doctor_facts import Finding, Findings, Level, Log, quoted
from .doctor_times import seconds
from .prune_report import CONVERT

__all__ = ["broken_pruning", "gives_room_back", "watermark"]

# A reader that moves on reads several times a day; a week is more than a long weekend.
STALE = timedelta(days=7)


def watermark(log: Log) -> Findings:
    """A reader that doesn't read any more keeps rows from being pruned, until the disk is full."""
    for mark in log.retention.watermarks:
        if mark.is_stale(log.retention.newest_log_seq, log.now, STALE):
            behind = log.retention.newest_log_seq - mark.log_seq
            yield Finding(
                f"the watermark {mark.name} stands at LOG_SEQ {mark.log_seq:,} since {seconds(mark.moved)}, "
                f"{behind:,} behind the newest",
                "nothing above it is pruned, whatever its age, so the file grows until it is read on",
                "have the reader go on, or if there is none any more: "
                f"enginelog watermark {quoted(log.path)} --drop {quoted(mark.name)}",
            )


def gives_room_back(log: Log) -> Findings:
    """What is pruned makes a file smaller only if it was made for that."""
    if log.retention.auto_vacuum != INCREMENTAL:
        yield Finding(
            "the file never becomes smaller: it was made by a version before 1.0",
            "what is deleted leaves room for new rows in it, but gives none back to the disk",
            f'stop the engine, then, once: sqlite3 {quoted(log.path)} "{CONVERT}"',
            Level.NOTE,
        )


def broken_pruning(log: Log) -> Findings:
    """A pruning that was broken off within a large recording is brought to an end by the next."""
    if log.retention.being_pruned:
        yield Finding(
            f"{plural(log.retention.being_pruned, 'recording')} (ENGINE_LOG_PRUNING) is deleted in part",
            "a pruning is under way, or was broken off; rows of it are there, its own row isn't",
            f"prune again, it goes on where it was: enginelog prune {quoted(log.path)} --older-than 30d",
            Level.NOTE,
        )
