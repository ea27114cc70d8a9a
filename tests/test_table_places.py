"""A table more: what docs/tables.md says it takes is enough, and what is forgotten is named."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from async_enginelog.migrations import migrations

from . import table_places
from .table_places import CHECKOUT, PLACES, lacking

# Run like this, it sees the package of another checkout.
ASK = Path(table_places.__file__).read_text("utf-8")

NUMBER = len(migrations()) + 1

TABLE = """
CREATE TABLE ENGINE_DB_LOG_WEATHER (
    DT_MEASURED DATETIME, PLACE VARCHAR(100), DEGREES REAL, ENGINE_RUN_ID BIGINT, LOG_SEQ BIGINT
);
CREATE INDEX ENGINE_DB_LOG_WEATHER_SEQ ON ENGINE_DB_LOG_WEATHER (LOG_SEQ);
"""
VIEW = """
CREATE VIEW V_ODBC_ENGINE_DB_LOG_WEATHER AS SELECT
    substr(DT_MEASURED, 1, 26) AS DT_MEASURED, substr(PLACE, 1, 100) AS PLACE, DEGREES, ENGINE_RUN_ID, LOG_SEQ
FROM ENGINE_DB_LOG_WEATHER;
"""
FUNCTION = '''

async def log_weather({self}**columns: Unpack[rows.Weather]) -> None:
    """Log the weather."""
    {body}
'''
SECTION = """
## ENGINE_DB_LOG_WEATHER

| column | type |
|---|---|
| DT_MEASURED | DATETIME |
| PLACE | VARCHAR(100) |
| DEGREES | REAL |
"""

# An engine that logs the weather, both ways.
ENGINE = """
import asyncio, sys
from async_enginelog import EngineLog, log_weather

async def main(path):
    async with EngineLog(path) as log:
        await log.log_weather(place="hall", degrees=20.5)
        await log_weather(place="yard", degrees=-3)

