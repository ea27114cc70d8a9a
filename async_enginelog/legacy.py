"""
Rows of the old engine's file as rows of this log, without performing any I/O.

Its tables are called as ours, but each version of that engine had other columns, in any
spelling; several rows speak of one thing, and some say nothing. What can't be taken over as
it is, is noted in a :class:`~async_enginelog.tally.Tally`: nothing is left out in silence.

"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from .tables import Column, Kind, Table
from .tally import Note, Tally
from .values import (
    INTEGER_MAX,
    INTEGER_MIN,
    MASKED_HEADERS,
    as_integer,
    as_real,
    as_text,
    fit_text,
    time_text,
)
from .wallclock import Certainty, WallClock, as_utc

__all__ = ["OldColumn", "OldRow", "OldTable", "Times", "Translator", "note_conflicts", "thing_of"]

# Both were spelled.
MISSPELT, SPELT = "queded", "queued"

# What SQLite fills in by itself for a column with this default is in UTC, and has no fraction:
# "2026-01-31 12:34:56". The engine's own times are local, and have one.
UTC_DEFAULT, UTC_LENGTH = "CURRENT_TIMESTAMP", 19

# These differ from row to row of one thing, and nothing is wrong.
CHANGING_TIMES = {"dt_added", "last_heartbeat", "last_split_100_ms_frame_time"}

_CREDENTIALS = "|".join(sorted(MASKED_HEADERS))

# A header in JSON, or in what Python prints of a dictionary, of pairs or of lists of values, as text or
# as bytes, also if its end was cut off. A comma is behind a name only where a pair begins with it.
CREDENTIAL = re.compile(
    rf"""
    (?P<name> (?: [\[(]\s*b?(["'])(?:{_CREDENTIALS})\2\s*, | b?(["'])(?:{_CREDENTIALS})\3\s*: ) \s* )
    (?P<open> (?P<list>[\[(]\s*)? b?)
    (?P<quote>["']) (?:\\.|(?!(?P=quote)).)* (?:(?P=quote)|$)
    (?(list) (?: \s*,\s*b?(?P<more>["']) (?:\\.|(?!(?P=more)).)* (?:(?P=more)|$) )* )
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
# The same as lines, with those that go on with a value.
CREDENTIAL_LINE = re.compile(
    rf"^([ \t]*(?:{_CREDENTIALS})[ \t]*:)[^\r\n]*(?:\r?\n[ \t]+[^\r\n]*)*", re.IGNORECASE | re.MULTILINE
)

# The times that are known of each thing, as they are stored.
Times = dict[tuple[int, ...], dict[str, str]]


class OldColumn(NamedTuple):
    """A column of the old file: its name, its default in SQL, and whether SQLite numbers it."""

    name: str
    default: str | None = None
    is_number: bool = False


class OldTable:
    """
    A table of the old file, and what its columns are here.

    Args:
        table: The table here.
        columns: The columns there.

    Attributes:
        places: Each column here that is there, and where: the right spelling first.
        unknown: The columns there that aren't known here, and where they are.
        missing: The columns here that aren't there.
        misspelt: The columns there that mean others, and those.

    """

    def __init__(self, table: Table, columns: Sequence[OldColumn]) -> None:
        self.table = table
        self.columns = columns
        self.unknown: dict[str, int] = {}
        self.misspelt: dict[str, str] = {}
        found: dict[str, list[int]] = {}
        for place, column in enumerate(columns):
            self._find(place, column.name, found)
        self.places = [(table.columns[argument], found[argument]) for argument in found]
        self.missing = [column.name for column in table.columns.values() if column.argument not in found]
        # Where SQLite puts a value if nobody gives one: it says nothing.
        self._filled_in = {
            place for place, column in enumerate(columns) if column.is_number or column.default is not None
        }
        self._utc = {
            place for place, column in enumerate(columns) if UTC_DEFAULT in (column.default or "").upper()
        }
        # Where the engine showed the time.
        self.clocks = [
            place
            for column, places in self.places
            for place in places
            if column.kind is Kind.TIME and place not in self._utc
        ]

    def _find(self, place: int, name: str, found: dict[str, list[int]]) -> None:
        argument = name.lower()
        right = argument.replace(MISSPELT, SPELT)
        if argument in self.table.columns:
            found.setdefault(argument, []).insert(0, place)
        elif right in self.table.columns:
            found.setdefault(right, []).append(place)
            self.misspelt[name] = self.table.columns[right].name
        else:
            self.unknown[name] = place

    def is_empty(self, values: Sequence[Any]) -> bool:
        """Tell whether a row says nothing: all it has, SQLite has filled in."""
        return all(value is None or place in self._filled_in for place, value in enumerate(values))

    def is_utc(self, place: int, value: str) -> bool:
        """Tell whether a time was filled in by SQLite, which doesn't know local times."""
        return place in self._utc and len(value) == UTC_LENGTH


class OldRow(NamedTuple):
    """What a row of the old file says, as a row of this log does."""

    # Which start of the old engine it belongs to, from 0.
    life: int
    columns: dict[str, Any]


class Translator:
    """
    Read the rows of one table, in the order in which the old engine wrote them.

    Args:
        old: The table.
        clock: What the engine's clock on the wall means.
        lives: When the engine was started anew, as it showed the time, in order.
        tally: Where each row is counted, and noted what isn't taken over as it is.
        life: The life that the row before the first belongs to.

    Attributes:
        life: The life that the last row belongs to.

    """

    def __init__(
        self, old: OldTable, clock: WallClock, lives: Sequence[str], tally: Tally, life: int = 0
    ) -> None:
        self._old = old
        self._clock = clock
        self._lives = lives
        self._tally = tally
        self.life = life

    def read(self, values: Sequence[Any]) -> OldRow | None:
        """Return what a row says; :obj:`None` if it says nothing."""
        old, tally = self._old, self._tally
        tally.read += 1
        for name, place in old.unknown.items():
            if values[place] is not None:
                tally.note(Note.UNKNOWN, name, values[place])
        columns = {} if old.is_empty(values) else self._columns(values)
        if not columns:
            tally.empty += 1
            return None
        if any(argument not in columns for argument in old.table.key):
            tally.without_key += 1
        self.life = self._life_of(values)
        return OldRow(self.life, columns)

    def _columns(self, values: Sequence[Any]) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for column, places in self._old.places:
            given = [self._value(column, place, values[place]) for place in places]
            value = given[0] if len(given) == 1 else self._of_two_spellings(column, given)
            if value is not None:
                columns[column.argument] = value
        return columns

    def _of_two_spellings(self, column: Column, given: Sequence[Any]) -> Any:
        known = [value for value in given if value is not None]
        if len(set(known)) > 1:
            self._tally.note(Note.MISSPELT, column.name, ", not ".join(map(str, known)))
        return known[0] if known else None

    def _value(self, column: Column, place: int, value: Any) -> Any:
        if value is None or (value == "" and column.kind is not Kind.TEXT):
            return None
        try:
            return self._converted(column, place, value)
        except (TypeError, ValueError):
            self._tally.note(Note.UNREADABLE, column.name, value)
            return None

    def _converted(self, column: Column, place: int, value: Any) -> Any:
        match column.kind:
            case Kind.TIME:
                return self._time(column, place, value)
            case Kind.TEXT:
                return self._text(column, as_text(value, column.width))
            case Kind.INTEGER:
                return value if type(value) is int else _fitting(value)
            case Kind.REAL:  # pragma: no branch
                return _finite(as_real(value))

    def _text(self, column: Column, text: str) -> str:
        if column.headers:
            masked = CREDENTIAL.sub(r"\g<name>\g<open>\g<quote>***\g<quote>", text)
            masked = CREDENTIAL_LINE.sub(r"\1 ***", masked)
            if masked != text:
                self._tally.note(Note.MASKED, column.name, "")
            text = masked
        fitted = fit_text(text, column.width, keep_end=column.keep_end)
        if len(fitted) < len(text):
            self._tally.note(Note.CUT, column.name, text)
        return fitted

    def _time(self, column: Column, place: int, value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError("not a text")
        if self._old.is_utc(place, value):
            self._tally.note(Note.UTC, column.name, value)
            return as_utc(datetime.fromisoformat(value).replace(tzinfo=UTC))
        time, certainty = self._clock.utc(value)
        if certainty is not Certainty.CERTAIN:
            self._tally.note(Note(certainty.value), column.name, value)
        return time

    def _life_of(self, values: Sequence[Any]) -> int:
        """Return the life in which a row was written: the last one's if it shows no time."""
        if not self._lives:
            return 0
        times = (values[place] for place in self._old.clocks)
        shown = [time.replace("T", " ") for time in times if isinstance(time, str) and time[:1].isdigit()]
        return bisect_right(self._lives, min(shown)) if shown else self.life


def _fitting(value: object) -> int:
    """Return a whole number; one beyond 64 bits would become the nearest, and that is another's id."""
    number = as_integer(value)
    if number in (INTEGER_MIN, INTEGER_MAX) and int(value) != number:  # type: ignore[call-overload]
        raise ValueError("not a number of 64 bits")
    return number


def _finite(value: float | None) -> float:
    if value is None:
        raise ValueError("not a number that SQL has a word for")
    return value


def thing_of(table: Table, run: int, columns: dict[str, Any]) -> tuple[int, ...] | None:
    """Return what a row speaks of; :obj:`None` if nobody can tell."""
    key: list[Any] = [columns.get(argument) for argument in table.key]
    if not key or None in key:
        return None
    return (run, *key) if table.run_in_key else tuple(key)


def note_conflicts(table: Table, run: int, columns: dict[str, Any], known: Times, tally: Tally) -> None:
    """
    Note where a row has other times than those before it that speak of the same thing.

    Args:
        table: Its table.
        run: The run it goes under.
        columns: What it says.
        known: What those before it said; this row's times are added.
        tally: Where it is noted.

    """
    thing = thing_of(table, run, columns)
    if thing is None:
        return
    times = known.setdefault(thing, {})
    for argument, value in columns.items():
        if table.columns[argument].kind is not Kind.TIME or argument in CHANGING_TIMES:
            continue
        time = time_text(value)
        before = times.setdefault(argument, time)
        if before != time:
            name = ", ".join(f"{table.columns[part].name} {columns[part]}" for part in table.key)
            tally.note(Note.CONFLICT, table.columns[argument].name, f"{name}: {before}, then {time}")
            times[argument] = time
