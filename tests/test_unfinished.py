"""What runs that died left open: counted, and the first of it named."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from async_enginelog.database import Database
from async_enginelog.unfinished import (
    _CONNECTIONS,
    LeftOpen,
    OpenConnection,
    OpenRecording,
    count_left_open,
    left_open,
)

TIME = "2026-01-02 03:04:05.000000"


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    """The tables of a log, in memory."""
    database = await Database.open_in_memory()
    yield database
    await database.close()


async def add(database: Database, run: int, connections: range, recordings: range) -> None:
    """Add what a run has open."""
    for number in connections:
        await database.execute(
            "INSERT INTO ENGINE_DB_LOG_WEBSOCKET_CONNECTION (ENGINE_RUN_ID, WEBSOCKET_CONNECTION_ID, "
            "CLIENT_HOST_IP_ADDRESS, CLIENT_PORT, DT_CONNECTION_ACCEPTED) VALUES (?, ?, '10.0.0.7', '7', ?)",
            (run, number, TIME),
        )
    for number in recordings:
        await database.execute(
            "INSERT INTO ENGINE_DB_LOG_RECORDING_CONFIG (ENGINE_RUN_ID, RECORDING_ID, DT_RECORDING_START) "
            "VALUES (?, ?, ?)",
            (run, number, TIME),
        )


async def test_no_runs(database: Database) -> None:
    """Where no run died, nothing is asked and nothing found."""
    assert await count_left_open(database, []) == {}
    assert await left_open(database, [], limit=3) == {}


async def test_run_that_left_nothing(database: Database) -> None:
    """A run that left nothing open is among the answers; the database needn't know it."""
    assert await left_open(database, [5], limit=3) == {5: LeftOpen(0, 0, [], [])}


async def test_each_run_has_its_own(database: Database) -> None:
    """What several runs left open is told apart; what other runs have open isn't asked for."""
    await add(database, 5, range(3), range(1))
    await add(database, 6, range(2), range(10, 14))
    await add(database, 7, range(9), range(20, 29))
    found = await count_left_open(database, [6, 5])

    assert [(run, left.connection_count, left.recording_count) for run, left in found.items()] == [
        (6, 2, 4),
        (5, 3, 1),
    ]


async def test_the_first_are_named(database: Database) -> None:
    """The first of each run are named, by id; the counts are of all."""
    await add(database, 5, range(4, 0, -1), range(40, 37, -1))
    await database.execute(
        "INSERT INTO ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME (RECORDING_ID, AUDIO_FRAME_NO) "
        "VALUES (38, 7), (38, 6)"
    )
    found = await left_open(database, [5], limit=2)

    assert found[5] == LeftOpen(
        connection_count=4,
        recording_count=3,
        connections=[OpenConnection(1, "10.0.0.7", "7", TIME), OpenConnection(2, "10.0.0.7", "7", TIME)],
        recordings=[OpenRecording(38, TIME, 7), OpenRecording(39, TIME, None)],
    )


async def test_very_many_runs(database: Database) -> None:
    """Any number of runs can be asked for, more than SQLite takes parameters, too."""
    await add(database, 39_999, range(1), range(0))
    found = await count_left_open(database, range(40_000))

    assert len(found) == 40_000
    assert found[39_999].connection_count == 1


async def test_connections_are_found_without_reading_all(database: Database) -> None:
    """Of a large table, only the index of the key is read as a whole, and the rows of those runs."""
    plan = [row[3] for row in await database.fetch(f"EXPLAIN QUERY PLAN SELECT 1 {_CONNECTIONS}", ("[5]",))]

    [outer, inner] = [step for step in plan if "ENGINE_DB_LOG_WEBSOCKET_CONNECTION" in step]
    assert outer.startswith("SEARCH")
    assert outer.endswith("(rowid=?)")
    assert "USING COVERING INDEX" in inner
