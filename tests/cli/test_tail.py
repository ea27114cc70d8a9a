"""enginelog tail: the newest rows, and those that come."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from async_enginelog import EngineLog, reading, tables
from async_enginelog.cli import common
from async_enginelog.cli.tail import _line
from async_enginelog.database import Database
from async_enginelog.errors import StorageError
from async_enginelog.reading import LogRow

from .conftest import RECORDING, Outcome

Enginelog = Callable[..., Outcome]
tail_module = sys.modules["async_enginelog.cli.tail"]


def test_newest_rows_of_all_tables(enginelog: Enginelog, log_path: Path) -> None:
    """The last rows in the order of their commits: time, table, columns."""
    code, out, _ = enginelog("tail", "-n", 4, log_path)
    lines = out.splitlines()

    assert code == 0
    assert [line[28:].split()[0] for line in lines] == [
        "STEPS",
        "SPLIT_100_MS_AUDIO_FRAME",
        "WEBSOCKET_CONNECTION",
        "RECORDING_CONFIG",
    ]
    assert f"step_name=resample recording_id={RECORDING} frame_no=4" in lines[0]
    assert out.isascii()


@pytest.mark.parametrize(("lines", "expected"), [(0, 0), (3, 3), (99, 12)])
def test_lines(enginelog: Enginelog, log_path: Path, lines: int, expected: int) -> None:
    """--lines says how many."""
    assert enginelog("tail", "--lines", lines, log_path).out.count("\n") == expected


@pytest.mark.parametrize("name", ["steps", "STEPS", "engine_db_log_steps", "Engine_Db_Log_Steps"])
def test_table(enginelog: Enginelog, log_path: Path, name: str) -> None:
    """--table takes the name in any case, with and without its prefix."""
    out = enginelog("tail", "--table", name, log_path).out

    assert out.count("STEPS") == out.count("\n") == 5


def test_several_tables(enginelog: Enginelog, log_path: Path) -> None:
    """--table may be given again."""
    out = enginelog("tail", "-t", "steps", "-t", "recording_config", log_path).out

    assert out.count("\n") == 6


def test_recording(enginelog: Enginelog, log_path: Path) -> None:
    """--recording leaves out other recordings, and tables that know of none."""
    assert enginelog("tail", "-n", 99, "--recording", RECORDING, log_path).out.count("\n") == 11
    assert enginelog("tail", "-n", 99, "--recording", 1, log_path).out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "stepz"], "the tables are functions, function_error"),
        (["--table", "websocket_connection", "--recording", "1"], "has no RECORDING_ID"),
        (["--lines", "-1"], "--lines"),
    ],
)
def test_wrong_use(enginelog: Enginelog, log_path: Path, arguments: list[str], message: str) -> None:
    """Wrong options are told with the right ones, and exit code 2."""
    code, out, err = enginelog("tail", *arguments, log_path)

    assert (code, out) == (2, "")
    assert message in " ".join(err.split())


class TestLine:
    def test_time_of_the_call(self) -> None:
        """Where the call has a time, that is the time of the line."""
        row = LogRow(1, tables.STEPS, {"dt_added": "b", "step_name": "one step", "dt_step_called": "a"})
        assert _line(row).split("  ", 1)[0] == "a"
        assert 'step_name="one step"' in _line(row)
        assert "dt_" not in _line(row)

    def test_last_time_of_a_thing(self) -> None:
        """Else the last time is, and its column tells how far the thing has got."""
        day = "2026-01-31 12:00:0"
        columns = {
            "recording_id": 7,
            "dt_start_fft": f"{day}1.000000",
            "dt_end_fft": f"{day}2.000000",
            "dt_added": f"{day}9.000000",
        }
        line = _line(LogRow(1, tables.AUDIO_FRAME, columns))
        assert line.startswith(f"{day}2.000000  ")
        assert line.endswith("dt_end_fft=12:00:02.000000 recording_id=7")

    def test_odd_times(self) -> None:
        """A time that isn't one, or none at all, is no trouble."""
        assert "dt_end_fft=soon" in _line(LogRow(1, tables.AUDIO_FRAME, {"dt_end_fft": "soon"}))
        assert _line(LogRow(1, tables.AUDIO_FRAME, {"recording_id": 7})).startswith(" " * 26)

    def test_control_characters(self) -> None:
        """A value can't move the cursor, nor begin another line."""
        line = _line(LogRow(1, tables.FUNCTION_ERROR, {"error_message_text": "\x1b[2J\n\u202e"}))
        assert "error_message_text=\\x1b[2J\\n\\u202e" in line

    def test_long_values(self) -> None:
        """Long texts are cut; a traceback keeps its end."""
        columns = {"error_message_text": "a" * 500 + "z", "traceback_text": "a" * 500 + "z"}
        _, message, traceback = _line(LogRow(1, tables.FUNCTION_ERROR, columns)).rsplit(" ", 2)
        assert message.endswith("aa...")
        assert traceback.startswith("traceback_text=...aa")
        assert traceback.endswith("z")


