"""What is public is listed, sorted, described, and there."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import async_enginelog
from async_enginelog.tables import TABLES

PACKAGE = Path(async_enginelog.__file__).parent
FILES = {
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts): file for file in PACKAGE.rglob("*.py")
}

# Running this one runs the command.
each_module = pytest.mark.parametrize("module", sorted(FILES.keys() - {"async_enginelog.__main__"}))

# Holds one number, where the build looks for it.
each_listing_module = pytest.mark.parametrize(
    "module", sorted(FILES.keys() - {"async_enginelog.__main__", "async_enginelog.version"})
)

Described = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def tree_of(module: str) -> ast.Module:
    """Return a module as Python reads it."""
    return ast.parse(FILES[module].read_text("utf-8"))


def exports_of(module: str) -> list[str]:
    """Return the names that a module says are public."""
    names = importlib.import_module(module.removesuffix(".__init__")).__all__
    assert isinstance(names, list)
    return names


def in_order(name: str) -> tuple[int, list[tuple[int, int | str]]]:
    """Return the key by which ruff sorts: CONSTANTS, Classes, functions; 9 before 10."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    parts = [part for part in re.split(r"(\d+)", name) if part]
    return kind, [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def is_empty(node: Described) -> bool:
    """Tell whether a thing has no body, as the methods of a protocol, described by their class."""
    return ast.unparse(node.body[0]) == "..."


def public_in(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Described]]:
    """Yield the public functions, classes and methods of a body, with their names."""
    for node in body:
        if isinstance(node, Described) and not node.name.startswith("_") and not is_empty(node):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_in(node.body, f"{prefix}{node.name}.")


@each_module
def test_modules_are_described(module: str) -> None:
    """Each module says in its docstring what it is for."""
    assert ast.get_docstring(tree_of(module))


@each_module
def test_public_things_are_described(module: str) -> None:
    """Each public function, class and method says what the caller gets."""
    assert [name for name, node in public_in(tree_of(module).body) if not ast.get_docstring(node)] == []


@each_listing_module
def test_exports_are_sorted(module: str) -> None:
    """A module lists what is public: sorted, and nothing twice."""
    names = exports_of(module)
    assert names == sorted(set(names), key=in_order)


@each_listing_module
def test_exports_exist(module: str) -> None:
    """Each name that is listed is there, and none is private."""
    exports = {
        name: getattr(importlib.import_module(module.removesuffix(".__init__")), name)
        for name in exports_of(module)
    }
    assert all(value is not None for value in exports.values())
    assert [name for name in exports if name.startswith("_") and name != "__version__"] == []


def test_the_face_is_complete() -> None:
    """Whatever the package imports into its face is public, and listed there."""
    imported = [
        alias.asname or alias.name
        for node in tree_of("async_enginelog.__init__").body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(imported) == sorted(async_enginelog.__all__)


def test_the_face_has_names_and_nothing_else() -> None:
    """The face of the package defines nothing of its own."""
    kinds = {type(node) for node in tree_of("async_enginelog.__init__").body[1:]}
    assert kinds <= {ast.ImportFrom, ast.Assign}


def test_a_table_is_a_method_and_a_function() -> None:
    """Each log function of the package is a method of EngineLog, by the same name, and public."""
    functions = {name for name in async_enginelog.__all__ if name.startswith("log_")}
    methods = {name for name in dir(async_enginelog.EngineLog) if name.startswith("log_")}
    assert functions == {name for name in methods if not name.endswith("_nowait")}
    assert len(functions) == len(TABLES) + 1  # log_row
