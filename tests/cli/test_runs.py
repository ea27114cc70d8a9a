"""enginelog runs: who wrote the log, how it ended, and what it left open."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import RECORDING, Outcome

# An engine that is killed while it serves a client; the second one has just left.
ENGINE = """
import asyncio, sys
from datetime import UTC, datetime
from async_enginelog import EngineLog, segments
from async_enginelog.listeners.processes import Heartbeat

segments.SEGMENT_BYTES = 1024 * 1024

async def main(path, recording):
    now = datetime.now(UTC)
    async with EngineLog(path, spool_limit=4 * 1024 * 1024) as log, Heartbeat(log):
        for left in None, now:
            id = log.next_connection_id()
            await log.log_websocket_connection(
                websocket_connection_id=id, client_host_ip_address="10.0.0.7", client_port=50123,
                dt_connection_accepted=now, dt_connection_closed=left,
            )
            await log.log_recording_config(
                recording_id=int(recording) + (left is not None), websocket_connection_id=id,
                dt_recording_start=now, dt_recording_end=left, dt_recording_data_purged=left,
            )
        for number in 1, 2, 3:
            await log.log_audio_frame_metadata(recording_id=int(recording), audio_frame_no=number)
        await log.flush()
        print(log.run_id, flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def killed(tmp_path: Path) -> tuple[Path, int]:
    """A database whose engine was killed while a client streamed to it, and the run of that engine."""
    path = tmp_path / "killed.db"
    command = [sys.executable, "-c", ENGINE, str(path), str(RECORDING)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as engine:
        assert engine.stdout is not None
        run = int(engine.stdout.readline())
        engine.kill()
    return path, run


def crash(path: Path, sql: Callable[..., list[Any]], **columns: object) -> None:
    """Add a run that crashed, number 17."""
    names = {"ENGINE_RUN_ID": 17, "HOW_ENDED": "'crashed'", **columns}
    sql(
        path,
        f"INSERT INTO ENGINE_LOG_RUN ({', '.join(names)}) VALUES ({', '.join(map(str, names.values()))})",
    )


def states(enginelog: Callable[..., Outcome], path: Path, *arguments: object) -> list[str]:
    return [run["state"] for run in json.loads(enginelog("runs", "--json", path, *arguments).out)]


def test_text(enginelog: Callable[..., Outcome], log_path: Path, sql: Callable[..., list[Any]]) -> None:
    """One line for each run; what isn't known is a dash."""
    crash(log_path, sql)
    code, out, _ = enginelog("runs", log_path)
    head, closed, crashed = out.splitlines()

    assert code == 0
    assert head.split()[:4] == ["run", "host", "pid", "version"]
    assert closed.split()[-7:] == ["closed", "12", "12", "0", "0", "-", "-"]
    assert crashed.split() == ["17", "-", "-", "-", "-", "-", "crashed", "0", "0", "0", "0", "0", "0"]


def test_no_run_died(enginelog: Callable[..., Outcome], log_path: Path) -> None:
    """Where no run died, nothing is said of what was left open."""
    code, out, _ = enginelog("runs", log_path)

    assert code == 0
    assert "open" not in out


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


class TestLeftOpen:
    @pytest.mark.parametrize("recovered", [False, True])
    def test_named(
        self,
        enginelog: Callable[..., Outcome],
        fill: Callable[..., None],
        killed: tuple[Path, int],
        recovered: bool,
    ) -> None:
        """A run that was killed left open what it served: counted, and named with peer, times and frames."""
        path, run = killed
        if recovered:
            fill(path, 0)
        code, out, _ = enginelog("runs", path)
        table, _, told = out.partition("\n\n")
        line = next(line for line in table.splitlines() if line.startswith(str(run)))
        head, connection, recording = told.splitlines()

        assert code == 0
        assert table.splitlines()[0].endswith("open connections  open recordings")
        assert line.split()[-2:] == ["1", "1"]
        assert head.startswith(f"run {run} died and left open; its last heartbeat was at 20")
        assert connection.startswith(f"  connection {run}000000001 of 10.0.0.7, port 50123, accepted 20")
        assert recording.startswith(f"  recording {RECORDING}, started 20")
        assert recording.endswith(", last frame 3")
        assert out.isascii()

    def test_json(
        self, enginelog: Callable[..., Outcome], fill: Callable[..., None], killed: tuple[Path, int]
    ) -> None:
        """--json has all of it; for a run that didn't die it is null."""
        path, run = killed
        fill(path, 0)
        closed, crashed = json.loads(enginelog("runs", "--json", path).out)

        assert (closed["state"], closed["left_open"], closed["last_heartbeat"]) == ("closed", None, None)
        assert crashed["started"] < crashed["last_heartbeat"]
        left = crashed["left_open"]
        assert (left["connection_count"], left["recording_count"]) == (1, 1)
        [connection], [recording] = left["connections"], left["recordings"]
        assert connection.pop("accepted") == recording.pop("started")
        assert connection == {"connection_id": run * 10**9 + 1, "host": "10.0.0.7", "port": "50123"}
        assert recording == {"recording_id": RECORDING, "last_frame_no": 3}

    def test_running(self, enginelog: Callable[..., Outcome], live: Path, sql: Callable[..., Any]) -> None:
        """What a run that is alive has open isn't left open."""
        [(run,)] = sql(live, "SELECT ENGINE_RUN_ID FROM ENGINE_LOG_RUN")
        sql(
            live,
            "INSERT INTO ENGINE_DB_LOG_WEBSOCKET_CONNECTION "
            "(WEBSOCKET_CONNECTION_ID, DT_CONNECTION_ACCEPTED, ENGINE_RUN_ID) "
            f"VALUES (1, '2026-01-02 03:04:05.000000', {run})",
        )

        assert "open" not in enginelog("runs", live).out

    def test_many(
        self, enginelog: Callable[..., Outcome], log_path: Path, sql: Callable[..., list[Any]]
    ) -> None:
        """Of many the first are named, and it is said how many more there are."""
        crash(log_path, sql)
        numbers = "WITH RECURSIVE N (I) AS (SELECT 1 UNION ALL SELECT I + 1 FROM N WHERE I < 1500) "
        sql(
            log_path,
            "INSERT INTO ENGINE_DB_LOG_WEBSOCKET_CONNECTION "
            "(WEBSOCKET_CONNECTION_ID, DT_CONNECTION_ACCEPTED, ENGINE_RUN_ID) "
            f"{numbers} SELECT I, '2026-01-02 03:04:05.000000', 17 FROM N",
        )
        sql(
            log_path,
            "INSERT INTO ENGINE_DB_LOG_RECORDING_CONFIG (RECORDING_ID, DT_RECORDING_START, ENGINE_RUN_ID) "
            f"{numbers} SELECT I, '2026-01-02 03:04:05.000000', 17 FROM N WHERE I <= 4",
        )
        told = enginelog("runs", log_path).out.partition("\n\n")[2].splitlines()
        left = json.loads(enginelog("runs", "--json", log_path).out)[-1]["left_open"]

        assert told == [
            "run 17 died and left open:",
            *(f"  connection {number}, accepted 2026-01-02 03:04:05" for number in (1, 2, 3)),
            "  ... and 1,497 more connections",
            *(f"  recording {number}, started 2026-01-02 03:04:05, no frame" for number in (1, 2, 3)),
            "  ... and 1 more recording",
        ]
        assert (left["connection_count"], left["recording_count"]) == (1500, 4)
        assert (len(left["connections"]), len(left["recordings"])) == (1000, 4)

    def test_hostile_peer(
        self, enginelog: Callable[..., Outcome], log_path: Path, sql: Callable[..., list[Any]]
    ) -> None:
        """What a client said of itself can't move the cursor of the terminal."""
        crash(log_path, sql)
        sql(
            log_path,
            "INSERT INTO ENGINE_DB_LOG_WEBSOCKET_CONNECTION (WEBSOCKET_CONNECTION_ID, "
            "CLIENT_HOST_IP_ADDRESS, DT_CONNECTION_ACCEPTED, ENGINE_RUN_ID) "
            "VALUES (1, char(27) || '[2J', '2026-01-02', 17)",
        )

        assert "connection 1 of \\x1b[2J, accepted" in enginelog("runs", log_path).out


def test_later_sign_of_life(
    enginelog: Callable[..., Outcome], log_path: Path, sql: Callable[..., list[Any]]
) -> None:
    """A heartbeat that is later than what the run itself says is the last sign of life."""
    crash(log_path, sql, DT_LAST_SIGN_OF_LIFE="'2026-01-02 03:04:05.000000'")
    sql(
        log_path,
        "INSERT INTO ENGINE_DB_LOG_PROCESS_REGISTRY (process_id, last_heartbeat, ENGINE_RUN_ID) "
        "VALUES (4711, '2026-01-02 03:04:35.000000', 17)",
    )

    assert "2026-01-02 03:04:35  crashed" in enginelog("runs", log_path).out
