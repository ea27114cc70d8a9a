"""The bridge views: as the tables want them, found by the tables' indexes, there after an upgrade."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from async_enginelog import EngineLog
from async_enginelog.migrations import APPLICATION_ID, migrations
from async_enginelog.odbc import SOURCES, Source, bridge_version, bridge_view, pass_through
from async_enginelog.tables import TABLES

from .conftest import Query
from .pure_helpers import migrated

each_source = pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))

# The last version without the views as they are.
BEFORE = bridge_version(migrations()) - 1

# A reader in the middle of a query, in a process of its own, as SQL Server may be. Says how many rows it had.
READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
cursor = connection.execute("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY LOG_SEQ")
rows = [cursor.fetchone()]
print("reading", flush=True)
sys.stdin.readline()
rows += cursor.fetchall()
connection.execute("COMMIT")
views = connection.execute("SELECT count(*) FROM V_ODBC_ENGINE_DB_LOG_STEPS").fetchone()
print(len(rows), *views, flush=True)
"""


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    """A database with the schema of the log."""
    with migrated() as connection:
        yield connection


def views_of(scripts: tuple[tuple[str, ...], ...]) -> dict[str, str]:
    """Return the views that migrations leave, each with the statement that makes it."""
    views: dict[str, str] = {}
    for statement in (statement for script in scripts for statement in script):
        made = re.match(r"CREATE VIEW (\w+)", statement)
        dropped = re.match(r"DROP VIEW (\w+)", statement)
        if made:
            views[made.group(1)] = statement
        elif dropped:
            del views[dropped.group(1)]
    return views


def test_migrations_make_the_views() -> None:
    """The migrations make just the views that the tables want, column by column."""
    assert views_of(migrations()) == {source.view: bridge_view(source) for source in SOURCES.values()}


def test_version() -> None:
    """The version from which on the views are as they are is that of the last migration that made one."""
    assert (
        bridge_version([["CREATE TABLE x"], ["DROP TABLE x", "CREATE VIEW V_ODBC_X"], ["CREATE TABLE y"]])
        == 2
    )


def test_every_table_is_a_source() -> None:
    """Each table can be read from outside, and so can the runs."""
    assert list(SOURCES) == [*TABLES, "ENGINE_LOG_RUN"]


@each_source
def test_sources_know_all_columns(database: sqlite3.Connection, source: Source) -> None:
    """A source has each column of its table, with its type, and its view has them in the same order."""
    of_table = database.execute(f"SELECT name, type FROM pragma_table_info('{source.name}')").fetchall()
    assert [(column.name, column.declared) for column in source.columns] == of_table
    of_view = database.execute(f"SELECT name FROM pragma_table_info('{source.view}')").fetchall()
    assert of_view == [(column.name,) for column in source.columns]


@each_source
def test_sources_know_their_columns(source: Source) -> None:
    """What a source is read and merged by, it has."""
    assert all(source.has(name) for name in (*source.key, source.sequence, source.time))


@each_source
@pytest.mark.parametrize("window", ["newest", "sequence", "piece"])
def test_rows_are_found_by_an_index(database: sqlite3.Connection, source: Source, window: str) -> None:
    """A window, inside of a query on a view, reads its rows only: no table is gone through."""
    query = f"SELECT * FROM {source.view}"
    sequence = source.sequence
    queries = {
        "newest": pass_through(source, source.columns, newest=100),
        "sequence": f"{query} WHERE {sequence} > 5 AND {sequence} <= 9",
        "piece": f"{query} WHERE {sequence} > 5 ORDER BY {sequence} LIMIT 10",
    }
    plan = [step for *_, step in database.execute(f"EXPLAIN QUERY PLAN {queries[window]}")]
    assert [step for step in plan if step.startswith("SCAN") and "INDEX" not in step] == []
    assert not any("TEMP B-TREE" in step for step in plan)


@pytest.mark.parametrize("rows", [1, 7, 20, 21])
async def test_newest_rows(path: Path, query: Query, rows: int) -> None:
    """The newest rows of a table are those that changed last; all, if there are fewer."""
    async with EngineLog(path) as log:
        for number in range(20):
            await log.log_steps(step_id=number)
            await log.log_recording_config(recording_id=number)
        await log.log_recording_config(recording_id=0, audio_stream_file_name="again")
    steps, recordings = SOURCES["ENGINE_DB_LOG_STEPS"], SOURCES["ENGINE_DB_LOG_RECORDING_CONFIG"]
    found = query(pass_through(steps, [steps.columns[8]], newest=rows))
    assert sorted(found) == [(number,) for number in range(20)][-rows:]
    found = query(pass_through(recordings, [recordings.columns[0]], newest=rows))
    assert {number for (number,) in found} == {0, *range(21 - rows if rows < 20 else 0, 20)}


# -- upgrades ---------------------------------------------------------------------------------------


@pytest.fixture
def old_database(path: Path) -> Callable[..., None]:
    """Makes a database of an older version, with some rows."""

    def make(version: int) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            for statement in (statement for script in migrations()[:version] for statement in script):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("INSERT INTO ENGINE_LOG_RUN (ENGINE_RUN_ID, LAST_LOG_SEQ) VALUES (1, 2000)")
            connection.executemany(
                "INSERT INTO ENGINE_DB_LOG_STEPS (STEP_ID, ENGINE_RUN_ID, LOG_SEQ) VALUES (?1, 1, ?1)",
                [(number,) for number in range(1, 2001)],
            )

    return make


@pytest.mark.parametrize("version", [1, BEFORE])
async def test_upgrade_beside_a_reader(path: Path, old_database: Callable[..., None], version: int) -> None:
    """An older database gets its views while somebody reads it, and neither waits for the other."""
    old_database(version)
    command = [sys.executable, "-c", READER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        async with asyncio.timeout(20), EngineLog(path) as log:
            await log.log_steps(step_id=2001)
            await log.flush()
            assert log.statistics().last_fault is None
        # The reader has its old rows to the end, then sees the view with the new one.
        assert reader.communicate("go on\n")[0] == "2000 2001\n"


async def test_two_upgrades_at_once(path: Path, old_database: Callable[..., None], query: Query) -> None:
    """Two engines that open an old database at once both go on."""
    old_database(1)
    async with EngineLog(path) as one, EngineLog(path) as two:
        await asyncio.gather(one.log_steps(step_id=1), two.log_steps(step_id=2))
    assert query("PRAGMA user_version") == [(len(migrations()),)]
    assert query("SELECT count(*) FROM V_ODBC_ENGINE_DB_LOG_STEPS") == [(2002,)]