async def test_follow_sees_new_and_changed_rows(log_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a running engine come as they are committed, in order; a row filled in comes again."""
    said: list[str] = []
    monkeypatch.setattr(tail_module, "say", said.append)
    monkeypatch.setattr(tail_module, "POLL", 0.001)
    monkeypatch.setattr(tail_module, "WINDOW", 2)
    async with EngineLog(log_path) as log, reading.open_database(log_path) as database:
        wanted = tail_module._Wanted(list(tables.TABLES.values()), None)
        following = asyncio.create_task(
            tail_module._follow(database, wanted, await reading.newest_log_seq(database))
        )
        for number in range(5):
            await log.log_steps(step_name=f"new{number}")
        await log.log_recording_config(recording_id=RECORDING, total_bytes_received=4711)
        await log.flush()
        async with asyncio.timeout(10):
            while "4711" not in "".join(said):
                await asyncio.sleep(0.001)
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    lines = "\n".join(said).splitlines()
    assert [f"step_name=new{n}" in line for n, line in enumerate(lines)] == [True] * 5 + [False]
    assert "compose_play_or_practice=play" in lines[-1]


async def test_follow_tells_of_a_replaced_file(log_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is deleted or replaced under tail -f is told, not followed for ever."""
    monkeypatch.setattr(tail_module, "POLL", 0.001)
    database = await Database.open_reader(log_path)
    log_path.rename(log_path.with_name("rotated.db"))
    with pytest.raises(StorageError, match="deleted or replaced"):
        await tail_module._follow(database, tail_module._Wanted([], None), 0)
    await database.close()


def test_follow_until_interrupted(
    start: Callable[..., subprocess.Popen[bytes]],
    interrupt: Callable[[subprocess.Popen[bytes]], None],
    live: Path,
) -> None:
    """tail -f of an engine in another process goes on until Ctrl+C, and then ends quietly."""
    process = start("tail", "-f", "-n", "0", "--table", "steps", live)
    assert process.stdout is not None
    seen = [process.stdout.readline() for _ in range(200)]
    interrupt(process)
    _, err = process.communicate(timeout=30)

    numbers = [int(line.rpartition(b"step_id=")[2]) for line in seen]
    assert numbers == list(range(numbers[0], numbers[0] + 200))
    assert (process.returncode, err) == (common.INTERRUPTED, b"")


def test_follow_ends_with_its_error(
    enginelog: Enginelog, log_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trouble while following is one sentence and exit code 2."""

    async def fail(*_: Any) -> None:
        raise StorageError("gone")

    monkeypatch.setattr(tail_module, "_follow", fail)

    code, out, err = enginelog("tail", "-f", "-n", 1, log_path)
    assert (code, err) == (2, "enginelog: gone\n")
    assert out.count("\n") == 1
