"""The old engine's file: only read, whatever state it was left in."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_enginelog import DatabaseDamaged, EngineLog, NotAnEngineLog, PathError, StorageError, oldfile
from async_enginelog.importing import BEFORE_ALL
from async_enginelog.oldfile import OldFile
from async_enginelog.tables import TABLES

from .old_engine import old_file, write
from .pure_helpers import few

# An engine that dies while it writes to its file.
DYING = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(sys.argv[2])
connection.execute("PRAGMA cache_size = 2")
connection.execute("BEGIN")
connection.execute("UPDATE ENGINE_DB_LOG_STEPS SET STEP_NAME = 'changed'")
if len(sys.argv) > 3:
    connection.execute("COMMIT")
os._exit(0)
"""

STEPS = [{"STEP_NAME": "x" * 500, "STEP_ID": number} for number in range(100)]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file with a hundred steps."""
    return old_file(tmp_path / "old engine.db", STEPS=STEPS)


async def read_all(path: Path) -> dict[str, list[list[Any]]]:
    """Return all rows of a file, by table."""
    file = await OldFile.open(path)
    try:
        tables = (await file.tables()).known
        return {
            old.table.name: [values for _, *values in await file.rows(old, BEFORE_ALL, 1_000_000)]
            for old in tables
        }
    finally:
        await file.close()


def state(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder; what is in shared memory doesn't count."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}


class TestOpen:
    async def test_changes_nothing(self, old: Path) -> None:
        """A file is the same afterwards, and nothing is left beside it."""
        before = state(old.parent)
        assert len((await read_all(old))["ENGINE_DB_LOG_STEPS"]) == 100
        assert state(old.parent) == before

    async def test_closed_file_in_wal_mode(self, old: Path) -> None:
        """Nor if it is in WAL mode, where SQLite itself would leave files there."""
        with closing(sqlite3.connect(old)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        before = state(old.parent)
        assert list(before) == [old.name]
        assert len((await read_all(old))["ENGINE_DB_LOG_STEPS"]) == 100
        assert [path.name for path in old.parent.iterdir()] == [old.name]
        assert state(old.parent) == before

    async def test_closed_file_that_is_opened_again(self, old: Path) -> None:
        """When its engine begins to write to such a file, what was read isn't trusted."""
        with closing(sqlite3.connect(old)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        file = await OldFile.open(old)
        [steps] = (await file.tables()).known
        assert len(await file.rows(steps, BEFORE_ALL, 60)) == 60
        with closing(sqlite3.connect(old)) as connection:
            connection.execute("UPDATE ENGINE_DB_LOG_STEPS SET STEP_ID = 1")
            connection.commit()
            with pytest.raises(StorageError, match="its engine writes to it again; call this again"):
                await file.rows(steps, BEFORE_ALL, 60)
        with pytest.raises(StorageError, match="its engine writes to it again; call this again"):
            await file.rows(steps, BEFORE_ALL, 60)
        await file.close()
        assert len((await read_all(old))["ENGINE_DB_LOG_STEPS"]) == 100

    async def test_what_is_in_the_wal(self, old: Path) -> None:
        """What an engine that died had committed is read, and its WAL stays as it is."""
        subprocess.run([sys.executable, "-c", DYING, old, "PRAGMA journal_mode = WAL", "commit"], check=True)
        before = state(old.parent)
        assert set(before) == {old.name, f"{old.name}-wal"}
        assert {row[0] for row in (await read_all(old))["ENGINE_DB_LOG_STEPS"]} == {"changed"}
        assert state(old.parent) == before

    async def test_half_a_transaction(self, old: Path) -> None:
        """What must be undone first can't be by one who only reads: the remedy is told."""
        subprocess.run([sys.executable, "-c", DYING, old, "PRAGMA journal_mode = DELETE"], check=True)
        before = state(old.parent)
        assert set(before) == {old.name, f"{old.name}-journal"}
        with pytest.raises(StorageError, match="Copy both files, open the copy once"):
            await read_all(old)
        assert state(old.parent) == before

    async def test_wal_that_cannot_be_read(self, old: Path) -> None:
        """Where SQLite can't read a WAL, the remedy is told."""
        with closing(sqlite3.connect(old)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        old.with_name(f"{old.name}-wal").mkdir()
        with pytest.raises(StorageError, match="-wal into a folder that is yours, and import the copy"):
            await read_all(old)

    async def test_while_its_engine_writes(self, old: Path) -> None:
        """An engine that has the file open, and goes on writing, is no trouble, and has none."""
        file = await OldFile.open(old)
        [steps] = (await file.tables()).known
        first = await file.rows(steps, BEFORE_ALL, 60)
        write(old, "STEPS", {"STEP_NAME": "new", "STEP_ID": 100})
        rest = await file.rows(steps, first[-1][0], 60)
        await file.close()
        assert [row[2] for row in (*first, *rest)] == list(range(101))

    async def test_an_engine_that_holds_it(self, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that is locked for longer than one can wait can't be read now."""
        monkeypatch.setattr(oldfile, "PATIENCE", 0.01)
        with closing(sqlite3.connect(old)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StorageError, match="locked; close the program that holds it"):
                await OldFile.open(old)

    @pytest.mark.parametrize("damage", ["truncated", "overwritten"])
    async def test_damaged(self, old: Path, damage: str) -> None:
        """Of a file that is damaged, or was cut off, it is told how to save what is left."""
        data = old.read_bytes()
        half = len(data) // 2
        old.write_bytes(data[:half] + (b"" if damage == "truncated" else b"\xaa" * half))
        saved = r"sqlite3 old engine.db .recover \| sqlite3 saved-old engine.db"
        with pytest.raises(DatabaseDamaged, match=f"is damaged: .*Save what can be read, .*{saved}"):
            await read_all(old)

    async def test_text_that_is_not_unicode(self, tmp_path: Path) -> None:
        """A text that isn't Unicode is read nevertheless."""
        old = old_file(tmp_path / "old.db", STEPS="STEP_NAME")
        with closing(sqlite3.connect(old)) as connection:
            connection.execute("INSERT INTO ENGINE_DB_LOG_STEPS VALUES (CAST(x'61ff62' AS TEXT))")
            connection.commit()
        assert await read_all(old) == {"ENGINE_DB_LOG_STEPS": [["a\ufffdb"]]}

    async def test_no_file(self, tmp_path: Path) -> None:
        """A file that isn't there isn't made."""
        with pytest.raises(PathError, match=r"doesn't exist; pass the path of the old engine's file"):
            await OldFile.open(tmp_path / "old.db")
        with pytest.raises(PathError, match="is a folder"):
            await OldFile.open(tmp_path)
        assert os.listdir(tmp_path) == []

    async def test_not_a_database(self, tmp_path: Path) -> None:
        """A file of another kind is refused."""
        (tmp_path / "notes.txt").write_text("not a database at all, by no means")
        with pytest.raises(NotAnEngineLog, match="isn't a SQLite database"):
            await OldFile.open(tmp_path / "notes.txt")

    async def test_database_of_this_package(self, path: Path) -> None:
        """One of our own is refused: there is nothing to import."""
        async with EngineLog(path):
            pass
        with pytest.raises(NotAnEngineLog, match="is a database of async-enginelog"):
            await OldFile.open(path)


class TestTables:
    async def test_in_any_case(self, tmp_path: Path) -> None:
        """Tables are known in any case; others are counted."""
        old = old_file(
            tmp_path / "old.db",
            STEPS=[{"STEP_NAME": "a"}],
            engine_db_log_functions=[{"FRAME_NO": 1}],
            customers=[{"name": "x"}, {"name": "y"}],
        )
        file = await OldFile.open(old)
        known, others, _ = await file.tables()
        counts = [await file.row_count(table) for table in known]
        await file.close()
        assert [table.table.name for table in known] == ["ENGINE_DB_LOG_FUNCTIONS", "ENGINE_DB_LOG_STEPS"]
        assert counts == [1, 1]
        assert others == {"customers": 2}

    @pytest.mark.parametrize(
        ("tables", "found"), [({}, "it has none at all"), ({"customers": "name"}, "it has customers")]
    )
    async def test_none(self, tmp_path: Path, tables: dict[str, str], found: str) -> None:
        """A database without a table of the log is refused; what it has is told."""
        file = await OldFile.open(old_file(tmp_path / "old.db", **tables))
        with pytest.raises(NotAnEngineLog, match=f"has no table of an engine's log \\({found}\\)"):
            await file.tables()
        await file.close()

    async def test_one_that_cannot_be_counted(self, tmp_path: Path) -> None:
        """A table that only its own program can read is no trouble."""
        old = old_file(tmp_path / "old.db", STEPS="STEP_NAME")
        with closing(sqlite3.connect(old)) as connection:
            connection.execute("PRAGMA writable_schema = ON")
            strange = "CREATE VIRTUAL TABLE v USING nosuch"
            connection.execute("INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 0, ?)", (strange,))
            connection.commit()
        file = await OldFile.open(old)
        assert (await file.tables()).others == {"v": None}
        await file.close()

    async def test_columns(self, tmp_path: Path) -> None:
        """Of a column its default is known, and whether SQLite numbers it; its name may be anything."""
        columns = 'ID INTEGER PRIMARY KEY, "a ""b""" TEXT, DT_ADDED DATETIME DEFAULT CURRENT_TIMESTAMP'
        old = old_file(tmp_path / "old.db", RESOURCE_MONITOR=columns)
        write(old, "RESOURCE_MONITOR", {}, {'"a ""b"""': "x"})
        file = await OldFile.open(old)
        [table] = (await file.tables()).known
        rows = await file.rows(table, BEFORE_ALL, 10)
        await file.close()
        assert table.unknown == {'a "b"': 1}
        assert [table.is_empty(values) for _, *values in rows] == [True, False]

    @pytest.mark.parametrize("names", [["rowid"], ["ROWID", "_rowid_"], ["oid"], ["rowid", "oid"]])
    async def test_column_called_like_the_number_of_a_row(self, old: Path, names: list[str]) -> None:
        """All rows are read, in their order, whatever the columns are called."""
        with closing(sqlite3.connect(old)) as connection:
            for name in names:
                connection.execute(f"ALTER TABLE ENGINE_DB_LOG_STEPS ADD COLUMN {name} TEXT")
            connection.execute(f"UPDATE ENGINE_DB_LOG_STEPS SET {names[0]} = 'x' WHERE STEP_ID < 50")
            connection.commit()
        rows = (await read_all(old))["ENGINE_DB_LOG_STEPS"]
        assert [row[1] for row in rows] == list(range(100))

    @pytest.mark.parametrize(
        ("columns", "why"),
        [
            ("STEP_ID PRIMARY KEY) WITHOUT ROWID --", "ENGINE_DB_LOG_STEPS is a table WITHOUT ROWID"),
            ("rowid, _rowid_, oid, STEP_ID", "ENGINE_DB_LOG_STEPS has columns called rowid, _rowid_, oid"),
        ],
    )
    async def test_rows_without_numbers(self, tmp_path: Path, columns: str, why: str) -> None:
        """A table whose rows have no numbers is refused by its name before anything is read."""
        (tmp_path / "old.db").touch()
        with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
            connection.execute(f"CREATE TABLE ENGINE_DB_LOG_STEPS ({columns}\n{')' * ('--' not in columns)}")
        file = await OldFile.open(tmp_path / "old.db")
        with pytest.raises(StorageError, match=f"{why}; in a copy of the file, make it anew without that"):
            await file.tables()
        await file.close()

    async def test_numbers_of_rows_that_cannot_be_read(
        self, old: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What else goes wrong meanwhile isn't taken for that."""
        monkeypatch.setattr(oldfile, "ROW_NUMBERS", ("nosuch()",))
        file = await OldFile.open(old)
        with pytest.raises(StorageError, match="no such function"):
            await file.tables()
        await file.close()

    async def test_missing(self, tmp_path: Path) -> None:
        """Tables that aren't there are told, and views that are called like them."""
        old = old_file(tmp_path / "old.db", STEPS=STEPS)
        with closing(sqlite3.connect(old)) as connection:
            connection.execute("CREATE VIEW engine_db_log_functions AS SELECT * FROM ENGINE_DB_LOG_STEPS")
        file = await OldFile.open(old)
        tables = await file.tables()
        await file.close()
        assert tables.views == ["ENGINE_DB_LOG_FUNCTIONS"]
        assert set(tables.missing) == TABLES.keys() - {"ENGINE_DB_LOG_STEPS"}


class TestRestarts:
    async def restarts(self, path: Path) -> list[str]:
        """Return when the engine was started anew."""
        file = await OldFile.open(path)
        found = await file.restarts((await file.tables()).known)
        await file.close()
        return found

    def births(self, *births: tuple[int, str], **more: Any) -> list[dict[str, Any]]:
        """Return connections, each with an id and the hour and minute at which it began."""
        return [
            {"WEBSOCKET_CONNECTION_ID": number, "DT_CONNECTION_REQUEST": f"2025-08-29 {time}:00.5", **more}
            for number, time in births
        ]

    async def test_none(self, tmp_path: Path) -> None:
        """As long as no id is used twice, the engine was started once, however many rows a thing has."""
        connections = self.births((1, "10:00"), (2, "10:01"), (2, "10:01"), (4, "09:00"), (3, "10:02"))
        old = old_file(tmp_path / "old.db", WEBSOCKET_CONNECTION=connections, STEPS=STEPS)
        assert await self.restarts(old) == []

    async def test_connections(self, tmp_path: Path) -> None:
        """Where an id is used again, the engine was started anew, a second before; as seldom as can be."""
        connections = self.births(
            (1, "10:00"), (2, "10:01"), (3, "10:02"), (1, "11:00"), (2, "11:01"), (1, "12:00"), (3, "12:30")
        )
        old = old_file(tmp_path / "old.db", WEBSOCKET_CONNECTION=connections)
        assert await self.restarts(old) == ["2025-08-29 10:59:59.500", "2025-08-29 11:59:59.500"]

    async def test_messages(self, tmp_path: Path) -> None:
        """Messages tell of it, too, in whatever order the rows are; a message has one recording."""
        messages = [
            {"MESSAGE_ID": 1, "RECORDING_ID": recording, "DT_MESSAGE_RECEIVED": f"2025-08-29T{time}:00"}
            for recording, time in (
                (8, "11:00"),
                (7, "10:00"),
                (7, "10:05"),
                (None, "13:00"),
                (None, "14:00"),
            )
        ]
        connections = self.births((1, "10:30"), (1, "12:00"))
        old = old_file(tmp_path / "old.db", WEBSOCKET_MESSAGE=messages, WEBSOCKET_CONNECTION=connections)
        assert await self.restarts(old) == [
            "2025-08-29 10:59:59.000",
            "2025-08-29 12:59:59.000",
            "2025-08-29 13:59:59.000",
        ]

    async def test_conflicts(self, tmp_path: Path) -> None:
        """Times of one id that are closer than an engine can start are a conflict, not a start."""
        born = "DT_CONNECTION_REQUEST"
        connections = [
            {"WEBSOCKET_CONNECTION_ID": 1, born: f"2025-08-29 10:00:00.{part}"} for part in ("1", "95")
        ]
        assert await self.restarts(old_file(tmp_path / "old.db", WEBSOCKET_CONNECTION=connections)) == []

    async def test_rubbish(self, tmp_path: Path) -> None:
        """What isn't a time tells nothing."""
        connections = [
            {"WEBSOCKET_CONNECTION_ID": 1, "DT_CONNECTION_REQUEST": born}
            for born in ("2025-08-29 10:00:00", None, "", "now", "2025-99-99 10:00:00", 17, b"2025", "1999")
        ]
        assert await self.restarts(old_file(tmp_path / "old.db", WEBSOCKET_CONNECTION=connections)) == []

    @few
    @given(lives=st.lists(st.integers(1, 5), min_size=1, max_size=8))
    async def test_any_number(self, tmp_path_factory: pytest.TempPathFactory, lives: list[int]) -> None:
        """Each thing of one id is in another life than the thing before."""
        moment = datetime(2025, 8, 29)
        connections: list[dict[str, Any]] = []
        for count in lives:
            moment += timedelta(hours=1)
            for number in range(1, count + 1):
                moment += timedelta(milliseconds=700)
                connections.append({"WEBSOCKET_CONNECTION_ID": number, "DT_CONNECTION_REQUEST": str(moment)})
        old = old_file(tmp_path_factory.mktemp("lives") / "old.db", WEBSOCKET_CONNECTION=connections)
        assert len(await self.restarts(old)) == len(lives) - 1


async def test_first_time(tmp_path: Path) -> None:
    """The first time of all tables is found, and what isn't one is passed over."""
    file = await OldFile.open(
        old_file(
            tmp_path / "old.db",
            STEPS=[
                {"DT_STEP_CALLED": "0", "DT_ADDED": "2025-08-29 10:00:01"},
                {"DT_STEP_CALLED": "2025-08-29T10:00:00", "DT_ADDED": None},
            ],
            FUNCTIONS=[{"DT_ADDED": "2025-08-29 10:00:02", "FRAME_NO": 1}],
            FUNCTION_ERROR="ERROR_MESSAGE_TEXT",
        )
    )
    tables = (await file.tables()).known
    assert await file.first_time(tables) == "2025-08-29 10:00:00"
    assert await file.first_time([table for table in tables if "ERROR" in table.table.name]) is None
    await file.close()
