"""Where in the code something happens: the function and the file that go into the rows."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any, NamedTuple

__all__ = ["Place", "whole"]


class Place(NamedTuple):
    """A function, without what says that it is inside of another, and its file, without the folders."""

    function: str
    file: str | None

    @classmethod
    def of_code(cls, code: CodeType) -> Place:
        """Return the place of a piece of code."""
        return cls(_short_name(code.co_qualname), _file_name(code.co_filename))

    @classmethod
    def of_function(cls, function: Callable[..., Any]) -> Place:
        """Return the place of a function, whatever it is decorated with."""
        innermost = whole(inspect.unwrap(whole(function)))
        name = getattr(innermost, "__qualname__", type(innermost).__qualname__)
        code = getattr(innermost, "__code__", None)
        return cls(_short_name(name), _file_name(code.co_filename) if code else None)


def whole(function: Any) -> Any:
    """Return the function that a :class:`functools.partial` is a part of."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _short_name(qualified: str) -> str:
    return qualified.replace("<locals>.", "")


def _file_name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]
