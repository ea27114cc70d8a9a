"""An application behind LogMiddleware: what is logged of it, and that it doesn't notice."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Response, WebSocket, WebSocketException
from uvicorn.config import LifespanType, WSProtocolType
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from async_enginelog import EngineLog, Message, bound
from async_enginelog.listeners.asgi import LogMiddleware
from async_enginelog.listeners.connections import ConnectionLog

from ..conftest import Query

Event = MutableMapping[str, Any]
Receive = Callable[[], Coroutine[Any, Any, Event]]
Send = Callable[[Event], Coroutine[Any, Any, None]]
Application = Callable[[Any, Any, Any], Awaitable[Any]]
Client = Callable[[str], Awaitable[list[Any]]]

RECORDING = 202508290514312002
START = '{"MESSAGE_TYPE":"START","RECORDING_ID":"202508290514312002"}'
FRAME = '{"MESSAGE_TYPE":"FRAME","RECORDING_ID":"202508290514312002","FRAME_NO":"1"}'
AUDIO = bytes(8820)

# Nothing here takes long; a test that hangs fails after so many seconds.
PATIENCE = 20.0

CONNECT: Event = {"type": "websocket.connect"}
GONE: Event = {"type": "websocket.disconnect", "code": 1001}
ACCEPT: Event = {"type": "websocket.accept"}
STARTUP: Event = {"type": "lifespan.startup"}
SHUTDOWN: Event = {"type": "lifespan.shutdown"}

speaker: ContextVar[str] = ContextVar("speaker", default="nobody")


def text(data: str) -> Event:
    """Return the event of a message of text."""
    return {"type": "websocket.receive", "text": data}


def binary(data: bytes) -> Event:
    """Return the event of a binary message."""
    return {"type": "websocket.receive", "bytes": data}


# -- a server to be seen through --------------------------------------------------------------------


class Peer:
    """A server that gives its events away in order, and keeps what it is sent."""

    def __init__(self, *events: Event) -> None:
        self.events = list(events)
        self.sent: list[Event] = []

    async def receive(self) -> Event:
        """Return the next event; wait for ever if there is none."""
        if not self.events:
            await asyncio.get_running_loop().create_future()
        return self.events.pop(0)

    async def send(self, event: Event) -> None:
        """Keep an event."""
        self.sent.append(event)


def websocket_scope(**more: Any) -> dict[str, Any]:
    """Return the scope of a websocket, as uvicorn has it."""
    headers = [(b"host", b"engine"), (b"cookie", b"secret=1"), (b"x-name", "é".encode("latin-1"))]
    return {"type": "websocket", "client": ("192.0.2.7", 50000), "headers": headers, **more}


async def take_all(scope: Any, receive: Receive, send: Send) -> None:
    """Accept a websocket, and take what comes until it is gone."""
    await receive()
    await send(ACCEPT)
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def live(scope: Any, receive: Receive, send: Send) -> None:
    """Live through a lifespan."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


CONNECTIONS = (
    "SELECT CLIENT_HOST_IP_ADDRESS, CLIENT_PORT, DT_CONNECTION_REQUEST IS NOT NULL, "
    "DT_CONNECTION_ACCEPTED IS NOT NULL, DT_WEBSOCKET_DISCONNECT_EVENT IS NOT NULL, "
    "DT_CONNECTION_CLOSED IS NOT NULL FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION ORDER BY LOG_SEQ"
)
MESSAGES = (
    "SELECT MESSAGE_TYPE, RECORDING_ID, AUDIO_FRAME_NO, DT_MESSAGE_PROCESS_QUEUED_TO_START IS NOT NULL, "
    "DT_MESSAGE_PROCESS_STARTED IS NOT NULL FROM ENGINE_DB_LOG_WEBSOCKET_MESSAGE ORDER BY MESSAGE_ID"
)
# Whether each time that is there is no earlier than the one before it.
CONNECTION_TIMES = (
    "SELECT DT_CONNECTION_REQUEST <= DT_CONNECTION_ACCEPTED AND "
    "DT_CONNECTION_ACCEPTED <= DT_WEBSOCKET_DISCONNECT_EVENT AND "
    "DT_WEBSOCKET_DISCONNECT_EVENT <= DT_CONNECTION_CLOSED FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION"
)
MESSAGE_TIMES = (
    "SELECT DISTINCT DT_MESSAGE_RECEIVED <= DT_MESSAGE_PROCESS_QUEUED_TO_START AND "
    "DT_MESSAGE_PROCESS_QUEUED_TO_START <= DT_MESSAGE_PROCESS_STARTED FROM ENGINE_DB_LOG_WEBSOCKET_MESSAGE"
)


# -- a server as it is --------------------------------------------------------------------------------


@pytest.fixture(
    params=[
        "websockets-sansio",
        # The older of uvicorn's ways to use the websockets package is deprecated, and so is what it uses.
        pytest.param(
            "websockets",
            marks=pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The `websockets` impl"),
        ),
    ]
)
def ws(request: pytest.FixtureRequest) -> WSProtocolType:
    """Name each of uvicorn's ways to use the websockets package."""
    implementation: WSProtocolType = request.param
    return implementation


