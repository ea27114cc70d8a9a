"""enginelog prune: what it deletes, what it says, what it refuses."""

from __future__ import annotations

import json
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from async_enginelog.cli.prune import as_stored_by
from async_enginelog.migrations import migrations
from async_enginelog.reading import RunRow

from ..planted import DAY, PlantedRow, plant, rows_in
from .conftest import Outcome

Enginelog = Callable[..., Outcome]
Sql = Callable[..., list[Any]]

CONFIG = "ENGINE_DB_LOG_RECORDING_CONFIG"
FRAMES = "ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME"
STEPS = "ENGINE_DB_LOG_STEPS"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A log of two recordings and two lone rows: of each an old one, of a run that made no others."""
    path = tmp_path / "old.db"
    rows = [PlantedRow(table, 10, 40 * DAY, 1, ended=True) for table in (CONFIG, FRAMES, STEPS)]
    rows += [PlantedRow(STEPS, 10, 40 * DAY)]
    rows += [PlantedRow(table, 11, DAY, 2, ended=True) for table in (CONFIG, FRAMES, STEPS)]
    plant(path, [*rows, PlantedRow(STEPS, 11, DAY)], now=datetime.now(UTC))
    return path


def without_room(text: str) -> str:
    """Return a report without what differs between a dry run and a real one."""
    text = text.replace("would go ", "deleted ").replace("would delete", "deleted")
    text = re.sub(r"\d\d:\d\d:\d\d", "now", text)
    return "\n".join(" ".join(line.partition("; ")[0].split()) for line in text.splitlines())


def test_deletes(enginelog: Enginelog, old: Path) -> None:
    """What is old goes, with its run; the log is whole, before and after."""
    code, out, err = enginelog("prune", old, "--older-than", "30d")

    assert (code, err) == (0, "")
    assert "deleted 4 rows: 1 whole recording, 1 row without one, and 1 run without a row (older than " in out
    assert [row.recording for row in rows_in(old)] == [2, 2, 2, None]
    assert f"is whole: schema version {len(migrations())}, 1 run, 4 rows" in enginelog("verify", old).out


def test_other_verbs_go_on_being_right(enginelog: Enginelog, old: Path) -> None:
    """After a pruning the others show what is left, and LOG_SEQ is what it was."""
    before = json.loads(enginelog("stats", old, "--json").out)
    enginelog("prune", old, "--older-than", "30d")
    after = json.loads(enginelog("stats", old, "--json").out)

    assert (before["newest_log_seq"], after["newest_log_seq"]) == (8, 8)
    assert (after["rows_in_all"], after["runs"]) == (4, 1)
    assert len(enginelog("tail", old).out.splitlines()) == 4
    assert [run["run"] for run in json.loads(enginelog("runs", old, "--json").out)] == [11]
    assert enginelog("doctor", old).code == 0


@pytest.mark.parametrize(
    "limits",
    [
        ["--older-than", "30d"],
        ["--keep-rows", 3],
        ["--older-than", "12h", "--keep-rows", 5],
        ["--keep-size", "2MB"],
        ["--older-than", "900d"],
    ],
)
def test_dry_run(enginelog: Enginelog, old: Path, limits: list[object]) -> None:
    """A dry run changes nothing, and says what the real one then does."""
    before = old.read_bytes()
    foretold = enginelog("prune", old, *limits, "--dry-run")
    assert old.read_bytes() == before
    as_json = json.loads(enginelog("prune", old, *limits, "--dry-run", "--json").out)

    done = enginelog("prune", old, *limits)
    assert foretold.code == done.code == 0
    assert without_room(foretold.out) == without_room(done.out)
    assert as_json["rows_left"] == json.loads(enginelog("stats", old, "--json").out)["rows"]
    assert json.loads(enginelog("prune", old, *limits, "--json").out)["rows_in_all"] == 0


def test_more_than_all_time(enginelog: Enginelog, old: Path) -> None:
    """Who deletes what is older than a billion years deletes nothing."""
    code, out, _ = enginelog("prune", old, "--older-than", "1000000000y")
    assert (code, "deleted 0 rows" in out, "(older than 1,000,000,000 days)" in out) == (0, True, True), out


def test_watermark(enginelog: Enginelog, old: Path) -> None:
    """What a reader hasn't read stays; it is said how much that is, and which reader it is."""
    enginelog("watermark", old, "--set", "shipper", "--to", 3)
    enginelog("watermark", old, "--set", "sqlserver", "--to", 7)
    code, out, _ = enginelog("prune", old, "--older-than", "30d")

    assert code == 0
    assert "deleted 3 rows: 1 whole recording, 0 rows without one (older" in out
    assert "note   1 row would go, too, but the watermark shipper (not moved since " in out
    assert (
        "says that nothing above LOG_SEQ 3 is read; if nobody reads by it any more: enginelog watermark"
        in out
    )
    enginelog("watermark", old, "--drop", "shipper")
    assert "deleted 1 row: 0 whole recordings, 1 row" in enginelog("prune", old, "--older-than", "30d").out


