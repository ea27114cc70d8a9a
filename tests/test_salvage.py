"""Of a damaged database all rows are saved whose pages are whole; the damaged file is kept."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from async_enginelog import (
    DatabaseDamaged,
    EngineLog,
    NotAnEngineLog,
    StorageError,
    salvage,
    segments,
    setaside,
)
from async_enginelog.connection import storage_errors
from async_enginelog.database import Database
from async_enginelog.maintenance import Maintenance
from async_enginelog.migrations import migrations
from async_enginelog.salvage import Stopped, save_rows
from async_enginelog.salvaged import LOST_WATERMARK, Saved
from async_enginelog.segments import spool_folder
from async_enginelog.setaside import is_ours, keep_wal, replace_damaged, unseen_in_wal

from . import planted
from .conftest import Query
from .planted import empty_log

ROOT = Path(__file__).parent.parent
PAGE = 4096
ROWS = 600

Rows = dict[str, list[tuple[Any, ...]]]


def dump(path: Path) -> Rows:
    """Return all rows of all tables of a log, with their rowids where they have some."""
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        ).fetchall()
        return {
            name: connection.execute(f"SELECT {'' if 'ROWID' in sql else 'rowid,'} * FROM {name}").fetchall()
            for name, sql in tables
        }


def value_of(declared: str, number: int) -> object:
    """Return a value of a declared type."""
    return {"BIGINT": number, "REAL": number / 3}.get(declared, f"Y{number:04}")


def fill_all(path: Path) -> None:
    """Put rows into each table of a database, whichever there are, with a value in each column."""
    numbers = range(1, 200)
    with closing(sqlite3.connect(path)) as connection:
        for table in dump(path):
            types = [column[2] for column in connection.execute(f"PRAGMA table_info({table})")]
            rows = [[value_of(declared, number) for declared in types] for number in numbers]
            connection.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(types))})", rows)
        connection.commit()


def pages_of(path: Path, table: str) -> list[int]:
    """Return the pages on which rows of a table stand."""
    with closing(sqlite3.connect(path)) as connection:
        leaves = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf'"
        return [page for (page,) in connection.execute(leaves, (table,))]


def without_notes(rows: Rows) -> Rows:
    """Leave out what a salvage says of itself, and what it counts anew."""
    return {
        name: [
            row[:9] if name == "ENGINE_LOG_RUN" else row
            for row in rows[name]
            if LOST_WATERMARK not in row and "-broken-" not in str(row)
        ]
        for name in rows
    }


def lost(before: Rows, after: Rows) -> list[tuple[Any, ...]]:
    """Return the rows that aren't there any more; all others must be as they were."""
    assert before.keys() == after.keys()
    before, after = without_notes(before), without_notes(after)
    for name in before:
        assert set(after[name]) <= set(before[name])
    return [row for name in before for row in set(before[name]) - set(after[name])]


