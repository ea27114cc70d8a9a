"""What the example client does when it can't stream, and that it streams WAV files."""

from __future__ import annotations

import asyncio
import socket
import wave
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

import pytest
from sessions import session_of
from violin import tone
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from .running import TRACE, Server, run_example

Handler = Callable[[ServerConnection], Awaitable[None]]
Refusal = Callable[[ServerConnection, Request], Response]

HEADER = "t_ms,message_type,recording_id,audio_frame_no,audio_bytes\n"


def write_wav(path: Path, audio: bytes, *, channels: int = 1, rate: int = 44_100) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(audio)
    return path


def failure(*options: object) -> str:
    """Run the client with a port where nobody listens; return what it says."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = run_example("client.py", "--port", port, *options)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_no_server() -> None:
    """Without a server it says where it looked, and how to start one."""
    said = failure()

    assert "no server at ws://127.0.0.1:" in said
    assert "python examples/server.py" in said


@pytest.mark.parametrize("option", ["--wav", "--trace"])
def test_missing_file(option: str, tmp_path: Path) -> None:
    """A file that isn't there is named."""
    assert f"{tmp_path / 'none'} can't be read: No such file" in failure(option, tmp_path / "none")


def test_wav_of_another_kind(tmp_path: Path) -> None:
    """A WAV file that the engine can't take is refused, with the way to convert it."""
    path = write_wav(tmp_path / "stereo.wav", bytes(400), channels=2, rate=48_000)

    said = failure("--wav", path)
    assert "16 bit, 2 channels, 48,000 Hz" in said
    assert "ffmpeg -i" in said


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no audio at all"])
def test_no_wav(content: bytes, tmp_path: Path) -> None:
    """Another file is not taken for a WAV file."""
    (tmp_path / "a.wav").write_bytes(content)

    assert "isn't a WAV file" in failure("--wav", tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "has no column t_ms"),
        ("t_ms,message_type\n1,START\n", "has no column recording_id, audio_frame_no, audio_bytes"),
        (HEADER, "has no messages"),
        (HEADER + "1,START,1,,\nsoon,FRAME,1,1,10\n", "line 3: could not convert string to float: 'soon'"),
        (HEADER + "1,FRAME,1,1,\n", "line 2: invalid literal for int()"),
        (HEADER + "1,FRAME,1,1,-5\n", "line 2: a number is out of range"),
        (HEADER + "nan,START,1,,\n", "line 2: a number is out of range"),
        (HEADER + "1\n", "line 2: message_type is ''"),
        (HEADER + "1,PAUSE,1,,\n", "line 2: message_type is 'PAUSE'"),
        ("\xff", "isn't a CSV file"),
    ],
)
def test_malformed_trace(content: str, reason: str, tmp_path: Path) -> None:
    """A trace that can't be read is refused, with the line."""
    (tmp_path / "trace.csv").write_text(content, encoding="latin-1")

    assert reason in failure("--trace", tmp_path / "trace.csv")


@pytest.mark.parametrize("options", [["--seconds=0"], ["--speed=nan"], ["--clients=0"], ["--port=x"]])
def test_wrong_options(options: list[str]) -> None:
    """Options that mean nothing are refused."""
    assert run_example("client.py", *options).returncode == 2


async def run_against(handler: Handler, process_request: Refusal | None = None) -> str:
    """Run the client against another server than ours; return what it says."""
    async with serve(handler, "127.0.0.1", 0, process_request=process_request) as server:
        port = server.sockets[0].getsockname()[1]
        done = await asyncio.to_thread(run_example, "client.py", "--port", port, "--seconds", 0.5)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


async def test_server_hangs_up() -> None:
    """A server that closes before the end is told of."""

    async def hang_up(websocket: ServerConnection) -> None:
        await websocket.recv()

    assert "the server closed the connection before the end" in await run_against(hang_up)


async def test_no_recorder() -> None:
    """A server without recorder is told of."""

    async def never(websocket: ServerConnection) -> None:
        raise AssertionError

    said = await run_against(never, lambda websocket, request: websocket.respond(404, "no"))
    assert "/ws/stream is no recorder of the engine" in said
    assert "404" in said


def test_wav_is_streamed_as_it_is(server: Server, tmp_path: Path) -> None:
    """The audio of a WAV file arrives byte for byte, in frames as long as a phone's."""
    audio = tone(44_100)
    path = write_wav(tmp_path / "violin.wav", audio)
    done = run_example("client.py", "--port", server.port, "--wav", path, "--speed", 10)
    assert done.returncode == 0, done.stderr
    server.stop()

    rows = server.table("PRE_SPLIT_AUDIO_FRAME")
    parts = [audio[first : first + 15_000] for first in range(0, len(audio), 15_000)]
    assert [row["AUDIO_FRAME_SHA256_HEX"] for row in rows] == [sha256(part).hexdigest() for part in parts]


def test_hashes_are_written(server: Server, tmp_path: Path) -> None:
    """--hashes writes a line for each frame that was sent."""
    file = tmp_path / "hashes.csv"
    options = ("--trace", TRACE, "--speed", 50, "--hashes", file)
    assert run_example("client.py", "--port", server.port, *options).returncode == 0

    lines = file.read_text().splitlines()
    assert lines[0] == "recording_id,audio_frame_no,sha256_hex"
    assert len(lines) == 1 + 28


def test_violin_is_as_long_as_asked() -> None:
    """A tone has exactly so many bytes, and is never silent once the bow has moved."""
    assert [len(tone(size)) for size in (0, 1, 2, 8821)] == [0, 1, 2, 8821]
    assert max(tone(88_200)[44_100:]) > 0


def test_session_is_streamed_as_it_is_played() -> None:
    """Frames are sent once they have been heard; STOP comes with the last one."""
    session = session_of(bytes(88_200))

    assert [moment.type for moment in session] == ["START", *["FRAME"] * 6, "STOP"]
    assert [moment.frame_no for moment in session][1:-1] == [1, 2, 3, 4, 5, 6]
    assert session[-1].t_ms == 1000.0
