"""enginelog replay: rows of a console capture, each once."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from async_enginelog import EngineLog
from async_enginelog.segments import spool_folder

from .conftest import RECORDING, Outcome

Enginelog = Callable[..., Outcome]
Sql = Callable[..., list[Any]]

RUN = 1763872243


def line(number: int, run: int = RUN, table: str = "STEPS", **columns: object) -> str:
    """A row as the console has it."""
    row = orjson.dumps([f"ENGINE_DB_LOG_{table}", columns or {"step_name": f"step {number}"}]).decode()
    return f"enginelog-row {run} {number} {row}\n"


@pytest.fixture
def capture(tmp_path: Path) -> Callable[..., Path]:
    """Writes a capture."""

    def write(*lines: str, encoding: str = "utf-8", name: str = "capture.txt") -> Path:
        (tmp_path / name).write_bytes("".join(lines).encode(encoding))
        return tmp_path / name

    return write


def test_rows_of_an_unknown_run(
    enginelog: Enginelog, log_path: Path, capture: Callable[..., Path], sql: Sql
) -> None:
    """Rows go under their own run, made if need be; LOG_SEQ goes on; verify is content."""
    file = capture(
        line(1), line(2, table="AUDIO_FRAME".join(["SPLIT_100_MS_", ""]), audio_frame_no=1, recording_id=7)
    )

    assert enginelog("replay", file, log_path) == (
        0,
        "found 2 rows: 2 replayed, 0 already there, 0 unreadable\n",
        "",
    )
    assert sql(log_path, "SELECT ENGINE_RUN_ID, LOG_SEQ FROM ENGINE_DB_LOG_STEPS WHERE LOG_SEQ > 12") == [
        (RUN, 13)
    ]
    assert sql(
        log_path,
        "SELECT HOW_ENDED, HOST_NAME, ROWS_ACCEPTED, ROWS_ON_CONSOLE, ROWS_REPLAYED, ROWS_STORED, "
        "LAST_LOG_SEQ "
        f"FROM ENGINE_LOG_RUN WHERE ENGINE_RUN_ID = {RUN}",
    ) == [("crashed", None, 2, 2, 2, 2, 14)]
    assert enginelog("verify", log_path).code == 0


def test_twice(enginelog: Enginelog, log_path: Path, capture: Callable[..., Path], sql: Sql) -> None:
    """No row is doubled: not in a second replay, nor if it is in a capture twice."""
    file = capture(line(1), line(2), line(2))
    assert "2 replayed, 1 already there" in enginelog("replay", file, log_path).out
    assert "0 replayed, 3 already there" in enginelog("replay", file, log_path).out

    assert sql(log_path, "SELECT count(*) FROM ENGINE_DB_LOG_STEPS") == [(7,)]
    assert enginelog("verify", log_path).code == 0


def test_rows_of_a_known_run(
    enginelog: Enginelog, log_path: Path, capture: Callable[..., Path], sql: Sql
) -> None:
    """A stored value wins over a replayed one, which may be older; gaps are filled; verify is content."""
    [(run,)] = sql(log_path, "SELECT ENGINE_RUN_ID FROM ENGINE_LOG_RUN")
    file = capture(
        line(
            3,
            run,
            "RECORDING_CONFIG",
            recording_id=RECORDING,
            compose_play_or_practice="practice",
            total_bytes_received=5,
        )
    )
    code, out, _ = enginelog("replay", file, log_path)

    assert code == 0
    assert f"run {run}: 2 rows missing from this capture: 1 to 2" in out
    assert sql(
        log_path,
        "SELECT COMPOSE_PLAY_OR_PRACTICE, TOTAL_BYTES_RECEIVED, LOG_SEQ FROM ENGINE_DB_LOG_RECORDING_CONFIG",
    ) == [("play", 5, 13)]
    assert enginelog("verify", log_path).code == 0


def test_prefixes_and_rubbish(enginelog: Enginelog, log_path: Path, capture: Callable[..., Path]) -> None:
    """Rows are found whatever stands before and behind them; all else is passed over."""
    file = capture(
        "\ufeffTraceback (most recent call last):\n",
        "Nov 23 05:09:11 host engine[17]: " + line(1),
        line(2).replace("\n", "\r\n"),
        "\x1b[31m" + line(3).rstrip() + "\x1b[0m trailing\n",
        line(4)[:40] + "\n",
        "enginelog-row nonsense\n\0\0\n",
        "x" * 3_000_000,
        "\n" + line(6),
    )
    code, out, err = enginelog("replay", file, log_path)

    assert (code, err) == (0, "")
    assert out.startswith("found 4 rows: 4 replayed")
    assert f"run {RUN}: 2 rows missing from this capture: 4 to 5" in out


def test_unreadable_rows(enginelog: Enginelog, log_path: Path, capture: Callable[..., Path]) -> None:
    """A row that can't be decoded is told and counted, the others are replayed, and 1 is returned."""
    file = capture(
        line(1),
        f'enginelog-row {RUN} 2 ["ENGINE_DB_LOG_NOTHING",{{"a":1}}]\n',
        f'enginelog-row {RUN} 3 ["ENGINE_DB_LOG_\x9b",{{"step_id":1}}]\n',
        line(4, step_id="not a number"),
        line(5, nothing=1),
        f'enginelog-row {RUN} 6 ["ENGINE_DB_LOG_STEPS",{{"step_name":"a"}}] cut\n',
    )
    code, out, err = enginelog("replay", file, log_path)

    assert code == 1
    assert out == "found 6 rows: 2 replayed, 0 already there, 4 unreadable\n"
    assert err.count("can't be read") == 4
    assert "\x9b" not in err
    assert enginelog("verify", log_path).code == 0