@asynccontextmanager
async def serving(
    app: Application, ws: WSProtocolType = "websockets-sansio", lifespan: LifespanType = "auto"
) -> AsyncIterator[str]:
    """Serve an application with uvicorn; yields its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, ws=ws, lifespan=lifespan, log_config=None, access_log=False, proxy_headers=False
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listening.close()


class TestRows:
    async def test_session(self, path: Path, query: Query, ws: WSProtocolType) -> None:
        """A session has a row for the connection and one for each message, a header and its audio are one."""

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                return await live(scope, receive, send)
            await take_all(scope, receive, send)

        async with (
            serving(LogMiddleware(app, EngineLog(path)), ws) as uri,
            connect(uri, additional_headers={"Cookie": "secret=1"}) as client,
        ):
            for message in (START, FRAME, AUDIO, "hello", b"alone", '{"type":"stop"}'):
                await client.send(message)
            port = client.local_address[1]

        assert query(CONNECTIONS) == [("127.0.0.1", str(port), 1, 1, 1, 1)]
        assert query(CONNECTION_TIMES) == [(1,)]
        assert query(MESSAGES) == [
            ("START", RECORDING, None, 1, 1),
            ("FRAME", RECORDING, 1, 1, 1),
            ("TEXT", None, None, 1, 1),
            ("BINARY", None, None, 1, 1),
            ("STOP", None, None, 1, 1),
        ]
        assert query(MESSAGE_TIMES) == [(1,)]
        [(headers,)] = query("SELECT CLIENT_HEADERS FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION")
        assert "secret" not in headers
        assert "sec-websocket-key" in headers.lower()

    async def test_fastapi_by_one_line(self, path: Path, query: Query, ws: WSProtocolType) -> None:
        """An application of FastAPI has all rows by one line more."""
        app = FastAPI()

        @app.websocket("/ws/stream")
        async def stream(websocket: WebSocket) -> None:
            await websocket.accept()
            async for message in websocket.iter_text():
                await websocket.send_text(message)

        app.add_middleware(LogMiddleware, log=EngineLog(path))

        async with serving(app, ws) as uri, connect(f"{uri}/ws/stream") as client:
            await client.send(START)
            assert await client.recv() == START

        assert [row[2:] for row in query(CONNECTIONS)] == [(1, 1, 1, 1)]
        assert query(MESSAGES) == [("START", RECORDING, None, 1, 1)]

    @pytest.mark.parametrize(
        "refusal",
        [
            {"type": "websocket.close", "code": 4003},
            {"type": "websocket.http.response.start", "status": 401, "headers": []},
        ],
    )
    async def test_refused(self, path: Path, query: Query, refusal: Event) -> None:
        """A connection that is refused was never accepted; it ends there, also if the application goes on."""

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await send(refusal)
            await log.flush()
            meanwhile.extend(query(CONNECTIONS))

        meanwhile: list[Any] = []
        async with EngineLog(path) as log:
            await LogMiddleware(app, log)(websocket_scope(), Peer().receive, Peer().send)

        assert meanwhile == [("192.0.2.7", "50000", 1, 0, 1, 0)]
        assert query(CONNECTIONS) == [("192.0.2.7", "50000", 1, 0, 1, 1)]

    @pytest.mark.parametrize("by_client", [True, False])
    async def test_end_begins_when_one_side_closes(self, path: Path, query: Query, by_client: bool) -> None:
        """A connection begins to end when one side closes it, and is gone when the application has ended."""

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await send(ACCEPT)
            await (receive() if by_client else send({"type": "websocket.close"}))
            await log.flush()
            meanwhile.extend(query(CONNECTIONS))

        meanwhile: list[Any] = []
        async with EngineLog(path) as log:
            await LogMiddleware(app, log)(websocket_scope(), Peer(GONE).receive, Peer().send)

        assert meanwhile == [("192.0.2.7", "50000", 1, 1, 1, 0)]
        assert query(CONNECTIONS) == [("192.0.2.7", "50000", 1, 1, 1, 1)]
        assert query(CONNECTION_TIMES) == [(1,)]

    async def test_accepting_that_fails(self, path: Path, query: Query) -> None:
        """A server that can't accept any more raises; then the connection wasn't accepted."""

        async def send(event: Event) -> None:
            raise OSError("gone")

        async with EngineLog(path) as log:
            with pytest.raises(OSError, match="gone"):
                await LogMiddleware(take_all, log)(websocket_scope(), Peer(CONNECT).receive, send)

        assert [row[2:] for row in query(CONNECTIONS)] == [(1, 0, 1, 1)]

    async def test_reading_takes_time(self, path: Path, query: Query) -> None:
        """A message was received before it is read, and queued and taken after that."""

        def read(data: str | bytes) -> Message:
            begin = datetime.now(UTC)
            while (between := datetime.now(UTC)) == begin:
                pass
            read_at.append(between.strftime("%Y-%m-%d %H:%M:%S.%f"))
            return Message("TEXT")

        read_at: list[str] = []
        server = Peer(CONNECT, text("x"), GONE)
        async with EngineLog(path) as log:
            await LogMiddleware(take_all, log, read_message=read)(
                websocket_scope(), server.receive, server.send
            )

        sql = "SELECT DT_MESSAGE_RECEIVED < ?1, ?1 <= DT_MESSAGE_PROCESS_QUEUED_TO_START"
        assert query(f"{sql} FROM ENGINE_DB_LOG_WEBSOCKET_MESSAGE", read_at) == [(1, 1)]
        assert query(MESSAGE_TIMES) == [(1,)]

    async def test_header_without_audio(self, path: Path, query: Query) -> None:
        """A header whose audio never came was received, and no more than that."""
        async with EngineLog(path) as log:
            await LogMiddleware(take_all, log)(
                websocket_scope(), Peer(CONNECT, text(FRAME), GONE).receive, Peer().send
            )

        assert query(MESSAGES) == [("FRAME", RECORDING, 1, 0, 0)]

    async def test_keys_that_are_there_and_empty(self, path: Path, query: Query) -> None:
        """A server may send both keys, one of them None; an empty message is a message."""
        server = Peer(
            CONNECT,
            {**text(START), "bytes": None},
            {**binary(b""), "text": None},
            text(""),
            GONE,
        )
        async with EngineLog(path) as log:
            await LogMiddleware(take_all, log)(websocket_scope(), server.receive, server.send)

        assert [row[0] for row in query(MESSAGES)] == ["START", "BINARY", "TEXT"]

    async def test_reader_and_proxies_of_the_engine(self, path: Path, query: Query) -> None:
        """read_message and trusted_proxies mean what they mean for server_connection()."""

        def read(data: str | bytes) -> Message:
            return Message(f"{type(data).__name__} {len(data)}")

        scope = websocket_scope(client=("10.0.0.1", 1), headers=[(b"x-forwarded-for", b"203.0.113.9")])
        server = Peer(CONNECT, text("abc"), binary(b"ab"), text("a" * 70_000), GONE)
        async with EngineLog(path) as log:
            app = LogMiddleware(take_all, log, read_message=read, trusted_proxies=["10.0.0.0/8"])
            await app(scope, server.receive, server.send)

        assert [row[:2] for row in query(CONNECTIONS)] == [("203.0.113.9", None)]
        assert [row[0] for row in query(MESSAGES)] == ["str 3", "bytes 2", "TEXT"]

    async def test_credentials_of_the_engines_own(self, path: Path, query: Query) -> None:
        """masked_headers means what it means for server_connection()."""
        scope = websocket_scope(headers=[(b"x-violin", b"secret"), (b"cookie", b"secret")])
        server = Peer(CONNECT, GONE)
        async with EngineLog(path) as log:
            await LogMiddleware(take_all, log, masked_headers=["X-Violin"])(
                scope, server.receive, server.send
            )

        [(headers,)] = query("SELECT CLIENT_HEADERS FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION")
        assert json.loads(headers) == {"x-violin": "***", "cookie": "***"}

    def test_wrong_proxies(self, path: Path) -> None:
        """What can't be a proxy is refused at once."""
        with pytest.raises(ValueError, match="trusted proxies"):
            LogMiddleware(take_all, EngineLog(path), trusted_proxies=["no address"])


