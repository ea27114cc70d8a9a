"""
How the log reads over ODBC: what there is to read, the bridge views, and queries on them.

SQLite's ODBC driver knows the type of a bare column from its declaration. Of an expression it says
VARCHAR(255) when a query is prepared, and when it has run, whatever its first row looks like. SQL Server
refuses a query whose types change in between. Only text doesn't change. So a bridge view has numbers
and long texts bare, and times and short texts as expressions that give text.

"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .tables import TABLES, Column, Kind, Table

__all__ = ["SOURCES", "Source", "bridge_version", "bridge_view", "pass_through"]

# A text expression is cut at 255 UTF-16 units; a character may take two.
EXPRESSION_CHARACTERS = 127
TIME_CHARACTERS = 26


@dataclass(frozen=True, eq=False)
class Source:
    """
    A table of the file, as it is read from outside.

    Attributes:
        name: Its name, the same in SQLite and in SQL Server.
        columns: All of its columns, the log's own two among them.
        key: The columns by which two readings speak of the same row.
        grows: Whether a row, once written, stays as it is.
        sequence: The column of whole numbers by which it is read in pieces, and from its end.
        time: The column that tells when a row happened.

    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    grows: bool
    sequence: str
    time: str

    @property
    def view(self) -> str:
        """The name of its bridge view."""
        return f"V_ODBC_{self.name}"

    @property
    def changes_are_numbered(self) -> bool:
        """Whether a row that changes gets a new number in ``sequence``."""
        return self.sequence == "LOG_SEQ"

    def has(self, name: str) -> bool:
        """Tell whether it has a column."""
        return any(column.name == name for column in self.columns)


def _column(name: str, kind: Kind, width: int = 0) -> Column:
    return Column(name, name.lower(), kind, width)


_OWN_COLUMNS = (_column("ENGINE_RUN_ID", Kind.INTEGER), _column("LOG_SEQ", Kind.INTEGER))


def _source(table: Table) -> Source:
    times = [column for column in table.columns.values() if column.kind is Kind.TIME]
    # The time of the commit is the last resort.
    first = min(times, key=lambda column: column is table.added)
    return Source(
        table.name,
        (*table.columns.values(), *_OWN_COLUMNS),
        key=table.key_columns or ("LOG_SEQ", "ENGINE_RUN_ID"),
        grows=not table.key,
        sequence="LOG_SEQ",
        time=table.columns[table.stamp].name if table.stamp else first.name,
    )


# Described here, as no log function writes it. A test holds it to the migration.
_RUNS = Source(
    "ENGINE_LOG_RUN",
    (
        _column("ENGINE_RUN_ID", Kind.INTEGER),
        _column("HOST_NAME", Kind.TEXT, 100),
        _column("PROCESS_ID", Kind.INTEGER),
        _column("LIBRARY_VERSION", Kind.TEXT, 50),
        _column("DT_STARTED", Kind.TIME),
        _column("DT_LAST_SIGN_OF_LIFE", Kind.TIME),
        _column("DT_ENDED", Kind.TIME),
        _column("HOW_ENDED", Kind.TEXT, 20),
        _column("ROWS_ACCEPTED", Kind.INTEGER),
        _column("ROWS_COMMITTED", Kind.INTEGER),
        _column("ROWS_ON_CONSOLE", Kind.INTEGER),
        _column("ROWS_UNREADABLE", Kind.INTEGER),
        _column("ROWS_DROPPED", Kind.INTEGER),
        _column("ROWS_REPLAYED", Kind.INTEGER),
        _column("ROWS_STORED", Kind.INTEGER),
        _column("LAST_LOG_SEQ", Kind.INTEGER),
        _column("SPOOL_SEGMENT", Kind.INTEGER),
        _column("SPOOL_OFFSET", Kind.INTEGER),
    ),
    key=("ENGINE_RUN_ID",),
    grows=False,
    sequence="ENGINE_RUN_ID",
    time="DT_STARTED",
)

SOURCES = {source.name: source for source in (*map(_source, TABLES.values()), _RUNS)}


def bridge_view(source: Source) -> str:
    """Return the statement that creates a bridge view."""
    columns = ",\n".join(f"    {_bridged(column)}" for column in source.columns)
    return f"CREATE VIEW {source.view} AS SELECT\n{columns}\nFROM {source.name};"


def _bridged(column: Column) -> str:
    characters = TIME_CHARACTERS if column.kind is Kind.TIME else column.width
    if 0 < characters <= EXPRESSION_CHARACTERS:
        return f"substr({column.name}, 1, {characters}) AS {column.name}"
    return column.name


def bridge_version(scripts: Sequence[Sequence[str]]) -> int:
    """Return the schema version from which on the bridge views are as they are, of all migrations."""
    return max(number for number, script in enumerate(scripts, 1) if any("V_ODBC_" in sql for sql in script))


def pass_through(source: Source, columns: Iterable[Column], *, newest: int) -> str:
    """
    Return a query for the driver: columns of a bridge view, of its ``newest`` rows.

    SQL Server fetches a whole answer before it looks at its own WHERE, so what limits the rows
    has to be in here. The limit is found, and the rows are read, by the index on LOG_SEQ.

    """
    names = ", ".join(column.name for column in columns)
    sequence = source.sequence
    oldest = f"SELECT {sequence} FROM {source.view} ORDER BY {sequence} DESC LIMIT 1 OFFSET {newest - 1}"  # noqa: S608  # names of our own views and columns
    return f"SELECT {names} FROM {source.view} WHERE {sequence} >= coalesce(({oldest}), 0)"  # noqa: S608  # names of our own views and columns
