"""Logs as tests of pruning need them: rows of any time and run, and what should be left of them."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from async_enginelog.migrations import APPLICATION_ID, migrations
from async_enginelog.retention import Keep
from async_enginelog.tables import FUNCTION_ERROR, TABLES, Kind, Table
from async_enginelog.values import time_text

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)

# Where a row tells its time; of those that have no time of their own, DT_ADDED.
TIMES = {
    "ENGINE_DB_LOG_FUNCTIONS": "DT_FUNCTION_MESSAGE_QUEUED",
    "ENGINE_DB_LOG_FUNCTION_ERROR": "DT_ADDED",
    "ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME": "DT_END_PYIN",
    "ENGINE_DB_LOG_PRE_SPLIT_AUDIO_FRAME": "DT_FRAME_RECEIVED",
    "ENGINE_DB_LOG_RECORDING_CONFIG": "DT_RECORDING_START",
    "ENGINE_DB_LOG_WEBSOCKET_CONNECTION": "DT_CONNECTION_ACCEPTED",
    "ENGINE_DB_LOG_WEBSOCKET_MESSAGE": "DT_MESSAGE_RECEIVED",
    "ENGINE_DB_LOG_PROCESS_REGISTRY": "last_heartbeat",
    "ENGINE_DB_LOG_STEPS": "DT_STEP_CALLED",
    "ENGINE_DB_LOG_RESOURCE_MONITOR": "DT_MEASUREMENT",
}
KEYS = {
    "ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME": "AUDIO_FRAME_NO",
    "ENGINE_DB_LOG_PRE_SPLIT_AUDIO_FRAME": "AUDIO_FRAME_NO",
    "ENGINE_DB_LOG_WEBSOCKET_MESSAGE": "MESSAGE_ID",
    "ENGINE_DB_LOG_PROCESS_REGISTRY": "process_id",
    "ENGINE_DB_LOG_WEBSOCKET_CONNECTION": "WEBSOCKET_CONNECTION_ID",
}


class PlantedRow(NamedTuple):
    """A row of a log that is to be made."""

    table: str
    run: int
    age: timedelta
    recording: int | None = None
    # Of a connection its id, of a recording that of its connection.
    connection: int | None = None
    ended: bool = False


def text(moment: datetime) -> str:
    """Return a time as it is stored."""
    return time_text(moment.isoformat(timespec="microseconds"))


def empty_log(path: Path) -> None:
    """Make a log without a row."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        for statement in (statement for migration in migrations() for statement in migration):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations())}")
        connection.execute("COMMIT")


def plant(
    path: Path,
    rows: Sequence[PlantedRow],
    *,
    runs: dict[int, str | None] | None = None,
    watermarks: Iterable[int] = (),
    now: datetime = NOW,
) -> None:
    """
    Make a log of these rows, in the order of their commits.

    Args:
        runs: How each run ended; that of those that aren't named is ``closed``. A run's last sign of life
            is the time of its last row.

    """
    empty_log(path)
    with closing(sqlite3.connect(path)) as connection:
        last: dict[int, int] = {}
        times: dict[int, list[str]] = defaultdict(list)
        for log_seq, row in enumerate(rows, 1):
            insert(connection, row, log_seq, now)
            last[row.run] = log_seq
            times[row.run].append(text(now - row.age))
        stored = Counter(row.run for row in rows)
        for run, how in (dict.fromkeys(stored, "closed") | (runs or {})).items():
            connection.execute(
                "INSERT INTO ENGINE_LOG_RUN (ENGINE_RUN_ID, HOW_ENDED, ROWS_ACCEPTED, ROWS_COMMITTED, "
                "ROWS_STORED, LAST_LOG_SEQ, DT_LAST_SIGN_OF_LIFE) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (run, how, *[stored[run]] * 3, last.get(run, 0), max(times[run], default=None)),
            )
        for number, log_seq in enumerate(watermarks):
            connection.execute(
                "INSERT INTO ENGINE_LOG_WATERMARK VALUES (?, ?, ?)", (f"reader {number}", log_seq, text(now))
            )
        connection.commit()


