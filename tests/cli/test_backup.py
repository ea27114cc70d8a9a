"""enginelog backup: a copy that is whole, made while an engine writes."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from async_enginelog import connection
from async_enginelog.cli.backup import _part_of
from async_enginelog.errors import PathError
from async_enginelog.maintenance import Maintenance

from .conftest import Outcome

Enginelog = Callable[..., Outcome]
Sql = Callable[..., list[Any]]


def test_copy_is_whole(enginelog: Enginelog, log_path: Path, tmp_path: Path) -> None:
    """The copy has all rows, passes verify, and is one file."""
    copy = tmp_path / "copies" / "monday.db"
    copy.parent.mkdir()
    code, out, err = enginelog("backup", copy, log_path)

    assert (code, err) == (0, "")
    assert out == f"copied {log_path} to {copy} ({copy.stat().st_size:,} bytes)\n"
    assert list(copy.parent.iterdir()) == [copy]
    assert enginelog("verify", copy).code == 0
    assert enginelog("tail", copy).out == enginelog("tail", log_path).out


def test_while_an_engine_writes(
    enginelog: Enginelog, live: Path, tmp_path: Path, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is a snapshot that passes verify, though the engine went on between its pages."""
    monkeypatch.setattr(connection, "COPY_PAGES", 1)
    for number in range(5):
        copy = tmp_path / f"copy{number}.db"
        assert enginelog("backup", copy, live).code == 0
        code, out, _ = enginelog("verify", copy)
        assert code == 0, out
        assert "copied" in enginelog("runs", copy).out
    assert enginelog("verify", live).code == 0
    [before], [after] = (sql(path, "SELECT max(LOG_SEQ) FROM ENGINE_DB_LOG_STEPS") for path in (copy, live))
    assert 50 < before[0] < after[0]


def test_engine_goes_on_with_the_copy(
    enginelog: Enginelog, fill: Callable[..., None], log_path: Path, tmp_path: Path
) -> None:
    """A copy can be put in the place of the database."""
    enginelog("backup", tmp_path / "copy.db", log_path)
    fill(tmp_path / "copy.db", 1)

    assert enginelog("verify", tmp_path / "copy.db").code == 0


def test_rows_that_wait_in_a_spool(enginelog: Enginelog, dead: Path, tmp_path: Path) -> None:
    """What isn't in the database isn't in the copy: that is said, and the copy is whole nevertheless."""
    code, _, err = enginelog("backup", tmp_path / "copy.db", dead)

    assert code == 0
    assert "left in its spool isn't in the copy" in err
    assert enginelog("verify", tmp_path / "copy.db").code == 0


def test_copy_beside_the_spool_of_its_run(
    enginelog: Enginelog, fill: Callable[..., None], dead: Path, tmp_path: Path
) -> None:
    """A copy that is restored where the spool still is gets the rows of the spool, too."""
    enginelog("backup", tmp_path / "copy.db", dead)
    for name in ("dead.db", "dead.db-wal", "dead.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "copy.db").rename(dead)
    fill(dead, 1)

    code, out, _ = enginelog("verify", dead)
    assert (code, "55 rows" in out) == (0, True), out


@pytest.mark.parametrize(
    ("destination", "message"),
    [
        ("engine_log.db", "never overwrites"),
        (".", "is a folder"),
        ("no/copy.db", "doesn't exist; create it"),
        ("busy.db", "another backup is under way"),
    ],
)
def test_bad_destinations(enginelog: Enginelog, log_path: Path, destination: str, message: str) -> None:
    """What is at DEST is never touched."""
    (log_path.parent / "busy.db.part").touch()
    before = sorted(log_path.parent.iterdir())
    code, out, err = enginelog("backup", log_path.parent / destination, log_path)

    assert (code, out) == (2, "")
    assert message in err
    assert {path.name for path in log_path.parent.iterdir()} - {path.name for path in before} <= {
        "engine_log.db-shm",
        "engine_log.db-wal",
    }


def test_destination_that_comes_into_being_meanwhile(tmp_path: Path) -> None:
    """Nor is what somebody else puts there during the copying."""
    destination = tmp_path / "copy.db"
    with pytest.raises(PathError), _part_of(destination):
        destination.write_text("somebody else's")

    assert [path.name for path in tmp_path.iterdir()] == ["copy.db"]
    assert destination.read_text() == "somebody else's"


def test_failed_backup_leaves_nothing(
    enginelog: Enginelog, log_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the copying fails, there is no file afterwards."""

    async def fail(self: Maintenance, copy: Maintenance, progress: object) -> None:
        raise PathError("the disk is full")

    monkeypatch.setattr(Maintenance, "copy_pages", fail)

    assert enginelog("backup", tmp_path / "copy.db", log_path) == (2, "", "enginelog: the disk is full\n")
    assert not list(tmp_path.glob("copy.db*"))


async def test_cancelling_stops_the_copying(
    log_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled copy doesn't go on to the end in its thread."""
    monkeypatch.setattr(connection, "COPY_PAGES", 1)
    begun, go_on, steps = asyncio.Event(), threading.Event(), []
    loop = asyncio.get_running_loop()

    def progress(left: int, pages: int) -> None:
        steps.append(left)
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(10)

    (tmp_path / "copy.db").touch()
    reader = await Maintenance.open_reader(log_path)
    copying = asyncio.create_task(reader.copy_to(tmp_path / "copy.db", progress))
    await asyncio.wait_for(begun.wait(), 10)
    copying.cancel()
    loop.call_later(0.05, go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await copying
    await reader.close()

    assert len(steps) == 1
    assert steps[0] > 1


async def test_cancelling_the_opening_leaves_no_thread(log_path: Path) -> None:
    """A connection that opens when nobody waits for it any more is closed, with its thread."""
    before = threading.active_count()
    for turns in range(4):
        opening = asyncio.create_task(Maintenance.open_reader(log_path))
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    while threading.active_count() > before + 1:  # the one is the guard of the connections
        await asyncio.sleep(0.001)


def test_interrupted(
    start: Callable[..., subprocess.Popen[bytes]],
    interrupt: Callable[[subprocess.Popen[bytes]], None],
    fill: Callable[..., None],
    log_path: Path,
    tmp_path: Path,
) -> None:
    """Ctrl+C leaves either the whole copy or nothing."""
    fill(log_path, 5000)
    process = start("backup", tmp_path / "copy.db", log_path)
    while process.poll() is None and not (tmp_path / "copy.db.part").exists():
        pass
    interrupt(process)
    _, err = process.communicate(timeout=30)

    assert err == b""
    assert process.returncode in (0, 130)
    assert (tmp_path / "copy.db").exists() == (process.returncode == 0)
    assert not (tmp_path / "copy.db.part").exists()
