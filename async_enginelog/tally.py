"""How far an old file is imported, and what became of its rows, without performing any I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from .wallclock import Certainty

__all__ = ["ImportProgress", "Note", "TableProgress", "Tally"]

MAX_SHOWN = 200


class Note(StrEnum):
    """Why a value isn't taken over as it is."""

    CONFLICT = "conflict"  # rows of one thing have different times; the later row's is kept
    MISSPELT = "misspelt"  # unlike that of the same column, misspelt, in the same row
    UNKNOWN = "unknown"  # of a column that isn't known here
    UNREADABLE = "unreadable"  # not of the type of its column
    CUT = "cut"  # wider than its column
    MASKED = "masked"  # had credentials in it
    AMBIGUOUS = Certainty.AMBIGUOUS.value
    NONEXISTENT = Certainty.NONEXISTENT.value
    UTC = "utc"  # written by SQLite itself, which doesn't know local times


@dataclass
class Tally:
    """
    What became of the rows of one table.

    ``read == empty + stored + merged`` always holds, once the rows are stored.

    """

    read: int = 0
    # Rows without a value.
    empty: int = 0
    # Rows that are in the log because of these.
    stored: int = 0
    # Rows that filled in one that was there.
    merged: int = 0
    # Of these: rows of things that another engine has logged. What it didn't know is filled in.
    known_before: int = 0
    # Of all but the empty ones: rows that don't say what they speak of. Each stands alone.
    without_key: int = 0
    # By reason and column: how often, and the first of them.
    notes: dict[str, dict[str, tuple[int, str]]] = field(default_factory=dict)

    def note(self, reason: Note, column: str, example: object) -> None:
        """Note that a value isn't taken over as it is."""
        columns = self.notes.setdefault(reason.value, {})
        count, first = columns.get(column) or (0, _shown(example))
        columns[column] = count + 1, first

    @classmethod
    def of_json(cls, fields: Mapping[str, Any]) -> Tally:
        """Return what was turned into JSON."""
        notes = {
            reason: {column: (count, first) for column, (count, first) in columns.items()}
            for reason, columns in fields["notes"].items()
        }
        return cls(**{**fields, "notes": notes})


@dataclass
class TableProgress:
    """How far a table of an old file is imported."""

    tally: Tally = field(default_factory=Tally)
    # Of all rows that were read, so that they are known again.
    digest: str = ""
    # Which start of the old engine the last row belongs to.
    life: int = 0

    @property
    def tells(self) -> bool:
        """Whether the rows that were read are like those of no other file."""
        return self.tally.read > self.tally.empty

    @classmethod
    def of_json(cls, fields: Mapping[str, Any]) -> TableProgress:
        """Return what was turned into JSON."""
        return cls(Tally.of_json(fields["tally"]), fields["digest"], fields["life"])


@dataclass
class ImportProgress:
    """
    How far an old file is imported.

    Attributes:
        time_zone: What its local times were taken for.
        runs: The run of each start of the old engine.
        tables: How far each of its tables is imported.

    """

    time_zone: str
    runs: list[int] = field(default_factory=list)
    tables: dict[str, TableProgress] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return all of it in types that JSON knows."""
        return asdict(self)

    @classmethod
    def of_json(cls, fields: Mapping[str, Any]) -> ImportProgress:
        """Return what :meth:`as_json` was asked of."""
        tables = {name: TableProgress.of_json(table) for name, table in fields["tables"].items()}
        return cls(fields["time_zone"], fields["runs"], tables)

    @property
    def rows_read(self) -> int:
        """How many rows of the file were read."""
        return sum(table.tally.read for table in self.tables.values())


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
