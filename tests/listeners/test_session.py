"""What one client says, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from async_enginelog.functions import logged

from ..conftest import Query
from .clients import RECORDING, Heard, MemoryClient, ack, frame, recording, start, stop, until

OTHER = RECORDING + 1

# The tests of one client say what it sends, and look into the database when all is over.
pytestmark = pytest.mark.usefixtures("small_segments")

ERRORS = "SELECT ERROR_MESSAGE_TEXT FROM ENGINE_DB_LOG_FUNCTION_ERROR ORDER BY LOG_SEQ"
NOTES = "SELECT STEP_NAME, FRAME_NO FROM ENGINE_DB_LOG_STEPS ORDER BY LOG_SEQ"


def audio(number: int, size: int = 20) -> bytes:
    """Return audio that is like no other."""
    return bytes([number]) * size


class Played:
    """What became of a conversation."""

    def __init__(self, heard: Heard, client: MemoryClient, query: Query) -> None:
        self.heard = heard
        self.client = client
        self._query = query

    @property
    def errors(self) -> list[str]:
        """The errors that were logged, without the numbers of messages."""
        return [text.partition(", ")[2] or text for (text,) in self._query(ERRORS)]

    @property
    def notes(self) -> list[tuple[Any, ...]]:
        return self._query(NOTES)

    def messages(self, columns: str = "MESSAGE_TYPE, RECORDING_ID, AUDIO_FRAME_NO") -> list[tuple[Any, ...]]:
        return self._query(f"SELECT {columns} FROM ENGINE_DB_LOG_WEBSOCKET_MESSAGE ORDER BY MESSAGE_ID")


async def play(path: Path, query: Query, *messages: str | bytes, **settings: Any) -> Played:
    """Let one client say all this to a recorder, and leave if the connection isn't closed."""
    heard = Heard()
    async with recording(path, {"fft": heard}, **settings) as (log, recorder):
        client = MemoryClient(log).connect(recorder)
        await client.say(*messages)
        await client.leave()
    return Played(heard, client, query)


