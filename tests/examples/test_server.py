"""What the example server does with clients that behave, and with those that don't."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import sys
import time
import urllib.error
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from async_enginelog import EngineLog

from .running import TRACE, Server, run_example, wait_until

RECORDING = "202508290514312002"


def opened(server: Server, path: str = "/ws/stream") -> connect:
    return connect(server.url(path), proxy=None)


async def send(websocket: ClientConnection, kind: str, **fields: object) -> None:
    await websocket.send(json.dumps({"MESSAGE_TYPE": kind, "RECORDING_ID": RECORDING, **fields}))


async def send_frame(websocket: ClientConnection, number: object, audio: bytes) -> None:
    await send(websocket, "FRAME", FRAME_NO=str(number), BYTES_LEN=len(audio))
    await websocket.send(audio)


async def stop(websocket: ClientConnection) -> None:
    """Send STOP and wait for the server to close."""
    await send(websocket, "STOP")
    await websocket.wait_closed()


def audio_of(number: int, size_bytes: int = 15_000) -> bytes:
    return bytes([number]) * size_bytes


def types_of(server: Server) -> list[str]:
    return [row["MESSAGE_TYPE"] for row in server.table("WEBSOCKET_MESSAGE", "MESSAGE_ID")]


def errors_of(server: Server) -> list[str]:
    return [row["ERROR_MESSAGE_TEXT"] for row in server.table("FUNCTION_ERROR")]


def sizes_and_hashes(server: Server) -> dict[int, tuple[int, str]]:
    return {
        row["AUDIO_FRAME_NO"]: (row["AUDIO_FRAME_SIZE_BYTES"], row["AUDIO_FRAME_SHA256_HEX"])
        for row in server.table("PRE_SPLIT_AUDIO_FRAME")
    }


class TestEcho:
    async def test_greets_and_echoes(self, server: Server) -> None:
        """/ws/echo sends a banner, then what it gets; each message has a row."""
        async with opened(server, "/ws/echo") as websocket:
            assert "echo" in str(await websocket.recv())
            for message in ("hello", b"\1\2", '{"type":"ping","t":1}', '{"type":'):
                await websocket.send(message)
                assert await websocket.recv() == message
        server.stop()

        assert types_of(server) == ["TEXT", "BINARY", "PING", "MALFORMED"]
        [row] = server.table("WEBSOCKET_CONNECTION")
        assert row["DT_CONNECTION_CLOSED"] is not None


class TestHttp:
    def test_health(self, server: Server) -> None:
        """GET /health answers on the same port, and makes no connection row."""
        assert json.loads(server.get("/health?now"))["status"] == "ok"
        server.stop()

        assert server.table("WEBSOCKET_CONNECTION") == []

    def test_unknown_path(self, server: Server) -> None:
        """Another path is not found."""
        with pytest.raises(urllib.error.HTTPError, match="404") as raised:
            server.get("/ws/other")
        raised.value.close()


class TestStream:
    async def test_nothing_stops_the_stream(self, server: Server) -> None:
        """Orphan audio, broken JSON and plain text each have a row; the recording goes on."""
        async with opened(server) as websocket:
            await websocket.send(b"orphan before START")
            await websocket.send("hello")
            await websocket.send('{"type":"ping","t":1}')
            await send(websocket, "start", AUDIO_STREAM_FILE_NAME="a.wav")
            await websocket.send('{"MESSAGE_TYPE":')
            await websocket.send(b"orphan after START")
            await send_frame(websocket, 1, audio_of(1))
            await stop(websocket)
        server.stop()

        assert types_of(server) == [
            *("BINARY", "TEXT", "PING", "START", "MALFORMED", "BINARY", "FRAME", "STOP")
        ]
        orphan, malformed, _ = errors_of(server)
        assert "19 bytes without a FRAME header" in orphan
        assert "not JSON" in malformed
        [recording] = server.table("RECORDING_CONFIG")
        assert recording["TOTAL_BYTES_RECEIVED"] == 15_000

    async def test_start_without_recording(self, server: Server) -> None:
        """A START that doesn't say of what is logged as an error; START may come again."""
        async with opened(server) as websocket:
            await websocket.send('{"MESSAGE_TYPE":"START","RECORDING_ID":"mine"}')
            await send(websocket, "START")
            await send(websocket, "START")
            await stop(websocket)
        server.stop()

        assert types_of(server) == ["START", "START", "START", "STOP"]
        assert any("RECORDING_ID" in error for error in errors_of(server))
        [recording] = server.table("RECORDING_CONFIG")
        assert recording["RECORDING_ID"] == int(RECORDING)
        assert recording["TOTAL_BYTES_RECEIVED"] == 0

    async def test_socket_dies_between_header_and_audio(self, server: Server) -> None:
        """The header that got no audio has a row without processing; what came is analysed."""
        async with opened(server) as websocket:
            await send(websocket, "START")
            await send_frame(websocket, 1, audio_of(1))
            await send(websocket, "FRAME", FRAME_NO="2")
            before = server.accepted()
            await websocket.ping()
            websocket.transport.abort()
        wait_until(lambda: server.accepted() > before and '"connections": 0' in server.get("/health"))
        server.stop()

        *_, header = server.table("WEBSOCKET_MESSAGE", "MESSAGE_ID")
        assert (header["MESSAGE_TYPE"], header["AUDIO_FRAME_NO"]) == ("FRAME", 2)
        assert header["DT_MESSAGE_PROCESS_STARTED"] is None
        frames = server.table("SPLIT_100_MS_AUDIO_FRAME")
        assert [frame["AUDIO_FRAME_SIZE_BYTES"] for frame in frames] == [8820, 15_000 - 8820]
        assert all(frame["DT_PROCESSING_END"] is not None for frame in frames)
        [recording] = server.table("RECORDING_CONFIG")
        assert recording["DT_RECORDING_END"] is None
        [connection] = server.table("WEBSOCKET_CONNECTION")
        assert connection["DT_CONNECTION_CLOSED"] is not None

    async def test_text_between_header_and_audio(self, server: Server) -> None:
        """The very next binary message is the audio of a header, whatever text comes between."""
        async with opened(server) as websocket:
            await send(websocket, "START")
            await send(websocket, "FRAME", AUDIO_FRAME_NO=1)
            await websocket.send("hello")
            await websocket.send(audio_of(1))
            await stop(websocket)
        server.stop()

        assert types_of(server) == ["START", "FRAME", "TEXT", "STOP"]
        assert list(sizes_and_hashes(server)) == [1]

    async def test_frames_out_of_order_and_twice(self, server: Server) -> None:
        """Frames are logged under their own numbers; one that comes twice is cut once."""
        async with opened(server) as websocket:
            await send(websocket, "START")
            for number in (2, 3, 1, 3):
                await send_frame(websocket, number, audio_of(number))
            await stop(websocket)
        server.stop()

        hashes = {number: (15_000, sha256(audio_of(number)).hexdigest()) for number in (1, 2, 3)}
        assert sizes_and_hashes(server) == hashes
        assert types_of(server).count("FRAME") == 4
        [recording] = server.table("RECORDING_CONFIG")
        assert recording["TOTAL_BYTES_RECEIVED"] == 45_000
        assert "frame came twice, not cut again" in [row["STEP_NAME"] for row in server.table("STEPS")]

    async def test_goes_on_without_start(self, server: Server) -> None:
        """A client that connects again may go on with FRAMEs; those without a number are counted."""
        async with opened(server) as websocket:
            await send_frame(websocket, 5, audio_of(5))
            await send_frame(websocket, "?", audio_of(6))
            await stop(websocket)
        server.stop()

        assert list(sizes_and_hashes(server)) == [5, 6]

    async def test_counts_from_zero(self, server: Server) -> None:
        """A client that counts from 0 loses nothing."""
        async with opened(server) as websocket:
            await send(websocket, "START")
            for number in (0, 1, 2):
                await send_frame(websocket, number, audio_of(number))
            await stop(websocket)
        server.stop()

        assert list(sizes_and_hashes(server)) == [0, 1, 2]

    @pytest.mark.parametrize("kind", ["\ud800", "\0", "x" * 500_000, "'; DROP TABLE x; --"])
    async def test_hostile_type(self, server: Server, kind: str) -> None:
        """Whatever a client calls its message, it is one row, and the stream goes on."""
        async with opened(server) as websocket:
            await websocket.send(json.dumps({"type": kind}))
            await send(websocket, "START")
            await send_frame(websocket, 1, audio_of(1))
            await stop(websocket)
        server.stop()

        _, *rest = types_of(server)
        assert rest == ["START", "FRAME", "STOP"]

    async def test_message_too_large(self, server: Server) -> None:
        """More than 1 MiB at once closes the connection, which is logged; the server lives on."""
        async with opened(server) as websocket:
            await websocket.send(bytes(2**20 + 1))
            with pytest.raises(ConnectionClosed, match="1009"):
                await websocket.recv()
        server.stop()

        [connection] = server.table("WEBSOCKET_CONNECTION")
        assert connection["DT_CONNECTION_CLOSED"] is not None
        assert types_of(server) == ["TOO_BIG"]
        assert "PayloadTooBig" in errors_of(server)[0]

    def test_two_clients_at_once(self, server: Server) -> None:
        """Each has its own connection, recording and frames."""
        done = run_example("client.py", "--port", server.port, "--clients", 2, "--seconds", 1, "--speed", 5)
        assert done.returncode == 0, done.stderr
        server.stop()

        recordings = server.table("RECORDING_CONFIG")
        assert [row["TOTAL_BYTES_RECEIVED"] for row in recordings] == [88_200, 88_200]
        assert len({row["WEBSOCKET_CONNECTION_ID"] for row in recordings}) == 2
        assert len(server.table("SPLIT_100_MS_AUDIO_FRAME")) == 2 * 10


