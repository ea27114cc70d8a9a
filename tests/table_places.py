"""
Which tables each place knows that a table has to be in; run as a program, it names what one lacks.

A table is told by the names of its columns, as each place can be asked for those.

"""

from __future__ import annotations

import inspect
import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import async_enginelog
from async_enginelog import current, rows
from async_enginelog.migrations import migrations
from async_enginelog.tables import TABLES

__all__ = ["PLACES", "lacking"]

CHECKOUT = Path(async_enginelog.__file__).resolve().parent.parent

# What each table has besides.
OWN = {"engine_run_id", "log_seq"}

Known = set[frozenset[str]]


def _named(columns: Iterable[str]) -> frozenset[str]:
    return frozenset(column.lower() for column in columns) - OWN


def _in_rows() -> Known:
    return {_named(getattr(rows, name).__annotations__) for name in rows.__all__}


def _in_tables() -> Known:
    return {_named(table.columns) for table in TABLES.values()}


def _in_migrations(prefix: str) -> Known:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        for statement in (statement for script in migrations() for statement in script):
            database.execute(statement)
        names = database.execute("SELECT name FROM sqlite_schema WHERE name GLOB ? || '*'", (prefix,))
        return {_columns_of(database, name) for (name,) in names.fetchall()} - {frozenset()}


def _columns_of(database: sqlite3.Connection, name: str) -> frozenset[str]:
    try:
        return _named(column for _, column, *_ in database.execute(f"PRAGMA table_info({name})"))
    except sqlite3.OperationalError:  # a view whose table isn't there
        return frozenset()


def _taken_by(functions: dict[str, Any]) -> Known:
    """Return the tables of log functions: their only argument is Unpack[a row]."""
    known = set()
    for function in functions.values():
        hints = inspect.get_annotations(function, eval_str=True)
        for row in get_args(hints.get("columns")):
            if hasattr(row, "__annotations__"):
                known.add(_named(row.__annotations__))
    return known


def _log_functions(of: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(of, name) for name in names if name.startswith("log_")}


def _in_documents() -> Known:
    text = (CHECKOUT / "docs" / "tables.md").read_text("utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    return {
        _named(re.findall(r"^\| (\w+) \| [A-Z]", section, re.MULTILINE))
        for section in sections
        if section.startswith("ENGINE_DB_LOG_")
    }


def _in_script() -> Known:
    script = (CHECKOUT / "migrations" / "sqlserver" / "create_sql_server_linked_server.sql").read_text(
        "utf-8"
    )
    views = re.findall(r"^CREATE OR ALTER VIEW \S+\[ENGINE_DB_LOG_.*?^FROM", script, re.MULTILINE | re.DOTALL)
    return {_named(re.findall(r" AS (\w+),?$", view, re.MULTILINE)) for view in views}


PLACES = {
    "async_enginelog/rows.py": _in_rows,
    "async_enginelog/tables.py": _in_tables,
    "migrations/sqlite (the table)": lambda: _in_migrations("ENGINE_DB_LOG_"),
    "migrations/sqlite (its view)": lambda: _in_migrations("V_ODBC_ENGINE_DB_LOG_"),
    "async_enginelog/table_functions.py": lambda: _taken_by(
        _log_functions(async_enginelog.EngineLog, dir(async_enginelog.EngineLog))
    ),
    "async_enginelog/current.py": lambda: _taken_by(_log_functions(current, current.__all__)),
    "async_enginelog/__init__.py": lambda: _taken_by(
        _log_functions(async_enginelog, async_enginelog.__all__)
    ),
    "docs/tables.md": _in_documents,
    "migrations/sqlserver": _in_script,
}


def lacking() -> list[str]:
    """Return each place that lacks a table which another has, with the columns of that table."""
    known = {place: ask() for place, ask in PLACES.items()}
    wanted = set().union(*known.values())
    return [
        f"{place} lacks a table of {', '.join(sorted(columns)[:4])}"
        for place, there in known.items()
        for columns in sorted(wanted - there, key=sorted)
    ]


if __name__ == "__main__":
    raise SystemExit("\n".join(lacking()) or 0)
