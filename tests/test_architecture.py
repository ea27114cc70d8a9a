"""Arrows point one way: who may import whom, and who may touch the world outside."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import async_enginelog

PACKAGE = Path(async_enginelog.__file__).parent

# A module imports from the rooms below its own, never from beside or above. `listeners` and `cli`
# are folders: their modules may import each other. Give a new module a room here.
ROOMS = [
    {
        "background",
        "context",
        "errors",
        "framing",
        "handles",
        "handover",
        "messages",
        "peers",
        "pointermap",
        "resources",
        "sequence",
        "shapes",
        "statistics",
        "terminal",
        "walfile",
        "wallclock",
    },
    {"arguments", "ownership", "pages", "places", "rows", "tally", "values", "version"},
    {"console", "migrations", "segments", "tables", "trees"},
    {
        "damaged",
        "failures",
        "legacy",
        "lines",
        "odbc",
        "odbc_paths",
        "pruning_sql",
        "retention",
        "salvaged",
        "paths",
        "spool",
        "tsql",
    },
    {"batch", "bridge", "leftovers", "opening", "salvage", "sqlserver_views", "steps", "table_functions"},
    {"connection", "sqlserver_copy", "sqlserver_link"},
    {"database", "oldfile", "setaside"},
    {"committer", "maintenance", "mending", "pruning_recordings", "watermarks"},
    {"imports", "pruning_preview", "reading", "unfinished"},
    {"importing", "pruning", "recovery"},
    {"upkeep"},
    {"writer"},
    {"enginelog"},
    {"current"},
    {"functions", "sqlserver"},
    {"listeners"},
    {"cli"},
    {"__init__", "__main__"},
]
FLOORS = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}

# These decide and never do: no loop, no thread, no clock of their own, no file, no database.
PURE = [
    "rows",
    "tables",
    "values",
    "framing",
    "messages",
    "pages",
    "peers",
    "pointermap",
    "sequence",
    "shapes",
    "terminal",
    "trees",
    "lines",
    "batch",
    "wallclock",
    "tally",
    "legacy",
    "odbc",
    "retention",
    "pruning_sql",
    "tsql",
    "sqlserver_views",
    "sqlserver_copy",
]
WORLD = {
    *("aiosqlite", "asyncio", "concurrent", "contextvars", "filelock", "io", "logging", "mmap", "pathlib"),
    *("psutil", "queue", "random", "shutil", "signal", "socket", "sqlite3", "subprocess", "sys"),
    *("tempfile", "threading", "time", "warnings", "websockets"),
}

# Libraries that just one room knows, so that another can take their place.
OWNERS = {
    "aiosqlite": {"connection"},
    "websockets": {"listeners.websockets"},
    "filelock": {"importing", "leftovers", "setaside", "spool"},
}
ROOM_OWNERS = {"typer": {"cli"}, "rich": {"cli"}}


def module_name(file: Path) -> str:
    """Return the name of a module within the package, such as "cli.tail"."""
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts)


MODULES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}
each_module = pytest.mark.parametrize("module", MODULES)


def room_of(module: str) -> str:
    """Return the room of a module: its name, or that of its folder."""
    return module.partition(".")[0]


def tree_of(module: str) -> ast.Module:
    """Return a module as Python reads it."""
    return ast.parse(MODULES[module].read_text("utf-8"))


def imports_of(module: str) -> set[str]:
    """Return the full names of what a module imports, wherever in it, from its own package or others."""
    names: set[str] = set()
    here = ["async_enginelog", *module.split(".")[:-1]]
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            names.update(f"{source}.{alias.name}" for alias in node.names)
    return names


def libraries_of(module: str) -> set[str]:
    """Return what a module imports from outside of the package."""
    return {name.partition(".")[0] for name in imports_of(module)} - {"async_enginelog", "__future__"}


def neighbours_of(module: str) -> set[str]:
    """Return the rooms of the package that a module imports from."""
    parts = [name.split(".") for name in imports_of(module)]
    inside = [rest for package, *rest in parts if package == "async_enginelog"]
    return {
        rest[0] if rest and rest[0] in {*FLOORS, *map(room_of, MODULES)} else "__init__" for rest in inside
    }


@each_module
def test_every_module_has_a_room(module: str) -> None:
    """No module stands outside of the house: the plan above knows where each belongs."""
    assert room_of(module) in FLOORS, f"{module} has no room; give it one in ROOMS, and in design.md"


@each_module
def test_arrows_point_one_way(module: str) -> None:
    """A module imports only from rooms below its own."""
    room = room_of(module)
    above = {other for other in neighbours_of(module) - {room} if FLOORS.get(other, 99) >= FLOORS[room]}
    assert not above


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_know_only_pure_ones(module: str) -> None:
    """What decides doesn't import what does: neither ours nor Python's."""
    assert neighbours_of(module) <= set(PURE)
    assert not libraries_of(module) & WORLD


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_touch_nothing(module: str) -> None:
    """What decides opens no file and asks nothing of the system; of paths, it reads the names."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "exec", "eval", "__import__"}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            assert node.attr in {"PathLike", "fsdecode"}


@pytest.mark.parametrize("library", OWNERS)
def test_libraries_have_one_owner(library: str) -> None:
    """A library with habits of its own is known to just the module that tames it."""
    assert {module for module in MODULES if library in libraries_of(module)} <= OWNERS[library]


@pytest.mark.parametrize("library", ROOM_OWNERS)
def test_the_engine_needs_no_command_line(library: str) -> None:
    """What draws on a terminal is imported by the command line only, never by an engine."""
    assert {room_of(module) for module in MODULES if library in libraries_of(module)} <= ROOM_OWNERS[library]


def test_the_checks_see_imports() -> None:
    """These tests would see a wrong import: they do see the right ones."""
    assert "aiosqlite" in libraries_of("connection")
    assert neighbours_of("batch") == {"lines", "tables", "values"}
    assert {"rows", "tables"} <= neighbours_of("table_functions")
    assert neighbours_of("tables") == {"rows"}