class TestRecording:
    async def test_is_heard_and_closed(self, path: Path, query: Query) -> None:
        """START, frames and STOP: the audio is heard whole, in exact frames, and the connection closed."""
        played = await play(path, query, start(), frame(1), audio(1), frame(2), audio(2), stop())
        assert played.client.is_closed
        assert played.heard.audio() == audio(1) + audio(2)
        assert [len(frame.audio) for frame in played.heard.frames[RECORDING]] == [16, 16, 8]
        assert (played.errors, played.notes, played.client.sent) == ([], [], [])

    async def test_has_its_rows(self, path: Path, query: Query) -> None:
        """Recording, client frames and frames have one row each, with what is known of them."""
        fields = {"AUDIO_STREAM_FILE_NAME": "a.wav", "COMPOSE_PLAY_OR_PRACTICE": "Play"}
        await play(path, query, start(**fields), frame(1), audio(1), frame(2), audio(2), stop())
        [row] = query(
            "SELECT RECORDING_ID, COMPOSE_PLAY_OR_PRACTICE, AUDIO_STREAM_FILE_NAME, COMPOSE_YN_RUN_FFT, "
            "WEBSOCKET_CONNECTION_ID IS NOT NULL, MAX_PRE_SPLIT_AUDIO_FRAME_NO_SPLIT, TOTAL_BYTES_RECEIVED, "
            "TOTAL_SPLIT_100_MS_FRAMES_PRODUCED, SPLIT_100_MS_FRAME_COUNTER "
            "FROM ENGINE_DB_LOG_RECORDING_CONFIG"
        )
        assert row == (RECORDING, "Play", "a.wav", "Y", 1, 2, 40, 3, 3)
        [(in_order,)] = query(
            "SELECT DT_RECORDING_START <= DT_PROCESS_WEBSOCKET_START_MESSAGE_DONE "
            "AND DT_PROCESS_WEBSOCKET_START_MESSAGE_DONE <= DT_RECORDING_END "
            "AND DT_RECORDING_END <= LAST_SPLIT_100_MS_FRAME_TIME "
            "AND LAST_SPLIT_100_MS_FRAME_TIME <= DT_RECORDING_DATA_QUEUED_FOR_PURGING "
            "AND DT_RECORDING_DATA_QUEUED_FOR_PURGING <= DT_RECORDING_DATA_PURGED "
            "FROM ENGINE_DB_LOG_RECORDING_CONFIG"
        )
        assert in_order == 1
        assert query(
            "SELECT AUDIO_FRAME_NO, START_MS, END_MS, AUDIO_FRAME_SIZE_BYTES, AUDIO_FRAME_ENCODING, "
            "AUDIO_FRAME_SHA256_HEX, PRE_SPLIT_AUDIO_FRAME_DURATION_IN_MS, "
            "DT_FRAME_RECEIVED <= DT_FRAME_PAIRED_WITH_WEBSOCKETS_METADATA, "
            "DT_FRAME_PAIRED_WITH_WEBSOCKETS_METADATA <= DT_FRAME_SPLIT_INTO_100_MS_FRAMES "
            "FROM ENGINE_DB_LOG_PRE_SPLIT_AUDIO_FRAME ORDER BY 1"
        ) == [
            (1, 0, 11, 20, "raw", sha256(audio(1)).hexdigest(), 12, 1, 1),
            (2, 12, 24, 20, "raw", sha256(audio(2)).hexdigest(), 12, 1, 1),
        ]
        whole = audio(1) + audio(2)
        assert query(
            "SELECT AUDIO_FRAME_NO, START_MS, END_MS, AUDIO_FRAME_SIZE_BYTES, AUDIO_FRAME_ENCODING, "
            "AUDIO_FRAME_SHA256_HEX, YN_RUN_FFT, YN_RUN_CREPE, FFT_RECORD_CNT, "
            "DT_FRAME_RECEIVED <= DT_FRAME_PAIRED_WITH_WEBSOCKETS_METADATA "
            "AND DT_FRAME_PAIRED_WITH_WEBSOCKETS_METADATA <= DT_PROCESSING_QUEUED_TO_START, "
            "DT_PROCESSING_QUEUED_TO_START <= DT_PROCESSING_START AND DT_PROCESSING_START <= DT_START_FFT "
            "AND DT_START_FFT <= DT_END_FFT AND DT_END_FFT <= DT_PROCESSING_END "
            "FROM ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME ORDER BY 1"
        ) == [
            (1, 0, 9, 16, "pcm16", sha256(whole[:16]).hexdigest(), "Y", "N", 3, 1, 1),
            (2, 10, 19, 16, "pcm16", sha256(whole[16:32]).hexdigest(), "Y", "N", 3, 1, 1),
            (3, 20, 24, 8, "pcm16", sha256(whole[32:]).hexdigest(), "Y", "N", 3, 1, 1),
        ]

    async def test_may_be_empty(self, path: Path, query: Query) -> None:
        """START and STOP without audio are a recording without frames."""
        played = await play(path, query, start(), stop())
        assert played.client.is_closed
        assert query(
            "SELECT TOTAL_BYTES_RECEIVED, MAX_PRE_SPLIT_AUDIO_FRAME_NO_SPLIT, SPLIT_100_MS_FRAME_COUNTER, "
            "LAST_SPLIT_100_MS_FRAME_TIME, DT_RECORDING_DATA_PURGED IS NOT NULL "
            "FROM ENGINE_DB_LOG_RECORDING_CONFIG"
        ) == [(0, 0, 0, None, 1)]

    @pytest.mark.parametrize("id", [str(RECORDING), RECORDING, f" {RECORDING} "])
    async def test_id_is_text_or_number(self, path: Path, query: Query, id: object) -> None:
        """RECORDING_ID and FRAME_NO may be text or numbers, in one recording."""
        header = json.dumps({"type": "frame", "recording_id": id, "audio_frame_no": 1})
        begin = json.dumps({"type": "Start", "recording_id": id})
        played = await play(path, query, begin, header, audio(1), frame(2), audio(2), stop())
        assert (played.heard.audio(), played.errors) == (audio(1) + audio(2), [])

    async def test_two_on_one_connection(self, path: Path, query: Query) -> None:
        """Two recordings share a connection; it is closed with the STOP of the second."""
        played = await play(
            path,
            query,
            *(start(), start(OTHER), frame(1), audio(1), frame(1, OTHER), audio(2)),
            *(stop(), frame(2, OTHER), audio(3), stop(OTHER)),
        )
        assert played.client.is_closed
        assert played.heard.audio() == audio(1)
        assert played.heard.audio(OTHER) == audio(2) + audio(3)
        assert played.errors == []

    async def test_frames_may_leave_the_id_out(self, path: Path, query: Query) -> None:
        """A FRAME or STOP without RECORDING_ID is of the recording that began last; the row says which."""
        header, end = '{"MESSAGE_TYPE":"FRAME","FRAME_NO":1}', '{"MESSAGE_TYPE":"STOP"}'
        played = await play(path, query, start(), start(OTHER), header, audio(1), end, stop())
        assert played.heard.audio(OTHER) == audio(1)
        assert ("FRAME", OTHER, 1) in played.messages()
        assert played.errors == []

    async def test_frames_may_leave_the_number_out(self, path: Path, query: Query) -> None:
        """A FRAME without a number is the next one; the row says which."""
        header = f'{{"MESSAGE_TYPE":"FRAME","RECORDING_ID":"{RECORDING}"}}'
        played = await play(path, query, start(), frame(1), audio(1), header, audio(2), stop())
        assert played.heard.audio() == audio(1) + audio(2)
        assert [row[2] for row in played.messages()] == [None, 1, 2, None]
        assert played.errors == []

    async def test_goes_on_with_a_number_that_is_none(self, path: Path, query: Query) -> None:
        """A FRAME_NO that can't be read is told, and the audio is the next frame."""
        played = await play(path, query, start(), frame("seven"), audio(1), stop())
        assert played.heard.audio() == audio(1)
        assert played.errors == ["FRAME: FRAME_NO isn't a whole number of 64 bits: 'seven'"]


