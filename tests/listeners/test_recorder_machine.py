"""Whatever clients do, in whatever order: nothing fails, nothing is lost, nothing is heard twice."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shutil
import sqlite3
import struct
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    rule,
    run_state_machine_as_test,
)

from async_enginelog import EngineLog, Frame, Recorder, Recording

from .clients import SMALL, MemoryClient, until

# What a piece of audio begins with: its own number and its length.
HEAD = struct.Struct(">IH")

IDS = st.sampled_from([1, 2, "1", "2", None, "x"])
NUMBERS = st.one_of(st.integers(0, 8), st.sampled_from(["3", -1, 2**63 - 1, 150, 400, 10**6, 10**7, 4.0]))
# A frame without a number can't be recognised when it comes again.
NO_NUMBERS = st.sampled_from([None, "x", 2.5, True, 2**70])
SIZES = st.integers(HEAD.size, 60)
JUNK = st.sampled_from(
    ["hello", "", "{", "[]", "null", "{}", '{"type":"ping","t":1}', '{"type":["START"]}', '{"type":"stop "}']
)

# How the recorder tells that audio isn't taken.
NOT_TAKEN = re.compile(
    r"message \d+, (BINARY: .*: not taken|FRAME: (.*: not taken|FRAME after STOP|more than 16 .*))"
)

Clients = Bundle("clients")
Said = Bundle("said")


def header(kind: str, id: Any, number: Any = None, **fields: Any) -> str:
    """Return a message; what is None isn't in it."""
    said = {"MESSAGE_TYPE": kind, "RECORDING_ID": id, "FRAME_NO": number, **fields}
    return json.dumps({name: value for name, value in said.items() if value is not None})


