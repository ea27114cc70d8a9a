"""What the doctor says to facts that can't be planted here: Windows, networks, disks, old programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import PackageNotFoundError
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from async_enginelog.cli import (
    checks_access,
    checks_clock,
    checks_file,
    checks_runs,
    checks_site,
    doctor_facts,
    doctor_locks,
    doctor_log,
    doctor_site,
    doctor_times,
    doctor_windows,
)
from async_enginelog.cli.doctor_facts import (
    Account,
    Driver,
    File,
    Finding,
    Findings,
    Holder,
    Holders,
    Level,
    Mount,
    Site,
    Windows,
)
from async_enginelog.cli.spools import SpoolRun
from async_enginelog.errors import StorageError
from async_enginelog.reading import RunRow

PATH = Path("/srv/violin/engine_log.db")
DRIVER = Driver("SQLite3", "libsqlite3odbc.so")
RUN = RunRow(1795424489, "stage", 1, "0", None, None, None, None, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0)


def build_site(**facts: Any) -> Site:
    """Return a healthy site on Linux, but for ``facts``."""
    folders = tuple(File(folder, 0o755) for folder in PATH.parents)
    healthy = Site(
        path=PATH,
        database=File(PATH, 0o600),
        companions=(),
        folders=folders,
        spool=None,
        spool_files=(),
        engine=Account("violin", 1000, frozenset({1000})),
        reader=None,
        mount=Mount("/", "ext4", frozenset({"rw", "relatime"})),
        free_bytes=10**12,
        drivers=(DRIVER,),
        outdated=(),
        sqlite=(3, 53, 0),
    )
    return replace(healthy, **facts)


def on_windows(path: str = r"C:\VIOLIN\engine_log.db", **facts: Any) -> Site:
    """Return a healthy site on Windows, but for ``facts``."""
    windows = Windows(("NT Service\\MSSQLSERVER",), {"NT SERVICE\\MSSQLSERVER": frozenset({"M"})})
    facts = {"windows": windows, "drivers": (replace_driver(),), "engine": None, "mount": None, **facts}
    return build_site(path=PureWindowsPath(path), **facts)


def replace_driver(**facts: Any) -> Driver:
    """Return the ODBC driver of Windows, but for ``facts``."""
    return Driver("SQLite3 ODBC Driver", r"C:\Windows\System32\sqlite3odbc.dll")._replace(**facts)


def one(findings: Findings) -> Finding:
    """Return the one finding."""
    [finding] = findings
    return finding


class TestNetwork:
    @pytest.mark.parametrize("kind", ["nfs4", "cifs", "smb3", "fuse.sshfs", "CIFS"])
    def test_mounted(self, kind: str) -> None:
        """A file system of another machine is wrong."""
        finding = one(checks_site.network(build_site(mount=Mount("/srv", kind, frozenset({"rw"})))))

        assert (finding.level, finding.what) == (Level.WRONG, f"{PATH} is on the network ({kind} at /srv)")

    @pytest.mark.parametrize(
        "path", [r"\\stage\violin\log.db", "//stage/violin/log.db", r"\\?\UNC\stage\violin\log.db"]
    )
    def test_network_path_of_windows(self, path: str) -> None:
        """So is a path that names another machine."""
        assert "on the network (\\\\" in one(checks_site.network(on_windows(path))).what

    def test_mapped_drive(self) -> None:
        """So is a drive of Windows that is mapped to one."""
        drive = Mount("Z:\\", "NTFS", frozenset({"rw", "remote"}))

        assert "NTFS at Z:" in one(checks_site.network(on_windows(r"Z:\log.db", mount=drive))).what

    @pytest.mark.parametrize("path", [r"C:\VIOLIN\log.db", r"\\?\C:\VIOLIN\log.db", r"\\.\C:\log.db"])
    def test_local_path_of_windows(self, path: str) -> None:
        """A local path isn't, however it is written."""
        fixed = Mount("C:\\", "NTFS", frozenset({"rw", "fixed"}))

        assert list(checks_site.network(on_windows(path, mount=fixed))) == []

    def test_not_known(self) -> None:
        """Where the machine doesn't say, nothing is said."""
        for check in (checks_site.network, checks_site.shared_folder, checks_site.read_only):
            assert list(check(build_site(mount=None))) == []

    def test_shared_folder(self) -> None:
        """A folder of host and guest is worth knowing."""
        finding = one(checks_site.shared_folder(build_site(mount=Mount("/mnt/c", "9p", frozenset()))))

        assert (finding.level, "/mnt/c" in finding.what) == (Level.NOTE, True)