class TestPairing:
    async def test_survives_what_comes_between(self, path: Path, query: Query) -> None:
        """Pings, plain text, rubbish, START and STOP of others may come between a header and its audio."""
        between = ('{"type":"ping","t":1}', "hello", "{rubbish", start(OTHER), stop(OTHER))
        played = await play(path, query, start(), frame(1), *between, audio(1), stop())
        assert played.heard.audio() == audio(1)
        assert len(played.errors) == 1
        assert played.errors[0].startswith("MALFORMED: not JSON")

    async def test_without_header(self, path: Path, query: Query) -> None:
        """Audio without a header isn't taken; what comes after it is."""
        played = await play(path, query, start(), audio(9), frame(1), audio(1), audio(8), stop())
        assert played.heard.audio() == audio(1)
        assert played.errors == ["BINARY: 20 bytes without a FRAME header before them: not taken"] * 2

    async def test_without_audio(self, path: Path, query: Query) -> None:
        """A header whose audio doesn't come is told: when the next one comes, or at the end."""
        played = await play(path, query, start(), frame(1), frame(1), audio(1), frame(2), stop())
        assert played.heard.audio() == audio(1)
        assert played.errors == ["FRAME: its audio never came"] * 2
        assert [row[2] for row in played.messages()] == [None, 1, 1, 2, None]

    async def test_audio_of_no_bytes(self, path: Path, query: Query) -> None:
        """No audio is a frame of no length, and told."""
        played = await play(path, query, start(), frame(1), b"", frame(2), audio(2), stop())
        assert played.heard.audio() == audio(2)
        assert played.errors == ["FRAME: no audio in it"]
        rows = query("SELECT AUDIO_FRAME_SIZE_BYTES FROM ENGINE_DB_LOG_PRE_SPLIT_AUDIO_FRAME ORDER BY 1")
        assert rows == [(0,), (20,)]

    async def test_audio_of_half_a_sample(self, path: Path, query: Query) -> None:
        """An odd number of bytes is told, and taken: the other half may come with the next frame."""
        played = await play(
            path, query, start(), frame(1), audio(1, 15), frame(2), audio(2, 17), stop(), frame_ms=5
        )
        assert played.heard.audio() == audio(1, 15) + audio(2, 17)
        assert played.errors == [
            "FRAME: 15 bytes aren't a whole number of samples",
            "FRAME: 17 bytes aren't a whole number of samples",
        ]

    async def test_audio_of_another_length(self, path: Path, query: Query) -> None:
        """If it isn't as long as announced, that is told, and it is taken."""
        played = await play(
            path, query, start(), frame(1, BYTES_LEN=30), audio(1), frame(2, BYTES_LEN=20), audio(2), stop()
        )
        assert played.heard.audio() == audio(1) + audio(2)
        assert played.errors == ["FRAME: BYTES_LEN is 30, but 20 bytes came"]

    async def test_audio_of_another_length_than_text_says(self, path: Path, query: Query) -> None:
        """A length that was sent as text is compared, too."""
        played = await play(path, query, start(), frame(1, BYTES_LEN="10"), audio(1), stop())
        assert played.errors == ["FRAME: BYTES_LEN is 10, but 20 bytes came"]


