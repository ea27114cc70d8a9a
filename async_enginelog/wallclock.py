"""Turn what a clock on the wall showed into UTC, and count where that isn't certain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from enum import Enum
from typing import NamedTuple

__all__ = ["Certainty", "WallClock", "as_utc"]

# So many minutes are remembered with their distance from UTC: rows come in the order of their times.
MAX_MINUTES = 1024


class Certainty(Enum):
    """Whether a time on the wall was shown once, as most are."""

    CERTAIN = "certain"
    # Shown twice: the clock was set back. Taken as the first of the two.
    AMBIGUOUS = "ambiguous"
    # Never shown: the clock was set forward over it. Taken as if it hadn't been yet.
    NONEXISTENT = "nonexistent"


class _Shift(NamedTuple):
    """How far a clock on the wall was ahead of UTC."""

    offset: timedelta
    certainty: Certainty


class WallClock:
    """
    The clock on the wall of one place.

    Args:
        zone: Its time zone; :obj:`None` is that of this machine.

    """

    def __init__(self, zone: tzinfo | None = None) -> None:
        self._zone = zone
        self._shifts: dict[datetime, _Shift] = {}

    def utc(self, text: str) -> tuple[str, Certainty]:
        """
        Return a time in UTC, as ISO 8601 with 32 characters, and whether it is certain.

        A time that says itself how far from UTC it is, is taken at its word.

        Raises:
            ValueError: If the text isn't a time in ISO 8601.

        """
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is not None:
            return as_utc(moment), Certainty.CERTAIN
        offset, certainty = self._shift_at(moment)
        try:
            moment -= offset
        except OverflowError:  # in the years 1 or 9999
            pass
        return f"{moment.isoformat(timespec='microseconds')}+00:00", certainty

    def _shift_at(self, moment: datetime) -> _Shift:
        """Return the shift in the minute of a time: clocks are set at whole minutes."""
        minute = moment.replace(second=0, microsecond=0)
        shift = self._shifts.get(minute)
        if shift is None:
            if len(self._shifts) >= MAX_MINUTES:
                self._shifts.clear()
            self._shifts[minute] = shift = self._look_up(minute)
        return shift

    def _look_up(self, minute: datetime) -> _Shift:
        # https://peps.python.org/pep-0495/: fold tells the first and the second time apart.
        first, second = self._offset(minute), self._offset(minute.replace(fold=1))
        if first == second:
            return _Shift(first, Certainty.CERTAIN)
        return _Shift(first, Certainty.AMBIGUOUS if first > second else Certainty.NONEXISTENT)

    def _offset(self, minute: datetime) -> timedelta:
        try:
            there = minute.astimezone() if self._zone is None else minute.replace(tzinfo=self._zone)
            return there.utcoffset() or timedelta()
        except (OverflowError, ValueError, OSError):  # outside of what this system's clock knows
            return timedelta()


def as_utc(moment: datetime) -> str:
    """Return an aware time in UTC, as ISO 8601 with 32 characters; unshifted where that isn't possible."""
    try:
        shifted = moment.astimezone(UTC)
    except (OverflowError, ValueError):
        shifted = moment.replace(tzinfo=UTC)
    return shifted.isoformat(timespec="microseconds")
