"""
Read what clients send, whatever they send; performs no I/O.

Phones, browsers and connectivity tests don't agree on the names of fields, on upper and lower
case, or on whether a number is a number.

"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import orjson

__all__ = ["MAX_READ_BYTES", "Message", "MessageReader", "check_reader", "read_message", "whole_number"]

# Longer messages aren't read, only counted: reading one would make the loop late.
MAX_READ_BYTES = 65_536

# RECORDING_ID and FRAME_NO are stored as 64 bits, signed.
LARGEST = 2**63 - 1


class Message(NamedTuple):
    """
    What a message says; what it doesn't say, or what can't be read, is :obj:`None`.

    Attributes:
        type: What it is, in upper case, such as ``"START"``.
        recording_id: The recording it speaks of.
        frame_no: The client's frame it speaks of.
        audio_follows: Whether the next binary message belongs to it, so that both are one row.
        fields: What else it says, with names in upper case.
        problem: What of it can't be read, as a sentence.

    """

    type: str
    recording_id: int | None = None
    frame_no: int | None = None
    audio_follows: bool = False
    fields: Mapping[str, Any] = MappingProxyType({})
    problem: str | None = None


MessageReader: TypeAlias = Callable[[str | bytes], Message]

_BINARY = Message("BINARY")


def check_reader(read_message: object) -> None:
    """Raise :exc:`TypeError` if that can't read messages: now, and not at the first one."""
    if not callable(read_message):
        raise TypeError(f"read_message is {read_message!r}; pass a function, or leave it out")


def read_message(data: str | bytes) -> Message:
    """
    Understand a message of the recorder protocol; never fails.

    A binary message is of type BINARY; plain text such as ``hello`` is TEXT; what begins as JSON
    but isn't any is MALFORMED; JSON that doesn't say its type is JSON.

    Args:
        data: The message, of at most 64 KiB: text as :class:`str`, binary as :class:`bytes`.

    """
    if not isinstance(data, str):
        return _BINARY
    if not data.lstrip().startswith(("{", "[")):
        return Message("TEXT")
    try:
        fields = orjson.loads(data)
    except ValueError as error:
        return Message("MALFORMED", problem=f"not JSON ({error}): {_short(data)}")
    if not isinstance(fields, dict):
        return Message("JSON")
    return _of_fields({name.upper(): value for name, value in fields.items()})


def _of_fields(fields: dict[str, Any]) -> Message:
    kind = fields.get("MESSAGE_TYPE") or fields.get("TYPE")
    kind = kind.strip().upper() if isinstance(kind, str) else None
    if not kind:
        return Message("JSON", fields=fields, problem="it has no MESSAGE_TYPE of text")
    frame_no = fields.get("FRAME_NO")
    numbers = {
        "RECORDING_ID": fields.get("RECORDING_ID"),
        "FRAME_NO": fields.get("AUDIO_FRAME_NO") if frame_no is None else frame_no,
    }
    read = {name: whole_number(value) for name, value in numbers.items()}
    bad = [name for name, value in numbers.items() if value is not None and read[name] is None]
    problem = f"{bad[0]} isn't a whole number of 64 bits: {_short(numbers[bad[0]])}" if bad else None
    return Message(kind, read["RECORDING_ID"], read["FRAME_NO"], kind == "FRAME", fields, problem)


def whole_number(value: object) -> int | None:
    """Return a whole number that may have been sent as a number or as text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        digits = value.strip()
        unsigned = digits.removeprefix("-")
        if not (unsigned.isascii() and unsigned.isdecimal() and len(unsigned) < 20):
            return None
        value = int(digits)
    return value if isinstance(value, int) and abs(value) <= LARGEST else None


def _short(value: object) -> str:
    try:
        text = repr(value)
    except RecursionError:
        text = f"a deep {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