class TestMissing:
    async def test_is_asked_for_once(self, path: Path, query: Query) -> None:
        """Frames that are missing are asked for as they are found to be, and put where they belong."""
        heard = Heard()
        async with recording(path, heard) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            await client.say(start(), frame(1), audio(1), frame(4), audio(4), frame(5), audio(5))
            assert client.sent == [ack(2, 3)]
            await client.say(frame(7), audio(7))
            assert client.sent == [ack(2, 3), ack(6)]
            await client.say(frame(3), audio(3), frame(6), audio(6), frame(2), audio(2), stop())
            await client.done()
        assert client.sent == [ack(2, 3), ack(6)]
        assert heard.audio() == b"".join(map(audio, range(1, 8)))
        assert Played(heard, client, query).errors == []

    async def test_says_of_which_recording(self, path: Path) -> None:
        """With two recordings on a connection, the client is told which one misses a frame."""
        async with recording(path, Heard()) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            await client.say(start(), start(OTHER), frame(2), audio(2))
            await client.leave()
        assert client.sent == [ack(1, RECORDING_ID=str(RECORDING))]

    async def test_may_come_after_stop(self, path: Path, query: Query) -> None:
        """STOP waits for frames that are missing; the connection is closed when they have come."""
        heard = Heard()
        async with recording(path, heard, patience=1000) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            await client.say(start(), frame(2), audio(2), stop())
            assert not client.is_done
            await client.say(frame(1), audio(1))
            await client.done()
        assert client.is_closed
        assert heard.audio() == audio(1) + audio(2)
        assert Played(heard, client, query).errors == []

    async def test_keeps_stop_waiting_for_a_while(self, path: Path, query: Query) -> None:
        """After STOP, what is missing is waited for as long as at any time; then it is over."""
        heard = Heard()
        async with recording(path, heard, patience=0.05) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            await client.say(start(), frame(2), audio(2), stop())
            await client.done()
        assert heard.audio() == audio(2)
        assert Played(heard, client, query).errors == [
            "LookupError: client frame 1 never came; it goes on without"
        ]

    async def test_is_not_asked_of_a_deaf_client_for_ever(self, path: Path) -> None:
        """A client that doesn't read holds up nobody but itself."""
        heard = Heard()
        async with recording(path, heard) as (log, recorder):
            deaf, other = MemoryClient(log).connect(recorder), MemoryClient(log).connect(recorder)
            deaf.reads.clear()
            deaf.say_nowait(start(), frame(2), audio(2), frame(1), audio(1))
            await other.say(start(OTHER), frame(1, OTHER), audio(3), stop(OTHER))
            await other.done()
            await until(lambda: heard.audio(OTHER) == audio(3))
            assert deaf.unheard == 2
            deaf.reads.set()
            await deaf.say(stop())
            await deaf.done()
        assert heard.audio() == audio(1) + audio(2)


