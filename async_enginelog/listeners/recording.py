"""A recording, as analysers are handed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Recording"]


class Recording:
    """
    A recording that runs; analysers are handed it along with each frame.

    Attributes:
        id: Its RECORDING_ID.
        fields: What START said, with names in upper case; empty as long as there was none.
        connection_id: The connection it came on last; :obj:`None` if that isn't logged.
        data: For the analysers to keep what they need for this recording; emptied when it is purged.
            With analysers in threads, it is up to them not to disturb each other.

    """

    def __init__(self, id: int) -> None:
        self.id = id
        self.fields: Mapping[str, Any] = {}
        self.connection_id: int | None = None
        self.data: dict[Any, Any] = {}

    def __repr__(self) -> str:
        return f"<Recording {self.id}>"
