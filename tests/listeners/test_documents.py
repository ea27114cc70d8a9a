"""What the documents say of listeners is so: changes do it, engines run, examples print what is shown."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from ..conftest import Query
from ..examples.running import TRACE, run_example
from ..test_documents import CHECKOUT, Block, blocks_of

BLOCKS = blocks_of((CHECKOUT / "docs" / "listeners.md").read_text("utf-8"))
DIFFS = [block for block in BLOCKS if block.marks == ["diff"]]
SERVER, FASTAPI, ANY_OTHER = DIFFS
[EXAMPLE] = [block for block in BLOCKS if block.marks == ["python"]]
[PRINTED] = [block for block in BLOCKS if not block.marks]

# The engines that README and docs/recorder.md show; they serve for ever.
ENGINES = [
    pytest.param(block, id=document)
    for document in ("README.md", "docs/recorder.md")
    for block in blocks_of((CHECKOUT / document).read_text("utf-8"))
    if block.marks == ["python", "no-run"]
]

START = '{"MESSAGE_TYPE":"START","RECORDING_ID":"202508290514312002"}'
PATIENCE = 30.0


def program(diff: Block, *, after: bool) -> str:
    """Return the program before or after a change."""
    left_out = "-" if after else "+"
    return "".join(line[1:] or "\n" for line in diff.text.splitlines(True) if line[0] != left_out)


def added(diff: Block) -> list[str]:
    """Return the lines that a change adds, without empty ones."""
    return [line[1:] for line in diff.text.splitlines() if line.startswith("+") and line[1:]]


def free_port() -> int:
    """Return a port that nobody uses at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def running(text: str, port: int, folder: Path) -> Iterator[None]:
    """Run a program that serves for ever."""
    (folder / "app.py").write_text(text.replace("8765", str(port)).replace("7070", str(port)), "utf-8")
    asgi = ["-m", "uvicorn", "app:app", "--host", "localhost", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, *(["app.py"] if "asyncio.run(" in text else asgi)],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "ENGINELOG_DB"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield
        assert process.poll() is None
    finally:
        process.terminate()
        print(process.communicate(timeout=PATIENCE)[0].decode(errors="replace"))


async def talk(port: int) -> list[object]:
    """Say something to a server as soon as it is there; return what a client sees of it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            async with connect(f"ws://localhost:{port}/ws/echo") as client:
                await client.send(START)
                answer = await client.recv()
            return [answer, client.close_code, client.subprotocol]
        except OSError:
            assert time.monotonic() < deadline, "the server doesn't answer"
            await asyncio.sleep(0.05)


async def until_closed(query: Query) -> None:
    """Wait until the log says that a connection is closed."""
    deadline = time.monotonic() + PATIENCE
    while not query("SELECT 1 FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION WHERE DT_CONNECTION_CLOSED > ''"):
        assert time.monotonic() < deadline, "the end of the connection isn't logged"
        await asyncio.sleep(0.05)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The database as it is called by default, in the folder of the program."""
    return tmp_path / "engine_log.db"


@pytest.mark.parametrize("diff", DIFFS, ids=["websockets", "FastAPI", "ASGI"])
async def test_one_line_makes_it_log_itself(tmp_path: Path, path: Path, query: Query, diff: Block) -> None:
    """Before the change there is no log; after it there are full rows, and the client sees the same."""
    port = free_port()
    with running(program(diff, after=False), port, tmp_path):
        before = await talk(port)
    assert not path.exists()

    port = free_port()
    with running(program(diff, after=True), port, tmp_path):
        assert await talk(port) == before
        await until_closed(query)

    [row] = query("SELECT * FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION")
    assert None not in row
    [row] = query("SELECT * FROM ENGINE_DB_LOG_WEBSOCKET_MESSAGE WHERE MESSAGE_TYPE = 'START'")
    assert row.count(None) == 1  # a START has no AUDIO_FRAME_NO


def test_it_is_one_line() -> None:
    """The change is one line and an import; only the server of websockets has a line less for it."""
    for diff in DIFFS:
        new_import, new_line = added(diff)
        assert new_import.startswith("from async_enginelog import ")
        assert "LogMiddleware" in new_line or "server_connection" in new_line
    assert ["\n-" in diff.text for diff in DIFFS] == [True, False, False]


def test_example_prints_what_is_shown(tmp_path: Path) -> None:
    """The function for another protocol makes the rows that the document shows."""
    done = subprocess.run(
        [sys.executable, "-c", EXAMPLE.text], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.stdout == PRINTED.text
    assert "read_message failed" in done.stderr


@pytest.mark.parametrize("engine", ENGINES)
async def test_engine_records(tmp_path: Path, path: Path, query: Query, engine: Block) -> None:
    """The engine takes the recorded session; connection, messages, recording and frames are logged."""
    port = free_port()
    with running(engine.text, port, tmp_path):
        await stream_session(port)
        await until_closed(query)

    [(size_bytes, frames)] = query(
        "SELECT TOTAL_BYTES_RECEIVED, TOTAL_SPLIT_100_MS_FRAMES_PRODUCED FROM ENGINE_DB_LOG_RECORDING_CONFIG"
    )
    assert (size_bytes, frames) == (431_832, 49)
    assert query("SELECT count(*) FROM ENGINE_DB_LOG_WEBSOCKET_MESSAGE") == [(30,)]


async def stream_session(port: int) -> None:
    """Stream the recorded session, as soon as the server is there."""
    deadline = time.monotonic() + PATIENCE
    options = ["--host", "localhost", "--port", str(port), "--trace", TRACE, "--speed", "50"]
    while (await asyncio.to_thread(run_example, "client.py", *options)).returncode:
        assert time.monotonic() < deadline, "the session can't be streamed"
        await asyncio.sleep(0.1)