async def fill(path: Path, rows: int = ROWS) -> None:
    """Make a log with rows in several tables, some of which overflow their page."""
    async with EngineLog(path) as log:
        for number in range(rows):
            await log.log_steps(step_id=number, step_name="x" * (number % 90), recording_id=number // 10)
            await log.log_audio_frame_metadata(recording_id=7, audio_frame_no=number)
            await log.log_websocket_message(message_id=number, recording_id=7, message_type="FRAME")
            if number % 10 == 0:
                await log.log_function_error(error_message_text="boom", traceback_text="t" * 9000)
    database = await Maintenance.open(path, create=False)
    try:
        await database.execute("INSERT INTO ENGINE_LOG_REPLAYED SELECT ENGINE_RUN_ID, 2 FROM ENGINE_LOG_RUN")
        await database.commit()
    finally:
        await database.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that is whole."""
    path = tmp_path_factory.mktemp("model") / "engine log.db"
    asyncio.run(fill(path))
    return path


@pytest.fixture
def log_path(model: Path, path: Path) -> Path:
    """A copy of it to be damaged."""
    shutil.copy(model, path)
    return path


@pytest.fixture
def before(log_path: Path) -> Rows:
    """All that is in it."""
    return dump(log_path)


@pytest.fixture(autouse=True)
def _capture_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "async_enginelog")


def first_bytes(path: Path) -> dict[int, int]:
    """Return the first byte of each page behind the first: it says what the page is."""
    data = path.read_bytes()
    return {number: data[(number - 1) * PAGE] for number in range(2, len(data) // PAGE + 1)}


def overwrite(path: Path, *pages: int, content: bytes = bytes(PAGE)) -> None:
    """Overwrite pages of a file."""
    with path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * PAGE)
            file.write(content)


async def salvaged(path: Path) -> tuple[Saved, Path]:
    """Save what can be saved; return what was, and where the damaged file is."""
    replaced = await replace_damaged(path)
    assert replaced is not None
    return replaced


def rows_of_log(rows: Rows) -> int:
    """Return how many rows of the log there are among all."""
    return sum(len(rows[name]) for name in rows if "_DB_LOG_" in name)


class TestSaving:
    async def test_whole_file(self, log_path: Path, before: Rows) -> None:
        """A file that isn't damaged is left alone."""
        assert await replace_damaged(log_path) is None
        assert dump(log_path) == before

    async def test_first_page(self, log_path: Path, before: Rows) -> None:
        """With the first page gone nobody knows the tables; all rows are saved nevertheless."""
        overwrite(log_path, 1, content=os.urandom(PAGE))
        saved, aside = await salvaged(log_path)

        assert (saved.rows, saved.lost) == (rows_of_log(before), 0)
        assert saved.damaged == ("ENGINE_LOG_REPLAYED",)
        # Which of them was which is known by where they begin, and for this one nothing else tells it.
        del before["ENGINE_LOG_REPLAYED"]
        assert lost(before, {name: rows for name, rows in dump(log_path).items() if name in before}) == []
        assert aside.stat().st_size >= len(before) * PAGE

    async def test_inner_pages(self, log_path: Path, before: Rows) -> None:
        """With all pages gone that lead to others, all rows are saved."""
        inner = [page for page, kind in first_bytes(log_path).items() if kind in (2, 5)]
        overwrite(log_path, *inner, content=os.urandom(PAGE))
        await salvaged(log_path)

        assert lost(before, dump(log_path)) == []

    async def test_pointer_map(self, log_path: Path, before: Rows) -> None:
        """With the pointer map gone, the rows themselves tell whose they are."""
        overwrite(log_path, 1, 2, content=os.urandom(PAGE))
        saved, _ = await salvaged(log_path)

        assert saved.rows == rows_of_log(before)
        del before["ENGINE_LOG_REPLAYED"]
        assert lost(before, {name: rows for name, rows in dump(log_path).items() if name in before}) == []

    @pytest.mark.parametrize("page", range(50, 60))
    async def test_one_page(self, log_path: Path, before: Rows, page: int) -> None:
        """One page that is lost costs the rows that stood on it, and no others."""
        overwrite(log_path, page, content=b"\xa5" * PAGE)
        replaced = await replace_damaged(log_path)

        gone = lost(before, dump(log_path))
        assert len(gone) < 60
        assert replaced is not None or not gone

    @pytest.mark.parametrize("damaged", ["ENGINE_DB_LOG_STEPS", "ENGINE_LOG_REPLAYED", "LATER"])
    async def test_every_table(self, path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str) -> None:
        """Each table of the schema is saved, also one that a later version brings: but for a damaged page."""
        later = (*migrations(), ("CREATE TABLE LATER (NAME VARCHAR(100), NUMBER BIGINT, SHARE REAL)",))
        for module in (planted, salvage):
            monkeypatch.setattr(module, "migrations", lambda: later)
        for module in (salvage, setaside):
            monkeypatch.setattr(module, "NEWEST", len(later))
        empty_log(path)
        fill_all(path)
        before = dump(path)
        assert all(len(rows) == 199 for rows in before.values())
        overwrite(path, pages_of(path, damaged)[-1], content=os.urandom(PAGE))
        await salvaged(path)

        before, after = without_notes(before), without_notes(dump(path))
        assert lost(before, after)
        del before[damaged], after[damaged]
        assert after == before

    @pytest.mark.parametrize("damaged", ["sqlite_autoindex_ENGINE_LOG_IMPORT_1", "ENGINE_DB_LOG_STEPS", None])
    async def test_without_pointer_map(self, log_path: Path, before: Rows, damaged: str | None) -> None:
        """Of a file that never had a pointer map, only the rows are lost that stood on damaged pages."""
        with closing(sqlite3.connect(log_path)) as connection:
            connection.execute("PRAGMA auto_vacuum = NONE")
            connection.execute("VACUUM")
        pages = pages_of(log_path, damaged) if damaged else [1]
        overwrite(log_path, pages[-1])
        saved, _ = await salvaged(log_path)

        gone = lost(before, dump(log_path))
        assert saved.rows == rows_of_log(before) - (saved.lost or 0)
        assert (len(gone) == saved.lost) == bool(damaged)
        assert len(gone) < 60
        assert (saved.damaged == ()) == bool(damaged)

    async def test_pages_that_are_free(self, log_path: Path) -> None:
        """Rows that were deleted don't come back from pages that are free, without a pointer map, too."""
        with closing(sqlite3.connect(log_path)) as connection:
            connection.execute("PRAGMA auto_vacuum = NONE")
            connection.execute("VACUUM")
            connection.execute("DELETE FROM ENGINE_DB_LOG_WEBSOCKET_MESSAGE")
            connection.commit()
        before = dump(log_path)
        overwrite(log_path, pages_of(log_path, "ENGINE_DB_LOG_STEPS")[-1])
        await salvaged(log_path)

        assert 0 < len(lost(before, dump(log_path))) < 60

    @pytest.mark.parametrize("damaged", ["ENGINE_LOG_WATERMARK", "sqlite_autoindex_ENGINE_LOG_WATERMARK_1"])
    async def test_watermarks(self, log_path: Path, damaged: str) -> None:
        """Where a watermark may be lost, one that keeps all rows takes its place, and it is said."""
        with closing(sqlite3.connect(log_path)) as connection:
            connection.execute("INSERT INTO ENGINE_LOG_WATERMARK VALUES ('shipper', 5, '2026-01-01')")
            connection.commit()
        overwrite(log_path, *pages_of(log_path, damaged))
        saved, _ = await salvaged(log_path)

        [(_, name, log_seq, _)] = dump(log_path)["ENGINE_LOG_WATERMARK"]
        if damaged == "ENGINE_LOG_WATERMARK":
            assert (name, log_seq) == (LOST_WATERMARK, 0)
            assert f"the watermark {LOST_WATERMARK} keeps all rows until you drop it" in str(saved)
        else:
            assert (name, log_seq) == ("shipper", 5)
            assert saved.damaged == ()

    async def test_page_of_another_table(self, log_path: Path, before: Rows) -> None:
        """A page that stands where one of another table should is known for what it is."""
        content = log_path.read_bytes()
        [run] = pages_of(log_path, "ENGINE_LOG_RUN")
        step, *_ = pages_of(log_path, "ENGINE_DB_LOG_STEPS")
        overwrite(log_path, run, content=content[(step - 1) * PAGE : step * PAGE])
        overwrite(log_path, step, content=content[(run - 1) * PAGE : run * PAGE])
        saved, _ = await salvaged(log_path)

        assert saved.rows == rows_of_log(before)
        assert lost(before, dump(log_path)) == []

    async def test_begin_that_is_missing(self, log_path: Path, before: Rows) -> None:
        """Where the numbers of pages are wrong, no row gets what belongs to another one."""
        log_path.write_bytes(log_path.read_bytes()[5 * PAGE :])
        replaced = await replace_damaged(log_path, certain=True)

        assert replaced is not None
        assert replaced[0].lost is None
        after = without_notes(dump(log_path))
        for name in before:
            if "_DB_LOG_" in name:
                assert {row[1:] for row in after[name]} <= {row[1:] for row in before[name]}
        assert replaced[0].rows > ROWS

    async def test_cut(self, log_path: Path, before: Rows) -> None:
        """Of a file that was cut, the rows are saved that are left."""
        os.truncate(log_path, log_path.stat().st_size // 2 + 100)
        saved, _ = await salvaged(log_path)

        assert 100 < saved.rows == rows_of_log(before) - (saved.lost or 0)

    async def test_wal(self, model: Path, log_path: Path, before: Rows) -> None:
        """What is committed in the WAL only is saved, too; the WAL goes with its file."""
        with closing(sqlite3.connect(log_path)) as connection:
            connection.execute("UPDATE ENGINE_DB_LOG_STEPS SET STEP_NAME = 'newest' WHERE STEP_ID = 5")
            connection.commit()
            copies = [log_path.with_name(f"{log_path.name}{suffix}") for suffix in ("", "-wal")]
            for file in copies:
                shutil.copy(file, file.with_name(f"kept{file.name}"))
        for file in copies:
            file.with_name(f"kept{file.name}").rename(file)
        overwrite(log_path, 1, content=os.urandom(PAGE))
        _, aside = await salvaged(log_path)

        with closing(sqlite3.connect(log_path)) as connection:
            assert connection.execute("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS WHERE STEP_NAME = 'newest'")
        assert aside.with_name(f"{aside.name}-wal").stat().st_size > 0
        assert not copies[1].exists()

    async def test_rowids_that_were_damaged(self, log_path: Path, before: Rows) -> None:
        """Two rows that both say they are the same one are both saved."""
        with closing(sqlite3.connect(log_path)) as connection:
            [(root,)] = connection.execute(
                "SELECT rootpage FROM sqlite_schema WHERE name = 'ENGINE_DB_LOG_STEPS'"
            )
            [leaf, other, *_] = [
                page
                for (page,) in connection.execute(
                    "SELECT pageno FROM dbstat WHERE name = 'ENGINE_DB_LOG_STEPS' AND pagetype = 'leaf'"
                )
            ]
        data = log_path.read_bytes()
        overwrite(log_path, root, content=os.urandom(PAGE))
        # As the disk does that writes a page to the wrong place: the rows of one are there twice.
        overwrite(log_path, other, content=data[(leaf - 1) * PAGE : leaf * PAGE])
        saved, _ = await salvaged(log_path)

        assert saved.lost
        steps = [row[1:] for row in dump(log_path)["ENGINE_DB_LOG_STEPS"]]
        assert len(steps) == len(set(steps))

    @pytest.mark.parametrize("place", [0, 16, 18, 19, 21, 44, 56, 60, 68])
    async def test_header(self, path: Path, log_path: Path, before: Rows, place: int) -> None:
        """Whatever of the header is damaged, an engine starts, and all rows are there."""
        with log_path.open("r+b") as file:
            file.seek(place)
            file.write(b"\x20\x21\x22\x23"[: 4 if place >= 44 else 1])
        async with EngineLog(path) as log:
            await log.log_steps(step_id=-1)
            await log.flush()

        after = dump(path)
        del after["ENGINE_LOG_RUN"][1:]
        after["ENGINE_DB_LOG_STEPS"] = [row for row in after["ENGINE_DB_LOG_STEPS"] if -1 not in row]
        assert lost(before, after) == []

    async def test_runs_that_only_rows_tell_of(self, log_path: Path, query: Query) -> None:
        """A run whose row is lost gets another one, with what its rows tell; LOG_SEQ goes on."""
        with closing(sqlite3.connect(log_path)) as connection:
            pages = connection.execute("SELECT pageno FROM dbstat WHERE name = 'ENGINE_LOG_RUN'").fetchall()
        overwrite(log_path, *(page for (page,) in pages), content=b"\xa5" * PAGE)
        replaced = await replace_damaged(log_path)

        assert replaced is not None
        assert replaced[0].lost_runs == 1
        assert "of 1 run nothing else is left" in str(replaced[0])
        [(stored, committed, newest)] = query(
            "SELECT ROWS_STORED, ROWS_COMMITTED, LAST_LOG_SEQ FROM ENGINE_LOG_RUN"
        )
        assert stored == committed == replaced[0].rows
        assert [(newest,)] == query("SELECT max(LOG_SEQ) FROM ENGINE_DB_LOG_WEBSOCKET_MESSAGE") or newest > 0

    def test_stopped(self, log_path: Path, tmp_path: Path) -> None:
        """Nobody who has gone is waited for."""
        stopped = threading.Event()
        stopped.set()
        with pytest.raises(Stopped):
            save_rows(log_path, tmp_path / "fresh", stopped)


class TestSettingAside:
    async def test_names(self, log_path: Path, before: Rows) -> None:
        """Each damaged file gets a name of its own; nothing else is left behind."""
        content = log_path.read_bytes()
        asides = []
        for _ in range(3):
            overwrite(log_path, 1)
            asides.append((await salvaged(log_path))[1])

        assert len(set(asides)) == 3
        assert asides[0].read_bytes()[PAGE:] == content[PAGE:]
        assert all(aside.name.startswith("engine log.db-broken-") for aside in asides)
        spool = spool_folder(log_path)
        assert set(log_path.parent.iterdir()) == {log_path, spool, *asides}

    async def test_planted_file(self, log_path: Path) -> None:
        """What stands where an earlier version made the fresh file is in nobody's way."""
        log_path.with_name(f"{log_path.name}-salvage").mkdir()
        killed = log_path.with_name(f"{log_path.name}-salvage-0123456789abcdef")
        killed.touch()
        overwrite(log_path, 1)
        await salvaged(log_path)

        assert log_path.stat().st_size > PAGE
        assert not killed.exists()

    async def test_modes(self, log_path: Path) -> None:
        """The fresh file is for those who might read the damaged one."""
        log_path.chmod(0o640)
        overwrite(log_path, 1)
        await salvaged(log_path)

        assert os.name == "nt" or log_path.stat().st_mode & 0o777 == 0o640

    def test_mode_of_a_wal(self, log_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A WAL that is kept is never, not even while it is copied, for more eyes than the WAL itself."""
        wal = log_path.with_name(f"{log_path.name}-wal")
        wal.write_bytes(b"commits")
        wal.chmod(0o600)
        modes: list[int] = []

        def copy(source: Path, target: Path) -> None:
            modes.append(target.stat().st_mode & 0o777)
            shutil.copyfile(source, target)

        monkeypatch.setattr("async_enginelog.setaside.shutil.copy", copy)
        before = os.umask(0)
        try:
            kept = [keep_wal(log_path), keep_wal(log_path)]
        finally:
            os.umask(before)
        assert [file.read_bytes() for file in kept if file] == [b"commits"] * 2
        assert kept[0] != kept[1]
        assert os.name == "nt" or modes == [0o600] * 2

    def test_link_in_the_way_of_a_wal(self, log_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What somebody has put where a WAL would be kept is left as it is, and so is what it leads to."""
        wal = log_path.with_name(f"{log_path.name}-wal")
        wal.write_bytes(b"commits")
        monkeypatch.setattr(setaside, "_free_name", lambda path: path)

        assert keep_wal(log_path) is None
        assert wal.read_bytes() == b"commits"

    async def test_by_another_process(self, log_path: Path) -> None:
        """Only one process does it."""
        overwrite(log_path, 1)
        spool_folder(log_path).mkdir()
        with (
            FileLock(spool_folder(log_path) / "salvage.lock"),
            pytest.raises(StorageError, match="another process is saving"),
        ):
            await replace_damaged(log_path)

    async def test_no_room(self, log_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the fresh file can't be made the damaged one stays where it is."""
        overwrite(log_path, 1)
        content = log_path.read_bytes()

        def create_file(path: Path) -> bool:
            raise OSError(errno.ENOSPC, "no space left on device")

        monkeypatch.setattr(salvage, "create_file", create_file)
        with pytest.raises(StorageError, match="no space"):
            await replace_damaged(log_path)

        assert log_path.read_bytes() == content

    async def test_somebody_elses(self, path: Path) -> None:
        """A file that isn't ours isn't touched, however broken it is."""
        path.write_bytes(b"SQLite format 3\0" + os.urandom(50_000))

        assert not is_ours(path)
        assert await replace_damaged(path) is None
        with pytest.raises(NotAnEngineLog):
            await EngineLog(path).open()

    async def test_somebody_elses_database(self, path: Path) -> None:
        """Nor is a database that is whole, but not ours."""
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE a (b)")
        content = path.read_bytes()

        assert await replace_damaged(path) is None
        assert path.read_bytes() == content

    def test_nothing_there(self, path: Path) -> None:
        """What isn't there isn't ours, and has no WAL."""
        assert not is_ours(path)
        assert unseen_in_wal(path, 0, 100) == 0
        assert keep_wal(path) is None


class TestEngine:
    async def test_opening(
        self, path: Path, log_path: Path, query: Query, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An engine that starts on a damaged database goes on at once, and says what became of it."""
        overwrite(log_path, 1, content=os.urandom(PAGE))
        async with EngineLog(path) as log:
            await log.log_steps(step_name="new")
            await log.flush()

        assert query("SELECT count(*) FROM ENGINE_DB_LOG_STEPS") == [(ROWS + 1,)]
        assert "is damaged" in caplog.text
        assert f"{3 * ROWS + ROWS // 10:,} rows are saved, 0 are lost" in caplog.text
        assert "is kept as" in caplog.text
        assert query("SELECT count(*), count(DISTINCT LAST_LOG_SEQ) FROM ENGINE_LOG_RUN") == [(2, 2)]

    # SQLite takes a single byte for an empty file.
    @pytest.mark.parametrize("size", [2, 15, 16, 60, 99])
    async def test_opening_what_was_cut_to_nearly_nothing(self, path: Path, query: Query, size: int) -> None:
        """Less than a header says nothing of whose it is; but the spools beside it do."""
        async with EngineLog(path) as log:
            await log.log_steps(step_name="old")
        os.truncate(path, size)
        async with EngineLog(path) as log:
            await log.log_steps(step_name="new")
            await log.flush()

        assert query("SELECT STEP_NAME FROM ENGINE_DB_LOG_STEPS") == [("new",)]
        [aside] = path.parent.glob("*-broken-*")
        assert aside.stat().st_size == size

    @pytest.mark.parametrize(
        ("content", "has_spools"), [(b"SQ", False), (b"SQLite format 3", False), (b"hello", True)]
    )
    async def test_opening_a_few_bytes_of_somebody_else(
        self, path: Path, content: bytes, has_spools: bool
    ) -> None:
        """Without spools beside it, or with other bytes, nothing says that it was a log."""
        if has_spools:
            (path.with_name(f"{path.name}-spool")).mkdir()
            (path.with_name(f"{path.name}-spool") / "last-run").write_text("1", "ascii")
        path.write_bytes(content)
        with pytest.raises(NotAnEngineLog, match="isn't a SQLite database"):
            await EngineLog(path).open()
        assert path.read_bytes() == content

    async def test_in_mid_run(self, path: Path, log_path: Path, query: Query) -> None:
        """Damage that comes while an engine runs is met in the same way; no row of the run is lost."""
        async with EngineLog(path) as log:
            await log.log_steps(step_name="new")
            await log.flush()
            size = log_path.stat().st_size
            overwrite(log_path, *range(2, size // PAGE), content=b"\xa5" * PAGE)
            for suffix in ("-wal", "-shm"):  # as if another process had checkpointed it
                log_path.with_name(log_path.name + suffix).unlink()
            async with asyncio.timeout(20):
                while not list(path.parent.glob("*-broken-*")):
                    await log.log_steps(step_name="newer")
                    await asyncio.sleep(0.01)
            await log.flush()
            logged = log.statistics().committed

        [(newer,)] = query("SELECT count(*) FROM ENGINE_DB_LOG_STEPS WHERE STEP_NAME = 'newer'")
        assert newer == logged - 1

    async def test_found_by_a_check_only_once(
        self, path: Path, log_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A fault that isn't damage is looked at once: the file is left as it is."""
        async with EngineLog(path, timeout=0.5) as log:
            with closing(sqlite3.connect(log_path)) as connection:
                [(ddl,)] = connection.execute(
                    "SELECT sql FROM sqlite_schema WHERE name = 'ENGINE_DB_LOG_STEPS'"
                ).fetchall()
                connection.execute("DROP TABLE ENGINE_DB_LOG_STEPS")
            await log.log_steps(step_id=1)
            with pytest.raises(StorageError, match="no such table"):
                await log.flush()
            with closing(sqlite3.connect(log_path)) as connection:
                connection.execute(ddl)

        assert not list(path.parent.glob("*-broken-*"))

    async def test_met_again(
        self, path: Path, log_path: Path, query: Query, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An engine that meets the same damage again gets going, though every check finds the file whole."""
        monkeypatch.setattr(setaside, "has_whole_free_list", lambda path: True)
        data = bytearray(log_path.read_bytes())
        data[36] ^= 1  # SQLite looks at it when it needs a page, and only then
        log_path.write_bytes(data)
        async with EngineLog(path) as log:
            for number in range(1000):
                await log.log_steps(step_id=number, step_name="after")
            await log.flush()

        assert query("SELECT count(*) FROM ENGINE_DB_LOG_STEPS WHERE STEP_NAME = 'after'") == [(1000,)]

    @pytest.mark.parametrize("place", [32, 36, 39])
    async def test_free_list(self, path: Path, log_path: Path, query: Query, place: int) -> None:
        """A list of free pages that is broken doesn't stop an engine for good."""
        data = bytearray(log_path.read_bytes())
        data[place] ^= 1
        log_path.write_bytes(data)
        async with EngineLog(path) as log:
            for number in range(1000):
                await log.log_steps(step_id=number, step_name="after")
            await log.flush()

        assert query("SELECT count(*) FROM ENGINE_DB_LOG_STEPS WHERE STEP_NAME = 'after'") == [(1000,)]
        assert await replace_damaged(path) is None or place == 32

    async def test_begin_that_is_missing(self, path: Path, log_path: Path) -> None:
        """What isn't a database any more is refused; if rows of a log are in it, it is said what to do."""
        content = log_path.read_bytes()[len(log_path.read_bytes()) // 2 :]
        log_path.write_bytes(content)
        with pytest.raises(NotAnEngineLog, match="enginelog salvage"):
            await EngineLog(path).open()

        assert log_path.read_bytes() == content

    @pytest.mark.parametrize("bit", [4, 8, 12])
    async def test_schema_version(self, path: Path, log_path: Path, query: Query, bit: int) -> None:
        """A bit of the schema version that is flipped doesn't keep an engine from starting."""
        with closing(sqlite3.connect(log_path)) as connection:
            connection.execute(f"PRAGMA user_version = {len(migrations()) ^ 1 << bit}")
        async with EngineLog(path) as log:
            await log.log_steps(step_name="new")
            await log.flush()

        assert query("SELECT count(*) FROM ENGINE_DB_LOG_STEPS") == [(ROWS + 1,)]
        assert query("PRAGMA user_version") == [(len(migrations()),)]

    async def test_cancelled(self, path: Path, log_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Closing while rows are being saved stops that: the damaged file stays, for the next start."""
        overwrite(log_path, 1)
        content = log_path.read_bytes()
        monkeypatch.setattr("async_enginelog.salvage.REST", 0.05)
        log = await EngineLog(path, timeout=0.5).open()
        await log.log_steps(step_name="new")
        with pytest.raises(StorageError, match="1 rows wait in"):
            await log.aclose()

        assert log_path.read_bytes() == content

    async def test_another_log_of_this_process(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As long as another has the file open, nobody else here opens it: that would take away its locks."""
        monkeypatch.setattr(setaside, "PATIENCE", 0.05)
        async with EngineLog(path):
            for certain in (True, False):
                with pytest.raises(StorageError, match="may be damaged; it isn't looked at as long as"):
                    await replace_damaged(path, certain=certain)
        assert await replace_damaged(path) is None

    async def test_reader(self, log_path: Path) -> None:
        """A reader says that the file is damaged, and changes nothing."""
        overwrite(log_path, *range(2, log_path.stat().st_size // PAGE), content=b"\xa5" * PAGE)
        with pytest.raises(DatabaseDamaged):
            database = await Database.open_reader(log_path)
            await database.close()


DIE_IN = """
import asyncio, os, signal, sys
from pathlib import Path
from async_enginelog.setaside import replace_damaged

name, number, path = sys.argv[1:]
function, calls = getattr(os, name), 0

def call(*arguments):
    global calls
    calls += 1
    if calls == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*arguments)

setattr(os, name, call)
asyncio.run(replace_damaged(Path(path)))
"""


class TestDamagedWal:
    @pytest.fixture
    def killed(self, tmp_path: Path) -> Path:
        """A log whose engine died, with commits in its WAL and rows in its spool."""
        alive = tmp_path / "alive" / "engine log.db"

        async def log_and_copy() -> None:
            async with EngineLog(alive) as log:
                for number in range(50):
                    await log.log_steps(step_id=number)
                    await log.flush()
                shutil.copytree(alive.parent, tmp_path / "dead")

        asyncio.run(log_and_copy())
        return tmp_path / "dead" / alive.name

    def test_rows_are_committed_again(self, killed: Path, caplog: pytest.LogCaptureFixture) -> None:
        """What SQLite loses with a damaged WAL comes from the spool, and the WAL is kept."""
        wal = killed.with_name(f"{killed.name}-wal")
        data = bytearray(wal.read_bytes())
        data[len(data) // 2] ^= 1
        wal.write_bytes(data)

        async def open_and_close() -> None:
            async with EngineLog(killed):
                pass

        asyncio.run(open_and_close())
        with closing(sqlite3.connect(killed)) as connection:
            rows = connection.execute("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY 1").fetchall()
        assert rows == [(number,) for number in range(50)]
        [aside] = killed.parent.glob("*-broken-*-wal")
        assert aside.read_bytes() == data
        assert (
            f"-wal is damaged: {25 - 4} commits" in caplog.text or "commits behind the damage" in caplog.text
        )

    async def test_rows_of_a_segment_that_is_full(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A segment is kept when it is full and committed: its commits may be in the WAL that is damaged."""
        monkeypatch.setattr(segments, "SEGMENT_BYTES", 32 * 1024)
        dead = tmp_path / "dead"
        async with EngineLog(path) as log:
            await log.flush()
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            number = 0
            while log._spool.end.segment < 2:
                number += 1
                await log.log_steps(step_id=number, step_name="x" * 90)
                await log.flush()
            shutil.copytree(path.parent, dead)
        wal = dead / f"{path.name}-wal"
        wal.write_bytes(wal.read_bytes()[:32] + bytes(wal.stat().st_size - 32))
        async with EngineLog(dead / path.name):
            pass

        with closing(sqlite3.connect(dead / path.name)) as connection:
            rows = connection.execute("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY 1").fetchall()
        assert rows == [(step,) for step in range(1, number + 1)]
        assert number > 100

    @pytest.mark.skipif(sys.platform == "win32", reason="a process is killed in another way there")
    @pytest.mark.parametrize("call", ["replace 1", "link 1", "replace 2", "replace 3"])
    def test_killed_while_files_change_names(self, killed: Path, call: str) -> None:
        """Whoever dies of it, the fresh file never gets the WAL of the damaged one, and no row is lost."""
        for segment in spool_folder(killed).glob("*.jsonl"):
            segment.unlink()
        with killed.open("r+b") as file:  # the encoding, which no row needs
            file.seek(56)
            file.write(b"\xff\xff\xff\xff")
        done = subprocess.run([sys.executable, "-c", DIE_IN, *call.split(), str(killed)], cwd=ROOT)
        assert done.returncode == -signal.SIGKILL

        async def open_and_close() -> None:
            async with EngineLog(killed) as log:
                await log.log_steps(step_id=50)

        asyncio.run(open_and_close())
        with closing(sqlite3.connect(killed)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            rows = connection.execute("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY 1").fetchall()
        assert rows == [(number,) for number in range(51)]
        assert killed.stat().st_nlink == 1
        assert not [*killed.parent.glob("*-salvage-*"), *spool_folder(killed).glob("salvage.swap*")]

    def test_whole_wal(self, killed: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A WAL that is whole, as after any death, isn't worth a word."""

        async def open_and_close() -> None:
            async with EngineLog(killed):
                pass

        asyncio.run(open_and_close())
        assert "is damaged" not in caplog.text
        assert not list(killed.parent.glob("*-broken-*"))


def test_text_that_is_none(tmp_path: Path) -> None:
    """Text that isn't text is damage, though SQLite itself doesn't mind."""
    with (
        closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(DatabaseDamaged),
        storage_errors(tmp_path),
    ):
        connection.execute("SELECT CAST(x'ff' AS TEXT)").fetchall()
