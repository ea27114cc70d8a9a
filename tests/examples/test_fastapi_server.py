"""The example engine on FastAPI, as a process: it records and logs as the other one does."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from .running import EXAMPLES, PATIENCE, TRACE, run_example

COMMAND = [sys.executable, str(EXAMPLES / "fastapi_server.py")]


class FastapiServer:
    """examples/fastapi_server.py on a free port."""

    def __init__(self, db: Path) -> None:
        self.db = db
        self.process = subprocess.Popen(
            [*COMMAND, "--port", "0", "--db", str(db)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = 0
        for line in self.process.stdout:
            if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                break

    def stop(self) -> None:
        """Ask it to stop."""
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE)

    def table(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a table."""
        with closing(sqlite3.connect(self.db)) as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute(f"SELECT * FROM ENGINE_DB_LOG_{name} ORDER BY LOG_SEQ")
            return [dict(row) for row in rows]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FastapiServer]:
    """Run a server; it never outlives the test."""
    running = FastapiServer(tmp_path / "engine_log.db")
    yield running
    running.process.kill()
    running.process.communicate(timeout=PATIENCE)


def test_records_a_session(server: FastapiServer) -> None:
    """The recorded session has the same rows as with the other server, and all are committed at the end."""
    done = run_example("client.py", "--port", server.port, "--trace", TRACE, "--speed", 50)
    assert done.returncode == 0, done.stderr
    server.stop()

    assert len(server.table("WEBSOCKET_MESSAGE")) == 30
    sizes = [row["AUDIO_FRAME_SIZE_BYTES"] for row in server.table("SPLIT_100_MS_AUDIO_FRAME")]
    assert sorted(sizes) == [8472, *[8820] * 48]
    [recording] = server.table("RECORDING_CONFIG")
    assert recording["DT_RECORDING_DATA_PURGED"] is not None
    [connection] = server.table("WEBSOCKET_CONNECTION")
    assert connection["DT_CONNECTION_CLOSED"] is not None
    [process] = server.table("PROCESS_REGISTRY")
    assert process["process_id"] == server.process.pid


async def test_echoes(server: FastapiServer) -> None:
    """/ws/echo greets, and sends back what it gets."""
    async with connect(f"ws://127.0.0.1:{server.port}/ws/echo", proxy=None) as websocket:
        assert "echo" in str(await websocket.recv())
        await websocket.send("hello")
        assert await websocket.recv() == "hello"


def test_database_is_a_folder(tmp_path: Path) -> None:
    """A database that can't be one is named, and the server doesn't start."""
    done = subprocess.run(
        [*COMMAND, "--port", "0", "--db", str(tmp_path)], capture_output=True, text=True, timeout=PATIENCE
    )

    assert done.returncode != 0
    assert f"{tmp_path} is a folder" in done.stderr