def test_watermark_of_a_recording(enginelog: Enginelog, old: Path) -> None:
    """A recording of which one row isn't read stays, whole."""
    enginelog("watermark", old, "--set", "shipper", "--to", 2)
    out = enginelog("prune", old, "--older-than", "30d").out

    assert "deleted 0 rows" in out
    assert "note   4 rows (1 recording) would go, too, but the watermark shipper" in out


def test_living_run(enginelog: Enginelog, live: Path) -> None:
    """Beside an engine that writes, only what has settled goes, and the engine goes on."""
    code, out, _ = enginelog("prune", live, "--keep-rows", 1)

    assert code == 0
    assert "deleted 0 rows" in out
    assert "would go, too, but they are still being written, or needed by what stays" in out


def test_broken_import(enginelog: Enginelog, old: Path, sql: Sql) -> None:
    """Rows of an import that isn't done stay."""
    sql(old, "UPDATE ENGINE_LOG_RUN SET HOW_ENDED = 'importing'")
    assert "note   4 rows (1 recording) would go, too" in enginelog("prune", old, "--older-than", "30d").out


def test_runs_of_an_import_stay(enginelog: Enginelog, old: Path, sql: Sql) -> None:
    """The run of an import stays without its rows: it is what tells that the file was imported."""
    sql(old, "UPDATE ENGINE_LOG_RUN SET HOW_ENDED = 'imported'")
    enginelog("prune", old, "--older-than", "30d")
    assert sql(old, "SELECT ENGINE_RUN_ID, ROWS_STORED FROM ENGINE_LOG_RUN") == [(10, 0), (11, 4)]
    assert enginelog("verify", old).code == 0


def test_spool_of_a_run(enginelog: Enginelog, old: Path) -> None:
    """A run that has something in the spool stays: its rows are told from others by how far it is."""
    folder = old.with_name(f"{old.name}-spool")
    folder.mkdir()
    (folder / "10-000001.jsonl").write_bytes(b"header\n")

    assert "and 1 run" not in enginelog("prune", old, "--older-than", "30d").out


def test_file_of_an_earlier_version(enginelog: Enginelog, old: Path, sql: Sql) -> None:
    """A file that doesn't become smaller is pruned, and it is said how to convert it."""
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
    out = enginelog("prune", old, "--older-than", "30d").out

    assert "deleted 4 rows" in out
    assert f'sqlite3 {old} "PRAGMA auto_vacuum = INCREMENTAL; VACUUM"' in out


def test_too_large_still(enginelog: Enginelog, tmp_path: Path) -> None:
    """If what is left is larger than what was asked for, that is said."""
    path = tmp_path / "large.db"
    plant(path, [PlantedRow(STEPS, 10, DAY, 1)] * 20_000, now=datetime.now(UTC))
    out = enginelog("prune", path, "--keep-size", "1MiB").out

    assert "deleted 0 rows" in out
    assert "are still in use, more than 1.0 MiB" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "say what is to go: --older-than 30d, --keep-rows N or --keep-size 2GB"),
        (["--older-than", "30m"], "Invalid value for --older-than: '30m' can be minutes or months"),
        (["--older-than", "soon"], "'soon' isn't a span of time; pass one such as 30d"),
        (["--older-than", "0d"], "to delete all rows: enginelog init --truncate"),
        (["--keep-size", "5KB"], "Invalid value for --keep-size: '5KB' is less than a log needs"),
        (["--keep-rows", 0], "--keep-rows"),
        (["--keep-rows", "many"], "--keep-rows"),
    ],
)
def test_bad_input(enginelog: Enginelog, old: Path, options: list[object], message: str) -> None:
    """What can't be meant is refused, with what can; nothing is deleted."""
    before = old.read_bytes()
    code, _, err = enginelog("prune", old, *options)

    assert code == 2
    assert message in " ".join(err.split())
    assert old.read_bytes() == before