class TestDisk:
    def test_read_only(self) -> None:
        """A file system that can't be written to."""
        finding = one(checks_site.read_only(build_site(mount=Mount("/srv", "ext4", frozenset({"ro"})))))

        assert finding.do.endswith("sudo mount -o remount,rw /srv")

    def test_nearly_full(self) -> None:
        """Less room than the spool may take."""
        finding = one(checks_site.disk_space(build_site(free_bytes=500 * 1024**2)))

        assert (finding.level, finding.what) == (Level.NOTE, "the disk is nearly full: 500 MiB left")

    @pytest.mark.parametrize(
        ("folder", "deepest"), [("/srv/a b/c", "/srv/a b"), ("/srv", "/"), ("/other", "/other")]
    )
    def test_mount_of(self, folder: str, deepest: str) -> None:
        """A folder is in the innermost file system; of two at one place, in the one mounted last."""
        kinds = [("/", "ext4"), ("/srv/a b", "xfs"), ("/other", "autofs"), ("/other", "nfs4")]
        mounts = [Mount(place, kind, frozenset()) for place, kind in kinds]
        found = doctor_site.mount_of(Path(folder), mounts)

        assert found is not None
        assert found.folder == deepest
        assert found.kind != "autofs"
        assert doctor_site.mount_of(Path(folder), []) is None

    def test_no_list_of_mounts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the system doesn't tell, none is known."""

        def refuse(all: bool) -> list[Any]:
            raise PermissionError("no")

        monkeypatch.setattr(psutil, "disk_partitions", refuse)
        assert doctor_site._mounts() == []


class TestPrograms:
    @pytest.mark.parametrize(
        ("drivers", "level", "words"),
        [
            ((), Level.NOTE, "no ODBC driver"),
            ((replace_driver(bits=32),), Level.WRONG, "32 bits only (SQLite3 ODBC Driver)"),
            ((replace_driver(library=None), replace_driver(bits=32)), Level.WRONG, "library isn't there"),
        ],
    )
    def test_odbc_on_windows(self, drivers: tuple[Driver, ...], level: Level, words: str) -> None:
        """SQL Server needs the driver for 64 bits, with its library."""
        finding = one(checks_site.odbc_driver(on_windows(drivers=drivers)))

        assert finding.level is level
        assert words in finding.what
        assert "sqliteodbc_w64.exe" in finding.do

    def test_odbc_as_it_should_be(self) -> None:
        """One driver that can be used is enough; where there is no list, none is missed."""
        assert (
            list(checks_site.odbc_driver(on_windows(drivers=(replace_driver(bits=32), replace_driver()))))
            == []
        )
        assert list(checks_site.odbc_driver(build_site(drivers=None))) == []

    def test_old_sqlite(self) -> None:
        """A SQLite that lacks what the log uses."""
        assert "SQLite 3.34.1" in one(checks_site.sqlite_version(build_site(sqlite=(3, 34, 1)))).what
        assert list(checks_site.sqlite_version(build_site(sqlite=(3, 35, 0)))) == []

    def test_outdated(self) -> None:
        """Requirements of the package alone are compared, by numbers."""
        versions = {"one": "1.10.2", "two": "15", "three": "2.0rc1"}

        def version_of(name: str) -> str:
            try:
                return versions[name]
            except KeyError:
                raise PackageNotFoundError(name) from None

        requirements = ["one>=1.9", "two>=15.0.1", "three>=2", "four>=1", "five>=9; extra == 'dev'", "six"]
        assert list(doctor_site.outdated(requirements, version_of)) == ["two 15, needed is 15.0.1"]

    def test_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A package that isn't installed, but only there, has no requirements."""

        def refuse(name: str) -> list[str]:
            raise PackageNotFoundError(name)

        monkeypatch.setattr("importlib.metadata.requires", refuse)
        assert doctor_site._requirements() == []

    @pytest.mark.parametrize(
        ("version", "buggy"),
        [
            ((3, 51, 2), 1),
            ((3, 51, 3), 0),
            ((3, 50, 7), 0),
            ((3, 50, 6), 1),
            ((3, 44, 6), 0),
            ((3, 46, 1), 1),
        ],
    )
    def test_wal_reset_bug(self, version: tuple[int, ...], buggy: int) -> None:
        """The bug is fixed in 3.51.3 and in two older lines (https://www.sqlite.org/wal.html)."""
        log = build_log(runs=(RUN, RUN._replace(run=RUN.run + 1)), sqlite=version)
        log = replace(log, alive=frozenset(run.run for run in log.runs))

        assert len(list(checks_file.wal_reset_bug(log))) == buggy


