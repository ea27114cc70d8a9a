"""Every verb with what an attacker would have in the log, in an old file, in a capture, and in names."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import unicodedata
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from async_enginelog import EngineLog
from async_enginelog.segments import lock_path, segment_path, spool_folder
from async_enginelog.tables import TABLES, Kind
from async_enginelog.terminal import HARMFUL

from .conftest import Outcome

Enginelog = Callable[..., Outcome]

# Escape sequences of 7 and 8 bits, titles, line breaks of all kinds, signs of direction, SQL, markup of rich.
HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\u2028\x85\x7f\b\r\n"
    "2026-11-23 00:00:00.000000  '; DROP TABLE ENGINE_DB_LOG_STEPS; --\" OR 1=1 [bold red][/]{0}%s"
)
# What a file can be called.
NAME = "a'; --\x1b]0;x\x07\x9b\u202e[red]\r\n.db"

on_posix = pytest.mark.skipif(os.name == "nt", reason="files can't have such names there")
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can make files of others"
)


def harmful(text: str) -> set[str]:
    """Return what in a text would do a terminal harm."""
    return {character for character in text if unicodedata.category(character) in HARMFUL} - {"\n"}


async def _fill(path: Path) -> None:
    async with EngineLog(path) as log:
        for table in TABLES.values():
            values = {
                argument: 7 if column.kind is Kind.INTEGER else HOSTILE
                for argument, column in table.columns.items()
                if column.kind in (Kind.INTEGER, Kind.TEXT)
            }
            await log.log_row(table.name, values)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A log in which every text is hostile, also of a run that died, and the name of the file."""
    path = tmp_path / NAME
    asyncio.run(_fill(path))
    with closing(sqlite3.connect(path)) as connection:
        for column in ("HOST_NAME", "LIBRARY_VERSION", "DT_STARTED", "DT_LAST_SIGN_OF_LIFE"):
            connection.execute(f"UPDATE ENGINE_LOG_RUN SET {column} = ?", (HOSTILE,))
        connection.execute("UPDATE ENGINE_LOG_RUN SET HOW_ENDED = 'crashed'")
        for table, column in {
            "WEBSOCKET_CONNECTION": "DT_CONNECTION_ACCEPTED",
            "RECORDING_CONFIG": "DT_RECORDING_START",
            "PROCESS_REGISTRY": "last_heartbeat",
        }.items():
            connection.execute(f"UPDATE ENGINE_DB_LOG_{table} SET {column} = ?", (HOSTILE,))
        for column in ("DT_CONNECTION_CLOSED",):
            connection.execute(f"UPDATE ENGINE_DB_LOG_WEBSOCKET_CONNECTION SET {column} = NULL")
        connection.commit()
    return path


