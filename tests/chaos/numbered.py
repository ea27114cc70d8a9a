"""
Numbered rows: what the victims log, and what must be found.

A *stream* is one task or thread that logs rows 1, 2, 3, … in order. Row ``n`` of stream ``s`` always has the
same content, through the same function, so that ``s`` and ``n`` alone tell whether a row that is found
somewhere is the one that was logged. The rows go through all ten functions; some are about what the row
before them was about, so that two calls make one row. One row of each kind, in turn, make a recording, which
begins and ends among them, and some rows that belong to none.

"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from async_enginelog import tables
from async_enginelog.tables import Table

__all__ = ["COLUMNS", "KINDS", "THINGS", "Call", "belonging_together", "call", "numbers_in", "time_of"]

# Ids are stream * THINGS + number.
THINGS = 10**9

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

# What is hard on text: quotes, line ends, characters of two, three and four bytes.
HARD = '"quoted" \\ back\nline\tø→𝄞\'; DROP TABLE ENGINE_DB_LOG_STEPS; -- '


class Call(NamedTuple):
    """A call of a log function."""

    function: str
    table: Table
    columns: dict[str, Any]


def _recording_of(stream: int, number: int) -> int:
    """Return the recording that a row belongs to: named by the number of the row that begins it."""
    return stream * THINGS + number - number % len(KINDS) + _BEGIN


def time_of(number: int) -> datetime:
    """Return the time that a row says, if its kind has one."""
    return EPOCH + timedelta(microseconds=1009 * number)


def _text(stream: int, number: int, length: int) -> str:
    head = f"{stream}/{number} "
    return (head + HARD * (1 + length // len(HARD)))[:length]


def _step(stream: int, number: int) -> dict[str, Any]:
    return {
        "step_id": number,
        "recording_id": _recording_of(stream, number),
        "step_name": _text(stream, number, 20 + number % 60),
    }


def _function(stream: int, number: int) -> dict[str, Any]:
    return {
        "recording_id": _recording_of(stream, number),
        "frame_no": number,
        "python_function_name": f"function_{number % 7}",
        "start_stop_or_error_msg": _text(stream, number, number % 200 + 20),
        "dt_function_message_queued": time_of(number),
    }


def _error(stream: int, number: int) -> dict[str, Any]:
    return {
        "recording_id": _recording_of(stream, number),
        "audio_frame_no": number,
        "error_message_text": _text(stream, number, number % 500 + 20),
        "traceback_text": _text(stream, number, number % 3000 + 20),
    }


def _frame(stream: int, number: int) -> dict[str, Any]:
    return {
        "recording_id": _recording_of(stream, number),
        "audio_frame_no": number,
        "start_ms": number * 100,
        "yn_run_fft": "Y",
        "dt_frame_received": time_of(number),
    }


def _frame_end(stream: int, number: int) -> dict[str, Any]:
    return {
        "recording_id": _recording_of(stream, number),
        "audio_frame_no": number - 1,
        "dt_processing_end": time_of(number),
        "fft_record_cnt": number,
        "audio_frame_sha256_hex": f"{number:064x}",
    }


def _pre_split(stream: int, number: int) -> dict[str, Any]:
    return {
        "recording_id": _recording_of(stream, number),
        "audio_frame_no": number,
        "audio_frame_size_bytes": number * 3 + stream,
        "dt_frame_received": time_of(number),
    }


def _recording(stream: int, number: int) -> dict[str, Any]:
    return {
        "recording_id": _recording_of(stream, number),
        "dt_recording_start": time_of(number),
        "audio_stream_file_name": _text(stream, number, 80),
    }


def _recording_end(stream: int, number: int) -> dict[str, Any]:
    return {
        "recording_id": _recording_of(stream, number),
        "dt_recording_end": time_of(number),
        "total_bytes_received": number,
    }


def _connection(stream: int, number: int) -> dict[str, Any]:
    return {
        "websocket_connection_id": stream * THINGS + number,
        "client_host_ip_address": "2001:db8::1",
        "client_port": str(number % 65_536),
        "client_headers": _text(stream, number, number % 1000 + 20),
        "dt_connection_request": time_of(number),
    }


def _connection_end(stream: int, number: int) -> dict[str, Any]:
    return {
        "websocket_connection_id": stream * THINGS + number - 1,
        "dt_connection_closed": time_of(number),
    }


def _message(stream: int, number: int) -> dict[str, Any]:
    return {
        "message_id": stream * THINGS + number,
        "recording_id": _recording_of(stream, number),
        "message_type": "FRAME",
        "dt_message_received": time_of(number),
    }


def _process(stream: int, number: int) -> dict[str, Any]:
    return {
        "process_id": stream * THINGS + number,
        "active_tasks": _text(stream, number, number % 300 + 20),
        "memory_usage_mb": number / 8,
        "last_heartbeat": time_of(number),
    }


def _resource(stream: int, number: int) -> dict[str, Any]:
    # The stream twice, as in all others: a single bit that is flipped must not make it a row of another one.
    return {
        "disk_io_total_bytes": stream * THINGS + number,
        "cpu_percent": number / 4,
        "thread_count": stream,
    }


class _Kind(NamedTuple):
    function: str
    table: Table
    columns: Callable[[int, int], dict[str, Any]]
    # Whether the row is about what the row before it was about.
    second: bool = False


# Row n is of kind n modulo their number.
KINDS = (
    _Kind("log_steps", tables.STEPS, _step),
    _Kind("log_function_execution", tables.FUNCTIONS, _function),
    _Kind("log_function_error", tables.FUNCTION_ERROR, _error),
    _Kind("log_audio_frame_metadata", tables.AUDIO_FRAME, _frame),
    _Kind("log_audio_frame_metadata", tables.AUDIO_FRAME, _frame_end, second=True),
    _Kind("log_pre_split_audio_frame", tables.PRE_SPLIT_AUDIO_FRAME, _pre_split),
    _Kind("log_recording_config", tables.RECORDING_CONFIG, _recording),
    _Kind("log_recording_config", tables.RECORDING_CONFIG, _recording_end, second=True),
    _Kind("log_websocket_connection", tables.WEBSOCKET_CONNECTION, _connection),
    _Kind("log_websocket_connection", tables.WEBSOCKET_CONNECTION, _connection_end, second=True),
    _Kind("log_websocket_message", tables.WEBSOCKET_MESSAGE, _message),
    _Kind("log_process_registry", tables.PROCESS_REGISTRY, _process),
    _Kind("log_resource_usage", tables.RESOURCE_MONITOR, _resource),
    _Kind("log_steps", tables.STEPS, _step),
)


# The kind that begins a recording.
_BEGIN = next(index for index, kind in enumerate(KINDS) if kind.table is tables.RECORDING_CONFIG)


def belonging_together(number: int) -> list[int]:
    """Return the numbers of the rows that go or stay with row ``number`` in a pruning, itself included."""
    kinds = len(KINDS)
    first, kind = number - number % kinds, KINDS[number % kinds]
    if "recording_id" in kind.table.columns:
        return [first + index for index in range(kinds) if "recording_id" in KINDS[index].table.columns]
    return [first + index for index in range(kinds) if KINDS[index].table is kind.table]


def call(stream: int, number: int) -> Call:
    """Return the call that logs row ``number`` of ``stream``."""
    function, table, columns, _ = KINDS[number % len(KINDS)]
    return Call(function, table, columns(stream, number))


def _columns_in_use() -> dict[str, list[str]]:
    columns: dict[str, dict[str, None]] = {}
    for kind in KINDS:
        columns.setdefault(kind.table.name, {}).update(dict.fromkeys(kind.columns(1, 1)))
    return {name: list(arguments) for name, arguments in columns.items()}


# By table, the arguments that its rows are made of.
COLUMNS = _columns_in_use()

# By table, the arguments that say which row it is: the first holds the stream, the last the number.
_IDENTITY = {
    tables.STEPS.name: ("recording_id", "step_id"),
    tables.FUNCTIONS.name: ("recording_id", "frame_no"),
    tables.FUNCTION_ERROR.name: ("recording_id", "audio_frame_no"),
    tables.AUDIO_FRAME.name: ("recording_id", "audio_frame_no"),
    tables.PRE_SPLIT_AUDIO_FRAME.name: ("recording_id", "audio_frame_no"),
    tables.RECORDING_CONFIG.name: ("recording_id",),
    tables.WEBSOCKET_CONNECTION.name: ("websocket_connection_id",),
    tables.WEBSOCKET_MESSAGE.name: ("message_id",),
    tables.PROCESS_REGISTRY.name: ("process_id",),
    tables.RESOURCE_MONITOR.name: ("disk_io_total_bytes",),
}


def numbers_in(
    table: str, found: Mapping[str, Any], as_found: Callable[[datetime], Any]
) -> Iterator[tuple[int, int]]:
    """
    Yield stream and number of each row that something that was found is made of, whole and unaltered.

    Args:
        table: The table that it is in, or goes to.
        found: What was found, by argument.
        as_found: How times look there.

    """
    identity = [part for part in map(found.get, _IDENTITY[table]) if isinstance(part, int)]
    if len(identity) < len(_IDENTITY[table]):
        return
    stream, number = divmod(identity[0], THINGS)
    if len(identity) == 2:
        number = identity[1]
    for candidate in (number, number + 1):
        kind = KINDS[candidate % len(KINDS)]
        if kind.table.name != table or kind.second != (candidate > number):
            continue
        wanted = kind.columns(stream, candidate)
        if all(
            found.get(argument) == (as_found(value) if type(value) is datetime else value)
            for argument, value in wanted.items()
        ):
            yield stream, candidate
