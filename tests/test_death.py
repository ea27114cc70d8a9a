"""What was accepted survives the death of the process: promise 2, under SIGKILL."""

from __future__ import annotations

import random
import signal
import sys
import time
from pathlib import Path

import pytest

from .chaos.victims import account, start
from .conftest import Query

KILLS = 100

# A log, in a folder of its own: what belongs to the engines that are killed is beside it.
NAME = "place/engine log.db"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a database that doesn't exist yet."""
    path = tmp_path / NAME
    path.parent.mkdir()
    return path


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_row_is_lost_or_doubled_by_sigkill(path: Path, query: Query) -> None:
    """An engine is killed and started again, 100 times: every accepted row is there, once."""
    randomly = random.Random(20261123)
    victims = []
    for _ in range(KILLS):
        with start(path) as victim:
            victim.wait_for_stage()
            time.sleep(randomly.uniform(0.0, 0.35))
            victim.kill()
        victims.append(victim)
    balance = account(path, victims)

    seen = f"{balance.rows:,} accepted rows compared, {balance.lost} lost, {balance.doubled} doubled"
    print(f"{KILLS} kills: {seen}")
    assert (balance.lost, balance.doubled) == (0, 0), balance.faults
    assert balance.rows > 10_000
    assert query("SELECT HOW_ENDED, count(*) FROM ENGINE_LOG_RUN GROUP BY 1") == [
        ("closed", 1),
        ("crashed", KILLS),
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM is not a signal on Windows")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGSEGV", "SIGABRT"])
def test_other_deaths(path: Path, query: Query, name: str) -> None:
    """A signal that nobody handles is a death like any other."""
    with start(path) as victim:
        victim.wait_for_rows(1000)
        victim.kill(getattr(signal, name))
        assert victim.wait() == -getattr(signal, name)
    balance = account(path, [victim])

    assert (balance.lost, balance.doubled) == (0, 0), balance.faults
    assert balance.rows >= 1000
    assert query("SELECT HOW_ENDED FROM ENGINE_LOG_RUN ORDER BY ENGINE_RUN_ID") == [("crashed",), ("closed",)]
