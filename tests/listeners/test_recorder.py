"""The recorder behind both kinds of server, as clients and users see it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import resource
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from async_enginelog import (
    EngineLog,
    Frame,
    Heartbeat,
    LogHandler,
    LogMiddleware,
    Recorder,
    Recording,
    server_connection,
)
from async_enginelog.resources import resource as resource_path
from async_enginelog.tables import TABLES, Kind

from ..conftest import Query
from .clients import RECORDING, SMALL, SOON, Heard, ack, frame, start, stop, until
from .engine import REPORT
from .servers import KINDS, Serving, serve_asgi, serve_fastapi, serve_websockets

sys.path.append(str(resource_path("examples")))  # the examples import each other as scripts do

from sessions import Moment, read_trace
from volume import decode, volume_10_ms

ROOT = Path(__file__).parents[2]
TRACE = resource_path("examples") / "session_28_frames.csv"
OTHER = RECORDING + 1

pytestmark = pytest.mark.usefixtures("small_segments", "nothing_goes_wrong_unnoticed")

each_kind = pytest.mark.parametrize("serving", KINDS.values(), ids=KINDS)

ERRORS = "SELECT ERROR_MESSAGE_TEXT FROM ENGINE_DB_LOG_FUNCTION_ERROR ORDER BY LOG_SEQ"
NOTES = "SELECT STEP_NAME FROM ENGINE_DB_LOG_STEPS ORDER BY LOG_SEQ"


@pytest.fixture
async def nothing_goes_wrong_unnoticed() -> AsyncIterator[None]:
    """No task fails, and no exception is lost, without somebody seeing it."""
    troubles: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
    yield
    assert troubles == []


def audio(number: int, size: int = 20) -> bytes:
    """Return audio that is like no other."""
    return bytes([number]) * size


@asynccontextmanager
async def client_of(uri: str, **more: Any) -> AsyncIterator[ClientConnection]:
    """Connect to a recorder."""
    async with connect(uri, compression=None, proxy=None, ping_interval=None, **more) as client:
        yield client


async def say(client: ClientConnection, *messages: str | bytes) -> None:
    """Send messages."""
    for message in messages:
        await client.send(message)


def say_at_once(client: ClientConnection, *messages: str | bytes) -> None:
    """Send messages in one piece."""
    for message in messages:
        if isinstance(message, str):
            client.protocol.send_text(message.encode())
        else:
            client.protocol.send_binary(message)
    client.send_data()


class TestSettings:
    @pytest.mark.parametrize("name", ["timeout", "patience", "linger", "max_backlog"])
    @pytest.mark.parametrize("number", [0, -1, float("inf"), float("nan")])
    def test_must_be_positive(self, path: Path, name: str, number: float) -> None:
        """What is to be waited for is a positive, finite number."""
        with pytest.raises(ValueError, match=f"{name} is {number!r}; pass a positive number"):
            Recorder(EngineLog(path), **{name: number})  # type: ignore[arg-type]

    def test_must_make_whole_frames(self, path: Path) -> None:
        """A frame is a whole number of samples."""
        with pytest.raises(ValueError, match="3 ms at 44100 samples a second isn't"):
            Recorder(EngineLog(path), frame_ms=3)

    @pytest.mark.parametrize("name", ["timeout", "patience", "linger", "max_backlog"])
    def test_must_be_a_number(self, path: Path, name: str) -> None:
        """What isn't a number is refused in the same words."""
        with pytest.raises(ValueError, match=f"{name} is '2 s'; pass a positive number"):
            Recorder(EngineLog(path), **{name: "2 s"})  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", ["frame_ms", "sample_rate", "sample_bytes"])
    @pytest.mark.parametrize("number", [100.0, "100", True, None])
    def test_must_be_whole_numbers(self, path: Path, name: str, number: Any) -> None:
        """Lengths, rates and widths are whole numbers; what isn't one is shown."""
        with pytest.raises(TypeError, match=f"are .*{number!r}.*; pass whole numbers"):
            Recorder(EngineLog(path), **{name: number})

    def test_must_be_functions(self, path: Path) -> None:
        """What is to be called can be."""
        with pytest.raises(TypeError, match="on_finished is 'me'; pass a function"):
            Recorder(EngineLog(path), on_finished="me")  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("settings", "size", "encoding"),
        [({}, 8_820, "pcm16"), ({"frame_ms": 500}, 44_100, "pcm16"), ({"sample_bytes": 3}, 13_230, "pcm24")],
    )
    async def test_cut(
        self, path: Path, query: Query, settings: dict[str, Any], size: int, encoding: str
    ) -> None:
        """Length, rate and width of a frame are as they are set."""
        heard = Heard()
        async with (
            serve_websockets(path, lambda log: Recorder(log, heard, **settings)) as server,
            client_of(server.uri) as client,
        ):
            await say(client, start(), frame(1), bytes(size * 2), stop())
            await client.wait_closed()
        assert query(
            "SELECT AUDIO_FRAME_NO, AUDIO_FRAME_SIZE_BYTES, AUDIO_FRAME_ENCODING "
            "FROM ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME ORDER BY 1"
        ) == [(1, size, encoding), (2, size, encoding)]


