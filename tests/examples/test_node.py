"""A client in another language: Node.js with the `ws` package of npm streams to the example server."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from websockets.asyncio.server import serve

from async_enginelog import EngineLog, Recorder, server_connection

from .running import Server

pytestmark = pytest.mark.slow

CLIENT = Path(__file__).parent / "node" / "client.mjs"
RECORDING = 202508290514312002
FRAMES = 12
FRAME_BYTES = 8_820
TOTAL_BYTES = 11 * 14_994 + 2_000
PATIENCE = 60.0


class Sent(NamedTuple):
    """What the client says of its stream: how it ended, and number, size and SHA-256 of each frame."""

    code: int
    extensions: str
    sent: list[list[Any]]
    resent: list[int]


class Node(NamedTuple):
    """Node.js, and a copy of the client beside the package that it needs."""

    program: str
    client: Path

    def stream(self, url: str, *, lost: int = 0) -> Sent:
        """Stream to its end."""
        command = [self.program, str(self.client), url, str(RECORDING), str(FRAMES), str(lost)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert result.returncode == 0, result.stderr
        return Sent(**json.loads(result.stdout))


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """Node.js with ``ws``, installed once; skips where either can't be had."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        pytest.skip("no Node.js here, or no npm")
    folder = tmp_path_factory.mktemp("node")
    install = (npm, "install", "--loglevel=error", "--no-audit", "--no-fund", "--fetch-retries=1", "ws@8")
    try:
        result = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm didn't install ws within {PATIENCE:g} s")
    if result.returncode:
        pytest.skip(f"npm can't install ws: {result.stderr.strip().partition(chr(10))[0]}")
    # Node.js looks for packages beside the program.
    return Node(program, Path(shutil.copy(CLIENT, folder)))


def table(db: Path, name: str) -> list[dict[str, Any]]:
    """Return the rows of one of the tables, by number."""
    with closing(sqlite3.connect(db)) as connection:
        connection.row_factory = sqlite3.Row
        order = "AUDIO_FRAME_NO" if "FRAME" in name else "LOG_SEQ"
        return [
            dict(row) for row in connection.execute(f"SELECT * FROM ENGINE_DB_LOG_{name} ORDER BY {order}")
        ]


def check(db: Path, sent: Sent) -> None:
    """See that the database has what was sent: recording, frames of the client, frames of 100 ms."""
    assert sent.code == 1000
    [recording] = table(db, "RECORDING_CONFIG")
    assert recording["RECORDING_ID"] == RECORDING
    assert recording["AUDIO_STREAM_FILE_NAME"] == f"{RECORDING}.wav"
    assert recording["DT_RECORDING_END"] is not None
    assert recording["DT_RECORDING_DATA_PURGED"] is not None
    assert recording["TOTAL_BYTES_RECEIVED"] == TOTAL_BYTES
    assert recording["MAX_PRE_SPLIT_AUDIO_FRAME_NO_SPLIT"] == FRAMES

    columns = ("AUDIO_FRAME_NO", "AUDIO_FRAME_SIZE_BYTES", "AUDIO_FRAME_SHA256_HEX")
    client_frames = table(db, "PRE_SPLIT_AUDIO_FRAME")
    assert [[row[column] for column in columns] for row in client_frames] == sent.sent
    frames = table(db, "SPLIT_100_MS_AUDIO_FRAME")
    whole, tail = divmod(TOTAL_BYTES, FRAME_BYTES)
    assert [row["AUDIO_FRAME_NO"] for row in frames] == list(range(1, whole + 2))
    assert [row["AUDIO_FRAME_SIZE_BYTES"] for row in frames] == [FRAME_BYTES] * whole + [tail]
    hashes = {row["AUDIO_FRAME_SHA256_HEX"] for row in frames}
    assert len(hashes) == len(frames)
    assert sha256(bytes(FRAME_BYTES)).hexdigest() not in hashes
    assert table(db, "FUNCTION_ERROR") == []


@pytest.mark.parametrize("lost", [0, 3])
def test_streams_to_the_example_server(node: Node, server: Server, lost: int) -> None:
    """A whole recording arrives; a frame that is lost on the way is asked for, and sent again."""
    sent = node.stream(server.url(), lost=lost)
    server.stop()

    assert sent.resent == ([lost] if lost else [])
    # Offered by the client; the example server declines, as audio doesn't get smaller.
    assert sent.extensions == ""
    check(server.db, sent)


async def test_streams_compressed(node: Node, path: Path) -> None:
    """With permessage-deflate between them, the same arrives."""
    async with (
        EngineLog(path) as log,
        Recorder(log) as recorder,
        serve(
            recorder.handle, "127.0.0.1", 0, create_connection=server_connection(log), compression="deflate"
        ) as server,
    ):
        port = next(iter(server.sockets)).getsockname()[1]
        sent = await asyncio.to_thread(node.stream, f"ws://127.0.0.1:{port}/ws/stream", lost=3)

    assert "permessage-deflate" in sent.extensions
    assert sent.resent == [3]
    check(path, sent)