class TestInTheCallersTask:
    async def test_log_of_the_connection_is_in_the_scope(self, path: Path, query: Query) -> None:
        """The application finds the connection's log, with the message taken last; the server doesn't."""
        taken: list[Any] = []

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            assert isinstance(scope["enginelog"], ConnectionLog)
            for _ in range(3):
                await receive()
                taken.append(scope["enginelog"].taken and scope["enginelog"].taken.message.type)
            taken.append(scope["enginelog"].id)

        scope = websocket_scope(state={})
        before = dict(scope)
        async with EngineLog(path) as log:
            await LogMiddleware(app, log)(
                scope, Peer(CONNECT, text(START), binary(AUDIO)).receive, Peer().send
            )

        [(connection,)] = query("SELECT WEBSOCKET_CONNECTION_ID FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION")
        assert taken == [None, "START", "BINARY", connection]
        assert scope == before

    async def test_connection_is_bound(self, path: Path) -> None:
        """Inside of the application the connection is bound, side by side with others, and not after it."""
        inside: dict[int, int | None] = {}
        both = asyncio.Barrier(2)

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await both.wait()
            inside[scope["enginelog"].id] = bound().websocket_connection_id
            speaker.set("the application")

        async def serve() -> None:
            await LogMiddleware(app, log)(websocket_scope(), Peer().receive, Peer().send)
            # One task, one context: all but the binding stays, as without the log.
            assert (bound().websocket_connection_id, speaker.get()) == (None, "the application")

        async with EngineLog(path) as log:
            await asyncio.gather(serve(), serve())

        assert len(inside) == 2
        assert all(connection == number for number, connection in inside.items())

    async def test_no_task_is_made(self, path: Path) -> None:
        """The application, and what it receives and sends, runs in the task of the server."""
        seen: list[Any] = []

        async def receive() -> Event:
            seen.append((asyncio.current_task(), len(asyncio.all_tasks())))
            return CONNECT

        async def send(event: Event) -> None:
            seen.append((asyncio.current_task(), len(asyncio.all_tasks())))

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            seen.append((asyncio.current_task(), len(asyncio.all_tasks())))
            await receive()
            await send(ACCEPT)

        async with EngineLog(path) as log:
            expected = asyncio.current_task(), len(asyncio.all_tasks())
            await LogMiddleware(app, log)(websocket_scope(), receive, send)

        assert seen == [expected] * 3

    @pytest.mark.parametrize(
        "error", [ValueError("boom"), ExceptionGroup("g", [OSError()]), KeyboardInterrupt(), GeneratorExit()]
    )
    async def test_exception_is_the_same(self, path: Path, query: Query, error: BaseException) -> None:
        """What the application raises comes out as it is; the connection has its end."""

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await send(ACCEPT)
            raise error

        async with EngineLog(path) as log:
            with pytest.raises(type(error)) as raised:
                await LogMiddleware(app, log)(websocket_scope(), Peer().receive, Peer().send)

        assert raised.value is error
        assert raised.value.__cause__ is raised.value.__context__ is None
        assert [row[2:] for row in query(CONNECTIONS)] == [(1, 1, 1, 1)]

    async def test_cancelled(self, path: Path, query: Query) -> None:
        """A server may cancel the application; the connection has its end."""
        async with EngineLog(path) as log:
            server = Peer(CONNECT)
            call = LogMiddleware(take_all, log)(websocket_scope(), server.receive, server.send)
            task = asyncio.ensure_future(call)
            while not server.sent:
                await asyncio.sleep(0)
            task.cancel("enough")
            with pytest.raises(asyncio.CancelledError, match="enough"):
                await task

        assert [row[2:] for row in query(CONNECTIONS)] == [(1, 1, 1, 1)]

    @pytest.mark.parametrize("kind", ["http", "lifespan", "webtransport"])
    async def test_all_else_passes_untouched(self, path: Path, query: Query, kind: str) -> None:
        """Of anything but a websocket, the application gets the very objects of the server."""
        got: list[Any] = []

        async def app(scope: Any, receive: Receive, send: Send) -> str:
            got.extend((scope, receive, send))
            return "value"

        server, scope = Peer(), {"type": kind}
        given: list[Any] = [scope, server.receive, server.send]
        async with EngineLog(path) as log:
            assert await LogMiddleware(app, log)(*given) == "value"

        assert all(mine is theirs for mine, theirs in zip(got, given, strict=True))
        assert scope == {"type": kind}
        assert query(CONNECTIONS) == []


