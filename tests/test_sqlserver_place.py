"""
The scripts for SQL Server where others live, or an older version did: nothing is taken from anybody.

What SQL Server would find is found by SQLite, which understands these conditions with little help.

"""

from __future__ import annotations

import dataclasses
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing

import pytest

from async_enginelog.odbc import SOURCES, Source
from async_enginelog.sqlserver import Link, Target, create_script, remove_script
from async_enginelog.tsql import MARK, literal, quoted

from . import tsql
from .test_sqlserver import (
    DEFAULT,
    FULL,
    arguments_of,
    each_link,
    each_source,
    made_by,
    view,
)

# -- jobs -------------------------------------------------------------------------------------------


def jobs_of(script: str) -> set[str]:
    """Return the jobs of which a script speaks."""
    calls = ("sp_add_job", "sp_add_jobstep", "sp_add_jobschedule", "sp_add_jobserver", "sp_delete_job")
    return {call["job_name"] for name in calls for call in arguments_of(script, f"msdb.dbo.{name}")}


def locks_of(script: str) -> set[str]:
    """Return the locks that a script takes and releases."""
    calls = ("sp_getapplock", "sp_releaseapplock")
    return {call["Resource"] for name in calls for call in arguments_of(script, f"sys.{name}")}


LONG = "🎻" * 64  # as long as a name may be, in UTF-16


def test_jobs_of_their_own() -> None:
    """Two schemas, of one database or of two, have jobs and locks of their own: none drops the other's."""
    places = [("V", "dbo"), ("V", "old"), ("W", "dbo"), ("V V", "dbo"), ("V", "V dbo"), ("V].[V", "dbo")]
    places += [(LONG, "a"), (LONG, "b"), (LONG, LONG), ("x" * 127 + "a", "dbo"), ("x" * 127 + "b", "dbo")]
    targets = [Target("E", *place) for place in places]
    created = [create_script(dataclasses.replace(FULL, target=target)) for target in targets]

    for of in (jobs_of, locks_of):
        assert all(len(of(script)) == 1 for script in created)
        assert len({name for script in created for name in of(script)}) == len(places)
    for target, script in zip(targets, created, strict=True):
        assert jobs_of(remove_script(target)) == jobs_of(script)
        [job] = jobs_of(script)
        assert len(tsql.unquoted(job).encode("utf-16-le")) <= 2 * 128


def test_job_of_another_linked_server() -> None:
    """A schema has one job, though its linked server may be called otherwise when the script runs again."""
    other = dataclasses.replace(FULL, target=Target("OTHER", "VIOLIN"))
    assert jobs_of(create_script(other)) == jobs_of(create_script(FULL))


# -- copies -----------------------------------------------------------------------------------------


@each_source
def test_older_copies_get_new_columns(source: Source) -> None:
    """A copy that an older version made gets each column that it lacks, of the type that a new one has."""
    [batch] = [
        batch
        for batch in tsql.batches(create_script(DEFAULT))
        if f"CREATE TABLE [dbo].[{source.name}_COPY]" in batch
    ]
    table, later = batch.split("\nEND;\n")
    new = dict(re.findall(r"^        (\w+) (\S+) NULL,?$", table, re.MULTILINE))
    added = re.findall(
        r"^IF COL_LENGTH\(N'(\S+)', N'(\w+)'\) IS NULL ALTER TABLE (\S+) ADD (\w+) (\S+) NULL;$",
        later,
        re.MULTILINE,
    )
    assert list(new) == [column.name for column in source.columns]
    assert {column: kind for *_, column, kind in added} == {
        name: kind for name, kind in new.items() if name not in source.key
    }
    assert all(
        (asked, column) == (f"[dbo].[{source.name}_COPY]", name) and asked == altered
        for asked, name, altered, column, _ in added
    )


def test_pieces_have_rows() -> None:
    """Pieces of no rows, or less, would never come to an end: before any loop they get the usual size."""
    [batch] = [batch for batch in tsql.batches(create_script(DEFAULT)) if "WHILE @count >= @chunk" in batch]
    guard = "IF @chunk IS NULL OR @chunk < 1\n        SET @chunk = 10000;"
    assert guard in batch
    body = batch.partition("\nAS\n")[2]
    assert body.index(guard) < body.replace(guard, "").index("@chunk")


