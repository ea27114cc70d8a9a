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


def damage(path: Path) -> None:
    """Overwrite the first page."""
    with path.open("r+b") as file:
        file.write(os.urandom(4096))


def test_damaged(enginelog: Enginelog, log_path: Path) -> None:
    """What was saved is told, and where the damaged file is; the log is whole again."""
    damage(log_path)
    code, out, err = enginelog("salvage", log_path)

    [aside] = log_path.parent.glob("*-broken-*")
    assert (code, err) == (0, "")
    assert out.startswith(f"{log_path} was damaged: ")
    assert out.endswith(f"rows are saved, 0 are lost; the damaged file is kept as {aside}\n")
    assert enginelog("verify", log_path).code == 0


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
