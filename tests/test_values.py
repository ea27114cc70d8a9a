"""What a value becomes on its way into a column."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_enginelog.values import (
    MASKED_HEADERS,
    as_integer,
    as_real,
    as_text,
    as_time,
    fit_text,
    local_time_text,
    mask_headers,
    time_text,
)

from .pure_helpers import (
    ANY_CHARACTERS,
    INTEGER_MAX,
    INTEGER_MIN,
    TEXTS,
    TIMES,
    expected_fit,
    expected_text,
    expected_time,
    utf16_units,
)


class Index:
    """A whole number of a foreign library, such as numpy's int64."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number


class Real:
    """A float of a foreign library that knows nothing else."""

    def __init__(self, number: float) -> None:
        self.number = number

    def __float__(self) -> float:
        return self.number


class Hostile:
    """An object that can't be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("never show this")


class Colour(IntEnum):
    RED = 3


class Mode(StrEnum):
    PLAY = "play"


class Plain(Enum):
    ONE = 1


def nested(levels: int) -> list[Any]:
    """Return a list in a list in a list …"""
    result: list[Any] = []
    for _ in range(levels):
        result = [result]
    return result


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make local time that of Berlin."""
    if not hasattr(time, "tzset"):
        pytest.skip("this platform can't change its time zone for one process")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class TestAsInteger:
    @given(st.integers())
    def test_fits_into_64_bits(self, number: int) -> None:
        """A whole number stays as it is; one outside 64 bits becomes the nearest that fits."""
        assert as_integer(number) == min(max(number, INTEGER_MIN), INTEGER_MAX)

    @given(st.integers())
    def test_reads_text(self, number: int) -> None:
        """Whole numbers as text are read like numbers, spaces and sign included."""
        assert as_integer(f" {number:+d}\n") == as_integer(number)

    @pytest.mark.parametrize(("sign", "nearest"), [("", INTEGER_MAX), ("+", INTEGER_MAX), ("-", INTEGER_MIN)])
    def test_reads_endless_text(self, sign: str, nearest: int) -> None:
        """A text of more digits than Python reads is a number outside 64 bits, too."""
        assert as_integer(sign + "9" * 100_000) == nearest

    @pytest.mark.parametrize("text", ["", " ", "1.0", "1e3", "1_000", "0x10", "٣", "+", "1\0", "nan", "1 2"])
    def test_refuses_other_text(self, text: str) -> None:
        """A text that isn't a whole number is a ValueError that shows it."""
        with pytest.raises(ValueError, match="isn't a whole number") as caught:
            as_integer(text)
        assert repr(text) in str(caught.value)

    @pytest.mark.parametrize(
        ("value", "number"),
        [
            (True, 1),
            (Index(7), 7),
            (Index(2**70), INTEGER_MAX),
            (Colour.RED, 3),
            (5.0, 5),
            (-0.0, 0),
            (1e300, INTEGER_MAX),
            (Real(5.0), 5),
            (Fraction(6, 2), 3),
            (Fraction(-(10**400)), INTEGER_MIN),
            (Decimal("1e400"), INTEGER_MAX),
        ],
    )
    def test_takes_any_whole_number(self, value: object, number: int) -> None:
        """Whatever is a whole number to Python, or to numpy, is taken; the result is a plain int."""
        result = as_integer(value)
        assert result == number
        assert type(result) is int

    def test_keeps_all_digits_of_a_decimal(self) -> None:
        """An id of 18 digits that comes as a Decimal, as from SQL Server, isn't rounded to a float."""
        assert as_integer(Decimal("202508290514312002")) == 202508290514312002

    @pytest.mark.parametrize(
        "value",
        [
            *(0.5, float("nan"), float("inf"), Real(0.5), Real(float("-inf"))),
            *(Fraction(1, 3), Decimal("0.1"), Decimal("NaN"), Decimal("Infinity")),
        ],
    )
    def test_refuses_fractions(self, value: object) -> None:
        """A number with a fraction, or that is none, is a ValueError that says what to do."""
        with pytest.raises(ValueError, match="isn't a whole number; round it first"):
            as_integer(value)

    @pytest.mark.parametrize("value", [None, b"1", [1], 1j, object(), Hostile(), datetime.now(UTC)])
    def test_refuses_other_types(self, value: object) -> None:
        """What can't be meant as a number is a TypeError that names its type."""
        with pytest.raises(TypeError, match=f"of type {type(value).__name__} isn't a whole number"):
            as_integer(value)

    def test_shortens_what_it_shows(self) -> None:
        """The message stays readable whatever was passed."""
        with pytest.raises(ValueError, match="isn't a whole number") as caught:
            as_integer("x" * 100_000)
        assert len(str(caught.value)) < 200