@pytest.mark.parametrize(
    "make", [Recorder, Heartbeat, LogHandler, server_connection, lambda log: LogMiddleware(FastAPI(), log)]
)
@pytest.mark.parametrize("log", ["engine_log.db", None, EngineLog])
def test_a_log_must_be_one(make: Callable[[Any], object], log: object) -> None:
    """What isn't a log is refused where it is passed, and not where the first row is lost."""
    with pytest.raises(TypeError, match=r"log is .*; pass an EngineLog"):
        make(log)


class TestServers:
    @each_kind
    async def test_record(self, path: Path, query: Query, serving: Serving) -> None:
        """A client is heard, asked for what is missing, and its connection closed after STOP."""
        heard = Heard()
        async with (
            serving(path, lambda log: Recorder(log, heard, **SMALL)) as server,
            client_of(server.uri) as client,
        ):
            await say(client, start(), frame(1), audio(1), frame(3), audio(3))
            assert json.loads(await client.recv()) == ack(2)
            await say(client, frame(2), audio(2), stop())
            await client.wait_closed()
            assert client.close_code == 1000
        assert heard.audio() == audio(1) + audio(2) + audio(3)
        assert query(ERRORS) == []
        assert query("SELECT count(DT_RECORDING_DATA_PURGED) FROM ENGINE_DB_LOG_RECORDING_CONFIG") == [(1,)]
        assert query("SELECT count(DT_CONNECTION_CLOSED) FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION") == [(1,)]

    @each_kind
    async def test_let_clients_come_back(self, path: Path, query: Query, serving: Serving) -> None:
        """A client whose connection is cut goes on with another one."""
        heard = Heard()
        async with serving(path, lambda log: Recorder(log, heard, **SMALL)) as server:
            async with client_of(server.uri) as client:
                await say(client, start(), frame(1), audio(1), frame(2))
                await until(lambda: heard.count == 1)
                client.transport.abort()
            async with client_of(server.uri) as client:
                await say(client, start(), frame(1), audio(1), frame(2), audio(2), stop())
                await client.wait_closed()
        assert heard.audio() == audio(1) + audio(2)
        assert len(heard.recordings) == 1

    @each_kind
    async def test_tell_what_comes_after_stop(self, path: Path, query: Query, serving: Serving) -> None:
        """What a client has sent behind its STOP has its row, isn't heard, and is told of."""
        heard = Heard()
        async with (
            serving(path, lambda log: Recorder(log, heard, **SMALL)) as server,
            client_of(server.uri) as client,
        ):
            say_at_once(client, start(), frame(1), audio(1), stop(), frame(2), audio(2), "hello", stop())
            await client.wait_closed()
        assert heard.audio() == audio(1)
        rows = query("SELECT MESSAGE_TYPE FROM ENGINE_DB_LOG_WEBSOCKET_MESSAGE ORDER BY MESSAGE_ID")
        assert [kind for (kind,) in rows] == ["START", "FRAME", "STOP", "FRAME", "TEXT", "STOP"]
        assert [text.partition(": ")[2] for (text,) in query(ERRORS)] == [
            "FRAME after STOP: not taken",
            "STOP of a recording that doesn't run",
        ]

    @each_kind
    async def test_take_goodbye_for_an_end(self, path: Path, query: Query, serving: Serving) -> None:
        """A client that closes without STOP, but as it should, has ended its recording."""
        heard = Heard()
        async with serving(path, lambda log: Recorder(log, heard, **SMALL)) as server:
            async with client_of(server.uri) as client:
                await say(client, start(), frame(1), audio(1))
            await until(lambda: heard.audio() == audio(1))
        notes = query("SELECT STEP_NAME FROM ENGINE_DB_LOG_STEPS")
        assert notes == [("connection closed before STOP",)]

    @each_kind
    @pytest.mark.parametrize("code", [1002, 1011, 1012, 1013, 4000])
    async def test_take_any_other_code_for_a_loss(
        self, path: Path, query: Query, serving: Serving, code: int
    ) -> None:
        """A client that closes because something went wrong is waited for, and goes on where it was."""
        heard = Heard()
        async with serving(path, lambda log: Recorder(log, heard, **SMALL)) as server:
            async with client_of(server.uri) as client:
                await say(client, start(), frame(1), audio(1))
                await until(lambda: heard.count == 1)
                await client.close(code)
            await until(lambda: query(NOTES))
            async with client_of(server.uri) as client:
                await say(client, start(), frame(2), audio(2), stop())
                await client.wait_closed()
        assert heard.audio() == audio(1) + audio(2)
        assert len(heard.recordings) == 1
        assert query(NOTES) == [("connection lost before STOP",), ("goes on with another connection",)]

    @each_kind
    async def test_refuse_more_audio_than_makes_sense(
        self, path: Path, query: Query, serving: Serving, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server that lets large messages through has a recorder that doesn't, and says so."""
        monkeypatch.setattr("async_enginelog.listeners.session.MAX_AUDIO_BYTES", 100)
        heard = Heard()
        async with (
            serving(path, lambda log: Recorder(log, heard, **SMALL)) as server,
            client_of(server.uri) as client,
        ):
            await say(client, start(), frame(1), audio(1, 101), frame(1), audio(2, 100), stop())
            await client.wait_closed()
        assert heard.audio() == audio(2, 100)
        assert [text.partition(", ")[2] for (text,) in query(ERRORS)] == [
            "FRAME: 101 bytes are more than 100: not taken"
        ]

    @each_kind
    async def test_close_clients_that_say_nothing(self, path: Path, query: Query, serving: Serving) -> None:
        """A recorder that is closed has nothing more to hear: it closes those who wait or come."""
        recorders = list[Recorder]()

        def make(log: EngineLog) -> Recorder:
            recorders.append(Recorder(log, **SMALL))
            return recorders[-1]

        async with serving(path, make) as server, client_of(server.uri) as client:
            await say(client, "hello")
            await until(lambda: recorders[0]._recordings._owners)
            await recorders[0].aclose()
            await client.wait_closed()
            assert client.close_code == 1000
            async with client_of(server.uri) as late:
                await late.wait_closed()
                assert late.close_code == 1000
            await until(lambda: not recorders[0]._recordings._owners)

    @each_kind
    async def test_refuse_what_is_too_big(self, path: Path, query: Query, serving: Serving) -> None:
        """A message of 100 MB is refused by the server when it begins; all others are heard."""
        heard = Heard()
        async with (
            serving(path, lambda log: Recorder(log, heard, **SMALL)) as server,
            client_of(server.uri) as other,
            client_of(server.uri) as client,
        ):
            await say(other, start(OTHER))
            await say(client, start(), frame(1), audio(1), frame(2))
            await until(lambda: heard.count == 1)
            # The head of such a binary message, with its mask (RFC 6455, section 5.2), and a few bytes.
            client.transport.write(b"\x82\xff" + (100 * 2**20).to_bytes(8) + bytes(1000))
            await client.wait_closed()
            assert client.close_code == 1009
            await say(other, frame(1, OTHER), audio(2), stop(OTHER))
            await other.wait_closed()
        assert (heard.audio(), heard.audio(OTHER)) == (audio(1), audio(2))
        texts = [text for (text,) in query(ERRORS)]
        assert any(text.endswith("FRAME: its audio never came") for text in texts)

    @pytest.mark.parametrize("path_of_uri", ["/mounted/", "/accepted"])
    async def test_of_fastapi_may_do_more(self, path: Path, path_of_uri: str) -> None:
        """The recorder may be mounted, or called for a connection that the function has accepted."""
        heard = Heard()
        async with (
            serve_fastapi(path, lambda log: Recorder(log, heard, **SMALL)) as server,
            client_of(server.uri + path_of_uri, subprotocols=["recorder"]) as client,
        ):
            assert client.subprotocol == ("recorder" if "accepted" in path_of_uri else None)
            await say(client, start(), frame(1), audio(1), stop())
            await client.wait_closed()
        assert heard.audio() == audio(1)

    @pytest.mark.parametrize(("serving", "path_of_uri"), [(serve_asgi, "/"), (serve_fastapi, "/mounted/")])
    async def test_answer_plain_http(self, path: Path, serving: Serving, path_of_uri: str) -> None:
        """A browser that asks for a page is told to use a websocket."""
        async with serving(path, lambda log: Recorder(log)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(server.uri.rpartition(":")[2]))
            writer.write(f"GET {path_of_uri} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n".encode())
            answer = (await reader.read()).decode().lower()
            writer.close()
        assert answer.startswith("http/1.1 426 upgrade required\r\n")
        assert "upgrade: websocket\r\n" in answer

    async def test_must_be_logged(self, path: Path) -> None:
        """A server that doesn't log its connections is a TypeError that says what to write."""
        async with EngineLog(path) as log, Recorder(log) as recorder:
            told: list[BaseException] = []

            async def handler(websocket: Any) -> None:
                try:
                    await recorder.handle(websocket)
                except TypeError as error:
                    told.append(error)

            async with serve(handler, "127.0.0.1", 0) as server:
                port = next(iter(server.sockets)).getsockname()[1]
                async with client_of(f"ws://127.0.0.1:{port}") as client:
                    await client.wait_closed()
            assert "create_connection=server_connection(log)" in str(told[0])

            async def unused(*_: Any) -> Any:
                raise AssertionError("nothing is received or sent")

            with pytest.raises(TypeError, match="put LogMiddleware around the application"):
                await recorder.asgi({"type": "websocket"}, unused, unused)

    @each_kind
    async def test_close_quickly_and_cleanly(
        self, path: Path, query: Query, serving: Serving, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A server that shuts down while recordings run, linger and are analysed leaves nothing behind."""
        opened = asyncio.Event()

        async def analyse(recording: Recording, frame: Frame) -> None:
            await opened.wait()

        before = asyncio.all_tasks()
        make = lambda log: Recorder(log, {"fft": analyse, "ons": lambda *_: 1}, timeout=0.2, **SMALL)  # noqa: E731
        async with serving(path, make) as server:
            clients = [await connect(server.uri, proxy=None) for _ in range(3)]
            for number, client in enumerate(clients):
                await say(client, start(number), frame(1, number), audio(1, 500))
            await say(clients[1], stop(1))
            await clients[1].wait_closed()
            clients[2].transport.abort()
            began = time.monotonic()
        assert time.monotonic() - began < 10
        await asyncio.gather(*(client.close() for client in clients))
        await until(lambda: asyncio.all_tasks() <= before)
        assert query("SELECT count(DT_RECORDING_DATA_PURGED) FROM ENGINE_DB_LOG_RECORDING_CONFIG") == [(3,)]
        assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


# -- the recorded session ------------------------------------------------------------------------------


async def stream(uri: str, session: list[Moment], speed: float) -> None:
    """Stream a session, as fast as it was, or faster."""
    async with client_of(uri) as client:
        began = time.monotonic()
        for moment in session:
            await asyncio.sleep(max(0.0, began + moment.t_ms / 1000 / speed - time.monotonic()))
            if moment.audio is None:
                await client.send(start() if moment.type == "START" else stop())
            else:
                await say(client, frame(moment.frame_no, BYTES_LEN=len(moment.audio)), moment.audio)
        await client.wait_closed()


async def fft(recording: Recording, frame: Frame) -> int:
    """Analyse a frame on the loop."""
    await asyncio.sleep(0.001)
    return frame.number


def volume(recording: Recording, frame: Frame) -> list[float]:
    """Analyse a frame in a thread."""
    return list(volume_10_ms(decode(frame.audio)))


async def tables_of(serving: Serving, path: Path, speed: float) -> dict[str, list[str]]:
    """Stream the recorded session through a server; return what its log says, without times and ids."""
    analysers = {"fft": fft, "volume_10_ms": volume}
    async with serving(path, lambda log: Recorder(log, analysers)) as server:
        await stream(server.uri, read_trace(TRACE), speed)
    return masked_tables(path)


def masked_tables(path: Path) -> dict[str, list[str]]:
    """Return all rows of the log; of times and ids, only whether they are there."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return {
            name: sorted(
                str({column.name: masked(column, row[column.name]) for column in table.columns.values()})
                for row in connection.execute(f"SELECT * FROM {name}")
            )
            for name, table in TABLES.items()
        }


IDS = {"WEBSOCKET_CONNECTION_ID", "MESSAGE_ID", "CLIENT_PORT"}


def masked(column: Any, value: Any) -> Any:
    """Return a value, unless it is a time or an id."""
    if value is None:
        return None
    if column.kind is Kind.TIME or column.name in IDS:
        return "…"
    if column.name == "CLIENT_HEADERS":
        # The port is in it; servers of ASGI have the names in lower case.
        return sorted(
            (name.lower(), text) for name, text in json.loads(value).items() if name.lower() != "host"
        )
    return value


class TestRecordedSession:
    async def check(self, tmp_path: Path, speed: float) -> None:
        """Stream the session through both kinds of server, and compare what was logged."""
        kinds = {"websockets": serve_websockets, "fastapi": serve_fastapi}
        tables = {
            kind: await tables_of(serving, tmp_path / f"{kind}.db", speed) for kind, serving in kinds.items()
        }
        assert tables["websockets"] == tables["fastapi"]
        counts = {name.removeprefix("ENGINE_DB_LOG_"): len(rows) for name, rows in tables["fastapi"].items()}
        assert {name: count for name, count in counts.items() if count} == {
            "SPLIT_100_MS_AUDIO_FRAME": 49,
            "PRE_SPLIT_AUDIO_FRAME": 28,
            "RECORDING_CONFIG": 1,
            "WEBSOCKET_CONNECTION": 1,
            "WEBSOCKET_MESSAGE": 30,
        }
        fast = tmp_path / "fast.db"
        assert await tables_of(serve_websockets, fast, 1000) == tables["websockets"]

    async def test_faster(self, tmp_path: Path) -> None:
        """50 times as fast as it was, both kinds of server log the same."""
        await self.check(tmp_path, 50)

    @pytest.mark.slow
    async def test_at_true_pace(self, tmp_path: Path) -> None:
        """As fast as it was, both log the same, and the same as at any speed."""
        await self.check(tmp_path, 1)

    async def test_is_what_was_sent(self, path: Path, query: Query) -> None:
        """The rows have the sizes, lengths and SHA-256 of what was sent, and all that analysers say."""
        await tables_of(serve_websockets, path, 50)
        sent = [moment.audio for moment in read_trace(TRACE) if moment.audio is not None]
        whole = b"".join(sent)
        assert len(whole) == 431_832
        assert query(
            "SELECT AUDIO_FRAME_SHA256_HEX FROM ENGINE_DB_LOG_PRE_SPLIT_AUDIO_FRAME ORDER BY AUDIO_FRAME_NO"
        ) == [(sha256(part).hexdigest(),) for part in sent]
        cut = [whole[first : first + 8_820] for first in range(0, len(whole), 8_820)]
        assert query(
            "SELECT START_MS, END_MS, AUDIO_FRAME_SIZE_BYTES, AUDIO_FRAME_SHA256_HEX, FFT_RECORD_CNT, "
            "VOLUME_10_MS_RECORD_CNT, DT_START_FFT <= DT_END_FFT, "
            "DT_START_VOLUME_10_MS <= DT_END_VOLUME_10_MS "
            "FROM ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME ORDER BY AUDIO_FRAME_NO"
        ) == [
            (100 * n, 100 * n + (99 if n < 48 else 96), len(part), sha256(part).hexdigest(), n + 1, 10, 1, 1)
            for n, part in enumerate(cut)
        ]


# -- deaths, floods, crowds ----------------------------------------------------------------------------


class TestDeath:
    async def test_in_mid_session(self, path: Path, query: Query) -> None:
        """After SIGKILL, the rows are complete up to it; recording and connection are seen to be open."""
        frames = 40
        engine = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.listeners.engine", str(path)),
            cwd=ROOT,
            # What is killed can't report its coverage, and dies more slowly for trying.
            env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
            stdout=subprocess.PIPE,
        )
        assert engine.stdout is not None
        [port] = REPORT.unpack(await engine.stdout.readexactly(REPORT.size))
        async with client_of(f"ws://127.0.0.1:{port}") as client:
            await say(client, start())
            for number in range(1, frames + 1):
                await say(client, frame(number), audio(number, 15_000))
            for _ in range(30):
                [reported] = REPORT.unpack(await engine.stdout.readexactly(REPORT.size))
            engine.kill()
            rest = await engine.stdout.read()
            await engine.wait()
        assert len(rest) % REPORT.size == 0
        if rest:
            [reported] = REPORT.unpack(rest[-REPORT.size :])
        async with EngineLog(path):
            pass

        [(split, highest_split)] = query(
            "SELECT count(*), max(AUDIO_FRAME_NO) FROM ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME"
        )
        assert split == highest_split >= reported
        [(cut, highest_cut)] = query(
            "SELECT count(*), max(AUDIO_FRAME_NO) FROM ENGINE_DB_LOG_PRE_SPLIT_AUDIO_FRAME"
        )
        assert cut == highest_cut >= reported * 8_820 // 15_000
        [(messages, types)] = query(
            "SELECT count(*), group_concat(DISTINCT MESSAGE_TYPE) FROM ENGINE_DB_LOG_WEBSOCKET_MESSAGE"
        )
        assert (messages > cut, types) == (True, "START,FRAME")
        assert query(
            "SELECT RECORDING_ID, DT_RECORDING_START IS NOT NULL, DT_RECORDING_END, DT_RECORDING_DATA_PURGED "
            "FROM ENGINE_DB_LOG_RECORDING_CONFIG"
        ) == [(RECORDING, 1, None, None)]
        assert query(
            "SELECT DT_CONNECTION_ACCEPTED IS NOT NULL, DT_CONNECTION_CLOSED "
            "FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION"
        ) == [(1, None)]
        [(connection,)] = query("SELECT WEBSOCKET_CONNECTION_ID FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION")
        runs = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "async_enginelog", "runs", str(path)), stdout=subprocess.PIPE
        )
        told, _ = await runs.communicate()
        assert f"connection {connection} " in told.decode()
        assert f"recording {RECORDING}, " in told.decode()