def breaks(data: str | bytes) -> Message:
    """Fail, as a reader of an engine may."""
    raise ZeroDivisionError


def returns_nonsense(data: str | bytes) -> Any:
    """Return what is no message."""
    return None


class TestFaultsOfTheLog:
    @pytest.mark.parametrize(
        ("scope", "events", "reader", "warning"),
        [
            ({"headers": [("text", "text")]}, [], None, "'str' object has no attribute 'decode'"),
            ({"headers": None}, [], None, "'NoneType' object is not iterable"),
            ({"client": "/run/socket"}, [], None, None),
            ({"client": None}, [], None, None),
            ({}, [{"type": "websocket.receive"}], None, "not logged: KeyError: 'bytes'"),
            ({}, [{"type": "websocket.receive", "text": 7}], None, "has no len()"),
            ({}, [{"type": "websocket.unheard-of"}, {}], None, None),
            ({}, [text("x")], breaks, "read_message failed"),
            ({}, [text("x")], returns_nonsense, ""),
        ],
    )
    async def test_application_does_not_notice(
        self,
        path: Path,
        query: Query,
        caplog: pytest.LogCaptureFixture,
        scope: dict[str, Any],
        events: list[Event],
        reader: Any,
        warning: str | None,
    ) -> None:
        """What can't be logged is told to the operator, and to nobody else; the rest is logged."""
        got: list[Any] = []

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            got.extend([await receive() for _ in range(len(events))])
            await send(ACCEPT)

        server = Peer(*events)
        async with EngineLog(path) as log:
            logged = LogMiddleware(app, log, **({"read_message": reader} if reader else {}))
            await logged(websocket_scope(**scope), server.receive, server.send)

        assert (got, server.sent) == (events, [ACCEPT])
        assert [row[3:] for row in query(CONNECTIONS)] == [(1, 1, 1)]
        assert len(caplog.messages) == (warning is not None)
        assert (warning or "") in caplog.text

    async def test_log_that_is_closed_meanwhile(
        self, path: Path, query: Query, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A log may be closed while a connection is open."""

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await log.aclose()
            await take_all(scope, receive, send)

        server = Peer(CONNECT, text(START), GONE)
        async with EngineLog(path) as log:
            await LogMiddleware(app, log)(websocket_scope(), server.receive, server.send)
        log._console.close(PATIENCE)

        assert server.sent == [ACCEPT]
        assert [row[2:] for row in query(CONNECTIONS)] == [(1, 0, 0, 0)]
        assert "a row isn't logged" in caplog.text

    async def test_log_that_is_not_open(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """In a server without lifespan nobody opens the log: one warning says so, and the engine goes on."""
        log = EngineLog(path)
        async with serving(LogMiddleware(take_all, log), lifespan="off") as uri:
            for _ in range(3):
                async with connect(uri) as client:
                    await client.send(START)
        log._console.close(PATIENCE)

        warnings_of_ours = [record for record in caplog.records if record.name == "async_enginelog"]
        assert len(warnings_of_ours) == 1
        assert "connections aren't logged; the lifespan of a server opens the log, once" in caplog.text
        assert not path.exists()

    async def test_nothing_is_bound_without_a_log(self, path: Path) -> None:
        """A log that isn't open binds no connection; the application finds one in its scope all the same."""

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await receive()
            found.extend((bound().websocket_connection_id, scope["enginelog"].taken.message.type))

        found: list[Any] = []
        await LogMiddleware(app, EngineLog(path))(websocket_scope(), Peer(text(START)).receive, Peer().send)
        assert found == [None, "START"]


class TestLifespan:
    async def test_log_is_open_for_as_long_as_the_application(self, path: Path, query: Query) -> None:
        """The log opens before the application hears of the start, and closes after it has ended."""
        seen: list[Any] = []

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            seen.append(log.is_open)
            assert await receive() is STARTUP
            await log.log_steps(step_name="startup")
            await send({"type": "lifespan.startup.complete"})
            assert await receive() is SHUTDOWN
            await log.log_steps(step_name="shutdown")
            await send({"type": "lifespan.shutdown.complete"})

        async def send(event: Event) -> None:
            seen.append((event["type"], log.is_open))

        log = EngineLog(path)
        await LogMiddleware(app, log)({"type": "lifespan"}, Peer(STARTUP, SHUTDOWN).receive, send)

        assert seen == [True, ("lifespan.startup.complete", True), ("lifespan.shutdown.complete", False)]
        assert query("SELECT STEP_NAME FROM ENGINE_DB_LOG_STEPS") == [("startup",), ("shutdown",)]

    async def test_log_that_cannot_be_opened(self, path: Path) -> None:
        """The application isn't called, and the server hears why."""
        path.mkdir()
        called: list[Any] = []

        async def app(*arguments: Any) -> None:
            called.append(arguments)

        server = Peer(STARTUP)
        await LogMiddleware(app, EngineLog(path))({"type": "lifespan"}, server.receive, server.send)

        why = f"the EngineLog can't be opened: {path} is a folder; pass the path of a file in it"
        assert server.sent == [{"type": "lifespan.startup.failed", "message": why}]
        assert (server.events, called) == ([], [])

    def test_server_says_why_it_does_not_start(self, tmp_path: Path) -> None:
        """uvicorn prints the reason, and ends."""
        script = """
            import uvicorn
            from async_enginelog import EngineLog
            from async_enginelog.listeners.asgi import LogMiddleware

            async def app(scope, receive, send):
                print("called")

            uvicorn.run(LogMiddleware(app, EngineLog(".")), port=0)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode != 0
        assert "the EngineLog can't be opened: " in done.stderr
        assert "is a folder; pass the path of a file in it" in done.stderr
        assert "Application startup failed" in done.stderr
        assert "called" not in done.stdout

    @pytest.mark.parametrize("answer", ["lifespan.startup.failed", "lifespan.shutdown.failed"])
    async def test_application_that_fails(self, path: Path, answer: str) -> None:
        """An application that says it failed has its log closed, and its words reach the server."""

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": answer, "message": "no microphone"})
            raise ZeroDivisionError

        log, server = EngineLog(path), Peer(STARTUP)
        with pytest.raises(ZeroDivisionError):
            await LogMiddleware(app, log)({"type": "lifespan"}, server.receive, server.send)

        assert server.sent == [{"type": answer, "message": "no microphone"}]
        assert not log.is_open

    @pytest.mark.parametrize("is_open", [True, False])
    async def test_exception_is_the_same(self, path: Path, is_open: bool) -> None:
        """An exception in a lifespan that the log has no part in bears no trace of it."""

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            assert sys.exc_info() == (None, None, None)
            raise error

        error = ZeroDivisionError()
        async with EngineLog(path) as log:
            if not is_open:
                await log.aclose()
            with pytest.raises(ZeroDivisionError) as raised:
                await LogMiddleware(app, log)({"type": "lifespan"}, Peer().receive, Peer().send)
            assert log.is_open == is_open

        assert raised.value is error
        assert error.__context__ is error.__cause__ is None

    @pytest.mark.parametrize("raises", [True, False])
    async def test_application_that_does_not_answer(self, path: Path, raises: bool) -> None:
        """An application that ends without a word when the server does has its log closed."""

        async def app(scope: Any, receive: Receive, send: Send) -> str:
            assert (await receive(), await receive()) == (STARTUP, SHUTDOWN)
            if raises:
                raise ZeroDivisionError
            return "value"

        log, server = EngineLog(path), Peer(STARTUP, SHUTDOWN)
        call = LogMiddleware(app, log)({"type": "lifespan"}, server.receive, server.send)
        if raises:
            with pytest.raises(ZeroDivisionError):
                await call
        else:
            assert await call == "value"

        assert (server.sent, log.is_open) == ([], False)

    async def test_application_without_lifespan(self, path: Path, query: Query, ws: WSProtocolType) -> None:
        """An application that refuses the lifespan is served and logged nevertheless."""
        refused: list[BaseException] = []

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            assert scope["type"] == "websocket", "there is only one thing this application can do"
            await take_all(scope, receive, send)

        async def outside(scope: Any, receive: Receive, send: Send) -> None:
            try:
                await logged(scope, receive, send)
            except AssertionError as error:
                refused.append(error)
                raise

        log = EngineLog(path)
        logged = LogMiddleware(app, log)
        async with serving(outside, ws) as uri, connect(uri) as client:
            await client.send(START)
        assert len(refused) == 1
        assert log.is_open
        await log.aclose()

        assert [row[2:] for row in query(CONNECTIONS)] == [(1, 1, 1, 1)]
        assert query(MESSAGES) == [("START", RECORDING, None, 1, 1)]

    def test_server_that_is_torn_down(self, path: Path, query: Query) -> None:
        """A lifespan that is cancelled closes the log: no row is left behind, and nothing warns."""

        async def main() -> None:
            log, server = EngineLog(path), Peer(STARTUP)
            call = LogMiddleware(live, log)({"type": "lifespan"}, server.receive, server.send)
            task = asyncio.ensure_future(call)
            while not server.sent:
                await asyncio.sleep(0)
            await log.log_steps(step_name="last")
            assert not task.done()

        asyncio.run(main())

        assert query("SELECT STEP_NAME FROM ENGINE_DB_LOG_STEPS") == [("last",)]
        assert query("SELECT HOW_ENDED FROM ENGINE_LOG_RUN") == [("closed",)]

    async def test_second_lifespan(self, path: Path, query: Query, caplog: pytest.LogCaptureFixture) -> None:
        """An application that is started again, as by its tests, works; one warning: it isn't logged."""
        log = EngineLog(path)
        app = FastAPI()
        app.add_middleware(LogMiddleware, log=log)

        @app.websocket("/")
        async def echo(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text(await websocket.receive_text())

        for _ in range(2):
            async with serving(app, lifespan="on") as uri, connect(uri) as client:
                await client.send("hello")
                assert await client.recv() == "hello"
        log._console.close(PATIENCE)

        assert len(query(CONNECTIONS)) == 1
        assert caplog.text.count("connections aren't logged") == 1

    async def test_closing_that_fails(
        self, path: Path, query: Query, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Rows that can't be committed in time are told to the operator, and to nobody else."""
        log, server = EngineLog(path, timeout=0.1), Peer(STARTUP)

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await receive()
            await log.log_steps(step_name="waits")
            await send({"type": "lifespan.shutdown.complete"})

        async with EngineLog(path):
            pass
        other = sqlite3.connect(path)
        other.execute("BEGIN IMMEDIATE")
        await LogMiddleware(app, log)({"type": "lifespan"}, server.receive, server.send)
        log._console.close(PATIENCE)
        other.close()

        assert server.sent == [{"type": "lifespan.shutdown.complete"}]
        assert "to be committed when the log is opened next" in caplog.text


# -- the same, with and without the log -----------------------------------------------------------------


def witness(app: Application, seen: list[Any]) -> Application:
    """Put down what passes between an application and what is around it, and how the call ends."""

    async def call(scope: Any, receive: Receive, send: Send) -> Any:
        async def witnessed_receive() -> Any:
            return await put_down("receive", receive())

        async def witnessed_send(event: Event) -> None:
            await put_down(f"send {event}", send(event))

        if scope["type"] != "websocket":
            return await app(scope, receive, send)
        seen.append(sorted(scope.keys() - {"enginelog"}))
        try:
            return await put_down("call", app(scope, witnessed_receive, witnessed_send))
        finally:
            seen.append(speaker.get())
            seen.append("over")

    async def put_down(what: str, doing: Awaitable[Any]) -> Any:
        try:
            result = await doing
        except BaseException as error:
            seen.append((what, type(error), str(error)))
            raise
        seen.append((what, result))
        return result

    return call


async def talk(
    uri: str, *messages: str | bytes, answers: int = 0, end: str = "close", **options: Any
) -> list[Any]:
    """Connect, say something, hear the answers, end; return what a client sees of a server."""
    seen: list[Any] = []
    try:
        async with connect(uri, compression=None, **options) as client:
            response = client.response
            assert response is not None
            seen += [client.subprotocol, response.headers.get_all("x-engine")]
            for message in messages:
                await client.send(message)
            # Who ends before would have the server fail to answer, or not, as chance has it.
            seen += [await client.recv() for _ in range(answers)]
            await leave(client, end, seen)
        seen += [client.close_code, client.close_reason]
    except InvalidStatus as error:
        answer = error.response
        seen += [answer.status_code, answer.headers.get_all("x-engine"), bytes(answer.body or b"")]
    return seen


async def leave(client: ClientConnection, end: str, seen: list[Any]) -> None:
    """End a connection: close it, abort it, or wait until the server does."""
    if end == "abort":
        client.transport.abort()
    elif end == "close":
        await client.close(4000, "bye")
    try:
        while True:
            seen.append(await client.recv())
    except ConnectionClosed:
        pass


async def closes(scope: Any, receive: Receive, send: Send) -> None:
    await receive()
    await send({**ACCEPT, "subprotocol": "pcm16", "headers": [(b"x-engine", b"1"), (b"x-engine", b"2")]})
    await send({"type": "websocket.close", "code": 4001, "reason": "rübe"})
    await receive()


async def refuses(scope: Any, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 4003, "reason": "no"})
    await receive()


async def denies(scope: Any, receive: Receive, send: Send) -> None:
    await receive()
    start = "websocket.http.response.start"
    await send({"type": start, "status": 401, "headers": [(b"x-engine", b"1")]})
    body = "websocket.http.response.body"
    await send({"type": body, "body": b"who ", "more_body": True})
    await send({"type": body, "body": b"are you?"})


async def fails_before(scope: Any, receive: Receive, send: Send) -> None:
    await receive()
    raise ValueError("before")


async def fails_after(scope: Any, receive: Receive, send: Send) -> None:
    await receive()
    await send(ACCEPT)
    raise ValueError("after")


async def forgets_to_accept(scope: Any, receive: Receive, send: Send) -> None:
    await receive()


async def forgets_to_close(scope: Any, receive: Receive, send: Send) -> str:
    await receive()
    await send(ACCEPT)
    await send({"type": "websocket.send", "bytes": None, "text": "last words"})
    return "value"


async def sends_after_closing(scope: Any, receive: Receive, send: Send) -> None:
    await closes(scope, receive, send)
    await send({"type": "websocket.send", "text": "too late"})


async def accepts_twice(scope: Any, receive: Receive, send: Send) -> None:
    await receive()
    await send(ACCEPT)
    await send(ACCEPT)


async def sends_nonsense(scope: Any, receive: Receive, send: Send) -> None:
    await receive()
    nonsense: list[Any] = [{"type": "websocket.nonsense"}, {}, None]
    for event in nonsense:
        with pytest.raises((RuntimeError, KeyError, TypeError)):
            await send(event)
    await send(ACCEPT)


async def echoes(scope: Any, receive: Receive, send: Send) -> None:
    await receive()
    await send(ACCEPT)
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


async def sends_to_nobody(scope: Any, receive: Receive, send: Send) -> None:
    await take_all(scope, receive, send)
    await send({"type": "websocket.send", "text": "anybody there?"})


async def gives_up_receiving(scope: Any, receive: Receive, send: Send) -> None:
    await receive()
    await send(ACCEPT)
    waiting = asyncio.ensure_future(receive())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    await send({"type": "websocket.send", "text": str(waiting.cancelled())})
    await send({"type": "websocket.send", "text": (await receive())["text"]})


async def receives_in_a_task(scope: Any, receive: Receive, send: Send) -> None:
    await receive()
    await send(ACCEPT)
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(receive())
        group.create_task(send({"type": "websocket.send", "text": "at the same time"}))
    await send({"type": "websocket.send", "text": reader.result()["text"]})


async def sets_a_variable(scope: Any, receive: Receive, send: Send) -> None:
    speaker.set("the application")
    await take_all(scope, receive, send)


MANY = [(b"%d" % number) * (number % 100) for number in range(500)]


class Behaviour(NamedTuple):
    """An application, and a client that talks to it."""

    app: Application
    client: Client


def said(app: Application, *messages: str | bytes, **options: Any) -> Behaviour:
    """Return an application with a client that says something to it."""
    return Behaviour(app, lambda uri: talk(uri, *messages, **options))


BEHAVIOURS = {
    "closes": said(closes, end="wait", subprotocols=["flac", "pcm16"]),
    "refuses": said(refuses),
    "denies": said(denies),
    "fails before": said(fails_before),
    "fails after": said(fails_after, end="wait"),
    "forgets to accept": said(forgets_to_accept),
    "forgets to close": said(forgets_to_close, end="wait"),
    "sends after closing": said(sends_after_closing, end="wait", subprotocols=["pcm16"]),
    "accepts twice": said(accepts_twice, end="wait"),
    "sends nonsense": said(sends_nonsense, end="wait"),
    "echoes": said(echoes, START, FRAME, AUDIO, "", b"", "é\0", bytes(300_000), "x" * 100_000, answers=8),
    "sends to nobody": said(sends_to_nobody, "hello"),
    "gives up receiving": said(gives_up_receiving, "hello", end="wait"),
    "receives in a task": said(receives_in_a_task, "hello", end="wait"),
    "sets a variable": said(sets_a_variable),
    "many": said(take_all, *MANY),
    "aborted": said(echoes, "hello", answers=1, end="abort"),
}


class Stage:
    """A server's application that can be replaced."""

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> Any:
        """Call the application of the moment."""
        return await self.app(scope, receive, send)

    async def trace(self, app: Application, client: Client, uri: str) -> list[Any]:
        """Return what client and server see of one connection."""
        seen: list[Any] = []
        self.app = witness(app, seen)
        async with asyncio.timeout(PATIENCE):
            by_client = await client(uri)
            while seen[-1:] != ["over"]:
                await asyncio.sleep(0.001)
        return [by_client, seen]


class TestNothingChanges:
    @pytest.mark.parametrize("name", BEHAVIOURS)
    async def test_application(self, path: Path, query: Query, ws: WSProtocolType, name: str) -> None:
        """Client, server and application see the same with the log as without it."""
        app, client = BEHAVIOURS[name]
        without: list[Any] = []
        with_log: list[Any] = []
        async with EngineLog(path) as log, serving(stage := Stage(), ws, "off") as uri:
            plain = await stage.trace(witness(app, without), client, uri)
            logged = await stage.trace(LogMiddleware(witness(app, with_log), log), client, uri)

        assert logged == plain
        assert with_log == without
        assert [row[4:] for row in query(CONNECTIONS)] == [(1, 1)]

    @pytest.mark.parametrize("route", ["text", "bytes", "json", "careless", "fails", "refuses", "denies"])
    async def test_fastapi(self, path: Path, query: Query, ws: WSProtocolType, route: str) -> None:
        """The same holds for what FastAPI makes of websockets, dependencies and middlewares."""
        messages: tuple[str | bytes, ...] = (b"a", b"") if route == "bytes" else ('{"a":1}', "[]")

        async def client(uri: str) -> list[Any]:
            answers = 2 if route in ("text", "bytes", "json") else 0
            end = "wait" if route == "fails" else "close"
            return await talk(f"{uri}/{route}", *messages, answers=answers, end=end)

        without: list[Any] = []
        with_log: list[Any] = []
        app = application(with_log)
        async with EngineLog(path) as log, serving(stage := Stage(), ws, "off") as uri:
            app.add_middleware(LogMiddleware, log=log)
            plain = await stage.trace(application(without), client, uri)
            logged = await stage.trace(app, client, uri)

        assert logged == plain
        assert with_log == without
        assert [row[2:] for row in query(CONNECTIONS)] == [(1, route not in ("refuses", "denies"), 1, 1)]

    async def test_lifespan_of_fastapi(self, path: Path, query: Query) -> None:
        """What a lifespan gives its application to keep is where it was."""

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
            await log.log_steps(step_name="startup")
            yield {"tuning": "440 Hz"}
            await log.log_steps(step_name="shutdown")

        log = EngineLog(path)
        app = FastAPI(lifespan=lifespan)
        app.add_middleware(LogMiddleware, log=log)

        @app.websocket("/")
        async def tune(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text(websocket.state.tuning)

        async with serving(app, lifespan="on") as uri, connect(uri) as client:
            assert await client.recv() == "440 Hz"
        assert query("SELECT STEP_NAME FROM ENGINE_DB_LOG_STEPS") == [("startup",), ("shutdown",)]

    async def test_plain_http(self, path: Path, query: Query) -> None:
        """Requests that are no websocket are answered as they were, and aren't logged."""
        app = application([])
        app.add_middleware(LogMiddleware, log=EngineLog(path))
        async with serving(app) as uri:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(uri.rpartition(":")[2]))
            writer.write(b"GET /health HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()

        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert answer.endswith(b'"well"')
        assert query(CONNECTIONS) == []


def application(seen: list[Any]) -> FastAPI:
    """Return an application of FastAPI that uses what there is, and puts down what it sees."""

    async def dependency() -> AsyncIterator[str]:
        speaker.set("the dependency")
        try:
            yield "value"
        finally:
            seen.append("dependency over")

    def refuse() -> None:
        raise WebSocketException(4003, "no")

    def deny() -> None:
        raise HTTPException(401, "who are you?")

    app = FastAPI()

    @app.get("/health")
    async def health() -> str:
        return "well"

    @app.middleware("http")
    async def passes(request: Any, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response

    @app.websocket("/fails")
    async def fails(websocket: WebSocket) -> None:
        await websocket.accept()
        raise ValueError(await websocket.receive_text())

    @app.websocket("/refuses", dependencies=[Depends(refuse)])
    async def refuses(websocket: WebSocket) -> None: ...

    @app.websocket("/denies", dependencies=[Depends(deny)])
    async def denies(websocket: WebSocket) -> None: ...

    @app.websocket("/careless")
    async def careless(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            seen.append(await websocket.receive_text())

    @app.websocket("/{kind}")
    async def iterates(websocket: WebSocket, kind: str, given: str = Depends(dependency)) -> None:
        await websocket.accept()
        seen.extend((given, speaker.get()))
        async for message in getattr(websocket, f"iter_{kind}")():
            seen.append(message)
            await getattr(websocket, f"send_{kind}")(message)

    return app
