"""What a log keeps: limits that can be meant, and what they mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_enginelog import EngineLog
from async_enginelog.retention import Facts, Fate, Keep, Limits, Room, limits_of, rows_that_fit
from async_enginelog.values import local_time_text, time_text

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LIMITS = Limits("2026-10-24", 100, "2026-11-23 11:59:00", "2026-11-22 12:00:00")
EMPTY = Room(250_000, 250_000, 250_000)


class TestKeep:
    def test_has_a_limit(self) -> None:
        """Keeping all is what a log does without it."""
        with pytest.raises(ValueError, match="Keep\\(\\) has no limit; pass age=, rows= or file_bytes="):
            Keep()

    @pytest.mark.parametrize(
        ("limits", "message"),
        [
            ({"age": timedelta()}, "pass a timedelta above 0"),
            ({"age": timedelta(days=-1)}, "pass a timedelta above 0"),
            ({"rows": 0}, "rows is 0; pass 1 or more"),
            ({"rows": -5}, "rows is -5; pass 1 or more"),
            ({"file_bytes": 5000}, "file_bytes is 5,000; pass 1,048,576 or more"),
        ],
    )
    def test_too_low(self, limits: dict[str, object], message: str) -> None:
        """A limit that would keep nothing is refused, with what can be meant."""
        with pytest.raises(ValueError, match=message):
            Keep(**limits)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("limits", "message"),
        [
            ({"age": 30}, "age is 30; pass a timedelta, such as timedelta\\(days=30\\)"),
            ({"rows": 1e6}, "rows is 1000000.0; pass a whole number"),
            ({"rows": True}, "rows is True; pass a whole number"),
            ({"file_bytes": "2GB"}, "file_bytes is '2GB'; pass a whole number"),
        ],
    )
    def test_of_another_type(self, limits: dict[str, object], message: str) -> None:
        """A limit of another type is refused."""
        with pytest.raises(TypeError, match=message):
            Keep(**limits)  # type: ignore[arg-type]

    def test_as_a_setting(self) -> None:
        """A timedelta alone is the age; what could be rows, bytes or days isn't taken for any of them."""
        assert Keep.of(timedelta(days=30)) == Keep(age=timedelta(days=30))
        assert Keep.of(Keep(rows=5)) == Keep(rows=5)
        assert Keep.of(None) is None
        with pytest.raises(
            TypeError, match="keep is 30; pass a timedelta, or Keep\\(\\) with one or more of"
        ):
            EngineLog("x.db", keep=30)  # type: ignore[arg-type]


class TestLimits:
    def test_of_an_age(self) -> None:
        """What is older is of an earlier time, as the log stores it."""
        limits = limits_of(Keep(age=timedelta(days=30)), NOW, time_text)
        assert limits.before == "2026-10-24 12:00:00.000000"
        assert (limits.settled, limits.abandoned) == (
            "2026-11-23 11:59:00.000000",
            "2026-11-22 12:00:00.000000",
        )

    @pytest.mark.parametrize("as_stored", [time_text, local_time_text])
    @pytest.mark.parametrize(
        "age", [timedelta.max, timedelta(days=NOW.toordinal() - 1), timedelta(days=365 * 5000)]
    )
    def test_of_more_than_all_time(self, age: timedelta, as_stored: object) -> None:
        """Who keeps what is younger than 5,000 years keeps all."""
        limits = limits_of(Keep(age=age), NOW, as_stored)  # type: ignore[arg-type]
        assert not limits.is_old("0001-01-03", 101)

    def test_without_an_age(self) -> None:
        """Then nothing is old by its time."""
        assert not limits_of(Keep(rows=1), NOW, time_text).is_old("", 1)


class TestRowsThatFit:
    def test_by_rows(self) -> None:
        """As many as are wanted, or as there are."""
        assert rows_that_fit(Keep(rows=5), 7, EMPTY) == 5
        assert rows_that_fit(Keep(rows=5), 3, EMPTY) == 3
        assert rows_that_fit(Keep(age=timedelta(1)), 3, EMPTY) == 3

    def test_by_bytes(self) -> None:
        """As many as fit, and a bit less, so that the next row doesn't begin it anew."""
        room = Room(30_000_000, 20_250_000, 250_000)
        assert rows_that_fit(Keep(file_bytes=10_250_000), 1000, room) == 450
        assert rows_that_fit(Keep(file_bytes=20_250_000), 1000, room) == 1000
        assert rows_that_fit(Keep(rows=17, file_bytes=10_250_000), 1000, room) == 17

    @given(
        st.integers(1, 10**9), st.integers(1, 10**9), st.integers(2**20, 2**40), st.integers(300_000, 2**40)
    )
    def test_never_more_than_wanted(self, rows: int, wanted: int, limit: int, used: int) -> None:
        """Whatever the figures are, none is negative and none above what there is, and is wanted."""
        fit = rows_that_fit(Keep(rows=wanted, file_bytes=limit), rows, Room(used, used, 250_000))
        assert 0 <= fit <= min(rows, wanted)


class TestFate:
    def fate(self, newest: str, newest_seq: int, *, ended: bool = False, **rest: object) -> Fate:
        """Return the fate of a recording of run 10."""
        facts = Facts(1)
        facts.add("ENGINE_DB_LOG_STEPS", 10, 3, newest, newest_seq)
        facts.has_ended = ended
        known = {"watermark": None, "living": (), "importing": (), **rest}
        return facts.fate(LIMITS, **known)  # type: ignore[arg-type]

    def test_old(self) -> None:
        """What is old by its time or its number goes."""
        assert self.fate("2026-10-23", 200) is Fate.GOES
        assert self.fate("2026-10-25", 100) is Fate.GOES
        assert self.fate("2026-10-25", 101) is Fate.YOUNG

    def test_unread(self) -> None:
        """What is above a watermark stays."""
        assert self.fate("2026-10-23", 200, watermark=199) is Fate.UNREAD
        assert self.fate("2026-10-23", 200, watermark=200) is Fate.GOES

    def test_of_a_living_run(self) -> None:
        """What has ended stays for a minute more, what hasn't for a day: more of it may come."""
        assert self.fate("2026-11-23 11:59:30", 1, ended=True, living={10}) is Fate.NEEDED
        assert self.fate("2026-11-23 11:58:30", 1, ended=True, living={10}) is Fate.GOES
        assert self.fate("2026-11-23 11:58:30", 1, living={10}) is Fate.NEEDED
        assert self.fate("2026-11-22 11:58:30", 1, living={10}) is Fate.GOES
        assert self.fate("2026-11-23 11:59:30", 1, living={11}) is Fate.GOES

    def test_of_an_import(self) -> None:
        """What is being imported stays until that is done."""
        assert self.fate("2025-01-01", 1, importing={10}) is Fate.NEEDED
