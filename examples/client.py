"""
Stream audio to the example engine, as the recorder of a phone does.

A violin that is synthesised, a WAV file, or a session that was recorded::

    python examples/client.py --seconds 5 --clients 3
    python examples/client.py --wav scale.wav
    python examples/client.py --trace examples/session_28_frames.csv --speed 4

"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import sys
from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from sessions import Moment, SessionError, read_trace, read_wav, session_of
from violin import BYTES_PER_SECOND, tone
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI


class StreamError(Exception):
    """The session could not be streamed to its end."""


Hashes = list[tuple[str, int, str]]

# Frames are kept so long, in case the server misses one.
KEPT_FRAMES = 128


async def stream(url: str, session: list[Moment], recording_id: str, speed: float) -> Hashes:
    """Stream one session at its own pace; return the SHA-256 of each frame, once the server closes."""
    try:
        # A proxy is for the outside world, not for the engine next door.
        async with connect(url, compression=None, proxy=None) as websocket:
            sender = Sender(websocket, recording_id)
            answering = asyncio.create_task(sender.answer())
            try:
                await sender.send(session, speed)
                await answering  # the server closes when STOP is done
            finally:
                answering.cancel()
            return sender.hashes
    except ConnectionClosed as error:
        raise StreamError(f"the server closed the connection before the end ({error})") from error
    except (InvalidHandshake, InvalidURI) as error:
        raise StreamError(f"{url} is no recorder of the engine ({error})") from error
    except OSError as error:  # a TimeoutError is one
        reason = error.strerror or "no answer in time"
        raise StreamError(f"no server at {url} ({reason}); start one: python examples/server.py") from error


class Sender:
    """Send the messages of a session, and again those that the server misses."""

    def __init__(self, websocket: ClientConnection, recording_id: str) -> None:
        self.websocket = websocket
        self.recording_id = recording_id
        self.hashes = Hashes()
        self.lock = asyncio.Lock()
        # The last frames, by number.
        self.kept: dict[int, Moment] = {}

    async def send(self, session: list[Moment], speed: float) -> None:
        """Send each message when it is due."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for moment in session:
            # Counted from the beginning, so that delays don't add up.
            await asyncio.sleep(max(0.0, began + moment.t_ms / 1000 / speed - loop.time()))
            await self.send_moment(moment)
            if moment.audio is not None:
                self.keep(moment)
                self.hashes.append((self.recording_id, moment.frame_no, sha256(moment.audio).hexdigest()))

    async def send_moment(self, moment: Moment) -> None:
        # In one go: nothing may come between a header and its audio.
        async with self.lock:
            await self.websocket.send(json.dumps(fields_of(moment, self.recording_id)))
            if moment.audio is not None:
                await self.websocket.send(moment.audio)

    def keep(self, moment: Moment) -> None:
        self.kept[moment.frame_no] = moment
        if len(self.kept) > KEPT_FRAMES:
            del self.kept[next(iter(self.kept))]

    async def answer(self) -> None:
        """Send frames again that the server says it misses; return when it closes."""
        async for message in self.websocket:
            for number in missing_frames(message):
                if number in self.kept:
                    await self.send_moment(self.kept[number])


def missing_frames(message: str | bytes) -> list[int]:
    """Return what an ACK says is missing; nothing for any other message."""
    try:
        fields = json.loads(message)
        return list(fields["MISSING_FRAMES"]) if fields["MESSAGE_TYPE"] == "ACK" else []
    except (ValueError, TypeError, KeyError):
        return []


def fields_of(moment: Moment, recording_id: str) -> dict[str, object]:
    """Return the fields that real clients send: ids and frame numbers as text, sizes as numbers."""
    fields: dict[str, object] = {"MESSAGE_TYPE": moment.type, "RECORDING_ID": recording_id}
    if moment.type == "START":
        fields["AUDIO_STREAM_FILE_NAME"] = f"{recording_id}.wav"
    if moment.audio is not None:
        fields["FRAME_NO"] = str(moment.frame_no)
        fields["FRAME_DURATION_IN_MS"] = len(moment.audio) * 1000 // BYTES_PER_SECOND
        fields["BYTES_LEN"] = len(moment.audio)
    return fields


def recording_ids(count: int) -> list[str]:
    """Return ids of 18 digits: the time, and what tells clients of the same second apart."""
    first = os.getpid() * 100
    return [f"{datetime.now():%Y%m%d%H%M%S}{(first + number) % 10_000:04}" for number in range(count)]


def load(options: argparse.Namespace) -> list[Moment]:
    """Return the session that the options ask for."""
    if options.trace:
        return read_trace(options.trace)
    if options.wav:
        return session_of(read_wav(options.wav))
    return session_of(tone(round(options.seconds * BYTES_PER_SECOND / 2) * 2))


async def stream_all(options: argparse.Namespace, session: list[Moment]) -> Hashes:
    """Stream by all clients at once; return the hashes of all."""
    url = f"ws://{options.host}:{options.port}/ws/stream"
    ids = recording_ids(options.clients)
    frames = sum(moment.audio is not None for moment in session)
    size_bytes = sum(len(moment.audio or b"") for moment in session)
    for recording_id in ids:
        print(f"recording {recording_id}: {frames} frames, {size_bytes:,} bytes", flush=True)
    results = await asyncio.gather(
        *(stream(url, session, recording_id, options.speed) for recording_id in ids), return_exceptions=True
    )
    hashes = Hashes()
    for result in results:
        if isinstance(result, BaseException):
            raise result
        hashes += result
    return hashes


def write_hashes(path: Path, hashes: Iterable[tuple[str, int, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("recording_id", "audio_frame_no", "sha256_hex"), *hashes])


def above_zero(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a number above 0")
    return number


def whole_above_zero(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a number from 1 to 10000")
    return int(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Stream audio to the example engine.")
    parser.add_argument("--host", default="127.0.0.1", help="where the server is (127.0.0.1)")
    parser.add_argument("--port", default=7070, type=whole_port, help="its port (7070)")
    parser.add_argument("--clients", default=1, type=whole_above_zero, help="so many at once (1)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--seconds", default=5.0, type=above_zero, help="length of the violin's tone (5)")
    source.add_argument("--wav", type=Path, help="a WAV file: 16 bit, mono, 44,100 Hz")
    source.add_argument("--trace", type=Path, help="a recorded session, as CSV")
    parser.add_argument("--speed", default=1.0, type=above_zero, help="so many times faster than it was (1)")
    parser.add_argument("--hashes", type=Path, help="write the SHA-256 of each frame sent to this CSV file")
    return parser.parse_args()


def whole_port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a port; pass a number from 1 to 65535")
    return int(text)


def main() -> int:
    options = parse()
    try:
        hashes = asyncio.run(stream_all(options, load(options)))
        if options.hashes:
            write_hashes(options.hashes, hashes)
    except (SessionError, StreamError, OSError) as error:
        print(f"client.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"streamed {len(hashes):,} frames; the server took them all", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
