"""What a victim is told when it is started."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Orders"]


@dataclass
class Orders:
    """
    What a victim is to do.

    Attributes:
        database: The log.
        record: Its record.
        first_stream: The number of its first stream.
        tasks: Streams that are tasks of the loop.
        threads: Streams that are threads beside it.
        rows: How many rows each stream logs; 0 for no end.
        rate: Rows a second of each stream; 0 for as fast as they can.
        chores: What it does meanwhile, over and over.
        setup: Functions, each ``module:name``, called with the orders before anything else: to inject faults.
        options: Further arguments of EngineLog.
        segment_bytes: The size of a segment of the spool; 0 for the usual.
        checkpoint_pages: After how many pages the WAL is checkpointed; 0 for the usual.
        extra: For ``setup`` and ``life``.
        life: A function, ``module:name``, called with the victim to live another life than the usual.

    """

    database: str
    record: str
    first_stream: int = 1
    tasks: int = 2
    threads: int = 1
    rows: int = 0
    rate: float = 0.0
    chores: list[str] = field(default_factory=list)
    setup: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    segment_bytes: int = 0
    checkpoint_pages: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    life: str = ""

    def as_json(self) -> str:
        """Return the argument of the command."""
        return json.dumps(asdict(self))