class TestWindowsAccess:
    @pytest.mark.parametrize(
        "account", ["NT Service\\MSSQLSERVER", "NT Service\\MSSQL$VIOLIN", "STAGE\\sql", "LocalSystem"]
    )
    def test_account_without_rights(self, account: str) -> None:
        """The account to grant is named, with the command that does it."""
        windows = Windows((account,), {"BUILTIN\\Users": frozenset({"RX"})})
        finding = one(checks_access.sql_server_access(on_windows(windows=windows)))

        command = rf"icacls 'C:\VIOLIN' /grant '{account}:(OI)(CI)M'"
        assert finding.do == f"in PowerShell, as administrator: {command}"
        assert finding.level is Level.NOTE

    def test_quoted_for_powershell(self) -> None:
        """What a command has in it is taken as it is, also a $ and a quotation mark."""
        windows = Windows(("NT Service\\MSSQL$X",), {})
        finding = one(checks_access.sql_server_access(on_windows(r"C:\O'Neill $1\log.db", windows=windows)))

        assert finding.do.endswith(r"icacls 'C:\O''Neill $1' /grant 'NT Service\MSSQL$X:(OI)(CI)M'")

    @pytest.mark.parametrize(
        ("account", "granted"),
        [
            ("NT Service\\MSSQLSERVER", "NT SERVICE\\MSSQLSERVER"),
            ("NT Service\\MSSQLSERVER", "Everyone"),
            ("STAGE\\sql", "NT AUTHORITY\\Authenticated Users"),
            ("LocalSystem", "NT AUTHORITY\\SYSTEM"),
        ],
    )
    def test_account_with_rights(self, account: str, granted: str) -> None:
        """Who may modify the folder, alone or with all, needs nothing more."""
        for right in ("M", "F"):
            windows = Windows((account,), {granted: frozenset({right})})
            assert list(checks_access.sql_server_access(on_windows(windows=windows))) == []

    def test_modes_say_nothing(self) -> None:
        """What modes say on Windows is taken for nothing."""
        for check in (checks_access.engine_access, checks_access.reader_access, checks_access.exposed):
            assert list(check(on_windows())) == []
        assert list(checks_access.sql_server_access(build_site())) == []

    def test_quoted_for_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Paths in commands are quoted as the system wants it."""
        monkeypatch.setattr(doctor_facts, "ON_WINDOWS", True)

        assert doctor_facts.quoted(r"C:\a b\log.db", "x") == r'"C:\a b\log.db" "x"'


class TestAccess:
    def test_list_of_access(self) -> None:
        """Where more than the mode decides, nothing is said of an account; of all others the mode tells."""
        nobody = Account("nobody", 65534, frozenset())
        file = File(PATH, 0o600, has_acl=True)
        site = build_site(database=file, reader=nobody, engine=nobody)

        assert checks_access.may(nobody, file, 6)
        assert list(checks_access.exposed(site)) == []

    def test_nothing_there(self) -> None:
        """Where the folder isn't there, nothing is said of who may use it."""
        site = build_site(database=None, folders=(), reader=Account("me", 1, frozenset()))

        for check in (checks_access.engine_access, checks_access.reader_access, checks_access.exposed):
            assert list(check(site)) == []

    def test_file_not_there(self) -> None:
        """Nor of a reader where there is no file yet."""
        assert (
            list(checks_access.reader_access(build_site(database=None, reader=Account("me", 1, frozenset()))))
            == []
        )

    def test_groups(self) -> None:
        """A group decides for its members, also where others may do more."""
        member = Account("member", 2, frozenset({7}))

        assert checks_access.may(member, File(PATH, 0o060, user=1, group=7), 6)
        assert not checks_access.may(member, File(PATH, 0o606, user=1, group=7), 4)

    def test_many_files(self) -> None:
        """Of many files, two are named."""
        engine = Account("violin", 1000, frozenset())
        spool = File(PATH.with_name("spool"), 0o700, is_folder=True)
        files = tuple(File(spool.path / str(number), 0o600, owner="root") for number in range(5))
        finding = one(checks_access._spool(build_site(spool=spool, spool_files=files), engine))

        assert "and 4 more files" in finding.what

    def test_trap(self) -> None:
        """Only who may read the database and write to the folder sets it, and root never does."""
        reader = Account("me", 5, frozenset({9}), 9)
        site = build_site(database=File(PATH, 0o644), folders=(File(PATH.parent, 0o777),))

        assert checks_access.leaves_a_trap(reader, site)
        assert not checks_access.leaves_a_trap(Account("root", 0, frozenset()), site)
        assert not checks_access.leaves_a_trap(reader, replace(site, engine=None))
        assert not checks_access.leaves_a_trap(reader, replace(site, database=File(PATH, 0o600)))
        assert not checks_access.leaves_a_trap(reader, replace(site, folders=(File(PATH.parent, 0o755),)))
        # With the folder's group, the engine can.
        shared = replace(site, engine=Account("violin", 1000, frozenset({7})), database=File(PATH, 0o664))
        assert checks_access.leaves_a_trap(reader, shared)
        shared = replace(shared, folders=(File(PATH.parent, 0o2777, group=7),))
        assert not checks_access.leaves_a_trap(reader, shared)


