"""What is in the spool beside a database."""

from __future__ import annotations

from pathlib import Path

from async_enginelog.cli import spools
from async_enginelog.segments import Position, spool_folder


def test_waiting_rows_in_several_segments(tmp_path: Path) -> None:
    """Rows behind the committed place are counted, across segments."""
    database = tmp_path / "log.db"
    folder = spool_folder(database)
    folder.mkdir()
    for number in (1, 2, 3):
        (folder / f"17-{number:06}.jsonl").write_bytes(b"header\n" + b'["T",{}]\n' * 4 + bytes(100))

    positions = {17: Position(2, len(b'header\n["T",{}]\n'))}
    assert spools.spool_runs(database, positions) == {17: spools.SpoolRun(17, False, True, 3 + 4)}
    assert spools.spool_bytes(database) > 300


def test_segment_that_was_just_recovered(tmp_path: Path) -> None:
    """A segment that goes away meanwhile holds no rows any more."""
    assert spools._lines_behind(tmp_path / "17-000001.jsonl", 0) == 0


def test_no_spool(tmp_path: Path) -> None:
    """A database without a spool has no runs in it."""
    assert spools.spool_runs(tmp_path / "log.db", {}) == {}
    assert spools.runs_alive(tmp_path / "log.db") == set()
    assert spools.unreadable_files(tmp_path / "log.db") == []