class TestStart:
    async def test_without_id(self, path: Path, query: Query) -> None:
        """A START that says no recording is told, and so are the frames after it; the others go on."""
        played = await play(
            path,
            query,
            *('{"MESSAGE_TYPE":"START"}', '{"MESSAGE_TYPE":"FRAME","FRAME_NO":1}', audio(1)),
            *(start("abc"), start(), frame(1), audio(2), stop()),
        )
        assert played.heard.audio() == audio(2)
        assert played.errors == [
            "START: START without a RECORDING_ID",
            "FRAME: FRAME without a RECORDING_ID, before START: not taken",
            "START: RECORDING_ID isn't a whole number of 64 bits: 'abc'",
            "START: START without a RECORDING_ID",
        ]

    async def test_twice(self, path: Path, query: Query) -> None:
        """A second START is noted, and changes nothing."""
        played = await play(
            path,
            query,
            *(start(AUDIO_STREAM_FILE_NAME="a"), frame(1), audio(1)),
            *(start(AUDIO_STREAM_FILE_NAME="b"), frame(2), audio(2), stop()),
        )
        assert played.heard.audio() == audio(1) + audio(2)
        assert played.notes == [("START came twice", None)]
        assert query("SELECT AUDIO_STREAM_FILE_NAME FROM ENGINE_DB_LOG_RECORDING_CONFIG") == [("a",)]

    async def test_after_frames(self, path: Path, query: Query) -> None:
        """A recording begins with its first frame if START comes late, or never; then START describes it."""
        played = await play(
            path,
            query,
            *(frame(1), audio(1), frame(2), audio(2), start(AUDIO_STREAM_FILE_NAME="a"), frame(3), audio(3)),
            stop(),
        )
        assert played.heard.audio() == audio(1) + audio(2) + audio(3)
        assert played.errors == ["FRAME: FRAME before START: the recording begins with it"]
        assert played.notes == []
        [row] = query("SELECT AUDIO_STREAM_FILE_NAME, DT_RECORDING_START FROM ENGINE_DB_LOG_RECORDING_CONFIG")
        assert row[0] == "a"
        assert row[1] is not None

    async def test_never(self, path: Path, query: Query) -> None:
        """After a restart of the engine, a client may be in the middle: no frame is missing before."""
        header = f'{{"MESSAGE_TYPE":"FRAME","RECORDING_ID":"{OTHER}"}}'
        played = await play(path, query, frame(5412), audio(1), frame(5413), audio(2), header, audio(3))
        assert played.heard.audio() == audio(1) + audio(2)
        assert played.heard.audio(OTHER) == audio(3)
        assert played.client.sent == []

    async def test_describes_the_recording_for_analysers(self, path: Path, query: Query) -> None:
        """Analysers read what START said."""
        played = await play(path, query, start(mode="slow"), frame(1), audio(1), stop())
        [recording] = played.heard.recordings
        assert recording.fields["MODE"] == "slow"
        assert repr(recording) == f"<Recording {RECORDING}>"

    async def test_of_too_many(self, path: Path, query: Query) -> None:
        """Of more recordings than one connection may have, the audio isn't taken."""
        starts = [start(number) for number in range(17)]
        played = await play(path, query, *starts, frame(1, 16), audio(1))
        assert played.errors == [
            "START: more than 16 recordings on one connection",
            "FRAME: more than 16 recordings on one connection",
        ]
        assert played.heard.audio(16) == b""


