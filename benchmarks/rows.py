"""The rows that all rivals log: narrow, wide, and a mixed trace. Performs no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from async_enginelog.tables import TABLES

from .trace import trace_row

__all__ = [
    "FILE",
    "FUNCTION",
    "NARROW",
    "RECORDING",
    "SHAPES",
    "insert_sql",
    "narrow_values",
    "stored_values",
    "text_of",
    "utc_text",
    "wide_row",
]

NARROW = "ENGINE_DB_LOG_FUNCTIONS"
WIDE = "ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME"
RECORDING = 202508290514312002
FUNCTION = "process_frame"
FILE = "listen_for_frames.py"
SHA256 = "7ae868c741187b5b56435b4ddaea032d831683910890f0e8204c8686ff99eec9"
NARROW_COLUMNS = tuple(column.name for column in TABLES[NARROW].columns.values())

Columns = dict[str, Any]


def utc_text(moment: datetime) -> str:
    """Return a time in UTC as all rivals store it: 26 characters."""
    return moment.isoformat(" ", "microseconds")[:26]


def text_of(seconds: float) -> str:
    """Return seconds since 1970 as all rivals store them."""
    return utc_text(datetime.fromtimestamp(seconds, UTC))


def narrow_values(number: int) -> tuple[object, ...]:
    """Return the nine values of row ``number`` of ENGINE_DB_LOG_FUNCTIONS, for those who speak SQL."""
    now = utc_text(datetime.now(UTC))
    return (now, FUNCTION, FILE, RECORDING, number, number // 10, "Start", 17, now)


def narrow_row(number: int) -> tuple[str, Columns]:
    """Return table and columns of row ``number`` of ENGINE_DB_LOG_FUNCTIONS, all nine of them."""
    return NARROW, dict(zip(TABLES[NARROW].columns, narrow_values(number), strict=True))


def wide_row(number: int) -> tuple[str, Columns]:
    """Return table and columns of a frame: 20 of its 48 columns."""
    now = datetime.now(UTC)
    later = now + timedelta(milliseconds=3)
    return WIDE, {
        "recording_id": RECORDING,
        "audio_frame_no": number,
        "start_ms": (number - 1) * 100,
        "end_ms": number * 100 - 1,
        "yn_run_fft": "Y",
        "yn_run_ons": "Y",
        "yn_run_pyin": "Y",
        "yn_run_crepe": "N",
        "dt_frame_received": now,
        "dt_frame_paired_with_websockets_metadata": now,
        "dt_processing_queued_to_start": now,
        "dt_processing_start": now,
        "dt_processing_end": later,
        "dt_start_fft": now,
        "dt_end_fft": later,
        "fft_record_cnt": 51,
        "ons_record_cnt": 3,
        "audio_frame_size_bytes": 8820,
        "audio_frame_encoding": "pcm16",
        "audio_frame_sha256_hex": SHA256,
    }


SHAPES = {"narrow": narrow_row, "wide": wide_row, "trace": trace_row}


@lru_cache(maxsize=256)
def insert_sql(table: str, arguments: Sequence[str]) -> str:
    """
    Return an INSERT of a row. Rivals don't merge.

    Only a recording that comes again replaces the first: the run is part of every other key, and
    they have none.

    """
    columns = TABLES[table].columns
    names = ",".join(columns[name].name for name in arguments)
    insert = "INSERT OR REPLACE" if TABLES[table].key else "INSERT"
    return f"{insert} INTO {table} ({names}) VALUES ({','.join('?' * len(arguments))})"


def stored_values(columns: Mapping[str, Any]) -> list[Any]:
    """Return the values of a row as they are stored: times as text."""
    return [utc_text(value) if type(value) is datetime else value for value in columns.values()]
