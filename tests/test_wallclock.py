"""Times on the wall become UTC, and what isn't certain is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_enginelog import wallclock
from async_enginelog.wallclock import Certainty, WallClock, as_utc

from .pure_helpers import few

CERTAIN, AMBIGUOUS, NONEXISTENT = Certainty

ZONES = st.sampled_from(["America/New_York", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"])
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2037, 12, 30), timezones=st.just(UTC))


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this machine be in New York."""
    if not hasattr(time, "tzset"):  # pragma: no cover
        pytest.skip("the time zone of a process can't be changed on Windows")
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "utc", "certainty"),
    [
        ("2025-08-29 20:27:31.952383", "2025-08-30T00:27:31.952383+00:00", CERTAIN),
        ("2025-01-31 20:27:31", "2025-02-01T01:27:31.000000+00:00", CERTAIN),
        ("  2025-01-31T20:27:31.5 ", "2025-02-01T01:27:31.500000+00:00", CERTAIN),
        ("2025-01-31", "2025-01-31T05:00:00.000000+00:00", CERTAIN),
        # Says itself what it is.
        ("2025-08-29T20:27:31.952383+02:00", "2025-08-29T18:27:31.952383+00:00", CERTAIN),
        ("2025-11-02T01:30:00Z", "2025-11-02T01:30:00.000000+00:00", CERTAIN),
        # The clock is set back at 2:00, to 1:00.
        ("2025-11-02 00:59:59.999999", "2025-11-02T04:59:59.999999+00:00", CERTAIN),
        ("2025-11-02 01:00:00", "2025-11-02T05:00:00.000000+00:00", AMBIGUOUS),
        ("2025-11-02 01:59:59.999999", "2025-11-02T05:59:59.999999+00:00", AMBIGUOUS),
        ("2025-11-02 02:00:00", "2025-11-02T07:00:00.000000+00:00", CERTAIN),
        # The clock is set forward at 2:00, to 3:00.
        ("2025-03-09 01:59:59.999999", "2025-03-09T06:59:59.999999+00:00", CERTAIN),
        ("2025-03-09 02:00:00", "2025-03-09T07:00:00.000000+00:00", NONEXISTENT),
        ("2025-03-09 02:59:59.999999", "2025-03-09T07:59:59.999999+00:00", NONEXISTENT),
        ("2025-03-09 03:00:00", "2025-03-09T07:00:00.000000+00:00", CERTAIN),
    ],
)
@pytest.mark.parametrize("zone", [ZoneInfo("America/New_York"), None], ids=["named", "of this machine"])
@pytest.mark.usefixtures("new_york")
def test_times(zone: ZoneInfo | None, text: str, utc: str, certainty: Certainty) -> None:
    """Any time in ISO 8601 becomes UTC with 32 characters, where clocks are set, too."""
    assert WallClock(zone).utc(text) == (utc, certainty)


@pytest.mark.parametrize(
    "text", ["", "soon", "2025-13-01 00:00:00", "20:27:31", "1756513651.95", "08/29/2025"]
)
def test_no_times(text: str) -> None:
    """What isn't a time is refused."""
    with pytest.raises(ValueError, match="isoformat|month"):
        WallClock(UTC).utc(text)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", None])
@pytest.mark.parametrize("text", ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"])
def test_ends_of_time(zone: str | None, text: str) -> None:
    """A time that can't be shifted is no trouble."""
    utc, _ = WallClock(ZoneInfo(zone) if zone else None).utc(text)
    assert len(utc) == 32


def test_ends_of_time_that_say_what_they_are() -> None:
    """Nor is one that says itself how far from UTC it is: it stays where it is."""
    assert WallClock(UTC).utc("0001-01-01T00:00:00+14:00")[0] == "0001-01-01T00:00:00.000000+00:00"
    assert as_utc(datetime(2026, 1, 31, tzinfo=ZoneInfo("Asia/Tokyo"))) == "2026-01-30T15:00:00.000000+00:00"


@few
@given(zone=ZONES, moments=st.lists(MOMENTS, max_size=20))
def test_what_a_clock_has_shown(zone: str, moments: list[datetime]) -> None:
    """A time that a clock there has shown is the one it was; one that it showed twice, the first of them."""
    clock = WallClock(ZoneInfo(zone))
    for moment in moments:
        shown = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        utc, certainty = clock.utc(shown.isoformat(" "))
        assert certainty is not NONEXISTENT
        if certainty is CERTAIN:
            assert utc == as_utc(moment)
        else:
            assert datetime.fromisoformat(utc) - moment <= timedelta()


def test_remembers_few_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many minutes there are, memory doesn't grow."""
    monkeypatch.setattr(wallclock, "MAX_MINUTES", 4)
    clock = WallClock(ZoneInfo("America/New_York"))
    for minute in range(60):
        assert clock.utc(f"2025-01-31 12:{minute:02}:30")[0] == f"2025-01-31T17:{minute:02}:30.000000+00:00"
        assert len(clock._shifts) <= 4
