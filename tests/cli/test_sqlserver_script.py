"""enginelog sqlserver-script: what it writes, for which paths, and what it refuses."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from async_enginelog.migrations import APPLICATION_ID, migrations
from async_enginelog.odbc import bridge_version
from async_enginelog.odbc_paths import connection_string
from async_enginelog.sqlserver import Link, Target, create_script, remove_script
from async_enginelog.tsql import literal

from .conftest import Outcome

pytestmark = pytest.mark.skipif(
    os.name == "nt", reason="there, a path of Windows is one of this machine, and must exist"
)

Enginelog = Callable[..., Outcome]

VERSION = bridge_version(migrations())
PATH = r"C:\VIOLIN\engine_log.db"
FILE = "create_sql_server_linked_server.sql"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the command is called."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ENGINELOG_DB", raising=False)
    return folder


def link(path: str = PATH, *names: str) -> Link:
    """Return a link as the command makes it."""
    return Link(path, Target(*(names or ("ENGINE_LOG", "VIOLIN"))), VERSION)


def test_writes_the_script(enginelog: Enginelog, folder: Path) -> None:
    """The script for a path of Windows is written on any machine, into a file of its name."""
    code, out, err = enginelog("sqlserver-script", PATH)

    assert (code, err) == (0, "")
    assert out.startswith(f"wrote {FILE}; open it in Management Studio")
    assert (folder / FILE).read_text("utf-8-sig") == create_script(link())


def test_file_suits_management_studio(enginelog: Enginelog, folder: Path) -> None:
    """The file says that it is UTF-8, and has the ends of lines of Windows."""
    enginelog("sqlserver-script", "C:\\ü\\🎻.db")
    written = (folder / FILE).read_bytes()

    assert written.startswith(b"\xef\xbb\xbf-- Written by enginelog")
    assert written.count(b"\r\n") == written.count(b"\n") > 1000
    assert "C:\\ü\\🎻.db".encode() in written


def test_takes_all_options(enginelog: Enginelog) -> None:
    """Each option gets into the script."""
    options = ["--linked-server", "L'1", "--sql-database", "D]2", "--schema", "S 3", "--rows", 77]
    logins = ["--login", r"PC\me", "--login", "O'Hara"]
    code, out, _ = enginelog("sqlserver-script", PATH, *options, *logins, "--copy-every", 60, "-o", "-")

    target = Target("L'1", "D]2", "S 3")
    wanted = Link(PATH, target, VERSION, (r"PC\me", "O'Hara"), rows=77, copy_every=60)
    assert code == 0
    assert out == create_script(wanted)


def test_removes(enginelog: Enginelog, folder: Path) -> None:
    """--remove writes the script that takes it all away; there is no need for a database."""
    code, out, _ = enginelog("sqlserver-script", "--remove", "--linked-server", "L")

    assert code == 0
    assert "wrote remove_sql_server_linked_server.sql" in out
    script = (folder / "remove_sql_server_linked_server.sql").read_text("utf-8-sig")
    assert script == remove_script(Target("L", "VIOLIN"))


def test_writes_again(enginelog: Enginelog, folder: Path) -> None:
    """An earlier script is replaced."""
    enginelog("sqlserver-script", PATH)
    assert enginelog("sqlserver-script", r"D:\other.db").code == 0
    assert r"D:\other.db" in (folder / FILE).read_text("utf-8-sig")
    assert enginelog("sqlserver-script", "--remove", "--output", FILE).code == 0


def test_overwrites_nothing_else(enginelog: Enginelog, log_path: Path, folder: Path) -> None:
    """Any other file is left as it is: a database, say."""
    before = log_path.read_bytes()
    code, _, err = enginelog("sqlserver-script", PATH, "--output", log_path)
    assert (code, log_path.read_bytes()) == (2, before)
    assert "exists and isn't such a script" in err
    code, _, err = enginelog("sqlserver-script", PATH, "--output", folder)
    assert (code, "is a folder" in err) == (2, True)
    code, _, err = enginelog("sqlserver-script", PATH, "--output", folder / "no" / "x.sql")
    assert (code, "No such file" in err) == (2, True)


# -- paths ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        r"C:\Program Files (x86)\engine\log.db",
        r"D:\it's [my] 'log'.db",
        r"D:\100% 50%\log.db",
        "D:\\Пётр 🎻\\ü.db",
        r"D:\a;b\{x}\#1.db",
    ],
)
def test_paths_with_all_characters(enginelog: Enginelog, path: str) -> None:
    """Spaces, quotes, brackets, percent signs and letters of all alphabets are no obstacle."""
    code, out, _ = enginelog("sqlserver-script", path, "--output", "-")

    assert code == 0
    assert out == create_script(link(path))
    assert literal(connection_string(path)) in out


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (r"\\server\share\log.db", "on the network"),
        ("//server/share/log.db", "on the network"),
        ("file://server/share/log.db", "on the host server"),
        (r"C:log.db", "isn't an absolute path"),
        ("C:\\VIOLIN\\dir\\", "is a folder; pass the path of the file in it"),
        ("C:\\a\nb.db", "control characters"),
    ],
)
def test_refuses_paths(enginelog: Enginelog, folder: Path, path: str, reason: str) -> None:
    """A path that can't work is refused, with the reason, and nothing is written."""
    code, out, err = enginelog("sqlserver-script", path)

    assert (code, out) == (2, "")
    assert reason in err
    assert list(folder.iterdir()) == []