def build_log(**facts: Any) -> doctor_facts.Log:
    """Return the facts of an empty log, but for ``facts``."""
    moment = doctor_times.began(RUN.run)
    assert moment
    return doctor_facts.Log(
        **{
            "path": PATH,
            "now": moment + timedelta(hours=1),
            "host": "stage",
            "version": 1,
            "newest_version": 1,
            "journal_mode": "wal",
            "runs": (),
            "alive": frozenset(),
            "spools": {},
            "segments": {},
            "unreadable": (),
            "heartbeats": {},
            "left_open": {},
            "newest_added": {},
            "set_back": (),
            "local_offsets": {},
            "wal_bytes": 0,
            "database_bytes": 0,
            "holders": Holders(),
            "sqlite": (3, 53, 0),
            **facts,
        }
    )


class TestLog:
    def test_engines_are_no_culprits(self) -> None:
        """An engine that is seen with a lock each time isn't blamed for it."""
        holders = Holders(readers=(Holder(1, "engine"), Holder(2, "browser")), writers=(Holder(1, "engine"),))
        log = build_log(runs=(RUN,), alive=frozenset({RUN.run}), holders=holders)

        assert one(checks_file.readers(log)).what.startswith("process 2 (browser) kept")
        assert list(checks_file.writers(log)) == []

    def test_unknown_fault(self) -> None:
        """A fault that nobody thought of is told as SQLite tells it."""
        finding = checks_file.unusable(StorageError(f"{PATH}: odd"), PATH, Holders())

        assert (finding.what, finding.do) == (f"{PATH}: odd", f"enginelog verify {PATH}")

    def test_host_of_a_run_that_ended(self) -> None:
        """Of runs that have ended, or whose spool can't be looked into, it doesn't matter where they were."""
        elsewhere = RUN._replace(host="elsewhere", sign_of_life="2026-11-23 10:00:00.000000")

        assert list(checks_runs.host(build_log(runs=(elsewhere._replace(how_ended="closed"),)))) == []
        assert list(checks_runs.host(build_log(runs=(elsewhere,), alive=None))) == []
        assert list(checks_runs.host(build_log(runs=(elsewhere._replace(sign_of_life="?"),)))) == []

    @pytest.mark.parametrize(("alive", "do"), [((), "start the engine"), ((RUN.run,), "idle for 30 s")])
    def test_rows_of_dead_runs(self, alive: tuple[int, ...], do: str) -> None:
        """An engine that runs commits what others left without being told."""
        log = build_log(alive=frozenset(alive), spools={17: SpoolRun(17, False, True, 4)})

        assert do in one(checks_runs.left_in_spool(log)).do

    def test_time_that_is_none(self) -> None:
        """A time that can't be read says nothing."""
        log = build_log(runs=(RUN,), heartbeats={RUN.run: "yesterday"}, alive=frozenset({RUN.run}))

        assert list(checks_runs.heartbeat(log)) == []
        assert doctor_times.seconds(None) == "an unknown time"

    def test_numbers_that_are_no_time(self) -> None:
        """Nor does the number of a run that can't be a time."""
        assert doctor_times.began(17) is None
        assert doctor_times.began(2**62) is None

    def test_time_zones_with_an_import(self) -> None:
        """What was imported is in UTC: wrong beside local times while it is new, worth knowing for ever."""
        day = 86400
        runs = [
            RUN._replace(how_ended="closed", started="2026-11-23 14:01:29.000000"),
            RUN._replace(run=RUN.run - day, how_ended="imported", started="2026-11-22 09:01:29.000000"),
        ]
        for sign_of_life, level in (
            ("2026-11-22 09:30:00.000000", Level.WRONG),
            ("2026-10-22 09:30:00.000000", Level.NOTE),
        ):
            imported = runs[1]._replace(sign_of_life=sign_of_life)
            finding = one(checks_clock.time_zones(build_log(runs=(runs[0], imported))))
            assert finding.level is level
            assert f"run {RUN.run}: UTC+05:00, run {imported.run}: UTC)" in finding.what
        in_utc = runs[0]._replace(started="2026-11-23 09:01:29.000000")
        assert list(checks_clock.time_zones(build_log(runs=(in_utc, runs[1])))) == []

    def test_summer_time(self) -> None:
        """Times that can't be read aren't taken for a clock that was set back."""
        back = doctor_facts.SetBack(RUN.run, "b", "a")

        assert list(checks_clock.clock_set_back(build_log(set_back=(back,)))) == []