class TestAsReal:
    @given(st.floats(allow_nan=False, allow_infinity=False))
    def test_keeps_floats(self, number: float) -> None:
        """A finite float stays as it is, also as a text."""
        assert as_real(number) == as_real(str(number)) == number

    @pytest.mark.parametrize(
        "value",
        [
            *(float("nan"), float("inf"), float("-inf"), "nan", "-Infinity", "1e999"),
            *(Decimal("NaN"), 10**400, Fraction(10**400), Real(float("nan"))),
        ],
    )
    def test_has_no_word_for_what_is_not_finite(self, value: object) -> None:
        """NaN, infinities and what is beyond the largest float become None."""
        assert as_real(value) is None

    @pytest.mark.parametrize(
        ("value", "real"), [(True, 1.0), (3, 3.0), (Index(4), 4.0), (Real(0.5), 0.5), (Decimal("0.25"), 0.25)]
    )
    def test_takes_any_number(self, value: object, real: float) -> None:
        """Whatever is a number to Python, or to numpy, becomes a plain float."""
        assert as_real(value) == real
        assert type(as_real(value)) is float

    @pytest.mark.parametrize("text", ["", "x", "1,5", "0x1p3"])
    def test_refuses_other_text(self, text: str) -> None:
        """A text that isn't a number is a ValueError that shows it."""
        with pytest.raises(ValueError, match="isn't a number; pass a float") as caught:
            as_real(text)
        assert repr(text) in str(caught.value)

    @pytest.mark.parametrize("value", [None, b"1", [1.0], 1j, Hostile()])
    def test_refuses_other_types(self, value: object) -> None:
        """What can't be meant as a number is a TypeError that names its type."""
        with pytest.raises(TypeError, match=f"of type {type(value).__name__} isn't a number"):
            as_real(value)


class TestAsText:
    @given(st.text(ANY_CHARACTERS))
    def test_makes_valid_unicode(self, text: str) -> None:
        """Pairs of surrogates become their character, lone ones U+FFFD, all else stays."""
        assert as_text(text, 100) == expected_text(text)

    def test_reduces_subclasses(self) -> None:
        """A member of a StrEnum becomes a plain str: its value."""
        result = as_text(Mode.PLAY, 50)
        assert result == "play"
        assert type(result) is str

    @pytest.mark.parametrize(("value", "text"), [(True, "Y"), (False, "N")])
    def test_makes_a_letter_of_a_bool(self, value: bool, text: str) -> None:
        """A bool is "Y" or "N" in a column of one character, and its name in a wider one."""
        assert as_text(value, 1) == text
        assert as_text(value, 10) == str(value)

    @pytest.mark.parametrize(
        ("value", "text"),
        [(8080, "8080"), (-1, "-1"), (0.5, "0.5"), (Colour.RED, "3"), (float("nan"), "nan")],
    )
    def test_writes_numbers(self, value: float, text: str) -> None:
        """A number becomes its digits."""
        assert as_text(value, 10) == text

    @pytest.mark.skipif(not hasattr(sys, "get_int_max_str_digits"), reason="Python has no limit here")
    def test_tells_of_endless_numbers(self) -> None:
        """A number of more digits than Python writes doesn't fail."""
        assert as_text(10**5000, 10) == "<int: ValueError in its str>"

    @pytest.mark.parametrize("value", [PurePosixPath("a/é.raw"), Path("a")])
    def test_writes_paths(self, value: PurePosixPath) -> None:
        """A path becomes its text."""
        assert as_text(value, 100) == str(value)

    @pytest.mark.skipif(sys.platform == "win32", reason="file names are valid Unicode there")
    def test_writes_undecodable_paths(self) -> None:
        """A file name that isn't valid UTF-8 is shown as far as it is."""
        assert as_text(Path("a\udcff"), 100) == "a\ufffd"

    @given(st.recursive(st.none() | st.booleans() | st.integers(-99, 99) | st.text(), st.lists))
    def test_writes_lists_as_json(self, value: object) -> None:
        """A list becomes JSON that reads back as it was."""
        assert orjson.loads(as_text([value], 10)) == [value]

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ({"a": 1, 2: [None, True]}, '{"a":1,"2":[null,true]}'),
            (("a", Path("b")), '["a","b"]'),
            (frozenset({1}), "[1]"),
            ({1}, "[1]"),
            ({"colour": Colour.RED, "mode": Mode.PLAY}, '{"colour":3,"mode":"play"}'),
            ({"a": b"bytes"}, '{"a":"b\'bytes\'"}'),
        ],
    )
    def test_writes_collections_as_json(self, value: object, text: str) -> None:
        """Mappings, tuples and sets become JSON; what JSON has no word for becomes its text."""
        assert as_text(value, 100) == text

    @pytest.mark.parametrize("value", [["\ud800"], {"a": 2**70}, {"\ud800": 1}])
    def test_tells_what_json_refuses(self, value: Any) -> None:
        """What JSON can't hold is shown as Python shows it, rather than refused."""
        assert as_text(value, 100) == repr(value)

    def test_tells_of_cycles(self) -> None:
        """A list that contains itself is told, not followed."""
        cycle: list[object] = []
        cycle.append(cycle)
        assert "[...]" in as_text(cycle, 100)

    @pytest.mark.parametrize("levels", [300, 100_000])
    def test_survives_deep_nesting(self, levels: int) -> None:
        """However deep a list is nested, some text comes of it."""
        assert as_text(nested(levels), 100)

    @pytest.mark.parametrize("value", [[Hostile()], {"a": Hostile()}, {Hostile(): 1}])
    def test_survives_hostile_objects(self, value: object) -> None:
        """An object that fails when it is shown doesn't fail the log."""
        assert "RuntimeError" in as_text(value, 100)

    @pytest.mark.parametrize("value", [None, b"x", bytearray(), object(), Plain.ONE, Hostile(), 1j, iter([])])
    def test_refuses_other_types(self, value: object) -> None:
        """What has no obvious text is a TypeError that names its type."""
        with pytest.raises(TypeError, match=f"of type {type(value).__name__} isn't text; pass a str"):
            as_text(value, 100)