class TestFlood:
    async def test_is_dammed(self, path: Path, query: Query) -> None:
        """Of a client that sends faster than analysers analyse, no more is taken than may wait."""
        opened, counted = asyncio.Event(), itertools.count(1)
        backlog, frames = 20, 4_000

        async def analyse(recording: Recording, frame: Frame) -> None:
            await opened.wait()
            next(counted)

        make = lambda log: Recorder(log, analyse, max_backlog=backlog, timeout=SOON)  # noqa: E731
        async with (
            serve_websockets(path, make, ping_interval=None) as server,
            client_of(server.uri) as client,
        ):
            memory = psutil.Process().memory_info
            before = memory().rss
            flood = asyncio.create_task(self.flood(client, frames))
            streams = server.recorder._recordings._running
            await until(lambda: client.paused and RECORDING in streams)
            await until(lambda: streams[RECORDING]._analysis.backlog >= backlog)
            dammed = (streams[RECORDING]._analysis.backlog, memory().rss)
            opened.set()
            await flood
            after = memory().rss
        assert dammed[0] <= backlog + 1
        assert max(dammed[1], after) - before < 30 * 2**20
        assert next(counted) - 1 == -(-frames * 15_000 // 8_820)
        assert query(ERRORS) == []

    async def flood(self, client: ClientConnection, frames: int) -> None:
        """Send as many frames of 15,000 bytes as fast as it goes."""
        await client.send(start())
        for number in range(1, frames + 1):
            await say(client, frame(number), audio(number % 256, 15_000))
        await client.send(stop())
        await client.wait_closed()


HOLD = """
    import socket, sys
    host, port, count = "127.0.0.1", int(sys.argv[1]), int(sys.argv[2])
    request = (
        "GET / HTTP/1.1\\r\\nHost: engine\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\nSec-WebSocket-Version: 13\\r\\n\\r\\n"
    ).encode()
    held = []
    for first in range(0, count, 100):
        batch = [socket.create_connection((host, port)) for _ in range(min(100, count - first))]
        for one in batch:
            one.sendall(request)
        for one in batch:
            assert one.recv(4096).startswith(b"HTTP/1.1 101")
        held += batch
    print(len(held), flush=True)
    sys.stdin.read()
"""


class TestCrowd:
    async def check(self, path: Path, query: Query, count: int) -> None:
        """Open so many connections that send nothing; record beside them; let all leave at once."""
        heard = Heard()
        make = lambda log: Recorder(log, heard, **SMALL)  # noqa: E731
        async with serve_websockets(path, make, ping_interval=None) as server:
            crowd = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", textwrap.dedent(HOLD)),
                *(server.uri.rpartition(":")[2], str(count)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert crowd.stdout is not None
            assert int(await crowd.stdout.readline()) == count
            async with client_of(server.uri) as client:
                await say(client, start(), frame(1), audio(1), stop())
                await client.wait_closed()
            await until(lambda: heard.audio() == audio(1))
            crowd.kill()
            await crowd.wait()
        assert query(
            "SELECT count(DT_CONNECTION_ACCEPTED), count(DT_CONNECTION_CLOSED) "
            "FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION"
        ) == [(count + 1, count + 1)]
        assert query("SELECT count(*) FROM ENGINE_DB_LOG_RECORDING_CONFIG") == [(1,)]

    async def test_is_no_matter(self, path: Path, query: Query) -> None:
        """Hundreds of connections that send nothing cost nothing but their rows."""
        await self.check(path, query, 500)

    @pytest.mark.slow
    @pytest.mark.timeout(300)
    async def test_of_ten_thousand(self, path: Path, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same with 10,000, or with as many as this process may have files open."""
        # They all leave in one turn of the loop: more than segments of 128 KiB can be made for meanwhile.
        monkeypatch.undo()
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        count = min(10_000, limit - 200)
        await self.check(path, query, count)
        print(f"{count:,} connections that sent nothing")


# -- whatever clients send -----------------------------------------------------------------------------


NUMBERS = st.one_of(st.integers(0, 6), st.sampled_from([None, -1, "x", 2**63 - 1, 500, 1.5, "7"]))
IDS_SENT = st.sampled_from([RECORDING, str(RECORDING), OTHER, None, "x", True, -1])


@st.composite
def messages(draw: st.DrawFn) -> list[str | bytes]:
    """Return what a client might send."""
    sent: list[str | bytes] = []
    for kind in draw(
        st.lists(st.sampled_from(["START", "FRAME", "FRAME", "AUDIO", "STOP", "JUNK"]), max_size=12)
    ):
        if kind == "AUDIO":
            sent.append(draw(st.binary(max_size=50)))
        elif kind == "JUNK":
            sent.append(
                draw(st.sampled_from(["hello", "{", "[1]", '{"a":1}', '{"type":"ping"}', "", "null"]))
            )
        else:
            fields = {"MESSAGE_TYPE": kind, "RECORDING_ID": draw(IDS_SENT), "FRAME_NO": draw(NUMBERS)}
            sent.append(json.dumps({name: value for name, value in fields.items() if value is not None}))
            if kind == "FRAME" and draw(st.integers(0, 4)):
                sent.append(draw(st.binary(max_size=50)))
    return sent


@pytest.mark.parametrize("kind", ["websockets", "asgi"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=messages())
async def test_survives_whatever_is_sent(
    tmp_path_factory: pytest.TempPathFactory, kind: str, said: list[str | bytes]
) -> None:
    """Over a real network: every message that the server got has its row, and others are heard."""
    path = tmp_path_factory.mktemp("any") / "engine_log.db"
    heard = Heard()
    make = lambda log: Recorder(log, heard, patience=0.01, linger=0.01, **SMALL)  # noqa: E731
    async with KINDS[kind](path, make) as server:
        async with client_of(server.uri) as client:
            try:
                await say(client, *said)
            except ConnectionClosed:
                pass  # it said STOP before
        good = RECORDING + random.randrange(2, 10**6)
        async with client_of(server.uri) as client:
            await say(client, start(good), frame(1, good), audio(1), stop(good))
            await client.wait_closed()
    assert heard.audio(good) == audio(1)
