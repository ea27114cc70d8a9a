"""Who may read what the log writes, and what it doesn't take from strangers."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import re
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import async_enginelog
from async_enginelog import EngineLog, PathError, StorageError, ownership, segments
from async_enginelog.console import Console, rows_in
from async_enginelog.database import Database
from async_enginelog.lines import decode, encoder_of
from async_enginelog.segments import lock_path, segment_path, spool_folder
from async_enginelog.spool import claim_run
from async_enginelog.tables import STEPS
from async_enginelog.terminal import HARMFUL, harmless, harmless_json

from .conftest import Query

NOBODY = 65534
RUN = 1_700_000_000
PACKAGE = Path(async_enginelog.__file__).parent

on_posix = pytest.mark.skipif(os.name == "nt", reason="modes say nothing on Windows")
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can make files of others"
)


@pytest.fixture(autouse=True)
def quick_spools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spools that are quick to make."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 128 * 1024)


# A reader of another account. It takes on that account itself, as the interpreter may be root's own.
READ_AS = """
import os, sqlite3, sys
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(12345)
database = sqlite3.connect(sys.argv[1], uri=True)
print(database.execute("SELECT STEP_NAME FROM ENGINE_DB_LOG_STEPS").fetchall())
"""


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """What this process leaves out of the modes of its files."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes_in(folder: Path) -> set[int]:
    return {mode_of(path) for path in folder.iterdir()}


def beside(path: Path) -> list[Path]:
    """Return a database and what SQLite keeps beside it."""
    return [path.with_name(path.name + end) for end in ("", "-wal", "-shm")]


@on_posix
class TestModes:
    @pytest.mark.parametrize("mask", [0, 0o022, 0o027, 0o077])
    async def test_for_this_account_only(self, tmp_path: Path, mask: int) -> None:
        """Whatever the umask: database, WAL and spool, and the folder that is made for them."""
        path = tmp_path / "logs" / "engine_log.db"
        with umask(mask):
            async with EngineLog(path) as log:
                await log.log_steps(step_name="a")
                await log.flush()
                assert [mode_of(file) for file in beside(path)] == [0o600] * 3
                assert modes_in(spool_folder(path)) == {0o600}
        assert mode_of(spool_folder(path)) == mode_of(path.parent) == 0o700

    @pytest.mark.parametrize(
        ("mode", "folder"), [(0o600, 0o700), (0o640, 0o750), (0o660, 0o770), (0o644, 0o755)]
    )
    async def test_setting(self, tmp_path: Path, mode: int, folder: int) -> None:
        """The setting is for the database, what is beside it, and its folder; never for the spool."""
        path = tmp_path / "logs" / "engine_log.db"
        with umask(0o077):
            async with EngineLog(path, mode=mode) as log:
                await log.log_steps(step_name="a")
                await log.flush()
                assert [mode_of(file) for file in beside(path)] == [mode] * 3
                assert modes_in(spool_folder(path)) == {0o600}
        assert (mode_of(path.parent), mode_of(spool_folder(path))) == (folder, 0o700)

    async def test_what_is_there_keeps_its_mode(self, path: Path) -> None:
        """A database and a folder that exist are left as they are; what is beside the file follows it."""
        async with EngineLog(path):
            pass
        path.chmod(0o640)
        path.parent.chmod(0o711)
        async with EngineLog(path) as log:
            await log.log_steps(step_name="a")
            await log.flush()
            assert [mode_of(file) for file in beside(path)] == [0o640] * 3
        assert (mode_of(path), mode_of(path.parent)) == (0o640, 0o711)

    @pytest.mark.parametrize("mode", [0, 0o400, 0o666, 0o602, 0o700, 0o1600, -1, "0600", None])
    def test_modes_that_can_not_be_meant(self, path: Path, mode: int) -> None:
        """A mode that keeps the engine out, or lets any account write, is refused."""
        with pytest.raises(ValueError, match="pass 0o600"):
            EngineLog(path, mode=mode)

    @as_root
    async def test_the_group_reads_along(self) -> None:
        """With 0o640, an account of the group reads what is committed while the engine runs; others can't."""
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "logs" / "engine_log.db"
            Path(name).chmod(0o755)
            path.parent.mkdir()
            os.chown(path.parent, 0, NOBODY)
            path.parent.chmod(0o2750)  # so that files get its group
            async with EngineLog(path, mode=0o640) as log:
                await log.log_steps(step_name="seen")
                await log.flush()
                said = {
                    group: await asyncio.to_thread(
                        subprocess.run,
                        [sys.executable, "-c", READ_AS, f"file:{path}?mode=ro", str(group)],
                        capture_output=True,
                    )
                    for group in (NOBODY, 12345)
                }
        assert said[NOBODY].stdout.decode().strip() == "[('seen',)]"
        assert said[12345].returncode != 0

    def test_made_in_one_step(self, tmp_path: Path) -> None:
        """A file is made anew or not at all; a link that waits for it leads nowhere."""
        victim = tmp_path / "victim"
        link = tmp_path / "link"
        link.symlink_to(victim)
        assert not ownership.create_file(link)
        assert not victim.exists()
        assert ownership.create_file(victim)
        assert not ownership.create_file(victim)