def test_gaps(enginelog: Enginelog, log_path: Path, capture: Callable[..., Path]) -> None:
    """Gaps are told by run; what another capture brought is none; a long list is cut."""
    enginelog("replay", capture(line(1), line(2)), log_path)
    out = enginelog("replay", capture(line(4), line(9, run=5)), log_path).out
    assert f"run {RUN}: 1 row missing from this capture: 3\n" in out
    assert "run 5: 8 rows missing from this capture: 1 to 8\n" in out

    many = capture(*(line(number, run=6) for number in range(2, 60, 2)))
    assert out.count("\n") == 3
    assert enginelog("replay", many, log_path).out.endswith("17, 19, ...\n")


def test_standard_input(enginelog: Enginelog, log_path: Path) -> None:
    """- reads standard input."""
    assert "1 replayed" in enginelog("replay", "-", log_path, input=line(1)).out


@pytest.mark.parametrize(
    ("bom", "encoding"), [(codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")]
)
def test_capture_of_powershell(
    enginelog: Enginelog, log_path: Path, tmp_path: Path, bom: bytes, encoding: str, sql: Sql
) -> None:
    """A capture in UTF-16, as PowerShell writes it, is read, too."""
    file = tmp_path / "capture.txt"
    file.write_bytes(bom + ("noise\r\n" + line(1, step_name="größer")).encode(encoding))

    assert "1 replayed" in enginelog("replay", file, log_path).out
    assert sql(log_path, "SELECT STEP_NAME FROM ENGINE_DB_LOG_STEPS WHERE LOG_SEQ = 13") == [("größer",)]


@pytest.mark.parametrize("text", ["", "x", "nothing at all\n"])
def test_capture_without_rows(
    enginelog: Enginelog, log_path: Path, capture: Callable[..., Path], text: str
) -> None:
    """A capture without rows is no error."""
    code, out, _ = enginelog("replay", capture(text), log_path)
    assert (code, out) == (0, "found 0 rows: 0 replayed, 0 already there, 0 unreadable\n")


def test_local_times(
    enginelog: Enginelog,
    log_path: Path,
    capture: Callable[..., Path],
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """--local stores local times, else they are UTC."""
    row: dict[str, Any] = {"step_name": "a", "dt_step_called": "2026-01-31T12:34:56.123456+00:00"}
    enginelog("replay", capture(line(1, **row)), log_path)
    enginelog("replay", "--local", capture(line(2, **row)), log_path)
    utc, local = sql(
        log_path, "SELECT DT_STEP_CALLED FROM ENGINE_DB_LOG_STEPS WHERE LOG_SEQ > 12 ORDER BY LOG_SEQ"
    )

    assert utc == ("2026-01-31 12:34:56.123456",)
    assert len(local[0]) == 26


def test_before_recovery(
    enginelog: Enginelog, dead: Path, fill: Callable[..., None], capture: Callable[..., Path], sql: Sql
) -> None:
    """A replay may come before the spool of its run is committed, also if the database was lost."""
    [(run,)] = sql(dead, "SELECT ENGINE_RUN_ID FROM ENGINE_LOG_RUN")
    for path in dead.parent.glob("dead.db*"):
        if path.is_file():
            path.unlink()
    enginelog("init", dead)
    enginelog("replay", capture(line(1, run), line(2, run)), dead)
    assert enginelog("runs", dead).out.count("dead, not recovered") == 1

    fill(dead, 1)
    assert sql(
        dead,
        f"SELECT HOW_ENDED, ROWS_ACCEPTED, HOST_NAME IS NULL FROM ENGINE_LOG_RUN WHERE ENGINE_RUN_ID = {run}",
    ) == [("crashed", 53, 0)]
    assert enginelog("verify", dead).code == 0


def test_while_an_engine_writes(enginelog: Enginelog, live: Path, capture: Callable[..., Path]) -> None:
    """An engine that writes meanwhile is no trouble."""
    file = capture(*(line(number) for number in range(1, 1201)))
    assert "1,200 replayed" in enginelog("replay", file, live).out
    code, out, _ = enginelog("verify", live)
    assert code == 0, out


def test_real_console(
    enginelog: Enginelog,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    sql: Sql,
) -> None:
    """What a real engine put on the console, as its spool was full, comes back."""
    path = tmp_path / "full.db"

    async def overflow() -> int:
        async with EngineLog(path, spool_limit=2 * 1024 * 1024) as log:
            for number in range(12_000):
                log.log_row_nowait("ENGINE_DB_LOG_STEPS", {"step_name": "x" * 150, "step_id": number})
            return log.statistics().on_console

    on_console = asyncio.run(overflow())
    (tmp_path / "capture.txt").write_text(capfd.readouterr().err)
    assert on_console
    assert f"{on_console:,} replayed" in enginelog("replay", tmp_path / "capture.txt", path).out
    assert sql(path, "SELECT count(DISTINCT STEP_ID) FROM ENGINE_DB_LOG_STEPS") == [(12_000,)]
    assert enginelog("verify", path).code == 0


@pytest.mark.parametrize("missing", ["capture.txt", "no/folder.txt"])
def test_no_capture(enginelog: Enginelog, log_path: Path, tmp_path: Path, missing: str) -> None:
    """A capture that isn't there is one sentence."""
    code, _, err = enginelog("replay", tmp_path / missing, log_path)
    assert code == 2
    assert err.startswith(f"enginelog: {tmp_path / missing}: ")


def test_no_database(enginelog: Enginelog, tmp_path: Path, capture: Callable[..., Path]) -> None:
    """replay makes no database where none is."""
    code, _, err = enginelog("replay", capture(line(1)), tmp_path / "nowhere.db")
    assert (code, "enginelog init" in err) == (2, True)
    assert not spool_folder(tmp_path / "nowhere.db").exists()