# -- what others made -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made_by", "taken"),
    [
        ("nobody", None),
        ("the script", None),
        ("somebody: a view", "ENGINE_DB_LOG_STEPS"),
        ("somebody: an encrypted view", "ENGINE_DB_LOG_STEPS"),
        ("somebody: a table", "ENGINE_DB_LOG_STEPS_COPY"),
        ("somebody: a described table", "ENGINE_DB_LOG_STEPS_COPY"),
        ("somebody: in another schema", None),
        ("somebody: of another name", None),
    ],
)
def test_takes_nobodys_place(made_by: str, taken: str | None) -> None:
    """The script stops where a view, a procedure or a table of others has a name that it would take."""
    objects = {
        "nobody": [],
        "the script": [(1, "ENGINE_DB_LOG_STEPS", 1), (2, "ENGINE_DB_LOG_STEPS_COPY", 1), (3, "other", 1)],
        "somebody: a view": [(3, "ENGINE_DB_LOG_STEPS", 1), (2, "ENGINE_LOG_RUN_COPY", 1)],
        "somebody: an encrypted view": [(4, "ENGINE_DB_LOG_STEPS", 1)],
        "somebody: a table": [(4, "ENGINE_DB_LOG_STEPS_COPY", 1)],
        "somebody: a described table": [(5, "ENGINE_DB_LOG_STEPS_COPY", 1)],
        "somebody: in another schema": [(3, "ENGINE_DB_LOG_STEPS", 2)],
        "somebody: of another name": [(3, "STEPS", 1)],
    }[made_by]
    assert found_taken(objects) == taken


def found_taken(objects: Sequence[tuple[int, str, int]]) -> str | None:
    """Return what the script finds taken, of objects by number, name and schema; SQLite knows how to ask."""
    script = create_script(DEFAULT)
    texts = {1: view("ENGINE_DB_LOG_STEPS"), 3: "CREATE VIEW …"}
    [marks] = {call["name"] for call in arguments_of(script, "sys.sp_addextendedproperty")}
    [query] = re.findall(r"SELECT @taken = (MIN.*?);\n", script, re.DOTALL)
    query = query.replace("AS v (name)", "AS v").replace("v.name", "v.column1").replace("N'", "'")
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("ATTACH ':memory:' AS sys")
        connection.execute("CREATE TABLE sys.objects (object_id, name, schema_id)")
        connection.execute("CREATE TABLE sys.extended_properties (class, major_id, minor_id, name)")
        connection.executemany("INSERT INTO sys.objects VALUES (?, ?, ?)", objects)
        connection.executemany(
            "INSERT INTO sys.extended_properties VALUES (1, ?, ?, ?)",
            [(2, 0, tsql.unquoted(marks)), (5, 0, "MS_Description"), (5, 1, tsql.unquoted(marks))],
        )
        connection.create_function("OBJECT_DEFINITION", 1, texts.get)
        connection.create_function("SCHEMA_ID", 1, {"dbo": 1}.get)
        [(taken,)] = connection.execute(f"SELECT {query}")
    return None if taken is None else str(taken)


@each_link
def test_asks_for_all_names(link: Link) -> None:
    """Nothing is made whose name wasn't asked for; and all that is made can be told from what others made."""
    script = create_script(link)
    names = script.partition("JOIN (VALUES")[2].partition(") AS v (name)")[0]
    made = set().union(*(made_by(script, kind) for kind in ("VIEW", "PROCEDURE", "TABLE")))
    assert {f"{quoted(link.target.schema)}.[{name}]" for name in re.findall("N'(.*)'", names)} == made
    for batch in tsql.batches(script):
        if tsql.created(tsql.tokens(batch)):
            assert batch.index(f"-- {MARK}.") > batch.index("\nAS\n")
    marked = arguments_of(script, "sys.sp_addextendedproperty")
    tables = {f"{quoted(tsql.unquoted(call['level0name']))}.{call['level1name']}" for call in marked}
    assert {re.sub(r"N'(\w+)'$", r"[\1]", table) for table in tables} == made_by(script, "TABLE")


@each_link
def test_removes_nothing_of_others(link: Link) -> None:
    """Each thing is dropped only if the script made it, which its text says, or the property of a table."""
    drops = re.findall(
        r"^(.*)\n    DROP (\w+) IF EXISTS (\S.*\])\n", remove_script(link.target), re.MULTILINE
    )
    assert len(drops) == 2 * len(SOURCES) + 4
    for condition, kind, name in drops:
        assert f"OBJECT_ID({literal(name)})" in condition
        assert ("sys.extended_properties" if kind == "TABLE" else "OBJECT_DEFINITION") in condition
        assert MARK in condition


@pytest.mark.parametrize(
    ("major", "build", "works"),
    [
        (None, None, False),
        (12, 6024, False),
        (13, 1601, False),
        (13, None, False),
        (13, 4001, True),
        (13, 6300, True),
        (14, 1000, True),
        (16, 1000, True),
    ],
)
def test_versions(major: int | None, build: int | None, works: bool) -> None:
    """SQL Server 2016 without its SP1 is refused, and what is older, which may not know its version."""
    lines = create_script(DEFAULT).splitlines()
    [condition] = [lines[n - 1] for n, line in enumerate(lines) if "2016 SP1 or newer" in line]
    condition = condition.removeprefix("ELSE IF ").replace("CONVERT(int, ", "(").replace("N'", "'")
    with closing(sqlite3.connect(":memory:")) as connection:
        properties = {"ProductMajorVersion": major, "ProductBuild": build}
        connection.create_function("SERVERPROPERTY", 1, properties.get)
        assert connection.execute(f"SELECT {condition}").fetchone() == (not works,)