def test_uri_of_windows(enginelog: Enginelog) -> None:
    """A URI is understood."""
    code, out, _ = enginelog("sqlserver-script", "file:///C:/a%20b.db", "-o", "-")

    assert (code, out) == (0, create_script(link(r"C:\a b.db")))


def test_path_of_this_machine(enginelog: Enginelog, log_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path of this machine is made absolute and looked at; where SQL Server can't be, that is said."""
    monkeypatch.chdir(log_path.parent)
    for arguments in ([log_path.name], [f"file://{log_path}"], []):
        code, out, err = enginelog("sqlserver-script", *arguments, "-o", "-")
        assert (code, out) == (0, create_script(link(str(log_path))))
        assert "SQL Server reads SQLite on Windows only" in err


def test_path_from_the_environment(enginelog: Enginelog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a path, the setting ENGINELOG_DB is the path, of Windows or of here."""
    monkeypatch.setenv("ENGINELOG_DB", PATH)

    assert enginelog("sqlserver-script", "-o", "-") == (0, create_script(link()), "")


def test_unusable_databases(enginelog: Enginelog, unusable: dict[str, Path], folder: Path) -> None:
    """A path of this machine at which there is no log is refused as by the other verbs."""
    for reason, path in unusable.items():
        code, out, err = enginelog("sqlserver-script", path)
        assert (code, out) == (2, "")
        assert reason in err
    assert list(folder.iterdir()) == []


def test_old_database(enginelog: Enginelog, tmp_path: Path) -> None:
    """One that has no views yet needs to be brought up to date first."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        for statement in migrations()[0]:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
    code, _, err = enginelog("sqlserver-script", path)

    assert code == 2
    assert f"has schema version 1, SQL Server needs {VERSION}; bring it up to date: enginelog init" in err
    enginelog("init", path)
    assert enginelog("sqlserver-script", path).code == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--linked-server", ""], "the linked server is empty"),
        (["--sql-database", "a\nb"], "the database of SQL Server 'a\\nb' has control characters"),
        (["--schema", "x" * 129], "longer than 128"),
        (["--login", " "], "the login is empty"),
        (["--rows", "0"], "--rows"),
        (["--copy-every", "9"], "--copy-every"),
        (["--copy-every", "90"], "pass 60 or 120, as SQL Server Agent counts whole minutes"),
    ],
)
def test_refuses_names_and_numbers(enginelog: Enginelog, arguments: list[str], reason: str) -> None:
    """What SQL Server would refuse, or what would break the script, is refused."""
    code, out, err = enginelog("sqlserver-script", PATH, *arguments)

    assert (code, out) == (2, "")
    assert reason in " ".join(err.split())
