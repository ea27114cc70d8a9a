"""
Find among the arguments of a call what it works on: recording, frame, chunk, connection.

The names are read off a function's signature once; what is left for a call is a look at their positions.

"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .context import Bound

__all__ = ["ArgumentReader"]

# Names in lower case, and the column each speaks of; the more precise name comes later, and wins.
NAMES = {
    "recording": "recording_id",
    "recording_id": "recording_id",
    "frame": "frame_no",
    "audio_frame_no": "frame_no",
    "frame_no": "frame_no",
    "chunk": "audio_chunk_no",
    "chunk_no": "audio_chunk_no",
    "audio_chunk_no": "audio_chunk_no",
    "connection_id": "websocket_connection_id",
    "websocket_connection_id": "websocket_connection_id",
}
# Where in Bound that is.
FIELDS = {name: Bound._fields.index(column) for name, column in NAMES.items()}

# An id is stored as 64 bits, signed: of so many digits at most.
SMALLEST, LARGEST = -(2**63), 2**63 - 1
MAX_DIGITS = 19

# The position of an argument that is only passed by its name.
NOWHERE = sys.maxsize


class ArgumentReader:
    """
    Tell what a call of ``function`` works on.

    Taken are whole numbers, and texts of digits, that are passed or are the default of a parameter
    called ``recording_id``, ``recording``, ``frame_no``, ``audio_frame_no``, ``frame``,
    ``audio_chunk_no``, ``chunk_no``, ``chunk``, ``websocket_connection_id`` or ``connection_id``, in any
    case; also if they are in ``**kwargs``. Anything else of that name, such as an object, isn't.

    """

    __slots__ = ("_parameters", "_takes_any")

    def __init__(self, function: Callable[..., Any]) -> None:
        parameters = _parameters_of(function)
        self._takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        by_name = {
            parameter.name.lower(): _parameter(parameter, position)
            for position, parameter in enumerate(parameters)
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }
        self._parameters = [(field, *by_name[name]) for name, field in FIELDS.items() if name in by_name]

    def read(self, args: Sequence[object], kwargs: Mapping[str, object], bound: Bound) -> Bound:
        """Return what the call works on; what its arguments don't say is as it is ``bound``."""
        if not self._parameters and not self._takes_any:
            return bound
        found: list[int | None] = list(bound)
        if self._takes_any:
            _read_any(kwargs, found)
        for field, position, name, default in self._parameters:
            number = _number(args[position] if position < len(args) else kwargs.get(name, default))
            if number is not None:
                found[field] = number
        return Bound(*found)


def _parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some that are written in C don't tell
        return []


def _parameter(parameter: inspect.Parameter, position: int) -> tuple[int, str, object]:
    """Return where to find what is passed for a parameter: its position, else its name, else its default."""
    by_name_only = parameter.kind is parameter.KEYWORD_ONLY
    return NOWHERE if by_name_only else position, parameter.name, parameter.default


def _read_any(kwargs: Mapping[str, object], found: list[int | None]) -> None:
    """Look for each name in any case; a function with ``**kwargs`` doesn't say how it spells them."""
    by_name = {name.lower(): value for name, value in kwargs.items()}
    for name, field in FIELDS.items():
        number = _number(by_name.get(name))
        if number is not None:
            found[field] = number


def _number(value: object) -> int | None:
    if type(value) is int:  # the usual case first
        return value if SMALLEST <= value <= LARGEST else None
    if isinstance(value, str):
        # Clients send ids as text.
        return int(value) if _is_digits(value) and int(value) <= LARGEST else None
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value) if SMALLEST <= value <= LARGEST else None
    return None


def _is_digits(text: str) -> bool:
    return len(text) <= MAX_DIGITS and text.isascii() and text.isdecimal()
