"""Show rows as they come: a live table on a terminal, some plain lines elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from .. import tables
from ..reading import LogRow
from .common import harmless

__all__ = ["View", "describe", "view_for"]

# Between two lines that sum up what came, in seconds.
SUMMARY_PERIOD = 1.0

# What isn't NULL, by argument.
Columns = Mapping[str, Any]


class View(Protocol):
    """Where changes are shown; a context manager."""

    def show(self, rows: Sequence[LogRow], counts: Mapping[str, int]) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def view_for(console: Console) -> View:
    """Return the view that suits ``console``."""
    return LiveView(console) if console.is_terminal else PlainView(console)


class PlainView:
    """A line for what is rare, and one a second that sums up what is frequent."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = self._summed_up = monotonic()
        self._came: Counter[str] = Counter()

    def show(self, rows: Sequence[LogRow], counts: Mapping[str, int]) -> None:
        """Show rows; ``counts`` are of no interest here."""
        for row in rows:
            if row.table in _LABELS:
                self._came[_LABELS[row.table]] += 1
            else:
                self._line(describe(row))
        if monotonic() - self._summed_up > SUMMARY_PERIOD:
            self._sum_up()

    def _sum_up(self) -> None:
        self._summed_up = monotonic()
        if self._came:
            self._line(
                "written: " + ", ".join(f"{label} {count}" for label, count in sorted(self._came.items()))
            )
            self._came.clear()

    def _line(self, text: str) -> None:
        elapsed = monotonic() - self._began
        self._console.print(f"{elapsed:5.1f} s  {text}", markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._sum_up()


class LiveView:
    """A table that is drawn again in place."""

    def __init__(self, console: Console) -> None:
        self._latest: dict[str, str] = {}
        self._live = Live(console=console, auto_refresh=False)

    def show(self, rows: Sequence[LogRow], counts: Mapping[str, int]) -> None:
        """Draw the table with what each table holds, and what came last."""
        for row in rows:
            self._latest[row.table.name] = describe(row)
        drawn = RichTable("table", "rows", "latest", expand=True)
        drawn.columns[1].justify = "right"
        for column in drawn.columns:
            column.no_wrap = True
        for name, count in counts.items():
            drawn.add_row(name, f"{count:,}", Text(self._latest.get(name, "")))
        self._live.update(drawn, refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()


def describe(row: LogRow) -> str:
    """Say in a line what a row says."""
    said = _DESCRIPTIONS.get(row.table)
    return harmless(said(row.columns) if said else _columns(row))


def _columns(row: LogRow) -> str:
    """Say what a row of a table says for which there are no words yet."""
    values = ", ".join(f"{argument} {value}" for argument, value in row.columns.items())
    return f"{row.table.name}: {values}"


def _connection(row: Columns) -> str:
    state = "closed" if row.get("dt_connection_closed") else "accepted"
    peer = f"{row.get('client_host_ip_address')}:{row.get('client_port')}"
    return f"connection {row.get('websocket_connection_id')} of {peer} {state}"


def _recording(row: Columns) -> str:
    mode = f" ({row['compose_play_or_practice']})" if "compose_play_or_practice" in row else ""
    said = f"recording {row.get('recording_id')}{mode}"
    if not row.get("dt_recording_end"):
        return f"{said} started"
    size_bytes, frames = row.get("total_bytes_received", 0), row.get("total_split_100_ms_frames_produced")
    purged = ", purged" if row.get("dt_recording_data_purged") else ""
    return f"{said} ended: {size_bytes:,} bytes, {frames} frames of 100 ms{purged}"


def _message(row: Columns) -> str:
    number = f" {row['audio_frame_no']}" if "audio_frame_no" in row else ""
    return f"{row.get('message_type')}{number} of recording {row.get('recording_id')}"


def _frame(row: Columns) -> str:
    return (
        f"frame {row.get('audio_frame_no')} of recording {row.get('recording_id')}, {row.get('start_ms')} to "
        f"{row.get('end_ms')} ms, sha256 {str(row.get('audio_frame_sha256_hex'))[:8]}..."
    )


def _function(row: Columns) -> str:
    return f"{row.get('python_function_name')}: {row.get('start_stop_or_error_msg')}"


def _error(row: Columns) -> str:
    return f"error in {row.get('python_function_name')}: {row.get('error_message_text')}"


def _process(row: Columns) -> str:
    memory, cpu = row.get("memory_usage_mb", 0), row.get("cpu_percent", 0)
    return f"process {row.get('process_id')}: {memory:.1f} MB, {cpu:.0f} % CPU"


def _step(row: Columns) -> str:
    return f"step of recording {row.get('recording_id')}: {row.get('step_name')}"


def _resources(row: Columns) -> str:
    cpu, memory = row.get("cpu_percent", 0), row.get("memory_percent", 0)
    return f"machine: {cpu:.0f} % CPU, {memory:.0f} % memory"


_DESCRIPTIONS: dict[tables.Table, Callable[[Columns], str]] = {
    tables.FUNCTIONS: _function,
    tables.FUNCTION_ERROR: _error,
    tables.AUDIO_FRAME: _frame,
    tables.PRE_SPLIT_AUDIO_FRAME: _frame,
    tables.RECORDING_CONFIG: _recording,
    tables.WEBSOCKET_CONNECTION: _connection,
    tables.WEBSOCKET_MESSAGE: _message,
    tables.PROCESS_REGISTRY: _process,
    tables.STEPS: _step,
    tables.RESOURCE_MONITOR: _resources,
}

# There are many of these; the others get a line each.
_LABELS = {
    tables.FUNCTIONS: "function rows",
    tables.AUDIO_FRAME: "100 ms frames",
    tables.PRE_SPLIT_AUDIO_FRAME: "client frames",
    tables.WEBSOCKET_MESSAGE: "messages",
    tables.RESOURCE_MONITOR: "resource rows",
}
