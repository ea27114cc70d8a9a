"""What all tests share: a fresh path for a database, and a way to look into it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from async_enginelog import segments

Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a database that doesn't exist yet."""
    return tmp_path / "engine log.db"


@pytest.fixture
def query(path: Path) -> Query:
    """Run a query on the database at ``path``, as any reader would."""

    def run(sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path, timeout=10)) as connection:
            return connection.execute(sql, parameters).fetchall()

    return run


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> int:
    """Make segments of the spool small, so that a few hundred rows fill one."""
    size = 128 * 1024
    monkeypatch.setattr(segments, "SEGMENT_BYTES", size)
    return size