class Machine(RuleBasedStateMachine):
    """A recorder, clients that do as they please, and an account of what they sent."""

    @initialize()
    def begin(self) -> None:
        """Open a log and a recorder."""
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.log = EngineLog(self.folder / "engine_log.db")
        self.troubles: list[Any] = []
        self.clients: list[MemoryClient] = []
        self.numbers = itertools.count(1)
        # Pieces of audio, by recording: all that an analyser heard.
        self.heard: dict[Recording, list[Frame]] = {}
        self.runner.run(self.open())

    async def open(self) -> None:
        """Open what needs a loop."""
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.troubles.append(context))
        await self.log.open()
        analysers = {"fft": self.hear, "ons": self.fail}
        self.recorder = Recorder(self.log, analysers, patience=0.004, linger=0.004, **SMALL)

    async def hear(self, recording: Recording, frame: Frame) -> int:
        """Analyse a frame, and remember it."""
        self.heard.setdefault(recording, []).append(frame)
        return frame.number

    async def fail(self, recording: Recording, frame: Frame) -> int:
        """Analyse a frame, and fail now and then."""
        if frame.number % 3 == 0:
            raise ValueError("boom")
        return 1

    def audio(self, size: int) -> bytes:
        """Return a piece of audio that is like no other."""
        return HEAD.pack(next(self.numbers), size).ljust(size, b"~")

    def say(self, client: MemoryClient, *messages: str | bytes) -> None:
        """Let a client send something, and the recorder hear it."""
        self.runner.run(client.say(*messages))

    # -- what clients do ----------------------------------------------------------------------------

    @rule(target=Clients)
    def connect(self) -> MemoryClient:
        """Open a connection."""

        async def connect() -> MemoryClient:
            return MemoryClient(self.log).connect(self.recorder)

        self.clients.append(self.runner.run(connect()))
        return self.clients[-1]

    @rule(client=Clients, id=IDS)
    def start(self, client: MemoryClient, id: Any) -> None:
        """Begin a recording, or go on with it."""
        self.say(client, header("START", id, AUDIO_STREAM_FILE_NAME="a.wav"))

    @rule(target=Said, client=Clients, id=IDS, number=NUMBERS, size=SIZES)
    def frame(self, client: MemoryClient, id: Any, number: Any, size: int) -> tuple[str, bytes]:
        """Send a frame."""
        pair = header("FRAME", id, number), self.audio(size)
        self.say(client, *pair)
        return pair

    @rule(client=Clients, id=IDS, number=NO_NUMBERS, size=SIZES)
    def frame_without_number(self, client: MemoryClient, id: Any, number: Any, size: int) -> None:
        """Send a frame whose number is missing, or none."""
        self.say(client, header("FRAME", id, number), self.audio(size))

    @rule(client=Clients, pair=Said)
    def repeat(self, client: MemoryClient, pair: tuple[str, bytes]) -> None:
        """Send a frame again, perhaps on another connection."""
        self.say(client, *pair)

    @rule(client=Clients, id=IDS, numbers=st.permutations(range(1, 6)), size=SIZES)
    def burst(self, client: MemoryClient, id: Any, numbers: list[int], size: int) -> None:
        """Send a few frames in any order."""
        for number in numbers:
            client.say_nowait(header("FRAME", id, number), self.audio(size))
        self.say(client)

    @rule(client=Clients, id=IDS, number=NUMBERS)
    def header_alone(self, client: MemoryClient, id: Any, number: Any) -> None:
        """Send a header; its audio comes later, or never."""
        self.say(client, header("FRAME", id, number, BYTES_LEN=100))

    @rule(client=Clients, size=SIZES)
    def audio_alone(self, client: MemoryClient, size: int) -> None:
        """Send audio, perhaps of a header before."""
        self.say(client, self.audio(size))

    @rule(client=Clients, junk=JUNK)
    def junk(self, client: MemoryClient, junk: str) -> None:
        """Send something else."""
        self.say(client, junk)

    @rule(client=Clients, id=IDS)
    def stop(self, client: MemoryClient, id: Any) -> None:
        """End a recording, perhaps with more to come."""
        self.say(client, header("STOP", id))

    @rule(client=consumes(Clients), lost=st.booleans())
    def leave(self, client: MemoryClient, lost: bool) -> None:
        """Close a connection, or lose it."""
        self.runner.run(client.lose() if lost else client.leave())

    @rule(client=consumes(Clients))
    def cancel(self, client: MemoryClient) -> None:
        """Have the server cancel the handler."""

        async def cancel() -> None:
            await asyncio.wait({client.cancel()})

        self.runner.run(cancel())

    @rule()
    def let_time_pass(self) -> None:
        """Let patience and lingering come to their ends; time is what this rule is about."""
        self.runner.run(asyncio.sleep(0.006))

    # -- what has come of it ------------------------------------------------------------------------

    def teardown(self) -> None:
        """Close the recorder, and look at the accounts."""
        try:
            self.runner.run(self.close())
            self.check()
        finally:
            self.runner.close()
            shutil.rmtree(self.folder)

    async def close(self) -> None:
        await self.recorder.aclose()
        for client in self.clients:
            if not client.is_done:
                await client.leave()
            assert client.failure is None
        await until(lambda: len(asyncio.all_tasks()) == 2)  # this one, and the writer of the log
        await self.log.aclose()

    def check(self) -> None:
        """Nothing failed unnoticed; all messages have their rows; all audio is accounted for."""
        assert self.troubles == []
        with closing(sqlite3.connect(self.log.path)) as self.connection:
            ids = {id for (id,) in self.rows("SELECT MESSAGE_ID FROM ENGINE_DB_LOG_WEBSOCKET_MESSAGE")}
            assert ids == set().union(*(client.message_ids for client in self.clients))
            assert self.rows(
                "SELECT count(*) FROM ENGINE_DB_LOG_RECORDING_CONFIG WHERE DT_RECORDING_START IS NULL "
                "OR TOTAL_BYTES_RECEIVED IS NULL OR DT_RECORDING_DATA_PURGED IS NULL"
            ) == [(0,)]
            self.check_audio()

    def check_audio(self) -> None:
        errors = [
            text for (text,) in self.rows("SELECT ERROR_MESSAGE_TEXT FROM ENGINE_DB_LOG_FUNCTION_ERROR")
        ]
        not_taken = sum(1 for text in errors if NOT_TAKEN.fullmatch(text))
        [(twice,)] = self.rows(
            "SELECT count(*) FROM ENGINE_DB_LOG_STEPS WHERE STEP_NAME = 'frame came twice, not cut again'"
        )
        heard = [piece for parts in self.parts_heard() for piece in pieces_of(parts)]
        sent = sum(client.audio_received for client in self.clients)
        assert sent == len(heard) + not_taken + twice
        assert all(recording.data == {} for recording in self.heard)

    def parts_heard(self) -> list[list[list[Frame]]]:
        """Return the frames of each recording, in a list for each time that it was begun."""
        parts: dict[int, list[list[Frame]]] = {}
        for recording, frames in self.heard.items():
            parts.setdefault(recording.id, []).append(frames)
        return list(parts.values())

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return what the database says."""
        return self.connection.execute(sql).fetchall()


def pieces_of(parts: list[list[Frame]]) -> list[int]:
    """Return the numbers of the pieces of audio that make up a recording: each whole, and there once."""
    frames = list(itertools.chain.from_iterable(parts))
    assert [frame.number for frame in frames] == list(range(1, len(frames) + 1))
    assert all(len(frame.audio) == 16 for part in parts for frame in part[:-1])
    assert [frame.start_ms for frame in frames] == [10 * n for n in range(len(frames))]
    audio, pieces = b"".join(frame.audio for frame in frames), []
    while audio:
        number, size = HEAD.unpack_from(audio)
        assert audio[HEAD.size : size] == b"~" * (size - HEAD.size)
        pieces.append(number)
        audio = audio[size:]
    assert len(set(pieces)) == len(pieces)
    return pieces


@pytest.mark.usefixtures("small_segments")
def test_whatever_clients_do() -> None:
    """Sessions of any messages, on any number of connections that end in any way."""
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
