"""A logged connection for its engine, and when its log is in trouble: listeners/websockets.py."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from async_enginelog import EngineLog, bound, log_steps
from async_enginelog.listeners.websockets import WebsocketsSocket

from ..conftest import Query
from ..test_faults import locked_by_another_process
from .raw import BINARY, TEXT, close, frame
from .serving import (
    chatting,
    connection_rows,
    echoes,
    log_talk,
    message_rows,
    receives,
    sees_its_id,
    serving,
    talking,
    until,
)

pytestmark = pytest.mark.usefixtures("small_segments")

START = b'{"MESSAGE_TYPE":"START","RECORDING_ID":"202508290514312002","AUDIO_STREAM_FILE_NAME":"a.wav"}'
HEADER = b'{"MESSAGE_TYPE":"FRAME","RECORDING_ID":"12","FRAME_NO":"3","BYTES_LEN":4}'


class TestBound:
    async def test_for_the_handler_and_its_tasks(self, path: Path, query: Query) -> None:
        """The handler, its tasks and threads, and the hooks find the connection bound; nobody else does."""
        seen: list[int | None] = []

        def see() -> None:
            seen.append(bound().websocket_connection_id)

        async def task() -> None:
            see()

        async def handler(connection: ServerConnection) -> None:
            see()
            await asyncio.create_task(task())
            await asyncio.to_thread(see)
            await log_steps(step_name="in the handler")

        async with EngineLog(path) as log:
            async with (
                serving(log, handler, process_request=lambda *_: see()) as server,
                chatting(server) as client,
            ):
                await client.wait_closed()
            assert bound().websocket_connection_id is None

        [row] = connection_rows(query)
        assert seen == [row.id] * 4

    async def test_two_at_once(self, path: Path, query: Query) -> None:
        """Connections at the same time don't mix."""
        async with (
            EngineLog(path) as log,
            serving(log, sees_its_id) as server,
            chatting(server) as first,
            chatting(server) as second,
        ):
            seen = []
            for client in (first, second, second, first):
                await client.send("which am I?")
                seen.append(int(str(await client.recv())))

        a, b = (row.id for row in connection_rows(query))
        assert seen == [a, b, b, a]

    async def test_what_it_took_last(self, path: Path) -> None:
        """A handler finds the message that it took last, with its header, at its connection."""
        seen: list[Any] = []

        async def handler(connection: Any) -> None:
            seen.extend([(message, connection.enginelog.taken) async for message in connection])

        await log_talk(path, handler, frame(TEXT, HEADER), frame(BINARY, b"1234"), close())

        (text, header), (_, audio) = seen
        assert text == HEADER.decode()
        assert (header.message.frame_no, header.message.fields["BYTES_LEN"]) == (3, 4)
        assert (audio.header, audio.id) == (header, header.id)


async def echo_works(log: EngineLog) -> None:
    """See that connections are as if there were no log."""
    async with serving(log, echoes) as server:
        async with chatting(server) as client:
            for message in ("a", b"b", START.decode()):
                await client.send(message)
                assert await client.recv() == message
        assert client.close_code == 1000


class TestTrouble:
    async def test_log_closed_before_the_server(
        self, path: Path, query: Query, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Connections go on when the log is closed; that is said, and what came before is logged."""
        async with EngineLog(path) as log, serving(log, echoes) as server, chatting(server) as client:
            await client.send("before")
            await client.recv()
            await log.aclose()
            await client.send("after")
            assert await client.recv() == "after"
            await echo_works(log)

        assert [row.closed for row in connection_rows(query)] == [None]
        assert [row.kind for row in message_rows(query)] == ["TEXT"]
        await until(lambda: "isn't logged: this EngineLog is closed" in caplog.text)

    async def test_log_never_opened(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Connections go on without a log that is open, bound to nothing; that is said once."""
        log = EngineLog(path)
        await echo_works(log)
        async with serving(log, sees_its_id) as server, chatting(server) as client:
            await client.send("which am I?")
            assert await client.recv() == "None"

        await until(lambda: "connections made while it isn't open aren't logged" in caplog.text)
        assert caplog.text.count("aren't logged") == 1
        assert not path.exists()

    async def test_log_opened_later(self, path: Path, query: Query) -> None:
        """Connections from before the log was opened leave no half rows in it."""
        log = EngineLog(path)
        async with serving(log, echoes) as server, chatting(server) as early, log, chatting(server) as late:
            for client in (early, late):
                await client.send("a")
                assert await client.recv() == "a"
            await late.close()
            await early.close()
            await until(lambda: not server.connections)

        [row] = connection_rows(query)
        assert row.id > 0
        assert [message.connection for message in message_rows(query)] == [row.id]

    async def test_spool_at_its_limit(
        self, path: Path, query: Query, capfd: pytest.CaptureFixture[str], small_segments: int
    ) -> None:
        """Connections go on when rows find no place but the console; no row is lost."""
        count = 3000
        async with EngineLog(path, spool_limit=2 * small_segments) as log:
            with locked_by_another_process(path, 1.0):
                async with talking(log, receives) as (_, raw):
                    for _ in range(count // 100):
                        raw.send(frame(TEXT, START) * 100)
                        await asyncio.sleep(0)
                    raw.send(close())
                    await raw.frames_to_end()
            statistics = log.statistics()
            assert statistics.on_console > 0
            assert statistics.accepted == 4 + 2 * count

        assert f"enginelog-row {log.run_id} 1 " in capfd.readouterr().err
        assert 0 < len(message_rows(query)) < count

    async def test_fault_of_ours(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A fault in looking on, as a websockets unknown to us may bring, is said, and does no harm."""

        async def handler(connection: Any) -> None:
            connection._messages._log = None
            await echoes(connection)

        async with EngineLog(path) as log, serving(log, handler) as server, chatting(server) as client:
            for message in ("a", b"b"):
                await client.send(message)
                assert await client.recv() == message
        assert caplog.text.count("not logged: AttributeError") == 1


class TestSocket:
    async def test_takes_messages_until_the_end(self, path: Path) -> None:
        """A socket gives messages, then None; sending and closing after the end do nothing."""
        seen: list[Any] = []

        async def handler(connection: ServerConnection) -> None:
            websocket = WebsocketsSocket(connection)
            await websocket.send("welcome")
            while (data := await websocket.receive()) is not None:
                seen.append((data, websocket.log.taken))
            await websocket.send("too late")
            await websocket.close()
            seen.append(websocket.is_lost)

        await log_talk(path, handler, frame(TEXT, START), frame(BINARY, b"a"), close())

        (text, start), (audio, binary), is_lost = seen
        assert (text, audio, is_lost) == (START.decode(), b"a", False)
        assert (start.message.type, binary.message.type) == ("START", "BINARY")

    async def test_lost(self, path: Path) -> None:
        """A connection that nobody closed is lost."""
        seen: list[Any] = []

        async def handler(connection: ServerConnection) -> None:
            websocket = WebsocketsSocket(connection)
            seen.append((await websocket.receive(), websocket.is_lost))

        async with EngineLog(path) as log, talking(log, handler) as (_, raw):
            raw.end()
            await raw.frames_to_end()
        assert seen == [(None, True)]

    async def test_needs_a_log(self) -> None:
        """A connection that isn't logged is refused, with what to do."""

        async def handler(connection: ServerConnection) -> None:
            with pytest.raises(TypeError, match="isn't logged; pass it to the server"):
                WebsocketsSocket(connection)
            await connection.send("refused")

        async with serve(handler, "127.0.0.1", 0) as server, chatting(server) as client:
            assert await client.recv() == "refused"
