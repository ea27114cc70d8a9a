"""
What runs that died left open: connections nobody closed, recordings nobody ended.

A recording belongs to the run that made its row; a later run may have ended it since. Rows without
an id are left out: nobody could ever say more about them.

"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import orjson

from .database import Database

__all__ = ["LeftOpen", "OpenConnection", "OpenRecording", "count_left_open", "left_open"]

# The runs are looked for in the index of the key: its order is no help, but it is a tenth of the table.
# With a million connections of a thousand runs, 45 ms instead of 220.
_CONNECTIONS = """
FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION
WHERE rowid IN (
    SELECT rowid FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION
    WHERE ENGINE_RUN_ID IN (SELECT value FROM json_each(?1)) AND WEBSOCKET_CONNECTION_ID IS NOT NULL
) AND DT_CONNECTION_ACCEPTED IS NOT NULL AND DT_CONNECTION_CLOSED IS NULL
"""

# No index has their runs: with a million recordings, 100 to 190 ms.
_RECORDINGS = """
FROM ENGINE_DB_LOG_RECORDING_CONFIG
WHERE ENGINE_RUN_ID IN (SELECT value FROM json_each(?1)) AND RECORDING_ID IS NOT NULL
    AND DT_RECORDING_START IS NOT NULL AND DT_RECORDING_END IS NULL AND DT_RECORDING_DATA_PURGED IS NULL
"""

_NAMED_CONNECTIONS = f"""
SELECT ENGINE_RUN_ID, WEBSOCKET_CONNECTION_ID, CLIENT_HOST_IP_ADDRESS, CLIENT_PORT, DT_CONNECTION_ACCEPTED
FROM (
    SELECT ENGINE_RUN_ID, WEBSOCKET_CONNECTION_ID, CLIENT_HOST_IP_ADDRESS, CLIENT_PORT,
        DT_CONNECTION_ACCEPTED,
        row_number() OVER (PARTITION BY ENGINE_RUN_ID ORDER BY WEBSOCKET_CONNECTION_ID) AS NUMBER
    {_CONNECTIONS}
) WHERE NUMBER <= ?2 ORDER BY ENGINE_RUN_ID, NUMBER
"""  # noqa: S608  # constants of this module

_NAMED_RECORDINGS = f"""
SELECT ENGINE_RUN_ID, RECORDING_ID, DT_RECORDING_START, (
    SELECT max(AUDIO_FRAME_NO) FROM ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME AS FRAME
    WHERE FRAME.RECORDING_ID = RECORDING.RECORDING_ID
) FROM (
    SELECT ENGINE_RUN_ID, RECORDING_ID, DT_RECORDING_START,
        row_number() OVER (PARTITION BY ENGINE_RUN_ID ORDER BY RECORDING_ID) AS NUMBER
    {_RECORDINGS}
) AS RECORDING WHERE NUMBER <= ?2 ORDER BY ENGINE_RUN_ID, NUMBER
"""  # noqa: S608  # constants of this module


@dataclass(frozen=True, slots=True)
class OpenConnection:
    """A connection that was accepted, and not closed."""

    connection_id: int
    host: str | None
    port: str | None
    accepted: str


@dataclass(frozen=True, slots=True)
class OpenRecording:
    """A recording that was started, and neither ended nor purged; its last frame of 100 ms, if any."""

    recording_id: int
    started: str
    last_frame_no: int | None


@dataclass(slots=True)
class LeftOpen:
    """What a run left open: how many there are, and the first of them."""

    connection_count: int = 0
    recording_count: int = 0
    connections: list[OpenConnection] = field(default_factory=list)
    recordings: list[OpenRecording] = field(default_factory=list)


async def count_left_open(database: Database, runs: Collection[int]) -> dict[int, LeftOpen]:
    """Return how many connections and recordings each of ``runs`` left open."""
    found = {run: LeftOpen() for run in runs}
    if not found:
        return found
    wanted = (_list_of(found),)
    for run, count in await database.fetch(_counts(_CONNECTIONS), wanted):
        found[run].connection_count = count
    for run, count in await database.fetch(_counts(_RECORDINGS), wanted):
        found[run].recording_count = count
    return found


async def left_open(database: Database, runs: Collection[int], limit: int) -> dict[int, LeftOpen]:
    """Return the same, with the first ``limit`` of the connections and recordings of each run."""
    found = await count_left_open(database, runs)
    if any(left.connection_count for left in found.values()):
        for run, *columns in await database.fetch(_NAMED_CONNECTIONS, (_list_of(found), limit)):
            found[run].connections.append(OpenConnection(*columns))
    if any(left.recording_count for left in found.values()):
        for run, *columns in await database.fetch(_NAMED_RECORDINGS, (_list_of(found), limit)):
            found[run].recordings.append(OpenRecording(*columns))
    return found


def _counts(things: str) -> str:
    return f"SELECT ENGINE_RUN_ID, count(*) {things} GROUP BY ENGINE_RUN_ID"


def _list_of(runs: Collection[int]) -> str:
    """Return runs as one parameter, however many there are."""
    return orjson.dumps(list(runs)).decode()
