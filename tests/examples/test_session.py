"""A session that was really recorded, streamed to the real server: what the log then says."""

from __future__ import annotations

import asyncio
import csv
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from .running import EXAMPLES, PATIENCE, TRACE, Server

FRAME_BYTES = 8820


class Session(NamedTuple):
    """A server that has stopped, and the audio that went to it over the wire."""

    server: Server
    sent: list[bytes]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Stream the recorded session of 28 client frames, 50 times faster than it was."""
    with Server(tmp_path_factory.mktemp("session") / "engine_log.db") as server:
        sent = asyncio.run(stream_through_relay(server))
        server.stop()
        yield Session(server, sent)


async def stream_through_relay(server: Server) -> list[bytes]:
    """Stand between client and server, pass everything on, and return the audio that came by."""
    sent: list[bytes] = []

    async def relay(client: ServerConnection) -> None:
        async with connect(server.url(), compression=None, proxy=None) as onward:
            async for message in client:
                if isinstance(message, bytes):
                    sent.append(message)
                await onward.send(message)
                if isinstance(message, str) and '"STOP"' in message:
                    break
            await onward.wait_closed()

    async with serve(relay, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, str(EXAMPLES / "client.py"), "--port", str(port)),
            *("--trace", str(TRACE), "--speed", "50"),
        )
        async with asyncio.timeout(PATIENCE):
            assert await client.wait() == 0
    return sent


def trace_sizes() -> list[int]:
    with Path(TRACE).open(newline="") as file:
        return [int(row["audio_bytes"]) for row in csv.DictReader(file) if row["message_type"] == "FRAME"]


def test_client_sends_frames_of_recorded_sizes(session: Session) -> None:
    """The trace is replayed byte for byte in size."""
    assert [len(audio) for audio in session.sent] == trace_sizes()
    assert sum(trace_sizes()) == 431_832


def test_each_message_has_one_row(session: Session) -> None:
    """START, 28 FRAMEs (header and audio are one) and STOP make 30 rows, in order."""
    rows = session.server.table("WEBSOCKET_MESSAGE", "MESSAGE_ID")

    assert [row["MESSAGE_TYPE"] for row in rows] == ["START", *["FRAME"] * 28, "STOP"]
    assert [row["AUDIO_FRAME_NO"] for row in rows] == [None, *range(1, 29), None]
    assert len({(row["RECORDING_ID"], row["WEBSOCKET_CONNECTION_ID"]) for row in rows}) == 1


def test_messages_have_their_times_in_order(session: Session) -> None:
    """A message is received, then queued, then processed."""
    for row in session.server.table("WEBSOCKET_MESSAGE"):
        times = [
            row["DT_MESSAGE_RECEIVED"],
            row["DT_MESSAGE_PROCESS_QUEUED_TO_START"],
            row["DT_MESSAGE_PROCESS_STARTED"],
        ]
        assert times == sorted(times)
        assert all(len(time) == 26 for time in times)


def test_client_frames_have_what_was_sent(session: Session) -> None:
    """Each client frame has one row, with the size and the SHA-256 of the bytes on the wire."""
    rows = session.server.table("PRE_SPLIT_AUDIO_FRAME", "AUDIO_FRAME_NO")

    assert [row["AUDIO_FRAME_NO"] for row in rows] == list(range(1, 29))
    assert [row["AUDIO_FRAME_SIZE_BYTES"] for row in rows] == trace_sizes()
    hashes = [sha256(audio).hexdigest() for audio in session.sent]
    assert [row["AUDIO_FRAME_SHA256_HEX"] for row in rows] == hashes
    assert {row["AUDIO_FRAME_ENCODING"] for row in rows} == {"raw"}


def test_client_frames_have_their_durations(session: Session) -> None:
    """Durations are what the engine had for the same session; starts and ends leave no gap."""
    rows = session.server.table("PRE_SPLIT_AUDIO_FRAME", "AUDIO_FRAME_NO")

    durations = [row["PRE_SPLIT_AUDIO_FRAME_DURATION_IN_MS"] for row in rows]
    assert durations[:4] == [180, 167, 159, 176]
    assert rows[0]["START_MS"] == 0
    assert [row["START_MS"] for row in rows[1:]] == [row["END_MS"] + 1 for row in rows[:-1]]
    assert rows[-1]["END_MS"] == 431_832 * 10 // 882 - 1


def test_stream_is_cut_into_exact_frames(session: Session) -> None:
    """48 frames of 100 ms and the tail, each with the SHA-256 of its part of the stream."""
    rows = session.server.table("SPLIT_100_MS_AUDIO_FRAME", "AUDIO_FRAME_NO")
    stream = b"".join(session.sent)
    parts = [stream[first : first + FRAME_BYTES] for first in range(0, len(stream), FRAME_BYTES)]

    assert [row["AUDIO_FRAME_NO"] for row in rows] == list(range(1, 50))
    assert [row["AUDIO_FRAME_SIZE_BYTES"] for row in rows] == [*[FRAME_BYTES] * 48, 8472]
    hashes = [sha256(part).hexdigest() for part in parts]
    assert [row["AUDIO_FRAME_SHA256_HEX"] for row in rows] == hashes
    assert [(row["START_MS"], row["END_MS"]) for row in rows[:48]] == [
        (number * 100, number * 100 + 99) for number in range(48)
    ]
    assert (rows[48]["START_MS"], rows[48]["AUDIO_FRAME_ENCODING"]) == (4800, "pcm16")


def test_each_frame_is_analysed(session: Session) -> None:
    """Frames have the times of their processing, in order, and the count of the analyser."""
    for row in session.server.table("SPLIT_100_MS_AUDIO_FRAME"):
        times = [
            row["DT_FRAME_RECEIVED"],
            row["DT_PROCESSING_QUEUED_TO_START"],
            row["DT_PROCESSING_START"],
            row["DT_START_VOLUME_10_MS"],
            row["DT_END_VOLUME_10_MS"],
            row["DT_PROCESSING_END"],
        ]
        assert times == sorted(times)
        assert row["VOLUME_10_MS_RECORD_CNT"] == 10


def test_recording_has_one_row_with_end_and_purge(session: Session) -> None:
    """The row of the recording is complete when the server has closed."""
    [row] = session.server.table("RECORDING_CONFIG")

    assert len(str(row["RECORDING_ID"])) == 18
    assert row["AUDIO_STREAM_FILE_NAME"] == f"{row['RECORDING_ID']}.wav"
    assert (row["TOTAL_BYTES_RECEIVED"], row["TOTAL_SPLIT_100_MS_FRAMES_PRODUCED"]) == (431_832, 49)
    assert row["MAX_PRE_SPLIT_AUDIO_FRAME_NO_SPLIT"] == 28
    times = [
        row["DT_RECORDING_START"],
        row["DT_PROCESS_WEBSOCKET_START_MESSAGE_DONE"],
        row["DT_RECORDING_END"],
        row["DT_RECORDING_DATA_QUEUED_FOR_PURGING"],
        row["DT_RECORDING_DATA_PURGED"],
    ]
    assert times == sorted(times)


def test_connection_has_one_row_with_its_close(session: Session) -> None:
    """The row of the connection tells from the request to the end, and no secrets."""
    [row] = session.server.table("WEBSOCKET_CONNECTION")

    assert row["CLIENT_HOST_IP_ADDRESS"] == "127.0.0.1"
    assert row["CLIENT_PORT"].isdecimal()
    assert '"Sec-WebSocket-Key":"***"' in row["CLIENT_HEADERS"]
    times = [
        row["DT_CONNECTION_REQUEST"],
        row["DT_CONNECTION_ACCEPTED"],
        row["DT_WEBSOCKET_DISCONNECT_EVENT"],
        row["DT_CONNECTION_CLOSED"],
    ]
    assert times == sorted(times)


def test_each_function_that_started_ended(session: Session) -> None:
    """Functions have a row for the start and one for the end; none failed."""
    said = [row["START_STOP_OR_ERROR_MSG"] for row in session.server.table("FUNCTIONS")]

    assert said.count("Start") == sum(text.startswith("End (") and text.endswith("s)") for text in said)
    assert len(said) == 2 * said.count("Start")
    assert said.count("Start") == 49
    assert session.server.table("FUNCTION_ERROR") == []


def test_process_has_one_row(session: Session) -> None:
    """The registry has the process of the server, with its memory and tasks."""
    [row] = session.server.table("PROCESS_REGISTRY")

    assert row["process_id"] == session.server.process.pid
    assert row["memory_usage_mb"] > 1
    assert "enginelog-writer" in row["active_tasks"]


def test_log_lost_nothing(session: Session) -> None:
    """All rows that were accepted are committed, and the run ended in good order."""
    [run] = session.server.rows("SELECT * FROM ENGINE_LOG_RUN")

    assert run["HOW_ENDED"] == "closed"
    assert run["ROWS_ACCEPTED"] == run["ROWS_COMMITTED"] > 300
    assert (run["ROWS_ON_CONSOLE"], run["ROWS_UNREADABLE"]) == (0, 0)


def test_verify_finds_nothing_wrong(session: Session) -> None:
    """`enginelog verify` says that the log is whole."""
    done = subprocess.run(
        [sys.executable, "-m", "async_enginelog", "verify", str(session.server.db)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert done.returncode == 0, done.stdout
    assert "is whole" in done.stdout
