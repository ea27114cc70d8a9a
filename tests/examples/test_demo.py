"""`enginelog demo`, as a process."""

from __future__ import annotations

import io
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from async_enginelog.cli.showing import LiveView, PlainView, describe, view_for
from async_enginelog.reading import LogRow
from async_enginelog.tables import AUDIO_FRAME, FUNCTION_ERROR, TABLES, Table

from .running import PATIENCE, wait_until

# A row of each table as it may be at first, with hardly a column filled.
FIRST_ROWS = [LogRow(number, table, {}) for number, table in enumerate(TABLES.values(), 1)]

DEMO = [sys.executable, "-c", "import typer; from async_enginelog.cli.demo import demo; typer.run(demo)"]


def start(db: Path) -> subprocess.Popen[str]:
    command = [*DEMO, "--db", str(db)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_demo_shows_and_counts(tmp_path: Path) -> None:
    """It ends well, says what it logged and what to type next, in less than 100 lines."""
    db = tmp_path / "engine_log.db"
    with start(db) as process:
        output, errors = process.communicate(timeout=2 * PATIENCE)

    assert (process.returncode, errors) == (0, "")
    counts = {name: int(count) for name, count in re.findall(r"(ENGINE_DB_LOG_\w+) +(\d+)\n", output)}
    with closing(sqlite3.connect(db)) as connection:
        for name, count in counts.items():
            assert connection.execute(f"SELECT count(*) FROM {name}").fetchone() == (count,)
    assert counts.keys() == TABLES.keys()
    assert counts["ENGINE_DB_LOG_RECORDING_CONFIG"] == 4
    sent = 28 + 3 * 36
    assert f"SHA-256 is the one the client sent: {sent} of {sent}" in output
    assert re.search(r"Longest delay of the log, from the call to the commit: \d+\.\d ms", output)
    assert f"enginelog tail {db}" in output
    assert len(output.splitlines()) < 100


@pytest.fixture
def heed_ctrl_c() -> Iterator[None]:
    """Have processes that are started heed Ctrl+C, also when a shell runs the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heed_ctrl_c")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows can't send these signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_leaves_no_process(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl+C in the middle ends the server and the clients, too."""
    with start(tmp_path / "engine_log.db") as process:
        children: list[psutil.Process] = []

        def all_started() -> bool:
            children[:] = psutil.Process(process.pid).children()
            return len(children) == 3

        wait_until(all_started)
        assert process.stdout is not None
        while "started" not in process.stdout.readline():
            pass
        process.send_signal(number)
        process.communicate(timeout=PATIENCE)

    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert not any(child.is_running() for child in children)


def test_demo_fails_with_its_server(tmp_path: Path) -> None:
    """When the server can't start, the demo says why."""
    with start(tmp_path) as process:
        _, errors = process.communicate(timeout=PATIENCE)

    assert process.returncode == 1
    assert f"{tmp_path} is a folder" in errors
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("row", FIRST_ROWS, ids=lambda row: row.table.name)
def test_any_row_can_be_described(row: LogRow) -> None:
    """A row of which little is known yet is no trouble."""
    assert describe(row)


def test_a_table_without_words() -> None:
    """A row of a table for which there are no words yet is told by its columns, a line each."""
    weather = Table("ENGINE_DB_LOG_WEATHER", {})
    row = LogRow(1, weather, {"place": "hall", "degrees": 20.5})
    output = io.StringIO()
    with PlainView(Console(file=output)) as view:
        view.show([row], {})

    assert output.getvalue().endswith("ENGINE_DB_LOG_WEATHER: place hall, degrees 20.5\n")


def test_description_is_harmless() -> None:
    """What a client sent can't move the cursor of the terminal."""
    row = LogRow(1, FUNCTION_ERROR, {"error_message_text": "\x1b[2J"})

    assert describe(row).endswith(": \\x1b[2J")


def test_elsewhere_rows_are_plain_lines() -> None:
    """Without a terminal, what is rare has a line, and the rest is summed up."""
    output = io.StringIO()
    view = view_for(Console(file=output))
    assert isinstance(view, PlainView)
    with view:
        view.show([LogRow(number, AUDIO_FRAME, {}) for number in range(500)], {})
        view.show([LogRow(501, FUNCTION_ERROR, {"error_message_text": "ValueError: no"})], {})

    error, frames = output.getvalue().splitlines()
    assert error.endswith("error in None: ValueError: no")
    assert frames.endswith("written: 100 ms frames 500")


def test_on_a_terminal_rows_are_a_table() -> None:
    """On a terminal, each table has a line with its count and what came last."""
    output = io.StringIO()
    view = view_for(Console(file=output, force_terminal=True, width=120))
    assert isinstance(view, LiveView)
    with view:
        view.show([LogRow(1, FUNCTION_ERROR, {"error_message_text": "no"})], {FUNCTION_ERROR.name: 1234})

    assert re.search(r"ENGINE_DB_LOG_FUNCTION_ERROR .* 1,234 .* error in None: no", output.getvalue())