def insert(connection: sqlite3.Connection, row: PlantedRow, log_seq: int, now: datetime = NOW) -> None:
    """Insert a row; where it needs a key, that is its LOG_SEQ."""
    values: dict[str, Any] = {TIMES[row.table]: text(now - row.age)}
    if row.table != FUNCTION_ERROR.name and TABLES[row.table].added:
        values["DT_ADDED"] = text(now)  # when it came into the log says nothing of its age
    if row.table in KEYS:
        values[KEYS[row.table]] = log_seq
    if "recording_id" in TABLES[row.table].columns:
        values["RECORDING_ID"] = row.recording
    if row.connection is not None:
        values["WEBSOCKET_CONNECTION_ID"] = row.connection
    if row.ended and row.table == "ENGINE_DB_LOG_RECORDING_CONFIG":
        values["DT_RECORDING_END"] = text(now - row.age)
    if row.ended and row.table == "ENGINE_DB_LOG_WEBSOCKET_CONNECTION":
        values["DT_CONNECTION_CLOSED"] = text(now - row.age)
    values |= {"ENGINE_RUN_ID": row.run, "LOG_SEQ": log_seq}
    marks = ", ".join("?" for _ in values)
    connection.execute(
        f"INSERT INTO {row.table} ({', '.join(values)}) VALUES ({marks})", list(values.values())
    )


# -- what should be left, told in another way than the package does -----------------------------------


class Row(NamedTuple):
    """A row that is in a log."""

    table: Table
    log_seq: int
    run: int
    recording: int | None
    columns: dict[str, Any]

    def time(self, signs_of_life: dict[int, str]) -> str:
        """Return its time: the newest in it but DT_ADDED; else that; else of its run."""
        times = [
            self.columns[argument]
            for argument, column in self.table.columns.items()
            if column.kind is Kind.TIME and argument != "dt_added" and self.columns[argument]
        ]
        return max(times, default="") or self.columns.get("dt_added") or signs_of_life.get(self.run) or ""


def rows_in(path: Path) -> list[Row]:
    """Return all rows of a log, in the order of LOG_SEQ."""
    found = []
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        for table in TABLES.values():
            for row in connection.execute(f"SELECT * FROM {table.name}"):
                columns = {name.lower(): row[name] for name in row.keys()}  # noqa: SIM118
                run, log_seq = columns.pop("engine_run_id"), columns.pop("log_seq")
                found.append(Row(table, log_seq, run, columns.get("recording_id"), columns))
    return sorted(found, key=lambda row: row.log_seq)


def kept_of(path: Path, keep: Keep, now: datetime = NOW) -> set[int]:
    """Return the LOG_SEQ of the rows that a pruning must leave, and no other; bytes aren't considered."""
    rows = rows_in(path)
    with closing(sqlite3.connect(path)) as connection:
        ends: dict[int, str | None] = dict(
            connection.execute("SELECT ENGINE_RUN_ID, HOW_ENDED FROM ENGINE_LOG_RUN")
        )
        signs: dict[int, str] = dict(
            connection.execute("SELECT ENGINE_RUN_ID, DT_LAST_SIGN_OF_LIFE FROM ENGINE_LOG_RUN")
        )
        [(watermark,)] = connection.execute("SELECT min(LOG_SEQ) FROM ENGINE_LOG_WATERMARK")
    newest = {row.log_seq for row in rows[-keep.rows :]} if keep.rows else {row.log_seq for row in rows}
    kept: set[int] = set()
    things: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        things[row.recording or (row.table.name, row.log_seq)].append(row)
    # Connections last: they stay with their recordings.
    connections_kept = set()
    for thing in sorted(things, key=lambda thing: "CONNECTION" in str(thing)):
        of_thing = things[thing]
        time = max(row.time(signs) for row in of_thing)
        aged = keep.age is not None and time < text(now - keep.age)
        beyond = keep.rows is not None and not newest & {row.log_seq for row in of_thing}
        unread = watermark is not None and max(row.log_seq for row in of_thing) > watermark
        needed = any(ends[row.run] == "importing" for row in of_thing)
        if any(ends[row.run] is None for row in of_thing):
            needed |= _is_growing(of_thing, time, now)
        first = of_thing[0]
        if first.table.name.endswith("CONNECTION"):
            needed |= first.columns["websocket_connection_id"] in connections_kept
        if not (aged or beyond) or unread or needed:
            kept |= {row.log_seq for row in of_thing}
            connections_kept |= {
                row.columns["websocket_connection_id"]
                for row in of_thing
                if row.table.name.endswith("RECORDING_CONFIG") and row.recording
            }
    return kept


def _is_growing(rows: list[Row], time: str, now: datetime) -> bool:
    first = rows[0]
    if first.recording:
        ended = any(row.columns.get("dt_recording_end") for row in rows)
        return time >= text(now - (timedelta(minutes=1) if ended else DAY))
    if first.table.name.endswith("REGISTRY"):
        return True
    if first.table.name.endswith("CONNECTION") and not first.columns["dt_connection_closed"]:
        return True
    return time >= text(now - timedelta(minutes=1))
