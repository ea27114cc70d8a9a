"""enginelog salvage: saves what can be saved of a damaged database, and leaves all others alone."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from .conftest import Outcome

Enginelog = Callable[..., Outcome]
Sql = Callable[..., list[Any]]


_LAST_PAGE = "SELECT max(pageno) FROM dbstat WHERE name = '{}'"


def damage(path: Path, page: int = 1) -> None:
    """Overwrite a page."""
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))


def test_damaged(enginelog: Enginelog, log_path: Path) -> None:
    """What was saved is told, and where the damaged file is; the log is whole again."""
    damage(log_path)
    code, out, err = enginelog("salvage", log_path)

    [aside] = log_path.parent.glob("*-broken-*")
    assert (code, err) == (0, "")
    assert out.startswith(f"{log_path} was damaged: ")
    assert "12 rows are saved, 0 are lost; of ENGINE_LOG_REPLAYED something may be lost" in out
    assert out.endswith(f"; the damaged file is kept as {aside}\n")


def test_verify_afterwards(enginelog: Enginelog, log_path: Path, sql: Sql) -> None:
    """What a salvage lost is no riddle afterwards: the log is whole but for that, and says so."""
    damage(log_path, *sql(log_path, _LAST_PAGE.format("ENGINE_DB_LOG_STEPS"))[0])
    first = enginelog("salvage", log_path).out
    code, out, _ = enginelog("verify", log_path)

    assert " are lost; the damaged" in first
    assert " 0 are lost" not in first
    assert code == 0
    assert out.count("this file was salvaged on") == 1
    assert "rows were saved" in out
    assert "-broken-" in out

    damage(log_path, *sql(log_path, _LAST_PAGE.format("ENGINE_LOG_RUN"))[0])
    assert "how many are lost isn't known" in enginelog("salvage", log_path).out
    code, out, _ = enginelog("verify", log_path)
    assert code == 0
    assert out.count("this file was salvaged on") == 2
    assert "nobody knows how many lost; of ENGINE_LOG_RUN something may be lost" in out


def test_free_list(enginelog: Enginelog, log_path: Path) -> None:
    """A list of free pages that is broken is found, though SQLite finds nothing, and mended."""
    data = bytearray(log_path.read_bytes())
    data[36] ^= 1
    log_path.write_bytes(data)
    code, out, _ = enginelog("verify", log_path)

    assert code == 1
    assert "its list of free pages is broken" in out
    assert "12 rows are saved, 0 are lost" in enginelog("salvage", log_path).out
    assert enginelog("verify", log_path).code == 0


def test_second_half(enginelog: Enginelog, log_path: Path) -> None:
    """Where the begin of a file is missing, its name is all that says whose it is; its rows are saved."""
    data = log_path.read_bytes()
    log_path.write_bytes(data[len(data) // 2 - 512 :])
    out = enginelog("salvage", log_path).out

    assert "how many are lost isn't known" in out
    assert not out.startswith(f"{log_path} was damaged: 0 rows")
    assert enginelog("verify", log_path).code == 0


def test_schema_version(enginelog: Enginelog, log_path: Path) -> None:
    """A number that is damaged doesn't make a file one of a newer version; tables that nobody knows do."""
    with closing(sqlite3.connect(log_path)) as connection:
        [(version,)] = connection.execute("PRAGMA user_version")
        connection.execute(f"PRAGMA user_version = {version ^ 64}")
    assert "is damaged: its schema version is" in enginelog("verify", log_path).err
    assert "12 rows are saved, 0 are lost; the damaged" in enginelog("salvage", log_path).out
    with closing(sqlite3.connect(log_path)) as connection:
        connection.execute("CREATE TABLE ENGINE_LOG_LATER (A BIGINT)")
        connection.execute(f"PRAGMA user_version = {version + 1}")
        connection.commit()
    before = log_path.read_bytes()

    assert "upgrade async-enginelog" in enginelog("salvage", log_path).err
    assert log_path.read_bytes() == before


def test_whole(enginelog: Enginelog, log_path: Path) -> None:
    """A database that is whole is left alone."""
    before = log_path.read_bytes()
    assert enginelog("salvage", log_path) == (0, f"{log_path} isn't damaged\n", "")
    assert log_path.read_bytes() == before


def test_damage_that_no_reader_meets(enginelog: Enginelog, log_path: Path) -> None:
    """All of the file is looked at, not only its begin."""
    size = log_path.stat().st_size
    with log_path.open("r+b") as file:
        file.seek(size - 4096)
        file.write(b"\xa5" * 4096)

    assert " was damaged: " in enginelog("salvage", log_path).out


def test_while_an_engine_writes(enginelog: Enginelog, live: Path) -> None:
    """A log that is whole is left alone, also while an engine writes to it."""
    assert enginelog("salvage", live) == (0, f"{live} isn't damaged\n", "")


def test_somebody_elses(enginelog: Enginelog, tmp_path: Path) -> None:
    """Files that aren't of this package are refused, whole or not."""
    rubbish, other = tmp_path / "rubbish.db", tmp_path / "other.db"
    rubbish.write_bytes(os.urandom(10_000))
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE a (b)")

    assert enginelog("salvage", rubbish).code == 2
    assert "not one of async-enginelog" in enginelog("salvage", other).err
    assert "doesn't exist" in enginelog("salvage", tmp_path / "nothing.db").err
