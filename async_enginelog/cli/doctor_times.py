"""What the times of a run say of the clock and the time zone they were taken from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ..reading import RunRow

__all__ = ["TOLERANCE", "ahead_of", "began", "moment_of", "offset_of", "seconds"]

# Numbers of runs are seconds since 1970, and a run begins as soon as it has its number. So the
# number tells what the stored time is ahead of UTC.
QUARTER = timedelta(minutes=15)
# What a run takes to begin, and what numbers are ahead when many runs begin at once.
TOLERANCE = timedelta(minutes=2)
# Numbers of runs that can't be a time: before 2001.
OLDEST_NUMBER = 1_000_000_000


def moment_of(stored: str | None) -> datetime | None:
    """Return a stored time as if it were UTC; :obj:`None` if it isn't a time, whatever it is."""
    try:
        return datetime.fromisoformat(stored or "").replace(tzinfo=UTC)
    except (ValueError, TypeError):
        return None


def began(run: int) -> datetime | None:
    """Return when a run claimed its number; :obj:`None` for numbers that aren't a time."""
    try:
        return datetime.fromtimestamp(run, UTC) if run > OLDEST_NUMBER else None
    except (OverflowError, ValueError, OSError):
        return None


def ahead_of(run: RunRow) -> timedelta | None:
    """Return what the stored beginning of a run is ahead of its number."""
    started, number = moment_of(run.started), began(run.run)
    return None if started is None or number is None else started - number


def offset_of(run: RunRow) -> timedelta | None:
    """Return what the times of a run are ahead of UTC; :obj:`None` if that can't be told."""
    ahead = ahead_of(run)
    if ahead is None:
        return None
    nearest = round(ahead / QUARTER) * QUARTER
    is_zone = abs(ahead - nearest) <= TOLERANCE and abs(nearest) <= timedelta(hours=14)
    return nearest if is_zone else None


def seconds(stored: str | None) -> str:
    """Return a stored time without its fraction."""
    return "an unknown time" if stored is None else str(stored)[:19]