class TestLocks:
    @pytest.mark.skipif(os.name == "nt", reason="devices have no numbers on Windows")
    def test_reading_the_list(self, tmp_path: Path) -> None:
        """Locks of the -shm are told by their byte, those of other files left out."""
        file = tmp_path / "log.db-shm"
        file.touch()
        stat = file.stat()
        place = f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}:{stat.st_ino}"
        text = (
            f"1: POSIX  ADVISORY  READ 11 {place} 124 124\n"
            f"2: POSIX  ADVISORY  WRITE 12 {place} 120 120\n"
            f"2: -> POSIX  ADVISORY  WRITE 13 {place} 120 120\n"
            f"3: POSIX  ADVISORY  READ 14 {place} 128 128\n"
            f"4: FLOCK  ADVISORY  WRITE 15 {place} 0 EOF\n"
            "5: POSIX  ADVISORY  WRITE 16 00:01:17 120 120\n"
            f"6: POSIX  ADVISORY  WRITE 17 {place} 1073741826 1073742335\n"
        )

        assert [held[:2] for held in doctor_locks.holders_in(text, None, stat)] == [
            (11, "readers"),
            (12, "writers"),
        ]
        assert [held[:2] for held in doctor_locks.holders_in(text, stat, None)] == [(17, "exclusive")]

    async def test_no_list(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Elsewhere than on Linux, nobody is found, and that isn't taken for nobody being there."""
        monkeypatch.setattr(doctor_locks, "LOCKS", tmp_path / "none")

        assert await doctor_locks.find_holders(tmp_path / "log.db") == Holders(known=False)

    def test_process_that_is_gone(self) -> None:
        """A process that has ended meanwhile has no name."""
        with subprocess.Popen([sys.executable, "-c", ""]) as process:
            process.wait()
        assert doctor_locks._name_of(process.pid) == "unknown"


class TestAskingWindows:
    """What is asked there, with the answers of Windows as its documents show them."""

    LISTING = (
        "C:\\VIOLIN NT SERVICE\\MSSQLSERVER:(OI)(CI)(M)\n"
        "          BUILTIN\\Users:(I)(OI)(CI)(RX)\n"
        "          BUILTIN\\Users:(I)(CI)(WD,AD)\n"
        "          STAGE\\guest:(DENY)(M)\n"
        "\n"
        "Successfully processed 1 files; Failed processing 0 files\n"
    )

    def test_rights(self) -> None:
        """The listing of icacls, line by line."""
        assert doctor_windows.rights_in(self.LISTING, "C:\\VIOLIN") == {
            "NT SERVICE\\MSSQLSERVER": {"M"},
            "BUILTIN\\Users": {"RX", "WD", "AD"},
        }

    @pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell")
    def test_asking(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Services and rights are asked for; a service that doesn't answer is left out."""
        icacls = tmp_path / "icacls"
        icacls.write_text('#!/bin/sh\necho "$1 NT SERVICE\\\\\\\\MSSQLSERVER:(M)"\n')
        icacls.chmod(0o700)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

        def refuse() -> str:
            raise psutil.AccessDenied

        services = [
            SimpleNamespace(name=lambda: "MSSQL$VIOLIN", username=lambda: "NT Service\\MSSQL$VIOLIN"),
            SimpleNamespace(name=lambda: "MSSQLSERVER", username=refuse),
            SimpleNamespace(name=lambda: "Spooler", username=lambda: "LocalSystem"),
        ]
        monkeypatch.setattr(psutil, "win_service_iter", lambda: services, raising=False)

        assert doctor_windows.ask_windows(tmp_path) == Windows(
            ("NT Service\\MSSQL$VIOLIN",), {"NT SERVICE\\MSSQLSERVER": frozenset({"M"})}
        )

    def test_nobody_answers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without icacls and services, nothing is known."""
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(psutil, "win_service_iter", tuple, raising=False)

        assert doctor_windows.ask_windows(tmp_path) == Windows((), {})

    def test_odbc(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The registry has a list of drivers for 64 and one for 32 bits."""
        library = tmp_path / "sqlite3odbc.dll"
        library.touch()
        registry = {
            (64, doctor_windows.DRIVERS): ["SQL Server", "SQLite3 ODBC Driver", "SQLite ODBC Driver"],
            (64, doctor_windows.DRIVER.format("SQLite3 ODBC Driver")): {"Driver": str(library)},
            (64, doctor_windows.DRIVER.format("SQLite ODBC Driver")): {"Driver": "C:\\nowhere.dll"},
            (32, doctor_windows.DRIVERS): ["SQLite3 ODBC Driver"],
        }
        monkeypatch.setitem(sys.modules, "winreg", FakeRegistry(registry))

        assert doctor_windows.odbc_drivers() == (
            Driver("SQLite3 ODBC Driver", str(library), 64),
            Driver("SQLite ODBC Driver", None, 64),
            Driver("SQLite3 ODBC Driver", None, 32),
        )

    def test_site_on_windows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """There, accounts aren't known by modes, and drivers by the registry."""
        monkeypatch.setattr(doctor_site, "ON_WINDOWS", True)
        monkeypatch.setitem(sys.modules, "winreg", FakeRegistry({}))
        site = doctor_site.look_around(tmp_path / "log.db", None, None)

        assert (site.engine, site.reader, site.drivers) == (None, None, ())
        assert site.windows is not None
        assert doctor_site.account_of("nobody") is None
        assert doctor_site.this_account() is None
        assert doctor_site.process_account(RUN) is None


class FakeRegistry:
    """As much of the module ``winreg`` as is used; keys by bits and path."""

    KEY_READ, KEY_WOW64_64KEY, KEY_WOW64_32KEY, HKEY_LOCAL_MACHINE = 0, 64, 32, 1

    def __init__(self, keys: dict[tuple[int, str], Any]) -> None:
        self._keys = keys
        self._open: Any = None

    def OpenKey(self, root: int, name: str, reserved: int, access: int) -> FakeRegistry:  # noqa: N802
        if (access, name) not in self._keys:
            raise FileNotFoundError(name)
        self._open = self._keys[access, name]
        return self

    def EnumValue(self, key: FakeRegistry, index: int) -> tuple[str, str, int]:  # noqa: N802
        try:
            return self._open[index], "Installed", 1
        except IndexError:
            raise OSError("no more data") from None

    def QueryValueEx(self, key: FakeRegistry, name: str) -> tuple[str, int]:  # noqa: N802
        return self._open[name], 1

    def __enter__(self) -> FakeRegistry:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class TestAccounts:
    def test_process(self) -> None:
        """The account of a run's process, unless that is a younger one, gone, or no number at all."""
        if doctor_facts.ON_WINDOWS:
            pytest.skip("accounts have no numbers on Windows")
        me = psutil.Process()
        mine = RUN._replace(process_id=me.pid, run=int(me.create_time()) + 1)

        assert doctor_site.process_account(mine) == doctor_site.account_of(me.uids().effective)
        assert doctor_site.process_account(mine._replace(run=17)) is None
        assert doctor_site.process_account(mine._replace(process_id=None)) is None
        assert doctor_site.process_account(mine._replace(process_id=-1)) is None
        assert doctor_site.process_account(mine._replace(process_id=2**70)) is None

    def test_no_access_lists(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the system has none, or doesn't say, a file has no list of who may do what."""
        assert doctor_site._has_acl(tmp_path / "none") is False
        monkeypatch.delattr(os, "listxattr", raising=False)
        assert doctor_site._has_acl(tmp_path) is False

    def test_file_that_goes_meanwhile(self, tmp_path: Path) -> None:
        """A link that leads nowhere, or a file that has gone, isn't there."""
        (tmp_path / "gone").symlink_to(tmp_path / "nowhere")

        assert list(doctor_site._files_in(tmp_path)) == []

    def test_header_that_cannot_be_read(self, tmp_path: Path) -> None:
        """A header that can't be read says nothing of the journal mode."""
        assert doctor_log._mode_in_header(tmp_path / "none") is None
