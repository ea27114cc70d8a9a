"""
What a log keeps: limits of age, rows and bytes, and what they mean for a recording. Performs no I/O.

"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple, Self

__all__ = [
    "MIN_FILE_BYTES",
    "Facts",
    "Fate",
    "Keep",
    "Limits",
    "Pruned",
    "Room",
    "limits_of",
    "rows_that_fit",
]

# What a living run said of a thing within so long stays: more may be on the way.
SETTLED = timedelta(minutes=1)
# The same for a recording that nobody said the end of.
ABANDONED = timedelta(days=1)

# Several times what a log without a row takes.
MIN_FILE_BYTES = 1024 * 1024

# Rows take room in pages that aren't full, and a recording goes whole or not at all: who goes down
# to the limit itself would have to begin anew with the next row.
FILL = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """
    What a log keeps; of several limits, the first that is reached counts.

    What goes are whole recordings, and rows that belong to none, the oldest first. A recording that is
    still being written stays, and so does what a watermark says is yet to be read.

    Args:
        age: What is older than this goes.
        rows: So many of the newest rows are kept.
        file_bytes: So large the file of the database may be, roughly.

    Raises:
        ValueError: If there is no limit, or one is too low.
        TypeError: If one isn't of its type.

    """

    age: timedelta | None = None
    rows: int | None = None
    file_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.age is None and self.rows is None and self.file_bytes is None:
            raise ValueError("Keep() has no limit; pass age=, rows= or file_bytes=")
        if self.age is not None and not isinstance(self.age, timedelta):
            raise TypeError(f"age is {self.age!r}; pass a timedelta, such as timedelta(days=30)")
        if self.age is not None and self.age <= timedelta():
            raise ValueError(f"age is {self.age!r}; pass a timedelta above 0")
        _check_count("rows", self.rows, 1)
        _check_count("file_bytes", self.file_bytes, MIN_FILE_BYTES)

    @classmethod
    def of(cls, keep: Self | timedelta | None) -> Self | None:
        """
        Return what is meant by the setting ``keep``: a timedelta alone is the age.

        Raises:
            ValueError, TypeError: If it can't be meant.

        """
        if isinstance(keep, timedelta):
            return cls(age=keep)
        if keep is not None and not isinstance(keep, Keep):
            raise TypeError(
                f"keep is {keep!r}; pass a timedelta, or Keep() with one or more of age=, rows=, file_bytes="
            )
        return keep


def _check_count(name: str, value: object, least: int) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; pass a whole number")
    if value < least:
        raise ValueError(f"{name} is {value:,}; pass {least:,} or more")


class Room(NamedTuple):
    """How large a database is, how much of that is in use, and how much it would be without a row."""

    file_bytes: int
    used_bytes: int
    empty_bytes: int


def rows_that_fit(keep: Keep, rows: int, room: Room) -> int:
    """Return how many of ``rows``, which take that much room, are kept."""
    kept = rows if keep.rows is None else min(rows, keep.rows)
    if keep.file_bytes is not None and room.used_bytes > keep.file_bytes:
        share = (keep.file_bytes - room.empty_bytes) / (room.used_bytes - room.empty_bytes)
        kept = min(kept, int(rows * FILL * share))
    return kept


class Limits(NamedTuple):
    """
    What is old, in the words of the database.

    Attributes:
        before: Rows of an earlier time are old, as it is stored; none are if it is empty.
        up_to_seq: Rows up to this LOG_SEQ are old.
        settled: What a living run said since then stays.
        abandoned: The same for recordings that haven't ended.

    """

    before: str
    up_to_seq: int
    settled: str
    abandoned: str

    def is_old(self, newest: str, newest_seq: int) -> bool:
        """Tell whether a thing is old of which the newest time and LOG_SEQ are these."""
        return newest < self.before or newest_seq <= self.up_to_seq


def limits_of(keep: Keep, now: datetime, as_stored: Callable[[str], str]) -> Limits:
    """
    Return the limits of age at a moment; those of LOG_SEQ are yet to be found.

    Args:
        now: The present time, aware.
        as_stored: Turns an ISO 8601 time in UTC into the text that is stored.

    """

    def text(age: timedelta) -> str:
        try:
            return as_stored((now - age).isoformat(timespec="microseconds"))
        except (OverflowError, ValueError):  # more than there has been time: nothing is older
            return ""

    before = "" if keep.age is None else text(keep.age)
    return Limits(before, 0, text(SETTLED), text(ABANDONED))


class Fate(Enum):
    """What becomes of a thing."""

    GOES = "goes"
    YOUNG = "young"
    # It is still being written, or something that stays needs it.
    NEEDED = "needed"
    # A watermark says that it isn't read yet.
    UNREAD = "unread"


@dataclass(slots=True)
class Facts:
    """
    What the rows of a recording say.

    Attributes:
        tables: How many rows of it are in which table.
        runs: How many were made by which run.
        newest: The newest time in them.
        newest_seq: The highest LOG_SEQ of them.
        has_ended: Whether its row says that it has.

    """

    recording: int
    tables: Counter[str] = field(default_factory=Counter)
    runs: Counter[int | None] = field(default_factory=Counter)
    newest: str = ""
    newest_seq: int = 0
    has_ended: bool = False

    def add(self, table: str, run: int | None, rows: int, newest: str, newest_seq: int) -> None:
        """Take in what some of its rows say."""
        self.tables[table] += rows
        self.runs[run] += rows
        self.newest = max(self.newest, newest)
        self.newest_seq = max(self.newest_seq, newest_seq)

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self.tables.total()

    def fate(
        self, limits: Limits, *, watermark: int | None, living: Collection[int], importing: Collection[int]
    ) -> Fate:
        """
        Tell what becomes of it.

        Args:
            watermark: The lowest there is.
            living: Runs that haven't ended.
            importing: Runs that are being brought over from an old engine's file.

        """
        if not limits.is_old(self.newest, self.newest_seq):
            return Fate.YOUNG
        quiet_since = limits.settled if self.has_ended else limits.abandoned
        if self.runs.keys() & set(importing) or (
            self.runs.keys() & set(living) and self.newest >= quiet_since
        ):
            return Fate.NEEDED
        if watermark is not None and self.newest_seq > watermark:
            return Fate.UNREAD
        return Fate.GOES


@dataclass(slots=True)
class Pruned:
    """
    What went, or would go, and what stayed though it is old.

    Attributes:
        tables: How many rows went from which table.
        of_runs: How many of them were made by which run.
        lone_rows: How many of them belonged to no recording.
        recordings: How many recordings went, whole.
        runs: How many rows of ENGINE_LOG_RUN went.
        needed_rows: Rows that stay as they are still needed, and recordings of which that is so.
        unread_rows: Rows that stay as a watermark says that they aren't read, and recordings.

    """

    tables: Counter[str] = field(default_factory=Counter)
    of_runs: Counter[int | None] = field(default_factory=Counter)
    lone_rows: int = 0
    recordings: int = 0
    runs: int = 0
    needed_rows: int = 0
    needed_recordings: int = 0
    unread_rows: int = 0
    unread_recordings: int = 0

    @property
    def rows(self) -> int:
        """How many rows of the log went."""
        return self.tables.total()

    def note_rows(self, table: str, runs: Counter[int | None]) -> None:
        """Count rows of a table that went, by run."""
        self.tables[table] += runs.total()
        self.of_runs.update(runs)

    def note_stays(self, fate: Fate, rows: int, recordings: int = 0) -> None:
        """Count rows that stay, and why."""
        if fate is Fate.NEEDED:
            self.needed_rows += rows
            self.needed_recordings += recordings
        elif fate is Fate.UNREAD:
            self.unread_rows += rows
            self.unread_recordings += recordings
