"""In each turn of the loop the same happens with the log and without, whatever client and handler do."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection

from async_enginelog import EngineLog, Message, server_connection

from .exact import ExactLoop, Step, play_exactly
from .raw import BINARY, CONT, PING, PONG, TEXT, close, frame

Note = Callable[..., None]


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """What runs coroutines on a loop that counts its turns."""
    with asyncio.Runner(loop_factory=ExactLoop) as runner:
        yield runner


@pytest.fixture(scope="module")
def log(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineLog]:
    """A log for all examples."""
    log = runner.run(EngineLog(tmp_path_factory.mktemp("turns") / "engine log.db").open())
    yield log
    runner.run(log.aclose())


# -- what clients do --------------------------------------------------------------------------------

BYTES = st.binary(max_size=6) | st.sampled_from(
    [b"\xff", "é€😀".encode(), b"\xf0\x9f", b"\x98\x80", b"x" * 60]
)
FINS = st.sampled_from([True, True, False])
FRAMES = st.one_of(
    st.builds(frame, st.sampled_from([TEXT, BINARY]), BYTES),
    st.builds(frame, st.sampled_from([TEXT, BINARY, CONT, CONT]), BYTES, fin=FINS),
    st.builds(frame, st.sampled_from([PING, PONG]), BYTES),
    st.builds(
        lambda opcode, parts: b"".join(
            frame(CONT if number else opcode, part, fin=number == len(parts) - 1)
            for number, part in enumerate(parts)
        ),
        st.sampled_from([TEXT, BINARY]),
        st.lists(BYTES, min_size=2, max_size=4),
    ),
)
LAST_FRAMES = st.one_of(
    st.builds(close, st.sampled_from([None, 1000, 1001, 1011, 4000])),
    st.sampled_from([frame(3), frame(TEXT, b"a", masked=False), frame(BINARY, b"", size=10**8), close(999)]),
)
TURNS = st.integers(0, 3)


@st.composite
def clients(draw: st.DrawFn) -> list[Step]:
    """Send frames, several or parts of one at a time, and end somehow."""
    data = b"".join(draw(st.lists(FRAMES, max_size=12)))
    if draw(st.booleans()):
        data += draw(LAST_FRAMES)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    steps = [
        Step(data[begin:end], draw(TURNS)) for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)
    ]
    return [*steps, Step(draw(st.sampled_from(["nothing", "nothing", "end", "gone"])), draw(TURNS))]


# -- what handlers do -------------------------------------------------------------------------------


class Actor:
    """Does what a handler may do, and notes what comes of it."""

    def __init__(self, connection: ServerConnection, note: Note) -> None:
        self._connection = connection
        self._note = note
        # Messages that were received, or of which a part was.
        self.taken = 0

    async def act(self, action: str, decode: bool | None, number: int) -> None:
        """Do one thing."""
        try:
            await getattr(self, action)(decode, number)
        except (Exception, asyncio.CancelledError) as error:
            self._note(action, type(error).__name__, str(error))

    async def recv(self, decode: bool | None, number: int) -> None:
        """Receive a message."""
        data = await self._connection.recv(decode)
        self.taken += 1
        self._note("recv", data)

    async def iterate(self, decode: bool | None, number: int) -> None:
        """Receive some messages."""
        async for data in self._connection:
            self.taken += 1
            self._note("message", data)
            number -= 1
            if number < 0:
                return

    async def stream(self, decode: bool | None, number: int) -> None:
        """Receive a message by parts, or only some of them."""
        is_first = True
        async for part in self._connection.recv_streaming(decode):
            self.taken += is_first
            is_first = False
            self._note("part", part)
            number -= 1
            if number < -1:
                return

    async def cancelled(self, decode: bool | None, number: int) -> None:
        """Be cancelled while receiving, or just when a message has come."""
        task = asyncio.create_task(self.recv(decode, 0))
        await self.turn(None, number)
        task.cancel()
        await task

    async def cancelled_stream(self, decode: bool | None, number: int) -> None:
        """Be cancelled within a stream, or before it begins."""
        task = asyncio.create_task(self.stream(decode, 9))
        await self.turn(None, number)
        task.cancel()
        await task

    async def two_at_once(self, decode: bool | None, number: int) -> None:
        """Receive in two tasks."""
        await asyncio.gather(self.act("recv", decode, 0), self.act("stream", decode, number))

    async def turn(self, decode: bool | None, number: int) -> None:
        """Give way."""
        for _ in range(number):
            await asyncio.sleep(0)

    async def send(self, decode: bool | None, number: int) -> None:
        """Send."""
        await self._connection.send("x" * number)

    async def close(self, decode: bool | None, number: int) -> None:
        """Close."""
        await self._connection.close(1000 + number)


ACTIONS = [
    "recv",
    "recv",
    "iterate",
    "stream",
    "cancelled",
    "cancelled_stream",
    "two_at_once",
    "turn",
    "send",
    "close",
]
HANDLERS = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.sampled_from([None, None, True, False]), st.integers(0, 3)),
    max_size=12,
)
SETTINGS = st.fixed_dictionaries(
    {
        "max_queue": st.sampled_from([16, 0, 1, (4, 2), None]),
        "max_size": st.sampled_from([2**20, 50, (100, 50)]),
    }
)


def rows_of(log: EngineLog, connection: Any) -> list[tuple[Any, ...]]:
    """Return received, queued and started of each message of a connection."""
    with closing(sqlite3.connect(log.path)) as database:
        return database.execute(
            "SELECT DT_MESSAGE_RECEIVED, DT_MESSAGE_PROCESS_QUEUED_TO_START, DT_MESSAGE_PROCESS_STARTED"
            " FROM ENGINE_DB_LOG_WEBSOCKET_MESSAGE WHERE WEBSOCKET_CONNECTION_ID = ?",
            [connection.enginelog.id],
        ).fetchall()


@settings(max_examples=150, deadline=None)
@given(clients(), HANDLERS, SETTINGS)
def test_each_turn_is_the_same(
    runner: asyncio.Runner, log: EngineLog, steps: list[Step], actions: list[Any], serving: dict[str, Any]
) -> None:
    """All calls return or raise the same in the same turn; each message that was taken is logged as such."""
    actors: list[Actor] = []

    async def handler(connection: ServerConnection, note: Note) -> None:
        actors.append(Actor(connection, note))
        for action in actions:
            await actors[-1].act(*action)

    async def play() -> None:
        create = server_connection(log, read_message=lambda data: Message("ANY"))
        plain, _ = await play_exactly(ServerConnection, handler, steps, **serving)
        logged, connection = await play_exactly(create, handler, steps, **serving)
        assert logged == plain
        await log.flush()
        rows = rows_of(log, connection)
        assert sum(started is not None for _, _, started in rows) == (
            actors[-1].taken if len(actors) == 2 else 0
        )
        assert all(received <= (queued or received) for received, queued, _ in rows)

    runner.run(play())
