"""OpenTelemetry's logs with the batch processor (https://opentelemetry.io/docs/languages/python/instrumentation/#logs)."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult

from ..rows import FILE, FUNCTION, NARROW, RECORDING, stored_values, text_of
from .base import COLLECT, Log, Rival
from .names import TELEMETRY
from .sink import Sink

__all__ = ["RIVALS"]


class SQLiteExporter(LogRecordExporter):
    """Writes what records bring with them; runs in the thread of the processor."""

    def __init__(self, path: Path) -> None:
        self._sink = Sink(path)

    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
        """Write and commit a batch."""
        for item in batch:
            record = item.log_record
            columns = dict(record.attributes)
            if record.body == NARROW:
                columns["dt_added"] = columns["dt_function_message_queued"] = text_of(record.timestamp / 1e9)
            self._sink.add(record.body, columns)
        self._sink.write()
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the database."""
        self._sink.close()

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Do nothing: all is written."""
        return True


@asynccontextmanager
async def _open(path: Path) -> AsyncIterator[Log]:
    # It says of each record that it drops that it drops it.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    provider = LoggerProvider()
    processor = BatchLogRecordProcessor(SQLiteExporter(path), schedule_delay_millis=COLLECT * 1000)
    provider.add_log_record_processor(processor)
    logger = provider.get_logger("engine")

    def function(number: int) -> None:
        logger.emit(
            LogRecord(
                timestamp=time.time_ns(),
                severity_number=SeverityNumber.INFO,
                body=NARROW,
                attributes={
                    "python_function_name": FUNCTION,
                    "python_file_name": FILE,
                    "recording_id": RECORDING,
                    "audio_chunk_no": number,
                    "frame_no": number // 10,
                    "start_stop_or_error_msg": "Start",
                    "websocket_connection_id": 17,
                },
            )
        )

    def row(table: str, columns: dict[str, Any]) -> None:
        pairs = zip(columns, stored_values(columns), strict=True)
        given = {name: value for name, value in pairs if value is not None}
        logger.emit(
            LogRecord(
                timestamp=time.time_ns(), severity_number=SeverityNumber.INFO, body=table, attributes=given
            )
        )

    yield Log(function, row, awaits=False)
    provider.shutdown()


RIVALS = [
    Rival(
        TELEMETRY,
        _open,
        "BatchLogRecordProcessor every 200 ms, and a SQLite exporter; drops what its queue of 2,048, the "
        "default, has no room for",
        "opentelemetry-sdk",
    )
]