@on_posix
class TestHostileLog:
    @pytest.mark.parametrize(
        "verb",
        [
            *(
                ["tail"],
                ["tail", "-n", "1000"],
                ["tail", "-t", "function_error"],
                ["runs"],
                ["runs", "--json"],
            ),
            *(["stats"], ["stats", "--json"], ["doctor"], ["doctor", "--json"], ["verify"], ["init"]),
            *(["init", "--truncate", "--yes"], ["sqlserver-script", "--output", "-"]),
        ],
        ids=" ".join,
    )
    def test_every_verb(self, enginelog: Enginelog, hostile: Path, verb: list[str]) -> None:
        """It says what there is without harm to the terminal, and nothing of it is taken for SQL."""
        name, *options = verb
        database = ["--database", hostile] if name == "sqlserver-script" else [hostile]
        code, out, err = enginelog(name, *database, *options)

        assert code in (0, 1, 2)
        assert not harmful(err)
        if name != "sqlserver-script":
            assert not harmful(out)
            assert not any(line.startswith("2026-11-23 00:00:00") for line in out.splitlines())
        if "--json" in options:
            assert json.loads(out)
        with closing(sqlite3.connect(hostile)) as connection:
            assert connection.execute("SELECT count(*) FROM ENGINE_LOG_RUN").fetchone() == (1,)
            expected = 0 if "--truncate" in options else 1
            assert connection.execute("SELECT count(*) FROM ENGINE_DB_LOG_STEPS").fetchone() == (expected,)

    def test_json_says_what_is_there(self, enginelog: Enginelog, hostile: Path) -> None:
        """For programs, a text is what it is; only written so that a terminal isn't harmed."""
        [run] = json.loads(enginelog("runs", hostile, "--json").out)
        assert run["host"] == HOSTILE

    def test_names_that_are_options(self, enginelog: Enginelog, hostile: Path) -> None:
        """A table or an account that doesn't exist is told as it was given, without harm."""
        for command in (["tail", hostile, "-t", HOSTILE], ["doctor", hostile, "--reader", HOSTILE]):
            code, _, err = enginelog(*command)
            assert code == 2
            assert not harmful(err)

    def test_backup(self, enginelog: Enginelog, hostile: Path) -> None:
        """Its names are told without harm; the copy has every row, and is for this account only."""
        copy = hostile.with_name(f"copy of {NAME}")
        with_umask = os.umask(0)
        try:
            code, out, err = enginelog("backup", copy, hostile)
        finally:
            os.umask(with_umask)

        assert (code, err) == (0, "")
        assert not harmful(out)
        assert copy.stat().st_mode & 0o777 == 0o600
        assert enginelog("stats", copy, "--json").code == 0

    def test_replay(self, enginelog: Enginelog, hostile: Path) -> None:
        """Rows that can't be read are shown without harm; tables and columns are those of the log."""
        lines = [
            'enginelog-row 1700000000 1 ["ENGINE_DB_LOG_STEPS",{"step_name":"good"}]',
            'enginelog-row 1700000000 2 ["ENGINE_LOG_RUN",{"HOST_NAME":"forged"}]',
            'enginelog-row 1700000000 3 ["sqlite_schema",{"sql":"forged"}]',
            'enginelog-row 1700000000 4 ["ENGINE_DB_LOG_STEPS",{"step_name) --":"\\u001b[2J\\u009b\\u202e"}]',
        ]
        code, out, err = enginelog("replay", "-", hostile, input="\n".join(lines).encode())

        assert code == 1
        assert not harmful(out + err)
        assert "1 replayed" in out
        assert "3 unreadable" in out

    def test_import(self, enginelog: Enginelog, tmp_path: Path) -> None:
        """An old file whose tables and columns have hostile names is reported without harm."""
        old, new = tmp_path / f"old {NAME}", tmp_path / "new.db"
        name = '"' + HOSTILE.replace('"', '""') + '"'
        with closing(sqlite3.connect(old)) as connection:
            connection.execute(f"CREATE TABLE {name} ({name} TEXT)")
            connection.execute(
                f"CREATE TABLE ENGINE_DB_LOG_STEPS (STEP_NAME TEXT, {name} TEXT, FRAME_NO TEXT)"
            )
            connection.execute("INSERT INTO ENGINE_DB_LOG_STEPS VALUES (?, ?, ?)", (HOSTILE,) * 3)
            connection.commit()
        code, out, err = enginelog("import", old, new)

        assert code == 1, err
        assert not harmful(out + err)
        assert "isn't known here" in out
        with closing(sqlite3.connect(new)) as connection:
            assert connection.execute("SELECT STEP_NAME FROM ENGINE_DB_LOG_STEPS").fetchall() == [
                (HOSTILE[:100],)
            ]
        assert not harmful(enginelog("import", old, new, "--json").out)


class TestTail:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("plain", "step_name=plain"),
            ("two words", 'step_name="two words"'),
            ("no\u00a0break", 'step_name="no\u00a0break"'),
            ('x" recording_id="7', "step_name='x\" recording_id=\"7'"),
            ('it\'s "x"', "step_name='it\\'s \"x\"'"),
            ("'x", 'step_name="\'x"'),
            ("don't", "step_name=don't"),
        ],
    )
    def test_one_value_looks_like_one(
        self, enginelog: Enginelog, tmp_path: Path, text: str, shown: str
    ) -> None:
        """A value that is made to look like another column is shown as one value."""

        async def fill() -> None:
            async with EngineLog(tmp_path / "log.db") as log:
                await log.log_steps(step_name=text)

        asyncio.run(fill())
        assert enginelog("tail", tmp_path / "log.db").out.rstrip("\n").endswith(shown)


@on_posix
@as_root
class TestPlanted:
    """What another account put into the spool, as the command sees it."""

    def test_doctor_names_it(self, enginelog: Enginelog, log_path: Path) -> None:
        """The doctor names it, its owner and what to do; nobody waits for a pipe."""
        folder = spool_folder(log_path)
        pipe = segment_path(folder, 1_700_000_000, 1)
        os.mkfifo(pipe, 0o600)
        os.chown(pipe, 65534, 65534)
        os.chown(folder, 0, 0)
        code, out, _ = enginelog("doctor", log_path, "--engine", "root")

        assert code == 1
        assert f"the engine's account root leaves alone {pipe} (0600, of nobody)" in out
        assert f"chown -h root {pipe}" in out
        assert enginelog("verify", log_path).code == 0

    def test_doctor_names_what_any_account_may_write(self, enginelog: Enginelog, log_path: Path) -> None:
        """A file of the spool that any account may write is wrong, too."""
        log_path.parent.chmod(0o755)
        lock = lock_path(spool_folder(log_path), 1_700_000_000)
        lock.touch()
        lock.chmod(0o666)
        folders = [*log_path.parents]
        modes = [folder.stat().st_mode & 0o7777 for folder in folders[:4]]
        for folder in folders[:4]:
            folder.chmod(folder.stat().st_mode | 0o005)
        try:
            code, out, _ = enginelog("doctor", log_path)
        finally:
            for folder, mode in zip(folders, modes, strict=False):
                folder.chmod(mode)

        assert code == 1
        assert f"any account of this machine may write to {lock}" in out
