"""enginelog runs: who wrote the log, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .conftest import Outcome


def states(enginelog: Callable[..., Outcome], path: Path, *arguments: object) -> list[str]:
    return [run["state"] for run in json.loads(enginelog("runs", "--json", path, *arguments).out)]


def test_text(enginelog: Callable[..., Outcome], log_path: Path, sql: Callable[..., list[Any]]) -> None:
    """One line for each run; what isn't known is a dash."""
    sql(log_path, "INSERT INTO ENGINE_LOG_RUN (ENGINE_RUN_ID, HOW_ENDED) VALUES (17, 'crashed')")
    code, out, _ = enginelog("runs", log_path)
    head, closed, crashed = out.splitlines()

    assert code == 0
    assert head.split()[:4] == ["run", "host", "pid", "version"]
    assert closed.split()[-5:] == ["closed", "12", "12", "0", "0"]
    assert crashed.split() == ["17", "-", "-", "-", "-", "-", "crashed", "0", "0", "0", "0"]


def test_newest_first_and_limit(
    enginelog: Callable[..., Outcome], fill: Callable[..., None], log_path: Path
) -> None:
    """--limit shows the newest."""
    fill(log_path, 1)
    runs = json.loads(enginelog("runs", "--json", log_path).out)

    assert [run["accepted"] for run in runs] == [4, 12]
    assert json.loads(enginelog("runs", "--json", "--limit", 1, log_path).out) == runs[:1]


def test_running(enginelog: Callable[..., Outcome], live: Path) -> None:
    """A run whose process is alive is running."""
    assert states(enginelog, live) == ["running"]


def test_dead_then_recovered(
    enginelog: Callable[..., Outcome], fill: Callable[..., None], dead: Path
) -> None:
    """A run that died is not recovered until a log is opened; then it has crashed."""
    assert states(enginelog, dead) == ["dead, not recovered"]
    fill(dead, 1)
    assert states(enginelog, dead) == ["closed", "crashed"]


def test_no_runs(enginelog: Callable[..., Outcome], tmp_path: Path) -> None:
    """A database without runs says so."""
    enginelog("init", tmp_path / "new.db")

    assert "no engine has written" in enginelog("runs", tmp_path / "new.db").out
    assert states(enginelog, tmp_path / "new.db") == []
