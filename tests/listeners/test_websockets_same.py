"""Differential tests: a logged connection does what a plain one does, in all that can be seen of it."""

from __future__ import annotations

import inspect
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest
import pytest_asyncio
from websockets.asyncio.server import ServerConnection

from async_enginelog import EngineLog, server_connection

from .scenarios import SCENARIOS
from .side_by_side import Side

# One loop and one log for all: there are hundreds of scenarios.
pytestmark = pytest.mark.asyncio(loop_scope="module")

# Scenarios that were played, and observations that were the same in each.
played: set[str] = set()
compared: dict[str, int] = {}

# Whole messages that websockets says it received, by the id of the connection in the log.
received: dict[int, int] = {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def log(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EngineLog]:
    """A log for all scenarios."""
    async with EngineLog(tmp_path_factory.mktemp("same") / "engine log.db") as log:
        yield log


def count(observed: Any) -> int:
    """Return how many single things an observation holds."""
    if isinstance(observed, dict):
        return sum(map(count, observed.values()))
    if isinstance(observed, list | tuple | set):
        return sum(map(count, observed))
    return 1


def rows_of(log: EngineLog, sql: str) -> list[tuple[Any, ...]]:
    """Run a query on the database of the log."""
    with closing(sqlite3.connect(log.path)) as database:
        return database.execute(sql).fetchall()


@pytest.mark.parametrize("name", SCENARIOS)
async def test_logged_is_as_plain(log: EngineLog, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """What is received, sent, raised, returned and logged by websockets, and in what order, is the same."""
    played.add(name)
    plain, logged = Side(ServerConnection), Side(server_connection(log))
    for side in (plain, logged):
        await side.play(SCENARIOS[name])

    assert logged.trace == plain.trace
    assert [record for record in caplog.records if record.name == "async_enginelog"] == []
    compared[name] = count(plain.trace)
    for connection in logged.connections:
        request: Any = connection.request
        if request is not None and "websocket" in str(request.headers.get_all("Upgrade")).lower():
            received[connection.enginelog.id] = logged.messages[connection.id]  # type: ignore[attr-defined]


async def test_each_connection_has_one_row(log: EngineLog) -> None:
    """After all scenarios, each connection that was asked for has a row, with times in their order."""
    await log.flush()
    rows = rows_of(
        log,
        "SELECT WEBSOCKET_CONNECTION_ID, DT_CONNECTION_REQUEST, DT_CONNECTION_ACCEPTED,"
        " DT_WEBSOCKET_DISCONNECT_EVENT, DT_CONNECTION_CLOSED FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION",
    )
    assert len(rows) == len({id for id, *_ in rows})
    assert received.keys() <= {id for id, *_ in rows}
    for _, *times in rows:
        requested, accepted, disconnected, closed = times
        assert requested <= (accepted or requested)
        assert (accepted or requested) <= disconnected <= closed


async def test_each_message_has_one_row(log: EngineLog) -> None:
    """After all scenarios, there are as many rows of messages as the protocol saw, with times in order."""
    await log.flush()
    rows = rows_of(
        log,
        "SELECT WEBSOCKET_CONNECTION_ID, DT_MESSAGE_RECEIVED, DT_MESSAGE_PROCESS_QUEUED_TO_START,"
        " MESSAGE_TYPE FROM ENGINE_DB_LOG_WEBSOCKET_MESSAGE",
    )
    whole = Counter(id for id, *_, kind in rows if kind not in {"INCOMPLETE", "TOO_BIG"})
    assert {id: whole[id] for id in received} == received
    for _, came, queued, kind in rows:
        assert (queued is None) == (kind in {"INCOMPLETE", "TOO_BIG"})
        assert came <= (queued or came)


def public_methods(cls: type) -> dict[str, Any]:
    """Return what a class lets its users call."""
    return {name: value for name, value in inspect.getmembers(cls, callable) if not name.startswith("_")}


def parameters_of(method: Any) -> list[tuple[Any, ...]]:
    """Return names, kinds and defaults of its parameters."""
    parameters = inspect.signature(method).parameters.values()
    return [(parameter.name, parameter.kind, parameter.default) for parameter in parameters]


@pytest.mark.parametrize("name", public_methods(ServerConnection))
async def test_same_signature(log: EngineLog, name: str) -> None:
    """A method takes the same arguments and is of the same kind: a coroutine, a generator, or a function."""
    plain: Any = getattr(ServerConnection, name)
    logged: Any = getattr(server_connection(log), name)
    for is_kind in (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isfunction):
        assert is_kind(logged) == is_kind(plain)
    if name != "handshake":  # for the server only; its arguments are passed on, whatever they are
        assert parameters_of(logged) == parameters_of(plain)


async def test_how_much_was_compared() -> None:
    """No scenario that was played showed a difference; pytest -s shows how many observations that is."""
    different = played - compared.keys()
    total = sum(compared.values())
    print(f"\n{len(played)} scenarios, {total:,} observations compared, {len(different)} differences")
    assert not different