asyncio.run(main(sys.argv[1]))
"""


def append(name: str, text: str) -> Callable[[Path], None]:
    """Return what writes a text behind a file of a checkout."""

    def change(checkout: Path) -> None:
        with (checkout / name).open("a", encoding="utf-8") as file:
            file.write(text)

    return change


def replace(name: str, *pairs: tuple[str, str]) -> Callable[[Path], None]:
    """Return what replaces texts, each of which is there once, in a file of a checkout."""

    def change(checkout: Path) -> None:
        text = (checkout / name).read_text("utf-8")
        for old, new in pairs:
            assert text.count(old) == 1, (name, old)
            text = text.replace(old, new)
        (checkout / name).write_text(text, "utf-8")

    return change


def write_script(checkout: Path) -> None:
    """Write the script for SQL Server anew, as the document says."""
    script = checkout / "migrations" / "sqlserver" / "create_sql_server_linked_server.sql"
    outcome = run(
        checkout, "-m", "async_enginelog", "sqlserver-script", r"C:\VIOLIN\engine_log.db", "-o", script
    )
    assert outcome.returncode == 0, outcome


METHOD = FUNCTION.format(
    self="self, ", body="if self._accept(_WEATHER, columns):\n        await self._writer.give_way()"
)

# What it takes, place by place, in the order of the document.
RECIPE: dict[str, Callable[[Path], None]] = {
    "async_enginelog/rows.py": replace(
        "async_enginelog/rows.py",
        ('    "WebsocketMessage",\n', '    "WebsocketMessage",\n    "Weather",\n'),
        (
            "class Step(",
            'class Weather(TypedDict, total=False):\n    """The weather."""\n\n'
            "    dt_measured: Time\n    place: Text100\n    degrees: Real\n\n\nclass Step(",
        ),
    ),
    "async_enginelog/tables.py": append(
        "async_enginelog/tables.py",
        '\nWEATHER = _table("ENGINE_DB_LOG_WEATHER", rows.Weather, stamp="dt_measured")\n',
    ),
    "migrations/sqlite (the table)": append(f"migrations/sqlite/{NUMBER:04}_weather.sql", TABLE),
    "migrations/sqlite (its view)": append(f"migrations/sqlite/{NUMBER:04}_weather.sql", VIEW),
    "async_enginelog/table_functions.py": replace(
        "async_enginelog/table_functions.py",
        ("\n\n_FUNCTIONS = ", METHOD.replace("\n", "\n    ") + "\n\n_FUNCTIONS = "),
        ("\n_STEPS = ", "\n_WEATHER = encoder_of(tables.WEATHER)\n_STEPS = "),
    ),
    "async_enginelog/current.py": replace(
        "async_enginelog/current.py",
        ('    "log_websocket_message",\n', '    "log_websocket_message",\n    "log_weather",\n'),
        (
            "\n\nasync def log_row(",
            FUNCTION.format(self="", body="await current_log().log_weather(**columns)")
            + "\n\nasync def log_row(",
        ),
    ),
    "async_enginelog/__init__.py": replace(
        "async_enginelog/__init__.py",
        ("    log_websocket_message,\n", "    log_websocket_message,\n    log_weather,\n"),
        ('    "log_websocket_message",\n', '    "log_websocket_message",\n    "log_weather",\n'),
    ),
    "docs/tables.md": append("docs/tables.md", SECTION),
    "migrations/sqlserver": write_script,
}


def run(checkout: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python with the package of a checkout."""
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=checkout)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what makes the package, to be changed."""
    for name in ("async_enginelog", "migrations", "docs"):
        shutil.copytree(
            CHECKOUT / name, tmp_path / "checkout" / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    return tmp_path / "checkout"


def test_each_table_is_in_each_place() -> None:
    """Whatever place knows a table, all the others know it, too."""
    assert lacking() == []


def test_the_places_are_documented() -> None:
    """The document lists the places, each by its file, in the order in which they are filled."""
    section = (CHECKOUT / "docs" / "tables.md").read_text("utf-8").partition("\n## A table more\n")[2]
    listed = re.findall(r"^\d+\. `([\w./]+)", section.partition("\n## ")[0], re.MULTILINE)
    files = [place.partition(" ")[0] for place in PLACES]
    assert listed == list(dict.fromkeys(files))
    assert list(RECIPE) == list(PLACES)


def test_a_table_more(checkout: Path, tmp_path: Path) -> None:
    """With what the document lists, and nothing else, a table is logged, shown, verified and looked after."""
    for change in RECIPE.values():
        change(checkout)
    places = run(checkout, "-c", ASK)
    assert (places.returncode, places.stderr) == (0, "")

    path = tmp_path / "engine_log.db"
    assert run(checkout, "-c", ENGINE, path).returncode == 0
    shown = run(checkout, "-m", "async_enginelog", "tail", path).stdout
    assert "hall" in shown
    assert "yard" in shown
    for verb in ("verify", "doctor", "stats"):
        outcome = run(checkout, "-m", "async_enginelog", verb, path)
        assert outcome.returncode == 0, outcome
    assert re.search(r"ENGINE_DB_LOG_WEATHER +2\b", outcome.stdout)


@pytest.mark.parametrize("forgotten", PLACES)
def test_a_forgotten_place_is_named(checkout: Path, forgotten: str) -> None:
    """Where one place is forgotten, that is told by its name."""
    for place, change in RECIPE.items():
        if place != forgotten and place != "migrations/sqlserver":
            change(checkout)
    outcome = run(checkout, "-c", ASK)
    assert outcome.returncode == 1
    missed = re.escape(f"{forgotten} lacks a table of degrees, dt_measured, place")
    # What another imports from is named by Python itself.
    module = re.escape(forgotten.removesuffix(".py").replace("/", "."))
    assert re.search(f"^{missed}$|Error: .*'{module}'", outcome.stderr, re.MULTILINE), outcome.stderr