class TestStarting:
    def test_port_taken(self, server: Server, tmp_path: Path) -> None:
        """A second server says what is wrong, and what to do."""
        done = run_example("server.py", "--port", server.port, "--db", tmp_path / "other.db")

        assert done.returncode == 1
        assert f"port {server.port} on 127.0.0.1 is taken" in done.stderr
        assert "--port 7071" in done.stderr

    def test_database_is_a_folder(self, tmp_path: Path) -> None:
        """A database that can't be one is named."""
        done = run_example("server.py", "--port", 0, "--db", tmp_path)

        assert done.returncode == 1
        assert f"{tmp_path} is a folder" in done.stderr

    @pytest.mark.parametrize("port", ["70000", "http", "-1"])
    def test_no_port(self, port: str) -> None:
        """A port that is none is refused."""
        done = run_example("server.py", f"--port={port}")

        assert done.returncode == 2
        assert "isn't a port" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows can't send these signals")
class TestEnding:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_signal_leaves_nothing_uncommitted(self, server: Server, number: signal.Signals) -> None:
        """In the middle of a recording, a signal closes connections and commits all rows."""
        async with opened(server) as websocket:
            await send(websocket, "START")
            await send_frame(websocket, 1, audio_of(1))
            wait_until(lambda: server.accepted() > 10)
            server.process.send_signal(number)
            with pytest.raises(ConnectionClosed, match="1001"):
                await websocket.recv()
        said = server.stop()

        [run] = server.rows("SELECT * FROM ENGINE_LOG_RUN")
        assert run["HOW_ENDED"] == "closed"
        assert run["ROWS_ACCEPTED"] == run["ROWS_COMMITTED"]
        assert f"stopped; {run['ROWS_COMMITTED']:,} rows committed" in said
        [connection] = server.table("WEBSOCKET_CONNECTION")
        assert connection["DT_CONNECTION_CLOSED"] is not None

    async def test_streams_whatever_the_log_does(self, server: Server) -> None:
        """While another program locks the database, recording goes on; then all rows are there."""
        with closing(sqlite3.connect(server.db)) as lock:
            lock.execute("BEGIN IMMEDIATE")
            done = run_example("client.py", "--port", server.port, "--trace", TRACE, "--speed", 50)
            assert done.returncode == 0, done.stderr
            assert lock.execute("SELECT count(*) FROM ENGINE_DB_LOG_WEBSOCKET_MESSAGE").fetchone() == (0,)
        server.stop()

        assert len(server.table("WEBSOCKET_MESSAGE")) == 30
        assert len(server.table("SPLIT_100_MS_AUDIO_FRAME")) == 49

    async def test_killed_server_loses_nothing(self, server: Server) -> None:
        """After SIGKILL, with every row still in the spool, opening the log brings all of them."""
        with closing(sqlite3.connect(server.db)) as lock:
            lock.execute("BEGIN IMMEDIATE")
            async with opened(server) as websocket:
                await send(websocket, "START")
                for number in range(1, 21):
                    await send_frame(websocket, number, audio_of(number))
                # One for the process, two for the connection, three for START; for each client frame its
                # message twice, or three times if header and audio came one by one, and itself; for each
                # 100 ms frame itself twice and its function twice.
                frames = 20 * 15_000 // 8820
                least = 6 + 20 * 3 + frames * 4

                def all_are_accepted() -> bool:
                    accepted = server.accepted()
                    time.sleep(0.5)
                    return accepted >= least and server.accepted() == accepted

                await asyncio.to_thread(wait_until, all_are_accepted)
                accepted = server.accepted()
                server.kill()
        async with EngineLog(server.db):
            pass

        run, _ = server.rows("SELECT * FROM ENGINE_LOG_RUN ORDER BY ENGINE_RUN_ID")
        assert run["HOW_ENDED"] == "crashed"
        assert run["ROWS_COMMITTED"] == run["ROWS_ACCEPTED"] >= accepted
        hashes = {n: (15_000, sha256(audio_of(n)).hexdigest()) for n in range(1, 21)}
        assert sizes_and_hashes(server) == hashes
        assert len(server.table("SPLIT_100_MS_AUDIO_FRAME")) == frames
