"""The schema, as the files of the migrations tell it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from async_enginelog import migrations as module
from async_enginelog.migrations import APPLICATION_ID, SCHEMA, migrations, version_of
from async_enginelog.resources import resource

from .pure_helpers import migrated


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installation whose folder of migrations is empty yet."""
    monkeypatch.setattr(module, "resource", lambda name: tmp_path / name)
    migrations.cache_clear()
    folder = tmp_path / "migrations" / "sqlite"
    folder.mkdir(parents=True)
    yield folder
    migrations.cache_clear()


def schema(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    """Return all that a database says of its tables and indexes, comments and spaces left out."""
    names = connection.execute("SELECT type, name FROM sqlite_schema ORDER BY 1, 2").fetchall()
    columns = [
        (name, *map(str, column))
        for _, name in names
        for column in connection.execute(f"SELECT * FROM pragma_table_xinfo('{name}')")
    ]
    return names + columns


def test_nothing_of_the_files_is_lost() -> None:
    """Statement by statement, the schema is the same as that of the files run as they are."""
    with migrated() as by_statement, closing(sqlite3.connect(":memory:")) as by_file:
        for file in sorted((resource("migrations") / "sqlite").glob("*.sql")):
            by_file.executescript(file.read_text("utf-8"))
        assert schema(by_statement) == schema(by_file) != []


def test_each_is_one_statement() -> None:
    """Each entry is one whole statement, so that SQLite takes it in one call."""
    for statement in (statement for migration in migrations() for statement in migration):
        assert sqlite3.complete_statement(statement)
        assert statement.startswith(("CREATE ", "ALTER ", "DROP ", "UPDATE ", "INSERT "))


def test_each_changes_the_schema() -> None:
    """Each version is known by its tables, indexes and views, so that a number that is damaged is seen."""
    schemas = []
    with closing(sqlite3.connect(":memory:")) as connection:
        for number, statements in enumerate(migrations(), 1):
            for statement in statements:
                connection.execute(statement)
            schemas.append(connection.execute(SCHEMA).fetchall())
            assert version_of(schemas[-1]) == number

    assert version_of([*schemas[-1], ("table", "LATER", "CREATE TABLE LATER (A)")]) is None


def test_no_table_gets_another_column() -> None:
    """Rows of a damaged file are told by how many columns they have: a salvage must learn of more first."""
    assert not [sql for statements in migrations() for sql in statements if sql.startswith("ALTER ")]


def test_are_read_once() -> None:
    """Asking again costs nothing: the files are read once."""
    assert migrations() is migrations()


def test_application_id_is_readable() -> None:
    """Tools that look at the header of the file see a name in it."""
    assert APPLICATION_ID.to_bytes(4, "big") == b"EngL"


def test_are_read_in_order(folder: Path) -> None:
    """The files are steps in the order of their numbers; comments, also with semicolons, don't count."""
    (folder / "0002_more.sql").write_text("-- c; d\nCREATE TABLE b (x);\nCREATE TABLE c (\n  -- ;\n  y\n);")
    (folder / "0001_first.sql").write_text("CREATE TABLE a (\n    x -- a; b\n);\n")
    assert migrations() == (
        ("CREATE TABLE a (\n    x -- a; b\n);",),
        ("CREATE TABLE b (x);", "CREATE TABLE c (\n  y\n);"),
    )


def test_a_gap_is_refused(folder: Path) -> None:
    """A missing step isn't skipped: it is an error that names what was found in its place."""
    (folder / "0002_more.sql").write_text("CREATE TABLE b (x);")
    with pytest.raises(RuntimeError, match=r"migration 1 is missing: found 0002_more\.sql"):
        migrations()


@pytest.mark.usefixtures("folder")
def test_an_empty_installation_is_refused() -> None:
    """Without its migrations the package is broken, and says so."""
    with pytest.raises(RuntimeError, match="missing from the installation; reinstall async-enginelog"):
        migrations()


def test_a_statement_without_its_end_is_refused(folder: Path) -> None:
    """What is left behind the last semicolon is an error, not left out in silence."""
    (folder / "0001_first.sql").write_text("CREATE TABLE a (x);\nCREATE TABLE b (x)\n")
    with pytest.raises(RuntimeError, match=r"0001_first\.sql ends within a statement: CREATE TABLE b"):
        migrations()