class OwnDatetime(datetime):
    """A subclass, as pandas and pendulum have one."""


class BrokenZone(tzinfo):
    """A time zone that can't tell its offset."""

    def utcoffset(self, _moment: datetime | None) -> timedelta:
        raise ValueError("no idea")

    dst = utcoffset

    def tzname(self, _moment: datetime | None) -> str:
        return "nowhere"


class TestAsTime:
    @given(TIMES)
    def test_is_plain_utc(self, moment: datetime) -> None:
        """Any datetime becomes the same moment in UTC, or unshifted if UTC has no such year."""
        result = as_time(moment)
        assert result.tzinfo is UTC
        assert time_text(result.isoformat()) == expected_time(moment)

    @given(TIMES)
    def test_reads_iso_8601(self, moment: datetime) -> None:
        """A text in ISO 8601 is read as the datetime it tells."""
        assert as_time(f" {moment.isoformat()} ") == as_time(moment)

    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
            ("2026-01-31 13:00:00.5+01:00", datetime(2026, 1, 31, 12, 0, 0, 500_000, UTC)),
            ("20260131T120000+0000", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ],
    )
    def test_reads_common_spellings(self, text: str, moment: datetime) -> None:
        """What clients send is read: Z, a space, offsets, the basic format."""
        assert as_time(text) == moment

    @pytest.mark.usefixtures("in_berlin")
    def test_takes_naive_as_local(self) -> None:
        """A naive datetime means local time; the fold tells the two 02:30 of autumn apart."""
        twice = datetime(2025, 10, 26, 2, 30)
        assert as_time(datetime(2026, 7, 1, 12)) == datetime(2026, 7, 1, 10, tzinfo=UTC)
        assert as_time(twice) == datetime(2025, 10, 26, 0, 30, tzinfo=UTC)
        assert as_time(twice.replace(fold=1)) == datetime(2025, 10, 26, 1, 30, tzinfo=UTC)

    def test_honours_the_fold_of_a_zone(self) -> None:
        """The two 02:30 of autumn in a named zone are an hour apart."""
        twice = datetime(2025, 10, 26, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
        assert as_time(twice.replace(fold=1)) - as_time(twice) == timedelta(hours=1)

    @pytest.mark.parametrize(
        "moment",
        [
            datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
            datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))),
            datetime(2026, 1, 31, tzinfo=BrokenZone()),
        ],
    )
    def test_keeps_what_cannot_be_shifted(self, moment: datetime) -> None:
        """A time that UTC can't express, or whose zone fails, is kept as the clock showed it."""
        assert as_time(moment) == moment.replace(tzinfo=UTC)

    def test_reduces_subclasses(self) -> None:
        """The result is a plain datetime, which the encoder knows."""
        assert type(as_time(OwnDatetime(2026, 1, 31, tzinfo=UTC))) is datetime

    @pytest.mark.parametrize("text", ["", "now", "2026-02-30", "12:00", "1763872243"])
    def test_refuses_other_text(self, text: str) -> None:
        """A text that isn't a time is a ValueError that shows it."""
        with pytest.raises(ValueError, match="isn't a time; pass a datetime or ISO 8601") as caught:
            as_time(text)
        assert repr(text) in str(caught.value)

    @pytest.mark.parametrize("value", [None, 1763872243, 1.5, b"", datetime.now(UTC).date(), Hostile()])
    def test_refuses_other_types(self, value: object) -> None:
        """What isn't a time is a TypeError that names its type."""
        with pytest.raises(TypeError, match=f"of type {type(value).__name__} isn't a time"):
            as_time(value)


