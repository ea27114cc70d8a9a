"""What a client streams: a session that was recorded, a WAV file, or any audio cut as a phone cuts it."""

from __future__ import annotations

import csv
import wave
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from violin import BYTES_PER_SECOND, SAMPLE_RATE, tone

# Real recorders hand out 159 to 180 ms at a time, never 100.
CLIENT_FRAME_BYTES = 15_000

COLUMNS = ("t_ms", "message_type", "recording_id", "audio_frame_no", "audio_bytes")


class SessionError(Exception):
    """There is no such session, or it can't be read."""


class Moment(NamedTuple):
    """A message and when it is sent, in milliseconds from the beginning."""

    t_ms: float
    type: str
    frame_no: int = 0
    audio: bytes | None = None


def session_of(audio: bytes) -> list[Moment]:
    """Return the session in which ``audio`` is streamed as it is played."""
    session = [Moment(0.0, "START")]
    for first in range(0, len(audio), CLIENT_FRAME_BYTES):
        part = audio[first : first + CLIENT_FRAME_BYTES]
        # A frame can be sent once its last sample has been heard.
        played_ms = (first + len(part)) * 1000 / BYTES_PER_SECOND
        session.append(Moment(played_ms, "FRAME", len(session), part))
    return [*session, Moment(session[-1].t_ms, "STOP")]


def read_wav(path: Path) -> bytes:
    """
    Return the audio of a WAV file.

    Raises:
        SessionError: If it can't be read, or isn't what the engine takes.

    """
    try:
        with wave.open(str(path), "rb") as file:
            found = (file.getsampwidth() * 8, file.getnchannels(), file.getframerate())
            audio = file.readframes(file.getnframes())
    except OSError as error:
        raise SessionError(f"{path} can't be read: {error.strerror}") from error
    except (wave.Error, EOFError) as error:
        raise SessionError(f"{path} isn't a WAV file of PCM ({error or 'it ends too early'})") from error
    if found != (16, 1, SAMPLE_RATE):
        raise SessionError(
            f"{path} has {found[0]} bit, {found[1]} channels, {found[2]:,} Hz; the engine takes 16 bit, "
            f"mono, 44,100 Hz. Convert it: ffmpeg -i {path} -ac 1 -ar 44100 -sample_fmt s16 converted.wav"
        )
    return audio


def read_trace(path: Path) -> list[Moment]:
    """
    Return a recorded session: its times and sizes are real, its audio is a violin's.

    Raises:
        SessionError: If it can't be read.

    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise SessionError(
                    f"{path} has no column {', '.join(missing)}; it needs {', '.join(COLUMNS)}"
                )
            rows = [_row(path, reader.line_num, row) for row in reader]
    except OSError as error:
        raise SessionError(f"{path} can't be read: {error.strerror}") from error
    except (csv.Error, UnicodeError) as error:
        raise SessionError(f"{path} isn't a CSV file ({error})") from error
    if not rows:
        raise SessionError(f"{path} has no messages")
    return _with_audio(rows)


class _Row(NamedTuple):
    t_ms: float
    type: str
    frame_no: int
    size_bytes: int


def _row(path: Path, line: int, row: dict[str, str]) -> _Row:
    kind = (row["message_type"] or "").strip().upper()
    try:
        if kind not in ("START", "FRAME", "STOP"):
            raise ValueError(f"message_type is {kind!r}, not START, FRAME or STOP")
        is_frame = kind == "FRAME"
        number, size = (int(row[name]) if is_frame else 0 for name in ("audio_frame_no", "audio_bytes"))
        found = _Row(float(row["t_ms"]), kind, number, size)
        if not (0 <= found.t_ms < 1e9 and number >= 0 and 0 <= size < 2**20):
            raise ValueError("a number is out of range")
    except (ValueError, TypeError) as error:
        raise SessionError(f"{path}, line {line}: {error}") from error
    return found


def _with_audio(rows: Iterable[_Row]) -> list[Moment]:
    rows = list(rows)
    audio, first = tone(sum(row.size_bytes for row in rows)), 0
    session = []
    for row in rows:
        part = audio[first : first + row.size_bytes] if row.type == "FRAME" else None
        first += row.size_bytes
        session.append(Moment(row.t_ms, row.type, row.frame_no, part))
    return session
