"""enginelog stats and enginelog runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from async_enginelog.tables import TABLES

from .conftest import Outcome


def test_text(enginelog: Callable[..., Outcome], log_path: Path) -> None:
    """Rows of each table, runs, sizes."""
    code, out, _ = enginelog("stats", log_path)
    facts = dict(line.rsplit(maxsplit=1) for line in out.splitlines() if line.startswith("ENGINE_DB_LOG"))

    assert code == 0
    assert facts.keys() == TABLES.keys()
    assert facts["ENGINE_DB_LOG_STEPS"] == "5"
    assert "accepted        12 rows\n" in out
    assert "newest LOG_SEQ  12\n" in out
    assert out.isascii()


def test_json(enginelog: Callable[..., Outcome], log_path: Path) -> None:
    """--json has the same figures, for programs."""
    figures = json.loads(enginelog("stats", "--json", log_path).out)

    assert figures["rows_in_all"] == figures["newest_log_seq"] == 12
    assert figures["runs"] == 1
    assert figures["database_bytes"] == log_path.stat().st_size
    assert figures["first_run_started"] < figures["last_sign_of_life"]


def test_new_database(enginelog: Callable[..., Outcome], tmp_path: Path) -> None:
    """A database without runs has no span of time."""
    path = tmp_path / "new.db"
    enginelog("init", path)

    assert "time span       none yet" in enginelog("stats", path).out


def test_console_rows(
    enginelog: Callable[..., Outcome], log_path: Path, sql: Callable[..., list[Any]]
) -> None:
    """Rows that went to the console are mentioned, and large files are told in MiB."""
    sql(log_path, "UPDATE ENGINE_LOG_RUN SET ROWS_ON_CONSOLE = 7, ROWS_REPLAYED = 3")
    (log_path.parent / "engine_log.db-spool" / "big.jsonl").write_bytes(bytes(3 * 1024**2))
    out = enginelog("stats", log_path).out

    assert "7 of them went to the console, 3 were replayed" in out
    assert "3.0 MiB" in out


def test_while_an_engine_writes(enginelog: Callable[..., Outcome], live: Path) -> None:
    """The engine that is alive is counted."""
    assert json.loads(enginelog("stats", "--json", live).out)["runs_alive"] == 1
