"""What was accepted survives the death of the process: promise 2, under SIGKILL."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from async_enginelog import EngineLog

from .conftest import Query
from .engine import REPORT

ROOT = Path(__file__).parent.parent
KILLS = 100


def start_engine(path: Path) -> subprocess.Popen[bytes]:
    """Start an engine that logs at full speed."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.engine", str(path)],
        cwd=ROOT,
        # What is killed can't report its coverage, and dies more slowly for trying.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def kill_engine(engine: subprocess.Popen[bytes], delay: float) -> tuple[int, int]:
    """Kill an engine ``delay`` seconds after its log is open; return its run and the rows it was sure of."""
    assert engine.stdout is not None
    [run] = REPORT.unpack(engine.stdout.read(REPORT.size))
    # The pipe must not fill up and hold the engine back.
    end = time.monotonic() + delay
    reports = b""
    while time.monotonic() < end:
        reports += os.read(engine.stdout.fileno(), 65_536)
    engine.kill()
    reports += engine.stdout.read()
    engine.wait()
    engine.stdout.close()
    whole = len(reports) - len(reports) % REPORT.size
    accepted = REPORT.unpack(reports[whole - REPORT.size : whole])[0] if whole else 0
    return run, accepted


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_no_row_is_lost_or_doubled_by_sigkill(path: Path, query: Query) -> None:
    """An engine is killed and started again, 100 times: every accepted row is there, once."""
    accepted: dict[int, int] = {}
    randomly = random.Random(20261123)
    for _ in range(KILLS):
        run, rows = kill_engine(start_engine(path), randomly.uniform(0.0, 0.35))
        accepted[run] = rows
    async with EngineLog(path) as log:
        await log.flush()

    stored = {
        run: (count, distinct, highest)
        for run, count, distinct, highest in query(
            "SELECT ENGINE_RUN_ID, count(*), count(DISTINCT STEP_ID), max(STEP_ID) "
            "FROM ENGINE_DB_LOG_STEPS WHERE RECORDING_ID = ENGINE_RUN_ID GROUP BY 1"
        )
    }
    assert len(accepted) == KILLS
    missing = doubled = 0
    for run, rows in accepted.items():
        count, distinct, highest = stored.get(run, (0, 0, 0))
        # Rows behind the last report may be there or not, but without a hole.
        missing += max(0, rows - (highest or 0)) + (highest or 0) - distinct
        doubled += count - distinct
    total = sum(accepted.values())
    print(f"{KILLS} kills: {total:,} accepted rows compared, {missing} missing, {doubled} doubled")
    assert (missing, doubled) == (0, 0)
    assert total > 10_000
    assert query("SELECT HOW_ENDED, count(*) FROM ENGINE_LOG_RUN GROUP BY 1") == [
        ("closed", 1),
        ("crashed", KILLS),
    ]
    assert query("SELECT count(*) FROM ENGINE_LOG_RUN WHERE ROWS_COMMITTED <> ROWS_STORED") == [(0,)]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM is not a signal on Windows")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGSEGV", "SIGABRT"])
async def test_other_deaths(path: Path, query: Query, name: str) -> None:
    """A signal that nobody handles is a death like any other."""
    engine = start_engine(path)
    assert engine.stdout is not None
    [run] = REPORT.unpack(engine.stdout.read(REPORT.size))
    engine.stdout.read(REPORT.size * 100)
    engine.send_signal(getattr(signal, name))
    rest = engine.stdout.read()
    engine.wait()
    engine.stdout.close()
    async with EngineLog(path):
        pass

    whole = len(rest) - len(rest) % REPORT.size
    accepted = REPORT.unpack(rest[whole - REPORT.size : whole])[0] if whole else 1000
    rows = query(
        "SELECT count(*), count(DISTINCT STEP_ID) FROM ENGINE_DB_LOG_STEPS WHERE ENGINE_RUN_ID = ?", (run,)
    )
    assert rows[0][0] == rows[0][1] >= accepted
    assert query("SELECT HOW_ENDED FROM ENGINE_LOG_RUN WHERE ENGINE_RUN_ID = ?", (run,)) == [("crashed",)]
