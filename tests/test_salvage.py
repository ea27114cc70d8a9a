"""Of a damaged database all rows are saved whose pages are whole; the damaged file is kept."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from async_enginelog import DatabaseDamaged, EngineLog, NotAnEngineLog, StorageError
from async_enginelog.connection import storage_errors
from async_enginelog.database import Database
from async_enginelog.maintenance import Maintenance
from async_enginelog.salvage import Stopped, save_rows
from async_enginelog.segments import spool_folder
from async_enginelog.setaside import is_ours, keep_wal, replace_damaged, unseen_in_wal

from .conftest import Query

PAGE = 4096
ROWS = 600

Rows = dict[str, list[tuple[Any, ...]]]


def dump(path: Path) -> Rows:
    """Return all rows of all tables of a log, with their rowids where they have some."""
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name LIKE 'ENGINE%'"
        ).fetchall()
        return {
            name: connection.execute(f"SELECT {'' if 'ROWID' in sql else 'rowid,'} * FROM {name}").fetchall()
            for name, sql in tables
        }


def lost(before: Rows, after: Rows) -> list[tuple[Any, ...]]:
    """Return the rows that aren't there any more; all others must be as they were."""
    assert before.keys() == after.keys()
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
        await database.execute("INSERT INTO ENGINE_LOG_REPLAYED VALUES (1, 2)")
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


async def salvaged(path: Path) -> tuple[int, int, Path]:
    """Save what can be saved; return how many rows were, of how many, and where the damaged file is."""
    replaced = await replace_damaged(path)
    assert replaced is not None
    saved, aside = replaced
    return saved.rows, saved.expected, aside


class TestSaving:
    async def test_whole_file(self, log_path: Path, before: Rows) -> None:
        """A file that isn't damaged is left alone."""
        assert await replace_damaged(log_path) is None
        assert dump(log_path) == before

    async def test_first_page(self, log_path: Path, before: Rows) -> None:
        """With the first page gone nobody knows the tables; all rows are saved nevertheless."""
        overwrite(log_path, 1, content=os.urandom(PAGE))
        rows, expected, aside = await salvaged(log_path)

        assert rows == expected == sum(len(before[name]) for name in before if "_DB_LOG_" in name)
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
        rows, expected, _ = await salvaged(log_path)

        assert rows == expected
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

    async def test_cut(self, log_path: Path, before: Rows) -> None:
        """Of a file that was cut, the rows are saved that are left."""
        os.truncate(log_path, log_path.stat().st_size // 2 + 100)
        rows, expected, _ = await salvaged(log_path)

        assert 100 < rows < expected == sum(len(before[n]) for n in before if "_DB_LOG_" in n)

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
        _, _, aside = await salvaged(log_path)

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
        rows, expected, _ = await salvaged(log_path)

        assert rows < expected
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
        after["ENGINE_LOG_RUN"] = [row for row in after["ENGINE_LOG_RUN"] if row in before["ENGINE_LOG_RUN"]]
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
        assert "of 1 runs nothing else is left" in str(replaced[0])
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
            asides.append((await salvaged(log_path))[2])

        assert len(set(asides)) == 3
        assert asides[0].read_bytes()[PAGE:] == content[PAGE:]
        assert all(aside.name.startswith("engine log.db-broken-") for aside in asides)
        spool = spool_folder(log_path)
        assert set(log_path.parent.iterdir()) == {log_path, spool, *asides}

    async def test_modes(self, log_path: Path) -> None:
        """The fresh file is for those who might read the damaged one."""
        log_path.chmod(0o640)
        overwrite(log_path, 1)
        await salvaged(log_path)

        assert os.name == "nt" or log_path.stat().st_mode & 0o777 == 0o640

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
        log_path.with_name(f"{log_path.name}-salvage").mkdir()
        with pytest.raises(StorageError):
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

    async def test_reader(self, log_path: Path) -> None:
        """A reader says that the file is damaged, and changes nothing."""
        overwrite(log_path, *range(2, log_path.stat().st_size // PAGE), content=b"\xa5" * PAGE)
        with pytest.raises(DatabaseDamaged):
            database = await Database.open_reader(log_path)
            await database.close()


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
