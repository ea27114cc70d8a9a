"""
The arguments of the log functions: one :class:`~typing.TypedDict` for each table.

This is the one description of the tables in Python: names, types and widths;
:mod:`~async_enginelog.tables` reads it, and ``migrations/`` creates what it says.
Arguments are the column names in lower case, in the order of the table.
A text column's width is counted in UTF-16 units, as SQL Server counts ``nvarchar``.

"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, NamedTuple, TypedDict

__all__ = [
    "AudioFrame",
    "FunctionError",
    "FunctionExecution",
    "PreSplitAudioFrame",
    "ProcessRegistry",
    "RecordingConfig",
    "ResourceUsage",
    "Step",
    "WebsocketConnection",
    "WebsocketMessage",
]


class Width(NamedTuple):
    """How much of a text a column holds, in UTF-16 units, and which end of it."""

    units: int
    keep_end: bool = False
    # Whether a mapping is one of request headers, whose credentials are masked.
    headers: bool = False


Id = int | None
Number = int | None
Real = float | None
Time = datetime | None
Text20 = Annotated[str | None, Width(20)]
Text50 = Annotated[str | None, Width(50)]
Text100 = Annotated[str | None, Width(100)]
Text500 = Annotated[str | None, Width(500)]
Text1000 = Annotated[str | None, Width(1000)]
# The last call and the exception itself stand at the end of a traceback.
Traceback = Annotated[str | None, Width(4000, keep_end=True)]
# "Y" or "N"; a bool is taken too.
YesNo = Annotated[str | bool | None, Width(1)]


class FunctionExecution(TypedDict, total=False):
    """A function started, ended (``"End (0.071s)"``) or failed (``"Error: …"``)."""

    dt_added: Time
    python_function_name: Text100
    python_file_name: Text100
    recording_id: Id
    audio_chunk_no: Number
    frame_no: Number
    start_stop_or_error_msg: Text500
    websocket_connection_id: Id
    dt_function_message_queued: Time


class FunctionError(TypedDict, total=False):
    """An exception: type and message, traceback."""

    dt_added: Time
    python_function_name: Text100
    python_file_name: Text100
    error_message_text: Text1000
    traceback_text: Traceback
    recording_id: Id
    audio_frame_no: Number
    audio_chunk_no: Number
    start_ms: Number
    end_ms: Number


class PreSplitAudioFrame(TypedDict, total=False):
    """A client's frame, as it came, before it is cut into frames of 100 ms."""

    recording_id: Id
    audio_frame_no: Number
    start_ms: Number
    end_ms: Number
    dt_frame_received: Time
    dt_frame_paired_with_websockets_metadata: Time
    audio_frame_size_bytes: Number
    audio_frame_encoding: Text20
    audio_frame_sha256_hex: Text100
    websocket_connection_id: Id
    pre_split_audio_frame_duration_in_ms: Number
    dt_frame_split_into_100_ms_frames: Time


class AudioFrame(TypedDict, total=False):
    """A frame of 100 ms, a time for each step it went through, and each analyser's counts."""

    recording_id: Id
    audio_frame_no: Number
    start_ms: Number
    end_ms: Number
    yn_run_fft: YesNo
    yn_run_ons: YesNo
    yn_run_pyin: YesNo
    yn_run_crepe: YesNo
    dt_frame_received: Time
    dt_frame_paired_with_websockets_metadata: Time
    dt_frame_decoded_from_base64_to_bytes: Time
    dt_frame_converted_to_pcm16_with_sample_rate_44100: Time
    dt_frame_appended_to_raw_file: Time
    dt_frame_resampled_to_16000: Time
    dt_frame_resampled_22050: Time
    dt_processing_start: Time
    dt_processing_end: Time
    dt_start_fft: Time
    dt_end_fft: Time
    dt_start_ons: Time
    dt_end_ons: Time
    dt_start_pyin: Time
    dt_end_pyin: Time
    dt_start_crepe: Time
    dt_end_crepe: Time
    dt_start_volume_1_ms: Time
    dt_end_volume_1_ms: Time
    dt_start_volume_10_ms: Time
    dt_end_volume_10_ms: Time
    fft_record_cnt: Number
    ons_record_cnt: Number
    pyin_record_cnt: Number
    crepe_record_cnt: Number
    volume_1_ms_record_cnt: Number
    volume_10_ms_record_cnt: Number
    dt_added: Time
    audio_frame_size_bytes: Number
    audio_frame_encoding: Text20
    audio_frame_sha256_hex: Text100
    dt_frame_decoded_from_bytes_into_audio_samples: Time
    dt_frame_resampled_to_44100: Time
    dt_processing_queued_to_start: Time
    dt_start_pyin_engine_load_hz_ins: Time
    dt_end_pyin_engine_load_hz_ins: Time
    dt_start_pyin_relative_rows: Time
    dt_end_pyin_relative_rows: Time
    dt_start_fft_engine_load_fft_ins: Time
    dt_end_fft_engine_load_fft_ins: Time


class RecordingConfig(TypedDict, total=False):
    """A recording: mode, file, connection, start, end, purge, and what came of its bytes."""

    recording_id: Id
    dt_recording_start: Time
    compose_play_or_practice: Text50
    audio_stream_file_name: Text100
    compose_yn_run_fft: YesNo
    dt_added: Time
    websocket_connection_id: Id
    dt_recording_end: Time
    dt_recording_data_purged: Time
    dt_recording_data_queued_for_purging: Time
    dt_process_websocket_start_message_done: Time
    max_pre_split_audio_frame_no_split: Number
    total_bytes_received: Number
    total_split_100_ms_frames_produced: Number
    split_100_ms_frame_counter: Number
    last_split_100_ms_frame_time: Time


class WebsocketConnection(TypedDict, total=False):
    """A websocket connection: peer, request headers, and when it was what."""

    websocket_connection_id: Id
    client_host_ip_address: Text50
    client_port: Annotated[str | int | None, Width(10)]
    client_headers: Annotated[str | Mapping[str, str] | None, Width(2000, headers=True)]
    dt_connection_request: Time
    dt_connection_accepted: Time
    dt_connection_closed: Time
    dt_websocket_disconnect_event: Time


class WebsocketMessage(TypedDict, total=False):
    """A received message: type, recording, frame number, and when it was what."""

    recording_id: Id
    message_type: Text50
    audio_frame_no: Number
    dt_message_received: Time
    dt_message_process_started: Time
    websocket_connection_id: Id
    message_id: Id
    dt_message_process_queued_to_start: Time


class ProcessRegistry(TypedDict, total=False):
    """A process of the engine: start, last heartbeat, running tasks, memory (MB), CPU (%)."""

    process_id: Id
    start_time: Time
    last_heartbeat: Time
    active_tasks: Annotated[str | Sequence[str] | None, Width(1000)]
    database_connections: Number
    memory_usage_mb: Real
    cpu_percent: Real
    dt_added: Time


class Step(TypedDict, total=False):
    """A named step inside a function."""

    dt_added: Time
    step_name: Text100
    python_function_name: Text100
    python_file_name: Text100
    recording_id: Id
    audio_chunk_no: Number
    frame_no: Number
    dt_step_called: Time
    step_id: Number


class ResourceUsage(TypedDict, total=False):
    """How busy the machine is: CPU, memory (%), bytes its disks moved, threads of the process, free GiB."""

    id: Id
    dt_measurement: Time
    cpu_percent: Real
    memory_percent: Real
    disk_io_total_bytes: Number
    thread_count: Number
    memory_available_gb: Real
    dt_added: Time
