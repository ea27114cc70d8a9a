"""Files as the old engine wrote them, in whatever version."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

__all__ = ["LEGACY", "ZONE", "old_file", "write"]

LEGACY = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "legacy_engine_log.db"

# Where that engine ran.
ZONE = "America/New_York"

Rows = Sequence[Mapping[str, Any]]


def old_file(path: Path, **tables: Rows | str) -> Path:
    """
    Make a file with some tables of the log, by their short names.

    Each is given as its rows, whose keys are its columns; or as what stands in the brackets of its
    CREATE TABLE, if it has no rows yet.

    """
    with closing(sqlite3.connect(path)) as connection:
        for name, given in tables.items():
            columns = given if isinstance(given, str) else ", ".join(_names(given))
            connection.execute(f"CREATE TABLE {_table(name)} ({columns})")
        connection.commit()
    for name, given in tables.items():
        if not isinstance(given, str):
            write(path, name, *given)
    return path


def write(path: Path, table: str, *rows: Mapping[str, Any]) -> None:
    """Write more rows, as an engine does that goes on."""
    with closing(sqlite3.connect(path)) as connection:
        for row in rows:
            if row:
                marks = ", ".join("?" * len(row))
                sql = f"INSERT INTO {_table(table)} ({', '.join(row)}) VALUES ({marks})"
                connection.execute(sql, tuple(row.values()))
            else:
                connection.execute(f"INSERT INTO {_table(table)} DEFAULT VALUES")
        connection.commit()


def _names(rows: Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _table(name: str) -> str:
    return name if name.islower() else f"ENGINE_DB_LOG_{name}"
