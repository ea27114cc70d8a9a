"""The package as users get it: built, installed elsewhere, and run where the checkout isn't."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import pytest

from async_enginelog import __version__

from .conftest import Query

pytest.importorskip("hatchling", reason="the dev extra isn't installed: no hatchling to build with")
pytest.importorskip("build", reason="the dev extra isn't installed: no build")

CHECKOUT = Path(__file__).resolve().parent.parent
PATIENCE = 100.0

# An engine that logs a row; says where it ran from.
ENGINE = """
import asyncio, async_enginelog
from async_enginelog import EngineLog, resources

async def main():
    async with EngineLog("engine log.db") as log:
        await log.log_steps(step_name="resample", recording_id=202508290514312002)

asyncio.run(main())
print(async_enginelog.__file__)
print(resources.resource("migrations"))
print(resources.resource("examples"))
"""


class Home(NamedTuple):
    """A virtual environment, and the folder in which its user works."""

    folder: Path
    work: Path

    def place(self, name: str) -> Path:
        """Return where something of the environment is: "scripts", "purelib"."""
        base = str(self.folder)
        return Path(sysconfig.get_path(name, "venv", vars={"base": base, "platbase": base}))

    def program(self, name: str) -> str:
        """Return the path of a program of the environment."""
        return str(self.place("scripts") / (f"{name}.exe" if os.name == "nt" else name))

    def run(self, program: str, *arguments: str) -> str:
        """Return what a program of the environment says, warnings being errors."""
        return run(self.program(program), *arguments, cwd=self.work, warnings="error")


def run(*command: str, cwd: Path, warnings: str = "ignore") -> str:
    """Return what a command says; fail with all it said if it fails. Others' warnings aren't ours."""
    result = subprocess.run(
        command,
        cwd=cwd,
        env={**clean_environment(), "PYTHONWARNINGS": warnings, "PYTHONUTF8": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=PATIENCE,
    )
    assert result.returncode == 0, f"{command} ended with {result.returncode}:\n{result.stdout}"
    return result.stdout


def clean_environment() -> dict[str, str]:
    """Return the environment of a user who knows nothing of the checkout."""
    ours = ("PYTHON", "COVERAGE", "ENGINELOG", "PYTEST")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of the checkout, and the wheel that was built from just that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    quick = ("--no-isolation", "--outdir", str(folder))
    run(sys.executable, "-m", "build", *quick, str(CHECKOUT), cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel."""
    [wheel] = built.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def home(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """An environment with the wheel installed, and the libraries of this one."""
    home = Home(tmp_path_factory.mktemp("venv"), tmp_path_factory.mktemp("work"))
    venv.create(home.folder, symlinks=os.name != "nt")
    pip = ("-m", "pip", "--disable-pip-version-check", "--python", home.program("python"))
    run(sys.executable, *pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel), cwd=home.work)
    # Found after what is installed there. A .pth file in it, as of an editable checkout, isn't read.
    libraries = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (home.place("purelib") / "libraries.pth").write_text("\n".join(libraries) + "\n", "utf-8")
    return home


def test_sdist_has_what_it_takes(built: Path) -> None:
    """Who has but the sdist can read about it, run its tests and look at its examples."""
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        *("README.md", "LICENSE", "CHANGELOG.md", "Makefile", "pyproject.toml"),
        *("async_enginelog/py.typed", "tests/conftest.py", "examples/server.py", "benchmarks/__main__.py"),
    } <= names
    assert not [name for name in names if name.endswith((".pyc", ".db"))]


@pytest.mark.parametrize(
    ("folder", "place"),
    [("async_enginelog", ""), ("migrations", "async_enginelog/"), ("examples", "async_enginelog/")],
)
def test_wheel_is_whole(wheel: Path, folder: str, place: str) -> None:
    """Each module, migration and example of the checkout is in the wheel, as it is."""
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for file in (CHECKOUT / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                name = place + file.relative_to(CHECKOUT).as_posix()
                assert name in names
                assert archive.read(name) == file.read_bytes(), name


def test_wheel_has_nothing_else(wheel: Path) -> None:
    """The wheel puts one package into an environment, without anything that was compiled or logged here."""
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    described = f"async_enginelog-{__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"async_enginelog", described}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".db"))]


def test_engine_logs(home: Home) -> None:
    """An engine that installed the wheel logs, with nothing taken from the checkout."""
    places = [Path(line) for line in home.run("python", "-c", ENGINE).splitlines()]
    package = home.place("purelib") / "async_enginelog"
    assert [place.resolve() for place in places] == [
        (package / name).resolve() for name in ("__init__.py", "migrations", "examples")
    ]
    assert home.run("enginelog", "verify", "engine log.db").startswith("engine log.db is whole")
    assert "recording_id=202508290514312002" in home.run("enginelog", "tail", "engine log.db")


def test_command(home: Home, path: Path, query: Query) -> None:
    """The command is installed, knows its version, and finds its migrations."""
    assert home.run("enginelog", "--version").split() == ["enginelog", __version__]
    assert home.run("enginelog", "init", str(path)).startswith(f"created {path}")
    assert home.run("enginelog", "verify", str(path)).startswith(f"{path} is whole")
    assert query("SELECT count(*) FROM ENGINE_DB_LOG_STEPS") == [(0,)]


@pytest.mark.slow
def test_demo(home: Home) -> None:
    """The demo runs from the wheel: server, client and sound are inside."""
    home.run("enginelog", "demo", "--db", "demo.db")
    assert home.run("enginelog", "verify", "demo.db").startswith("demo.db is whole")