@pytest.mark.parametrize("options", [["--older-than", "30d"], ["--older-than", "30d", "--dry-run"]])
def test_unusable(enginelog: Enginelog, unusable: dict[str, Path], options: list[object]) -> None:
    """A path that isn't one of a log is refused, with the reason."""
    for message, path in unusable.items():
        code, _, err = enginelog("prune", path, *options)
        assert (code, message in err) == (2, True), err
        assert "Traceback" not in err


def test_locked(enginelog: Enginelog, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that somebody keeps locked is left as it is, with a message."""
    monkeypatch.setattr(sys.modules["async_enginelog.cli.prune"], "PATIENCE", 0.05)
    with closing(sqlite3.connect(old, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        code, _, err = enginelog("prune", old, "--older-than", "30d")
        assert (code, "database is locked" in err) == (2, True)
        other.execute("ROLLBACK")
    assert len(rows_in(old)) == 8


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform == "win32", reason="a process is killed in another way there")
def test_killed_again_and_again(
    start: Callable[..., subprocess.Popen[bytes]], enginelog: Enginelog, tmp_path: Path
) -> None:
    """The command is killed in the midst, again and again: the log is whole each time, and it goes on."""
    path = tmp_path / "old.db"
    randomly = random.Random(20261123)
    sizes = {number: randomly.choice([1, 10, 100, 5000]) for number in range(1, 60)}
    rows = [
        PlantedRow(table, 10, 40 * DAY, number, ended=True)
        for number, size in sizes.items()
        for table in (CONFIG, *[FRAMES] * size)
    ]
    plant(path, [*rows, PlantedRow(STEPS, 11, DAY)], now=datetime.now(UTC))
    process = start("prune", path, "--older-than", "30d", "--dry-run")  # how long it takes to begin
    began = time.monotonic()
    process.communicate()
    startup = time.monotonic() - began
    kills = 0
    while len(rows_in(path)) > 1:
        process = start("prune", path, "--older-than", "30d")
        end = time.monotonic() + randomly.uniform(0.3 * startup, 1.1 * startup)
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.001)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert enginelog("verify", path).code == 0
        found = rows_in(path)
        for number in {row.recording for row in found if row.table.name == CONFIG and row.recording}:
            assert sum(row.recording == number for row in found) == sizes[number] + 1
    assert kills


class TestTimeZones:
    @staticmethod
    def run(hours: int, how_ended: str | None = "closed") -> RunRow:
        """Return a run that stored times so many hours ahead of UTC."""
        number = 1_795_424_489
        started = (datetime.fromtimestamp(number, UTC) + timedelta(hours=hours)).isoformat(" ")[:19]
        return RunRow(number, "h", 1, "0", started, started, None, how_ended, *[0] * 10)

    @pytest.mark.parametrize(
        ("runs", "hour"),
        [
            ([], 12),
            ([(0, "closed")], 12),
            ([(-5, "closed")], 7),
            ([(2, "closed")], 14),
            ([(2, "closed"), (0, "closed")], 12),
            ([(2, "closed"), (-5, None)], 7),
            ([(2, "closed"), (0, "imported")], 12),
        ],
    )
    def test_local_times(self, runs: list[tuple[int, str | None]], hour: int) -> None:
        """A log with local times is pruned by these; if there are several kinds, nothing goes too early."""
        as_stored = as_stored_by([self.run(hours, how) for hours, how in runs])
        assert as_stored("2026-11-23T12:00:00.000000+00:00") == f"2026-11-23 {hour:02}:00:00.000000"
