"""
Read what clients send, whatever they send; performs no I/O.

Phones, browsers and connectivity tests don't agree on the names of fields, on upper and lower
case, or on whether a number is a number.

"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

# Longer ones wouldn't fit a BIGINT, and no client means them.
MAX_DIGITS = 18


class Malformed(ValueError):
    """A message that can't be understood."""


class Message(NamedTuple):
    """A text message; fields that it doesn't have, or that can't be read, are :obj:`None`."""

    type: str
    recording_id: int | None = None
    frame_no: int | None = None
    file_name: str | None = None
    mode: str | None = None


def read_message(text: str) -> Message:
    """
    Understand a text message of a client.

    Plain text such as ``hello`` is a message of type TEXT.

    Raises:
        Malformed: If it seems to be JSON, but isn't, or doesn't say of which type it is.

    """
    if not text.lstrip().startswith(("{", "[")):
        return Message("TEXT")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON ({error}): {text[:80]!r}") from None
    if not isinstance(fields, dict):
        raise Malformed(f"not an object: {text[:80]!r}")
    return _of_fields({name.upper(): value for name, value in fields.items()}, text)


def _of_fields(fields: Mapping[str, Any], text: str) -> Message:
    kind = fields.get("MESSAGE_TYPE") or fields.get("TYPE")
    if not isinstance(kind, str):
        raise Malformed(f"no MESSAGE_TYPE: {text[:80]!r}")
    return Message(
        kind.strip().upper(),
        _number(fields.get("RECORDING_ID")),
        _number(fields.get("FRAME_NO", fields.get("AUDIO_FRAME_NO"))),
        _text(fields.get("AUDIO_STREAM_FILE_NAME")),
        _text(fields.get("COMPOSE_PLAY_OR_PRACTICE")),
    )


def _number(value: object) -> int | None:
    """Return a number that may be sent as a number or as text."""
    digits = str(value).strip()
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= MAX_DIGITS else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