class TestTimeText:
    @given(TIMES)
    def test_has_26_characters_that_sort(self, moment: datetime) -> None:
        """A time as orjson writes it becomes 26 characters that read back as the same time."""
        utc = as_time(moment)
        text = time_text(orjson.loads(orjson.dumps(utc)))
        assert len(text) == 26
        assert datetime.fromisoformat(text).replace(tzinfo=UTC) == utc

    @pytest.mark.usefixtures("in_berlin")
    def test_tells_local_time(self) -> None:
        """In local mode the 26 characters are what the clock on the wall showed."""
        assert local_time_text("2026-07-01T10:00:00+00:00") == "2026-07-01 12:00:00.000000"
        assert local_time_text("2026-01-01T23:30:00.000001+00:00") == "2026-01-02 00:30:00.000001"

    @pytest.mark.usefixtures("in_berlin")
    def test_stays_in_utc_at_the_end_of_time(self) -> None:
        """A time whose local year would be 10000 stays as it is."""
        assert local_time_text("9999-12-31T23:59:59.999999+00:00") == "9999-12-31 23:59:59.999999"


class TestFitText:
    @given(TEXTS, st.integers(1, 60), st.booleans())
    def test_fits_without_splitting(self, text: str, width: int, keep_end: bool) -> None:
        """A text keeps as many whole characters of its chosen end as fit in UTF-16 units."""
        valid = as_text(text, 0)
        fitted = fit_text(valid, width, keep_end=keep_end)
        assert utf16_units(fitted) <= width
        assert fitted == expected_fit(valid, width, keep_end)

    @pytest.mark.parametrize(
        ("width", "keep_end", "kept"),
        [
            (5, False, "a😀b"),
            (4, False, "a😀b"),
            (2, False, "a"),
            (2, True, "b"),
            (3, True, "😀b"),
            (1, True, "b"),
        ],
    )
    def test_leaves_out_a_half_character(self, width: int, keep_end: bool, kept: str) -> None:
        """A character of two units that doesn't fit as a whole is left out, at either end."""
        assert fit_text("a😀b", width, keep_end=keep_end) == kept

    def test_shows_nul(self) -> None:
        """NUL becomes ␀, as the ODBC driver would end the text there."""
        assert fit_text("a\0b\0", 10) == "a␀b␀"


class TestMaskHeaders:
    def test_masks_credentials_in_any_case(self) -> None:
        """Credentials are replaced, whatever the case of their names; the rest stays."""
        headers = {"Host": "engine", "AUTHORIZATION": "Bearer secret", "sec-webSocket-key": "secret"}
        assert mask_headers(headers) == {"Host": "engine", "AUTHORIZATION": "***", "sec-webSocket-key": "***"}

    @pytest.mark.parametrize("name", sorted(MASKED_HEADERS))
    def test_masks_each_of_the_list(self, name: str) -> None:
        """Each name of the list is masked, and nothing of its value is left."""
        assert mask_headers([(name.title(), "secret")]) == {name.title(): "***"}

    def test_joins_repeated_headers(self) -> None:
        """Values of repeated headers are joined by a comma; masked ones stay masked."""
        pairs = [("Accept", "a"), ("Cookie", "x=1"), ("Accept", "b"), ("Cookie", "y=2")]
        assert mask_headers(pairs) == {"Accept": "a, b", "Cookie": "***, ***"}

    def test_takes_another_list(self) -> None:
        """The list of masked headers is a setting."""
        headers = {"Cookie": "x", "X-Secret": "y"}
        assert mask_headers(headers, frozenset({"x-secret"})) == {"Cookie": "x", "X-Secret": "***"}