class TestStop:
    async def test_is_final(self, path: Path, query: Query) -> None:
        """After STOP, what comes for the recording isn't taken, and told, until the connection is closed."""
        played = await play(
            path,
            query,
            *(start(), frame(1), audio(1), stop()),
            *(frame(2), audio(2), stop(), start(), start(OTHER), frame(3, OTHER), audio(3)),
        )
        assert played.heard.audio() == audio(1)
        assert played.heard.audio(OTHER) == b""
        assert played.errors == [
            "FRAME: FRAME after STOP: not taken",
            "STOP: STOP of a recording that doesn't run",
            "START: START after STOP",
            "START: START after STOP",
            "FRAME: FRAME after STOP",
        ]
        assert len(played.messages()) == 8

    async def test_of_one_of_two_is_final(self, path: Path, query: Query) -> None:
        """While another recording goes on, what comes for the one that ended isn't taken."""
        heard = Heard()
        async with recording(path, heard) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            await client.say(start(), start(OTHER), stop(), frame(1), audio(1))
            await until(lambda: not recorder._recordings.is_finishing(RECORDING))
            await client.say(frame(1), audio(1), start(), stop(OTHER))
            await client.done()
        assert heard.count == 0
        assert [text.partition(": ")[2] for (text,) in query(ERRORS)] == [
            "FRAME after STOP: not taken",
            "FRAME after STOP: not taken",
            "START after STOP",
        ]

    async def test_of_an_unknown_recording(self, path: Path, query: Query) -> None:
        """With nothing else on the connection, it is closed; else what runs goes on."""
        played = await play(path, query, start(), stop(OTHER), frame(1), audio(1), stop())
        assert played.heard.audio() == audio(1)
        assert played.errors == ["STOP: STOP of a recording that doesn't run"]

    @pytest.mark.parametrize("message", [stop(), '{"MESSAGE_TYPE":"STOP"}'])
    async def test_of_nothing(self, path: Path, query: Query, message: str) -> None:
        """A STOP without anything to stop closes the connection."""
        played = await play(path, query, message)
        assert played.client.is_closed
        assert played.errors == ["STOP: STOP of a recording that doesn't run"]

    async def test_to_a_client_that_does_not_answer(
        self, path: Path, query: Query, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A client that doesn't close the connection is waited for, but not for ever."""
        monkeypatch.setattr("async_enginelog.listeners.session.CLOSE_TIMEOUT", 0.05)
        async with recording(path) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            client.reads.clear()
            client.say_nowait(start(), stop())
            await client.done()
        assert client.is_closed


class TestEnds:
    async def test_closed_before_stop(self, path: Path, query: Query) -> None:
        """A client that closes without STOP ends its recording; it was purged, and a note says why."""
        played = await play(path, query, start(), frame(1), audio(1))
        assert played.heard.audio() == audio(1)
        assert played.notes == [("connection closed before STOP", None)]
        assert query(
            "SELECT DT_RECORDING_END, TOTAL_BYTES_RECEIVED, DT_RECORDING_DATA_PURGED IS NOT NULL "
            "FROM ENGINE_DB_LOG_RECORDING_CONFIG"
        ) == [(None, 20, 1)]

    async def test_cancelled(self, path: Path, query: Query) -> None:
        """A handler that is cancelled ends its recordings; the audio that came is heard."""
        heard = Heard()
        async with recording(path, heard) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            await client.say(start(), frame(1), audio(1), frame(3), audio(3))
            with pytest.raises(asyncio.CancelledError):
                await client.cancel()
        assert heard.audio() == audio(1) + audio(3)

    async def test_cancelled_while_it_closes(self, path: Path) -> None:
        """A handler that is cancelled after STOP leaves no task behind."""
        async with recording(path) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            client.reads.clear()
            client.say_nowait(start(), stop())
            await until(lambda: client.is_closed)
            with pytest.raises(asyncio.CancelledError):
                await client.cancel()
            await until(lambda: not [t for t in asyncio.all_tasks() if t.get_name() == "close-recorder"])

    async def test_server_that_fails(self, path: Path, query: Query) -> None:
        """What a server raises reaches it, also if it is a TimeoutError; the recording ends."""

        class Failing(MemoryClient):
            async def receive(self) -> str | bytes | None:
                if self.unheard == 0:
                    raise TimeoutError("of the network")
                return await super().receive()

        async with recording(path) as (log, recorder):
            client = Failing(log)
            client.say_nowait(start())
            client.connect(recorder)
            with pytest.raises(TimeoutError, match="of the network"):
                await client.done()
        rows = query("SELECT count(DT_RECORDING_DATA_PURGED) FROM ENGINE_DB_LOG_RECORDING_CONFIG")
        assert rows == [(1,)]


class TestAnalysers:
    async def test_may_be_none(self, path: Path, query: Query) -> None:
        """Without analysers, frames have rows, and no times of analysis."""
        async with recording(path) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            await client.say(start(), frame(1), audio(1), stop())
            await client.done()
        rows = query(
            "SELECT YN_RUN_FFT, YN_RUN_ONS, YN_RUN_PYIN, YN_RUN_CREPE, DT_PROCESSING_START "
            "FROM ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME"
        )
        assert rows == [("N", "N", "N", "N", None)] * 2

    async def test_that_fail_have_a_row(self, path: Path, query: Query) -> None:
        """What an analyser raises has a row, with its function and file, traceback, recording and frame."""

        async def fail(*_: object) -> None:
            raise ValueError("boom")

        async with recording(path, {"fft": fail}) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            await client.say(start(), frame(1), audio(1, 16), stop())
            await client.done()
        [(name, file, text, traceback, *about)] = query(
            "SELECT PYTHON_FUNCTION_NAME, PYTHON_FILE_NAME, ERROR_MESSAGE_TEXT, TRACEBACK_TEXT, "
            "RECORDING_ID, AUDIO_FRAME_NO FROM ENGINE_DB_LOG_FUNCTION_ERROR"
        )
        assert name.endswith("fail")
        assert (file, text, about) == ("test_session.py", "ValueError: boom", [RECORDING, 1])
        assert 'raise ValueError("boom")' in traceback

    async def test_that_log_themselves_have_one_row(self, path: Path, query: Query) -> None:
        """If the analyser is a logged function, its error isn't logged twice."""

        @logged
        async def fail(*_: object) -> None:
            raise ValueError("boom")

        async with recording(path, {"fft": fail}) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            await client.say(start(), frame(1), audio(1, 16), stop())
            await client.done()
        assert query("SELECT RECORDING_ID, AUDIO_FRAME_NO FROM ENGINE_DB_LOG_FUNCTION_ERROR") == [
            (RECORDING, 1)
        ]
        assert query("SELECT count(*) FROM ENGINE_DB_LOG_FUNCTIONS") == [(2,)]

    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (asyncio.CancelledError(), "RuntimeError: it raised CancelledError"),
            (StopIteration(1), "RuntimeError: it raised StopIteration: 1"),
            (SystemExit(1), "SystemExit: 1"),
        ],
    )
    async def test_that_raise_what_is_no_error(
        self, path: Path, query: Query, error: BaseException, text: str
    ) -> None:
        """What else isn't a failure is one where an analyser raises it."""

        def fail(*_: object) -> None:
            raise error

        async with recording(path, {"fft": fail}) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            await client.say(start(), frame(1), audio(1, 16), stop())
            await client.done()
        assert query(ERRORS) == [(text,)]

    async def test_that_fail_without_a_log(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """If the log is closed, their errors are lost with a warning, and nothing is raised."""

        def fail(*_: object) -> None:
            raise ValueError("boom")

        async with recording(path, {"fft": fail}) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            await client.say(start())
            await log.aclose()
            await client.say(frame(1), audio(1, 16), stop())
            await client.done()
            await until(lambda: "isn't logged: this EngineLog is closed" in caplog.text)


class TestTrouble:
    async def test_of_its_own_is_told(
        self, path: Path, query: Query, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A fault of the recorder is logged with the message, and the stream goes on."""

        def fail(*arguments: object) -> None:
            raise ZeroDivisionError("a fault")

        with monkeypatch.context() as patched:
            patched.setattr("async_enginelog.listeners.stream.Stream.describe", fail)
            played = await play(path, query, start(), frame(1), audio(1), stop())
        assert played.heard.audio() == audio(1)
        assert played.errors == ["START: ZeroDivisionError: a fault"]

    async def test_of_the_log_of_the_connection(self, path: Path) -> None:
        """A message that the log of the connection doesn't know is passed over."""

        class Unlogged(MemoryClient):
            async def receive(self) -> str | bytes | None:
                return await self._messages.get()

        async with recording(path) as (log, recorder):
            client = Unlogged(log).connect(recorder)
            client.say_nowait(start(), stop())
            await client.leave()
        assert not client.is_closed

    async def test_of_a_log_that_is_closed(self, path: Path) -> None:
        """Without a log that is open, clients are heard all the same; nothing is raised."""
        heard = Heard()
        async with recording(path, heard) as (log, recorder):
            before = MemoryClient(log).connect(recorder)
            await before.say(start(), frame(1), audio(1))
            await log.aclose()
            client = MemoryClient(log).connect(recorder)
            assert client.log.id == 0
            await client.say(start(OTHER), frame(1, OTHER), audio(1), frame(2, OTHER), b"", stop(OTHER))
            await client.done()
            await before.say(frame(2), audio(2), stop())
            await before.done()
        assert heard.audio() == audio(1) + audio(2)
        assert heard.audio(OTHER) == audio(1)
        assert {recording.connection_id for recording in heard.recordings} == {before.log.id, None}
