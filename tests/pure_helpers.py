"""What the tests of the pure modules share: a migrated database in memory, and legal values."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import settings
from hypothesis import strategies as st

from async_enginelog.batch import Batch
from async_enginelog.migrations import migrations
from async_enginelog.tables import Column, Kind, Table

# A busy machine isn't a broken promise: no example has a deadline.
settings.register_profile("enginelog", deadline=None)
settings.load_profile("enginelog")

# For properties that are looked at for each of the tables.
few = settings(max_examples=30)

ADDED = "2026-01-31 12:00:00.000001"
RUN = 1_763_872_243

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1


@contextmanager
def migrated() -> Iterator[sqlite3.Connection]:
    """Give an empty database in memory, with the schema of the log."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statements in migrations():
            for statement in statements:
                connection.execute(statement)
        yield connection


@contextmanager
def undone(connection: sqlite3.Connection) -> Iterator[None]:
    """Undo what is done to the database inside."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def store(
    connection: sqlite3.Connection, batch: Batch, *, added: str = ADDED, run: int = RUN, base_seq: int = 0
) -> None:
    """Execute a batch as :mod:`async_enginelog.database` does."""
    for sql, parameters in batch.statements:
        connection.execute(sql, (added, run, base_seq, *parameters))


def stored(connection: sqlite3.Connection, table: Table) -> list[dict[str, Any]]:
    """Return the rows of a table in the order of LOG_SEQ, by argument."""
    names = [*table.columns, "run", "seq"]
    rows = connection.execute(f"SELECT * FROM {table.name} ORDER BY LOG_SEQ")
    return [dict(zip(names, row, strict=True)) for row in rows]


def utf16_units(text: str) -> int:
    """Return the length of ``text`` as SQL Server counts it."""
    return sum(2 if ord(character) > 0xFFFF else 1 for character in text)


# -- what is legal ----------------------------------------------------------------------------------

ANY_CHARACTERS = st.characters(exclude_categories=())  # lone surrogates, too
TEXTS = st.builds(
    lambda text, times: text * times,
    st.text(ANY_CHARACTERS | st.sampled_from('\0\n\r"\\é€😀\x7f\u2028\ud83d\ude00'), max_size=12),
    st.sampled_from([1, 1, 1, 9, 50, 700]),
)
INTEGERS = st.integers() | st.integers(INTEGER_MIN - 2, INTEGER_MAX + 2)
ZONES = st.sampled_from(
    [
        None,
        UTC,
        timezone(timedelta(hours=14)),
        timezone(-timedelta(hours=12)),
        timezone(timedelta(hours=5, minutes=45)),
        ZoneInfo("Europe/Berlin"),
        ZoneInfo("America/St_Johns"),
    ]
)
TIMES = st.datetimes(timezones=ZONES) | st.sampled_from(
    [
        datetime.min,
        datetime.max,
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=12))),
        datetime(2026, 1, 31, 12, 34, 56, tzinfo=UTC),
    ]
)
_LEGAL: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.INTEGER: INTEGERS
    | INTEGERS.map(str)
    | st.booleans()
    | st.integers(-(2**53), 2**53).map(float)
    | st.integers(-(2**70), 2**70).map(Decimal),
    Kind.REAL: st.floats() | st.integers() | st.booleans() | st.floats().map(str) | st.just(10**400),
    Kind.TEXT: TEXTS | st.text(max_size=5) | st.integers(),
    Kind.TIME: TIMES | TIMES.map(datetime.isoformat),
}


def legal_values(column: Column) -> st.SearchStrategy[Any]:
    """Give values that a column takes; :obj:`None` among them."""
    return st.none() | _LEGAL[column.kind]


def legal_columns(table: Table, *, max_size: int = 8) -> st.SearchStrategy[dict[str, Any]]:
    """Give arguments of a call for ``table``, with at least one value that isn't None."""
    some: st.SearchStrategy[Sequence[str]] = st.lists(
        st.sampled_from(list(table.columns)), min_size=1, max_size=max_size, unique=True
    )
    return some.flatmap(
        lambda names: st.fixed_dictionaries({name: legal_values(table.columns[name]) for name in names})
    ).filter(lambda columns: any(value is not None for value in columns.values()))


# -- what is stored, told in another way than in the package ---------------------------------------


def expected(column: Column, value: Any) -> Any:
    """Return what the documentation says is stored of a legal value."""
    if value is None:
        return None
    match column.kind:
        case Kind.INTEGER:
            return min(max(int(value), INTEGER_MIN), INTEGER_MAX)
        case Kind.REAL:
            return expected_real(value)
        case Kind.TIME:
            return expected_time(value)
        case Kind.TEXT:
            text = value if isinstance(value, str) else str(value)
            return expected_fit(expected_text(text), column.width, column.keep_end)


def expected_real(value: Any) -> float | None:
    """Return a float; None for what isn't finite."""
    try:
        real = float(value)
    except OverflowError:
        return None
    return real if abs(real) < float("inf") else None


def expected_time(value: Any) -> str:
    """Return 26 characters of UTC, unshifted where the shift isn't possible."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    try:
        shifted = moment.astimezone(UTC)
    except (OverflowError, ValueError):
        shifted = moment
    return shifted.replace(tzinfo=None).isoformat(" ", "microseconds")


def expected_text(text: str) -> str:
    """Join pairs of surrogates; make each other surrogate U+FFFD."""
    result: list[str] = []
    for character in text:
        if "\udc00" <= character <= "\udfff" and result and "\ud800" <= result[-1] <= "\udbff":
            high, low = ord(result.pop()) - 0xD800, ord(character) - 0xDC00
            result.append(chr(0x10000 + (high << 10) + low))
        else:
            result.append(character)
    return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in result)


def expected_fit(text: str, width: int, keep_end: bool = False) -> str:
    """Take whole characters from one end for as long as they fit."""
    text = text.replace("\0", "\u2400")
    kept: list[str] = []
    units = 0
    for character in reversed(text) if keep_end else text:
        units += utf16_units(character)
        if units > width:
            break
        kept.append(character)
    return "".join(reversed(kept) if keep_end else kept)