# -- what strangers plant ---------------------------------------------------------------------------


def leftover(path: Path, step: str = "planted") -> Path:
    """Leave the spool of a run that died, with one row, as an engine would; return its segment."""
    folder = spool_folder(path)
    folder.mkdir(mode=0o700, exist_ok=True)
    lock_path(folder, RUN).touch(mode=0o600)
    segment = segment_path(folder, RUN, 1)
    header = segments.Header(RUN, "host", 1, "0", "2023-11-14T22:13:20.000000+00:00")
    segment.write_bytes(header.line() + encoder_of(STEPS)({"step_name": step}) + bytes(100))
    segment.chmod(0o600)
    return segment


async def opened_and_told(path: Path, caplog: pytest.LogCaptureFixture) -> str:
    """Open and close a log; return what it warned of."""
    with caplog.at_level(logging.WARNING, "async_enginelog"):
        async with EngineLog(path):
            pass
    return "\n".join(record.getMessage() for record in caplog.records)


@on_posix
class TestPlantedSpool:
    """Rows in a spool are believed; so it must be the engine's own."""

    async def test_own(self, path: Path, query: Query) -> None:
        """What this account left is committed."""
        leftover(path)
        async with EngineLog(path):
            pass
        assert query("SELECT STEP_NAME FROM ENGINE_DB_LOG_STEPS") == [("planted",)]

    @as_root
    @pytest.mark.parametrize("which", ["segment", "lock", "link", "pipe"])
    async def test_file_of_another_account(
        self, path: Path, query: Query, caplog: pytest.LogCaptureFixture, which: str
    ) -> None:
        """It is named with its owner, and left alone."""
        segment = leftover(path)
        file = lock_path(segment.parent, RUN) if which == "lock" else segment
        if which == "link":
            segment.rename(path.with_name("elsewhere"))
            segment.symlink_to(path.with_name("elsewhere"))
        elif which == "pipe":
            segment.unlink()
            os.mkfifo(segment, 0o600)
        os.chown(file, NOBODY, NOBODY, follow_symlinks=False)
        told = await opened_and_told(path, caplog)

        assert f"{file} belongs to the account nobody" in told
        assert "It is left alone" in told
        assert query("SELECT * FROM ENGINE_DB_LOG_STEPS") == []
        assert file.is_symlink() or file.exists()

    async def test_link(self, path: Path, query: Query, caplog: pytest.LogCaptureFixture) -> None:
        """A link is not followed, whoever made it."""
        segment = leftover(path)
        segment.rename(path.with_name("elsewhere"))
        segment.symlink_to(path.with_name("elsewhere"))
        told = await opened_and_told(path, caplog)

        assert f"{segment} is a link" in told
        assert query("SELECT * FROM ENGINE_DB_LOG_STEPS") == []

    async def test_file_that_any_account_may_write(
        self, path: Path, query: Query, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its rows may be anybody's; when that is mended, they are committed."""
        segment = leftover(path)
        segment.chmod(0o666)
        told = await opened_and_told(path, caplog)
        assert f"{segment}, of the account" in told
        assert "may be written to by any account" in told
        assert query("SELECT * FROM ENGINE_DB_LOG_STEPS") == []

        segment.chmod(0o600)
        await opened_and_told(path, caplog)
        assert query("SELECT STEP_NAME FROM ENGINE_DB_LOG_STEPS") == [("planted",)]

    async def test_own_folder_that_any_account_may_write(
        self, path: Path, query: Query, caplog: pytest.LogCaptureFixture
    ) -> None:
        """After `chmod -R 777`, the right to write is taken back; what is in there may be anybody's."""
        segment = leftover(path)
        for file in (segment, segment.parent):
            file.chmod(0o777)
        told = await opened_and_told(path, caplog)

        assert mode_of(segment.parent) == 0o775
        assert "could be written to by any account; not any more" in told
        assert "may be written to by any account of this machine. It is left alone" in told
        assert query("SELECT * FROM ENGINE_DB_LOG_STEPS") == []

    @as_root
    @pytest.mark.parametrize("mode", [0o700, 0o777])
    async def test_folder_of_another_account(self, path: Path, mode: int) -> None:
        """The log doesn't open, and says whose it is."""
        segment = leftover(path)
        os.chown(segment.parent, NOBODY, NOBODY)
        segment.parent.chmod(mode)
        with pytest.raises(
            PathError, match=f"{re.escape(str(segment.parent))} belongs to the account nobody"
        ):
            await EngineLog(path).open()
        assert set(segment.parent.iterdir()) == {segment, lock_path(segment.parent, RUN)}
        assert mode_of(segment.parent) == mode

    async def test_folder_that_is_a_link(self, path: Path, tmp_path: Path) -> None:
        """The log doesn't open, and nothing is made where the link leads."""
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        spool_folder(path).symlink_to(elsewhere)
        with pytest.raises(PathError, match="is a link"):
            await EngineLog(path).open()
        assert list(elsewhere.iterdir()) == []

    def test_link_in_the_way_of_the_run_number(self, tmp_path: Path) -> None:
        """A link where the number of the run is put down doesn't lead to the file it points to."""
        victim = tmp_path / "victim"
        victim.write_text("precious")
        (tmp_path / "last-run.new").symlink_to(victim)
        run = claim_run(tmp_path)

        assert victim.read_text() == "precious"
        assert (tmp_path / "last-run").read_text() == str(run)
        assert mode_of(tmp_path / "last-run") == 0o600

    def test_link_in_the_way_of_a_segment(self, tmp_path: Path) -> None:
        """A link where a segment goes isn't followed."""
        victim = tmp_path / "victim"
        (tmp_path / "1-000001.jsonl").symlink_to(victim)
        with pytest.raises(FileExistsError):
            segments.create_segment(tmp_path / "1-000001.jsonl", b"", 4096)
        assert not victim.exists()

    @as_root
    async def test_lock_of_another_account_keeps_nobody_alive(self, path: Path, query: Query) -> None:
        """A run that died can't be made to look alive."""
        async with EngineLog(path):
            pass
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE ENGINE_LOG_RUN SET HOW_ENDED = NULL, DT_ENDED = NULL")
            connection.commit()
        [(run,)] = query("SELECT ENGINE_RUN_ID FROM ENGINE_LOG_RUN")
        lock = lock_path(spool_folder(path), run)
        lock.touch(mode=0o666)
        os.chown(lock, NOBODY, NOBODY)
        hold = (
            "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); "
        )
        hold += "sys.stdin.read()"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen([sys.executable, "-c", hold, str(lock)], **pipes) as process:  # type: ignore[call-overload]
            assert process.stdout.readline() == b"1\n"
            async with EngineLog(path):
                pass
            process.communicate()
        assert query("SELECT HOW_ENDED FROM ENGINE_LOG_RUN ORDER BY 1") == [("closed",), ("crashed",)]


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A database to be in a folder like /tmp, where any account may put files."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder / "engine_log.db"


@on_posix
class TestPlantedDatabase:
    """In a folder where any account may put files."""

    async def test_own(self, shared: Path) -> None:
        """A log there works, with files for this account only."""
        for _ in range(2):
            async with EngineLog(shared) as log:
                await log.log_steps(step_name="a")
                await log.flush()
                assert [mode_of(file) for file in beside(shared)] == [0o600] * 3

    @as_root
    async def test_database_of_another_account(self, shared: Path) -> None:
        """It isn't opened, and its owner is named."""
        async with EngineLog(shared):
            pass
        os.chown(shared, NOBODY, NOBODY)
        before = shared.read_bytes()
        with pytest.raises(PathError, match="belongs to the account nobody, and any account may put files"):
            await EngineLog(shared).open()
        assert shared.read_bytes() == before

    @as_root
    @pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
    @pytest.mark.parametrize("is_new", [True, False])
    async def test_what_sqlite_would_find_beside_it(self, shared: Path, end: str, is_new: bool) -> None:
        """A WAL or shared memory of another account isn't used; the engine goes on, and rows wait."""
        if not is_new:
            async with EngineLog(shared):
                pass
        planted = shared.with_name(shared.name + end)
        planted.write_bytes(b"planted")
        os.chown(planted, NOBODY, NOBODY)
        planted.chmod(0o666)
        with pytest.raises(StorageError, match="wait in .*belongs to the account nobody"):
            async with EngineLog(shared, timeout=0.2) as log:
                await log.log_steps(step_name="kept")
        assert planted.read_bytes() == b"planted"
        planted.unlink()
        async with EngineLog(shared):
            pass
        with closing(sqlite3.connect(shared)) as connection:
            assert connection.execute("SELECT STEP_NAME FROM ENGINE_DB_LOG_STEPS").fetchall() == [("kept",)]

    @as_root
    async def test_readers_may_read_what_is_not_theirs(self, shared: Path) -> None:
        """Reading along is for others."""
        async with EngineLog(shared):
            pass
        os.chown(shared, NOBODY, NOBODY)
        database = await Database.open_reader(shared)
        await database.close()

    @as_root
    @pytest.mark.parametrize("where", ["the database", "its folder", "behind a link of our own"])
    async def test_link_of_another_account(self, shared: Path, tmp_path: Path, where: str) -> None:
        """A link that somebody else has put there is never followed: its target would be in his hands."""
        target = tmp_path / "target"
        target.mkdir()
        link, given = shared.with_name("link"), shared.with_name("link")
        link.symlink_to(target / "engine_log.db" if where == "the database" else target)
        os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
        if where == "its folder":
            given = link / "engine_log.db"
        elif where != "the database":
            given = tmp_path / "own"
            given.symlink_to(Path("shared/../shared/link/engine_log.db"))
        with pytest.raises(PathError, match=r"shared/link is a link, of the account nobody, and any account"):
            EngineLog(given)
        assert list(target.iterdir()) == []

    async def test_link_of_our_own(self, shared: Path, tmp_path: Path) -> None:
        """Our own links lead where they lead, and those of the folder's owner."""
        target = tmp_path / "target.db"
        shared.symlink_to(target)
        async with EngineLog(shared) as log:
            assert log.path == target
        os.chown(shared.parent, NOBODY, NOBODY)
        os.chown(shared, NOBODY, NOBODY, follow_symlinks=False)
        assert EngineLog(shared).path == target

    def test_links_in_a_circle(self, shared: Path) -> None:
        """Links that lead to each other are no path."""
        shared.symlink_to(shared.with_name("other"))
        shared.with_name("other").symlink_to(shared)
        with pytest.raises(PathError, match="can't be a path"):
            EngineLog(shared)

    async def test_shared_on_purpose(self, path: Path) -> None:
        """In a folder that isn't for all, its owner has chosen who shares the log."""
        async with EngineLog(path):
            pass
        os.chown(path, NOBODY, NOBODY)
        async with EngineLog(path) as log:
            await log.log_steps(step_name="a")

    async def test_tricks_in_the_schema(self, path: Path) -> None:
        """A view in the file can't call what only a program should."""
        async with EngineLog(path):
            pass
        for opening in (Database.open_reader(path), Database.open(path, create=False)):
            database = await opening
            try:
                assert await database.fetch("PRAGMA trusted_schema") == [(0,)]
            finally:
                await database.close()


# Plants files where an engine looks for its own, and takes them away, as fast as it can.
ATTACKER = """
import os, random, sys, time
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
ends = "", "-wal", "-shm", "-journal", "-spool"
names = [os.path.join(sys.argv[1], "engine_log.db" + end) for end in ends]
end = time.monotonic() + float(sys.argv[3])
print("ready", flush=True)
while time.monotonic() < end:
    name, planted = random.choice(names), False
    try:
        if name.endswith("-spool"):
            os.mkdir(name)
            os.chmod(name, 0o777)
        elif random.random() < 0.3:
            os.symlink(sys.argv[2], name)
        else:
            file = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR)
            os.fchmod(file, 0o666)
            os.write(file, os.urandom(4096))
            os.close(file)
        time.sleep(random.random() / 100)
        (os.rmdir if name.endswith("-spool") else os.unlink)(name)
    except OSError:
        pass
"""


@pytest.mark.slow
@on_posix
@as_root
async def test_race_with_an_attacker() -> None:
    """Whatever another account plants meanwhile: each row arrives once, in files of the engine's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (victim := Path(name) / "victim").write_text("precious")
        (folder := Path(name) / "shared").mkdir()
        folder.chmod(0o1777)
        path = folder / "engine_log.db"
        command = [sys.executable, "-c", ATTACKER, str(folder), str(victim), "6"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as attacker:
            assert attacker.stdout
            attacker.stdout.readline()
            rows = await log_beside(attacker, path)
        async with EngineLog(path):
            pass
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY 1").fetchall()
        assert found == [(number,) for number in range(rows)]
        assert victim.read_text() == "precious"


async def log_beside(attacker: subprocess.Popen[bytes], path: Path) -> int:
    """Open and close a log until the attacker has gone; return how many rows it took."""
    rows = 0
    while attacker.poll() is None:
        try:
            async with EngineLog(path, timeout=0.2) as log:
                for _ in range(3):
                    await log.log_steps(step_name="a", step_id=rows)
                    rows += 1
                await log.flush()
                for file in beside(path):
                    found = file.lstat()
                    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o600)
        except StorageError:  # it doesn't open, or rows wait
            pass
    return rows


@on_posix
class TestStranger:
    """Whose a file is."""

    def test_not_there(self, tmp_path: Path) -> None:
        """What isn't there is nobody's."""
        assert ownership.stranger(tmp_path / "none") is None

    def test_own(self, tmp_path: Path) -> None:
        """This account's files and folders are trusted."""
        (tmp_path / "file").touch(mode=0o600)
        assert ownership.stranger(tmp_path / "file") is ownership.stranger(tmp_path) is None

    def test_pipe(self, tmp_path: Path) -> None:
        """A pipe, whose reader would wait for ever, is neither file nor folder."""
        os.mkfifo(tmp_path / "pipe", 0o600)
        assert "neither a file nor a folder" in str(ownership.stranger(tmp_path / "pipe"))

    @as_root
    def test_owner_without_a_name(self, tmp_path: Path) -> None:
        """An owner that the machine doesn't know has a number."""
        os.chown(tmp_path, 54321, 54321)
        assert "belongs to the account 54321" in str(ownership.stranger(tmp_path))

    def test_where_no_modes_are_kept(self, tmp_path: Path) -> None:
        """On FAT and its like, where all may write to all, a spool works as on Windows."""
        folder = tmp_path / "spool"
        folder.mkdir()
        (folder / "1-000001.jsonl").touch()
        for path in (folder, folder / "1-000001.jsonl"):
            path.chmod(0o777)
        assert ownership.planted(folder, folder / "1-000001.jsonl") is None
        assert ownership.strange_folder(folder) is None

    def test_where_modes_can_not_be_set(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file system that refuses to keep a mode is no reason not to log."""

        def refused(*_: object, **__: object) -> None:
            raise PermissionError("Operation not permitted")

        monkeypatch.setattr(os, "fchmod", refused)
        monkeypatch.setattr(Path, "chmod", refused)
        assert ownership.create_file(tmp_path / "file")
        ownership.make_folder(tmp_path / "folder")
        assert not ownership.without_others(tmp_path)
        assert (tmp_path / "folder").is_dir()

    def test_file_in_the_way_of_a_folder(self, tmp_path: Path) -> None:
        """A file isn't taken for a folder."""
        (tmp_path / "file").touch()
        with pytest.raises(FileExistsError):
            ownership.make_folder(tmp_path / "file")

    def test_on_windows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """There, nothing is asked: access control lists decide."""
        monkeypatch.setattr(ownership, "ON_WINDOWS", True)
        link = tmp_path / "link"
        link.symlink_to(tmp_path)
        assert ownership.stranger(link) is ownership.strange_folder(link) is None
        assert ownership.planted(tmp_path, link) is None
        assert not ownership.is_open_to_all(tmp_path)
        assert not ownership.without_others(tmp_path)
        assert ownership.create_file(tmp_path / "file", 0o640)


# -- what is said -----------------------------------------------------------------------------------


def harmful(text: str) -> set[str]:
    """Return what in a text would do a terminal harm."""
    import unicodedata

    return {character for character in text if unicodedata.category(character) in HARMFUL} - {"\n"}


class TestTerminal:
    @given(st.text())
    def test_harmless(self, text: str) -> None:
        """Nothing of what others wrote moves a cursor, hides, or begins a line."""
        assert not harmful(harmless(text))
        assert "\n" not in harmless(text)

    @given(st.recursive(st.text(st.characters(exclude_categories=["Cs"])), st.lists))
    def test_harmless_json_says_the_same(self, value: object) -> None:
        """JSON with such characters escaped is read back as what it was."""
        import orjson

        text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
        assert not harmful(harmless_json(text))
        assert orjson.loads(harmless_json(text)) == value

    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def test_rows_on_the_console(self, text: str) -> None:
        """A row on the console is one line that does no harm, and replay finds in it what was logged."""
        line = encoder_of(STEPS)({"step_name": text})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stderr", stream := io.StringIO(newline=""))
            console = Console()
            console.put_row(RUN, line)
            console.close(10)
        said = stream.getvalue()
        assert said.count("\n") == 1
        assert not harmful(said)
        [row] = rows_in([said.encode()])
        assert decode(row.line + b"\n") == decode(line)

    def test_warnings_that_quote(self, caplog: pytest.LogCaptureFixture) -> None:
        """A warning that quotes a client is one harmless line, in which replay finds no row."""
        console = Console()
        forged = 'enginelog-row 1763872243 17 ["ENGINE_DB_LOG_STEPS",{"step_name":"forged"}]'
        with caplog.at_level(logging.WARNING, "async_enginelog"):
            console.warn("a", f"it said \x1b[2J\r\n{forged}\u202e")
            console.warn("b", f"it said {forged}")
            console.close(10)
        said = [record.getMessage() for record in caplog.records]
        assert len(said) == 2
        assert not harmful("".join(said))
        assert list(rows_in(text.encode() for text in said)) == []


# -- statements made of texts -----------------------------------------------------------------------

# Where SQL is put together from more than bound values, and from what. Who adds a module here has looked.
AUDITED = {
    "batch": "names of our own tables and columns; values are bound",
    "cli.doctor_log": "names of our own tables, and a number",
    "database": "names of our own tables",
    "imports": "names of our own tables and columns",
    "maintenance": "names of our own tables",
    "odbc": "names of our own tables and columns: the text of the views",
    "oldfile": "names of our own tables; those of the old file's tables and columns quoted by _quoted()",
    "pruning_sql": "names of our own tables",
    "reading": "names of our own tables and columns; values are bound",
    "salvage": "names of our own tables and columns; values are bound",
    "salvaged": "names of our own tables",
    "shapes": "names of our own tables and columns; values are bound",
    "sqlserver": "names and texts quoted by tsql.py",
    "sqlserver_copy": "names and texts quoted by tsql.py",
    "sqlserver_link": "names and texts quoted by tsql.py",
    "sqlserver_views": "names and texts quoted by tsql.py",
    "unfinished": "constants of the module itself",
}


def test_each_exception_was_looked_at() -> None:
    """ruff finds statements that are put together; each module with an exception is in the list above."""
    found = {
        ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        for file in PACKAGE.rglob("*.py")
        if "S608" in file.read_text("utf-8")
    }
    assert found <= AUDITED.keys()


def test_exceptions_say_why() -> None:
    """An exception from a rule of security has its reason behind it."""
    bare = [
        f"{file.name}: {line.strip()}"
        for folder in (PACKAGE, PACKAGE.parent / "examples")
        for file in folder.rglob("*.py")
        for line in file.read_text("utf-8").splitlines()
        if re.search(r"noqa: S\d+\s*$", line)
    ]
    assert bare == []


HOSTILE = [
    "'; DROP TABLE ENGINE_DB_LOG_STEPS; --",
    '"); DELETE FROM ENGINE_LOG_RUN; --',
    "%s %(x)s {0} ?1 :name @name $name",
    "' OR '1'='1",
    "]]]; SHUTDOWN --",
]


@pytest.mark.parametrize("text", HOSTILE)
async def test_values_are_values(path: Path, query: Query, text: str) -> None:
    """Whatever a text says, it is stored as it is, and nothing else happens."""
    async with EngineLog(path) as log:
        for number in (1, 2):  # the second time, the row is filled in
            await log.log_websocket_connection(websocket_connection_id=1, client_host_ip_address=text[:50])
            await log.log_steps(step_name=text, step_id=number)
    assert query("SELECT STEP_NAME FROM ENGINE_DB_LOG_STEPS") == [(text,)] * 2
    assert query("SELECT CLIENT_HOST_IP_ADDRESS FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION") == [(text[:50],)]
    assert query("SELECT count(*) FROM ENGINE_LOG_RUN") == [(1,)]


@pytest.mark.parametrize("text", HOSTILE)
async def test_names_are_names(path: Path, query: Query, text: str) -> None:
    """A table or column that isn't known is refused by name, before there is any SQL."""
    log_row: list[Callable[[EngineLog], object]] = [
        lambda log: log.log_row_nowait(text, {"step_name": "a"}),
        lambda log: log.log_row_nowait("ENGINE_DB_LOG_STEPS", {text: "a"}),
    ]
    async with EngineLog(path) as log:
        for call in log_row:
            with pytest.raises((ValueError, TypeError)):
                call(log)
    assert query("SELECT count(*) FROM ENGINE_DB_LOG_STEPS") == [(0,)]


@pytest.mark.parametrize(
    "text", [*HOSTILE, "a?mode=memory&cache=shared#x", "%00%2e%2e", "file:x?vfs=unix-none"]
)
async def test_paths_are_paths(tmp_path: Path, text: str) -> None:
    """A database is made where its path says, also if that looks like SQL or a URI."""
    path = tmp_path / text
    async with EngineLog(path) as log:
        await log.log_steps(step_name="a")
    database = await Database.open_reader(path)
    try:
        assert await database.fetch("SELECT STEP_NAME FROM ENGINE_DB_LOG_STEPS") == [("a",)]
    finally:
        await database.close()
    # The reader leaves two behind.
    names = {text, f"{text}-spool", f"{text}-wal", f"{text}-shm"}
    assert {file.name for file in tmp_path.iterdir()} == names
