"""Tell which table a row belongs to by what stands in which column, without performing any I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["Shape"]


class Shape(NamedTuple):
    """A table: its columns, and the types they are declared with."""

    name: str
    columns: Sequence[str]
    types: Sequence[str]
    has_rowid: bool

    @property
    def is_of_log(self) -> bool:
        """Whether rows of the log are in it, and not how they came there."""
        return self.name.startswith("ENGINE_DB_LOG_")

    def insert(self, *, with_rowid: bool) -> str:
        """Return the statement that inserts a row unless it is there."""
        into = [*(["rowid"] if with_rowid else []), *self.columns]
        marks = ",".join("?" * len(into))
        return f"INSERT OR IGNORE INTO {self.name} ({','.join(into)}) VALUES ({marks})"  # noqa: S608  # names of our own tables and columns

    def fit(self, values: Sequence[Any]) -> bool:
        """Tell whether values can go into the columns, into each of them one."""
        return len(values) == len(self.types) and all(map(_goes_into, self.types, values))

    def likeness(self, values: Sequence[Any]) -> int:
        """Tell how much values look like a row of the table; 0 if they can't be one."""
        if not self.fit(values):
            return 0
        if self.is_of_log and not (isinstance(values[-1], int) and isinstance(values[-2], int)):
            return 0  # LOG_SEQ and ENGINE_RUN_ID, which each row has
        return 1 + sum(map(_likeness, self.types, values))


def _goes_into(declared: str, value: Any) -> bool:
    if value is None:
        return True
    if declared == "BIGINT":
        return isinstance(value, int)
    return isinstance(value, int | float if declared == "REAL" else str)


def _likeness(declared: str, value: Any) -> int:
    is_time = isinstance(value, str) and len(value) == 26 and value[4] == "-" and value[10] == " "
    return int(value is not None and is_time == (declared == "DATETIME"))
