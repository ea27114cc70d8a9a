"""Databases made by real engines, and the command to look at them with."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from async_enginelog import EngineLog, segments
from async_enginelog.cli import main

RECORDING = 202508290514312002

# An engine of its own: writes until its standard input ends, or dies at once.
ENGINE = """
import asyncio, os, sys, threading
from async_enginelog import EngineLog, segments

segments.SEGMENT_BYTES = 1024 * 1024

async def main(path, how):
    async with EngineLog(path, spool_limit=4 * 1024 * 1024) as log:
        stop = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
        for number in range(50):
            await log.log_steps(step_name="before", step_id=number)
        await log.flush()
        await log.log_steps(step_name="late")
        print("ready", flush=True)
        if how == "die":
            os._exit(9)
        number = 0
        while not stop.is_set():
            for _ in range(20):
                number += 1
                await log.log_steps(step_name="live", step_id=number)
                await log.log_audio_frame_metadata(recording_id=7, audio_frame_no=number // 2)
            await asyncio.sleep(0.001)

asyncio.run(main(*sys.argv[1:]))
"""


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def quick_spools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spools that are quick to make."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 1024 * 1024)


@pytest.fixture
def enginelog() -> Callable[..., Outcome]:
    """The command, in this process."""

    def call(*arguments: object, input: bytes | str | None = None) -> Outcome:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """The command, in a process of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def popen(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "async_enginelog", *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        started.append(process)
        return process

    yield popen
    for process in started:
        process.kill()
        process.communicate()


async def _fill(path: Path, rows: int) -> None:
    async with EngineLog(path) as log:
        for number in range(rows):
            await log.log_steps(step_name="resample", recording_id=RECORDING, frame_no=number)
            await log.log_audio_frame_metadata(recording_id=RECORDING, audio_frame_no=number)
        await log.log_websocket_connection(websocket_connection_id=1, client_host_ip_address="10.0.0.7")
        await log.log_recording_config(recording_id=RECORDING, compose_play_or_practice="play")


@pytest.fixture
def fill() -> Callable[..., None]:
    """Runs an engine that logs ``2 * rows + 2`` rows and closes."""
    return lambda path, rows=5: asyncio.run(_fill(path, rows))


@pytest.fixture
def log_path(tmp_path: Path, fill: Callable[..., None]) -> Path:
    """A database of one closed run: 5 steps, 5 frames, a connection, a recording."""
    path = tmp_path / "engine_log.db"
    fill(path)
    return path


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Path]:
    """A database that an engine in another process writes to."""
    path = tmp_path / "live.db"
    with _engine(path, "write") as process:
        yield path
        process.communicate(timeout=30)
        assert process.returncode == 0


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """A database whose engine died with one row in its spool: 50 rows, and one that waits."""
    path = tmp_path / "dead.db"
    with _engine(path, "die") as process:
        process.communicate(timeout=30)
    return path


def _engine(path: Path, how: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", ENGINE, str(path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"ready"
    return process


@pytest.fixture
def sql() -> Callable[..., list[Any]]:
    """What somebody else does to a database."""

    def execute(path: Path, statement: str) -> list[Any]:
        connection = sqlite3.connect(path, timeout=10)
        try:
            rows = connection.execute(statement).fetchall()
            connection.commit()
            return rows
        finally:
            connection.close()

    return execute


@pytest.fixture
def interrupt() -> Callable[[subprocess.Popen[bytes]], None]:
    """What Ctrl+C does."""
    if os.name == "nt":  # pragma: no cover
        pytest.skip("a test can't press Ctrl+C on Windows without pressing its own")
    return lambda process: process.send_signal(signal.SIGINT)


@pytest.fixture
def unusable(tmp_path: Path, sql: Callable[..., list[Any]]) -> dict[str, Path]:
    """Paths that no verb can use, by what their message says."""
    (tmp_path / "notes.txt").write_text("not a database at all")
    sql(tmp_path / "foreign.db", "CREATE TABLE customers (name)")
    sql(tmp_path / "newer.db", "PRAGMA application_id = 1164863308")
    sql(tmp_path / "newer.db", "PRAGMA user_version = 99")
    return {
        "doesn't exist": tmp_path / "nowhere.db",
        "the folder": tmp_path / "no" / "folder.db",
        "is a folder": tmp_path,
        "isn't a SQLite database": tmp_path / "notes.txt",
        "customers": tmp_path / "foreign.db",
        "schema version 99": tmp_path / "newer.db",
    }
