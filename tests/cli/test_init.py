"""enginelog init: create, migrate, empty."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from async_enginelog.migrations import migrations
from async_enginelog.tables import TABLES

from .conftest import Outcome

Sql = Callable[..., list[Any]]

NEWEST = len(migrations())


def test_creates(enginelog: Callable[..., Outcome], tmp_path: Path) -> None:
    """A new database passes verify."""
    path = tmp_path / "new.db"

    assert enginelog("init", path) == (0, f"created {path} with schema version {NEWEST}\n", "")
    assert enginelog("verify", path).code == 0


def test_is_idempotent(enginelog: Callable[..., Outcome], log_path: Path) -> None:
    """A database that is up to date stays as it is."""
    before = enginelog("tail", log_path).out
    assert enginelog("init", log_path).out == f"{log_path} is up to date: schema version {NEWEST}\n"
    assert enginelog("tail", log_path).out == before


def test_migrates(enginelog: Callable[..., Outcome], tmp_path: Path) -> None:
    """An empty file is brought from version 0."""
    path = tmp_path / "empty.db"
    path.touch()

    assert f"from schema version 0 to {NEWEST}\n" in enginelog("init", path).out


@pytest.fixture
def outdated(enginelog: Callable[..., Outcome], log_path: Path, sql: Sql) -> Path:
    """A database as version 1 of the schema had it: what came since is missing."""
    first = {statement.split()[2] for statement in migrations()[0]}
    entries = "SELECT type, name FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type = 'table'"
    for kind, name in sql(log_path, entries):
        if name not in first:
            sql(log_path, f"DROP {kind} {name}")
    sql(log_path, "PRAGMA user_version = 1")
    return log_path


@pytest.mark.parametrize("verb", ["stats", "tail"])
def test_outdated_database(enginelog: Callable[..., Outcome], outdated: Path, verb: str) -> None:
    """What reads all tables says that some are missing, and how to get them; then it works."""
    code, _, err = enginelog(verb, outdated)
    assert (code, "schema version 1, and tables have come since; bring it up to date" in err) == (2, True)

    migrated = f"migrated {outdated} from schema version 1 to {NEWEST}\n"
    assert enginelog("init", outdated) == (0, migrated, "")
    assert enginelog(verb, outdated).code == 0
    assert enginelog("verify", outdated).code == 0


@pytest.mark.parametrize("arguments", [["--yes"], ["-y"], []])
def test_truncate(
    enginelog: Callable[..., Outcome],
    fill: Callable[..., None],
    log_path: Path,
    sql: Sql,
    arguments: list[str],
) -> None:
    """The tables are empty, verify is content, and LOG_SEQ goes on."""
    code, out, _ = enginelog("init", "--truncate", *arguments, log_path, input="y\n")

    assert code == 0
    assert "deleted 12 rows" in out
    assert all(sql(log_path, f"SELECT count(*) FROM {table}") == [(0,)] for table in TABLES)
    assert enginelog("verify", log_path).code == 0
    fill(log_path, 1)
    assert enginelog("verify", log_path).code == 0
    assert sql(log_path, "SELECT min(LOG_SEQ) FROM ENGINE_DB_LOG_STEPS") == [(13,)]


def test_truncate_gives_room_back(
    enginelog: Callable[..., Outcome], fill: Callable[..., None], log_path: Path
) -> None:
    """The file gets smaller."""
    fill(log_path, 1000)
    before = log_path.stat().st_size
    enginelog("init", "--truncate", "--yes", log_path)

    assert log_path.stat().st_size < before - 100_000


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_truncate_asks(enginelog: Callable[..., Outcome], log_path: Path, sql: Sql, answer: str) -> None:
    """Without a yes, nothing is deleted."""
    assert enginelog("init", "--truncate", log_path, input=answer).code == 1
    assert sql(log_path, "SELECT count(*) FROM ENGINE_DB_LOG_STEPS") == [(5,)]


def test_truncate_while_an_engine_writes(enginelog: Callable[..., Outcome], live: Path, sql: Sql) -> None:
    """It is one transaction among the engine's, and verify stays content."""
    assert enginelog("init", "--truncate", "--yes", live).code == 0
    code, out, _ = enginelog("verify", live)

    assert (code, "is running" in out) == (0, True), out
    assert sql(live, "SELECT count(*) FROM ENGINE_DB_LOG_STEPS WHERE STEP_NAME = 'before'") == [(0,)]
