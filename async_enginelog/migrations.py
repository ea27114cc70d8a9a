"""The schema of the database file, as ``migrations/sqlite/`` tells it step by step."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection
from contextlib import closing
from functools import cache
from pathlib import Path

from .resources import resource

__all__ = ["APPLICATION_ID", "SCHEMA", "migrations", "version_of"]

# https://www.sqlite.org/pragma.html#pragma_application_id; "EngL".
APPLICATION_ID = 0x456E674C


# Asks a database for its tables, indexes and views; but for what SQLite adds by itself.
SCHEMA = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite%'"


@cache
def migrations() -> tuple[tuple[str, ...], ...]:
    """Return the statements of each migration; the first brings the file to version 1."""
    files = sorted((resource("migrations") / "sqlite").glob("*.sql"))
    for number, file in enumerate(files, 1):
        if not file.name.startswith(f"{number:04}_"):
            raise RuntimeError(f"migration {number} is missing: found {file.name} in its place")
    if not files:
        raise RuntimeError("the migrations are missing from the installation; reinstall async-enginelog")
    return tuple(_statements(file) for file in files)


def version_of(schema: Collection[tuple[str, str, str]]) -> int | None:
    """Return the version whose tables, indexes and views these are; :obj:`None` if it isn't known."""
    return _versions().get(frozenset(schema))


@cache
def _versions() -> dict[frozenset[tuple[str, str, str]], int]:
    versions = {}
    with closing(sqlite3.connect(":memory:")) as database:
        for version, statements in enumerate(migrations(), 1):
            for statement in statements:
                database.execute(statement)
            versions[frozenset(database.execute(SCHEMA))] = version
    return versions


def _statements(file: Path) -> tuple[str, ...]:
    script = file.read_text("utf-8") + "\n"
    statements: list[str] = []
    statement = ""
    for line in re.sub(r"^\s*--.*\n", "", script, flags=re.MULTILINE).splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            statements.append(statement.strip())
            statement = ""
    if statement.strip():
        raise RuntimeError(f"{file.name} ends within a statement: {statement.strip()}")
    return tuple(statements)
