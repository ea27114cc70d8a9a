"""Functions and files have names that fit into a column and say enough."""

from __future__ import annotations

import functools
import sys

from async_enginelog.places import Place

FILE = "test_places.py"


class Engine:
    """Has a method to name."""

    def run(self) -> str:
        """Return the name of the running code."""
        return Place.of_code(sys._getframe().f_code).function


def outer() -> Place:
    """Return the place of code in a function inside of another."""

    def inner() -> Place:
        return Place.of_code(sys._getframe().f_code)

    return inner()


def test_code_has_a_name_and_a_file() -> None:
    """The name is qualified by classes and functions, the file has no folders."""
    assert outer() == Place("outer.inner", FILE)
    assert Engine().run() == "Engine.run"


def test_files_of_windows_have_no_folders_either() -> None:
    """Code that was compiled under another system's path is named by its file, too."""
    for path in (r"C:\engine\listen.py", "/engine/listen.py", "listen.py"):
        code = compile("0", path, "eval")
        assert Place.of_code(code).file == "listen.py"


def test_a_function_has_the_place_of_its_code() -> None:
    """A function, a method and a class's method are named as Python names them."""
    assert Place.of_function(outer) == Place("outer", FILE)
    assert Place.of_function(Engine.run) == Place.of_function(Engine().run) == Place("Engine.run", FILE)


def test_decorators_do_not_hide_the_function() -> None:
    """A function that is decorated, or partly called, is still that function."""
    decorated = functools.wraps(outer)(lambda: None)
    assert Place.of_function(decorated) == Place("outer", FILE)
    partial = functools.partial(functools.partial(decorated))
    assert Place.of_function(partial) == Place("outer", FILE)


def test_what_has_no_code_has_no_file() -> None:
    """What is written in C, or is an object with a __call__, has a name all the same."""

    class Analyser:
        def __call__(self) -> None: ...

    assert Place.of_function(len) == Place("len", None)
    assert Place.of_function(Analyser()) == Place(
        "test_what_has_no_code_has_no_file.Analyser",
        None,
    )
