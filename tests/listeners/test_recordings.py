"""Recordings that run: clients that come back, ends, finishing, purging, closing."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from async_enginelog import EngineLog, Frame, Recording, bound
from async_enginelog.listeners import calls
from async_enginelog.listeners.recorder import Recorder

from ..conftest import Query
from .clients import RECORDING, Heard, MemoryClient, ack, frame, recording, start, stop, until

OTHER = RECORDING + 1

pytestmark = pytest.mark.usefixtures("small_segments")

NOTES = "SELECT STEP_NAME FROM ENGINE_DB_LOG_STEPS ORDER BY LOG_SEQ"
ERRORS = "SELECT ERROR_MESSAGE_TEXT FROM ENGINE_DB_LOG_FUNCTION_ERROR ORDER BY LOG_SEQ"


def audio(number: int, size: int = 20) -> bytes:
    """Return audio that is like no other."""
    return bytes([number]) * size


def patience_of(recorder: Recorder) -> asyncio.TimerHandle | None:
    """Return the timer of the frames that wait for others."""
    return recorder._recordings._running[RECORDING]._client_frames._timer


class TestComingBack:
    async def test_goes_on_where_it_was(self, path: Path, query: Query) -> None:
        """A client whose connection is lost goes on with another; what it sends again isn't heard twice."""
        heard = Heard()
        async with recording(path, heard) as (log, recorder):
            first = MemoryClient(log).connect(recorder)
            await first.say(
                start(AUDIO_STREAM_FILE_NAME="a"), frame(1), audio(1), frame(2), audio(2), frame(3)
            )
            await first.lose()
            second = MemoryClient(log).connect(recorder)
            await second.say(
                start(AUDIO_STREAM_FILE_NAME="a"), frame(2), audio(2), frame(3), audio(3), stop()
            )
            await second.done()
        assert heard.audio() == audio(1) + audio(2) + audio(3)
        assert len(heard.recordings) == 1
        assert query(NOTES) == [
            ("connection lost before STOP",),
            ("goes on with another connection",),
            ("frame came twice, not cut again",),
        ]
        assert [text.partition(", ")[2] for (text,) in query(ERRORS)] == ["FRAME: its audio never came"]
        assert query("SELECT WEBSOCKET_CONNECTION_ID FROM ENGINE_DB_LOG_RECORDING_CONFIG") == [
            (second.log.id,)
        ]
        assert query(
            "SELECT WEBSOCKET_CONNECTION_ID FROM ENGINE_DB_LOG_PRE_SPLIT_AUDIO_FRAME ORDER BY 1"
        ) == [
            (first.log.id,),
            (first.log.id,),
            (second.log.id,),
        ]

    async def test_without_start(self, path: Path, query: Query) -> None:
        """It may also go on with its frames right away."""
        heard = Heard()
        async with recording(path, heard) as (log, recorder):
            first = MemoryClient(log).connect(recorder)
            await first.say(start(), frame(1), audio(1))
            await first.lose()
            second = MemoryClient(log).connect(recorder)
            await second.say(frame(2), audio(2), stop())
            await second.done()
        assert heard.audio() == audio(1) + audio(2)
        assert query(ERRORS) == []

    async def test_with_no_more_than_stop(self, path: Path, query: Query) -> None:
        """If all that it had to say is STOP, that ends the recording."""
        heard = Heard()
        async with recording(path, heard) as (log, recorder):
            first = MemoryClient(log).connect(recorder)
            await first.say(start(), frame(1), audio(1))
            await first.lose()
            second = MemoryClient(log).connect(recorder)
            await second.say(stop())
            await second.done()
            assert second.is_closed
        assert query(ERRORS) == []

    async def test_is_asked_again(self, path: Path) -> None:
        """What was missing is asked for again: nobody knows whether the client heard it the first time."""
        heard = Heard()
        async with recording(path, heard) as (log, recorder):
            first = MemoryClient(log).connect(recorder)
            await first.say(start(), frame(2), audio(2))
            await first.lose()
            second = MemoryClient(log).connect(recorder)
            await second.say(start())
            assert second.sent == [ack(1)]
            await second.lose()
            third = MemoryClient(log).connect(recorder)
            await third.say(frame(4), audio(4))
            assert third.sent == [ack(1, 3)]
            await third.say(frame(3), audio(3), frame(1), audio(1), stop())
            await third.done()
        assert heard.audio() == b"".join(map(audio, range(1, 5)))

    async def test_finds_patience(self, path: Path) -> None:
        """While it is away, nothing is given up; when it is back, patience begins anew."""
        heard = Heard()
        async with recording(path, heard, patience=0.05) as (log, recorder):
            first = MemoryClient(log).connect(recorder)
            await first.say(start(), frame(2), audio(2))
            await first.lose()
            assert patience_of(recorder) is None
            second = MemoryClient(log).connect(recorder)
            await second.say(start())
            assert patience_of(recorder) is not None
            assert heard.count == 0
            await until(lambda: heard.audio() == audio(2)[:16])
            await second.say(stop())
            await second.done()
        assert heard.audio() == audio(2)

    async def test_before_the_loss_is_noticed(self, path: Path, query: Query) -> None:
        """A client may be back before the server notices its loss: the first connection ends nothing then."""
        heard = Heard()
        async with recording(path, heard) as (log, recorder):
            first = MemoryClient(log).connect(recorder)
            await first.say(start(), start(OTHER), frame(1), audio(1))
            second = MemoryClient(log).connect(recorder)
            await second.say(start(), frame(2), audio(2))
            await first.leave()
            await second.say(frame(3), audio(3), stop())
            await second.done()
        assert heard.audio() == audio(1) + audio(2) + audio(3)
        assert query(NOTES) == [("goes on with another connection",), ("connection closed before STOP",)]

    async def test_too_late(self, path: Path, query: Query) -> None:
        """A recording whose client doesn't come back ends; when it comes after all, it goes on."""
        heard = Heard()
        async with recording(path, heard, linger=0.05) as (log, recorder):
            first = MemoryClient(log).connect(recorder)
            await first.say(start(), frame(1), audio(1))
            await first.lose()
            await until(lambda: heard.audio() == audio(1))
            assert recorder._recordings._timers == {}
            second = MemoryClient(log).connect(recorder)
            await second.say(start(), frame(2), audio(9), stop())
            await second.done()
        assert heard.audio() == audio(1) + audio(9)
        assert len(heard.recordings) == 2
        assert query(NOTES) == [
            ("connection lost before STOP",),
            ("client didn't come back",),
            ("goes on after its end",),
        ]
        assert query("SELECT count(DT_RECORDING_END) FROM ENGINE_DB_LOG_RECORDING_CONFIG") == [(1,)]


class TestBeginningAnew:
    async def test_overwrites_no_row(self, path: Path, query: Query) -> None:
        """A client that uses an id again after STOP adds to the recording: frames, bytes, all counts."""
        heard = Heard()
        async with recording(path, heard) as (log, recorder):
            for number in (1, 2, 3):
                client = MemoryClient(log).connect(recorder)
                await client.say(start(), frame(1), audio(number, 40), stop())
                await client.done()
        assert heard.audio() == audio(1, 40) + audio(2, 40) + audio(3, 40)
        assert query(
            "SELECT AUDIO_FRAME_NO, AUDIO_FRAME_SIZE_BYTES, START_MS "
            "FROM ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME ORDER BY 1"
        ) == [(n + 1, 8 if n % 3 == 2 else 16, 10 * n) for n in range(9)]
        assert query(
            "SELECT MAX_PRE_SPLIT_AUDIO_FRAME_NO_SPLIT, TOTAL_BYTES_RECEIVED, "
            "TOTAL_SPLIT_100_MS_FRAMES_PRODUCED, SPLIT_100_MS_FRAME_COUNTER "
            "FROM ENGINE_DB_LOG_RECORDING_CONFIG"
        ) == [(1, 120, 9, 9)]
        assert query("SELECT AUDIO_FRAME_NO FROM ENGINE_DB_LOG_PRE_SPLIT_AUDIO_FRAME ORDER BY LOG_SEQ") == [
            (1,),
            (None,),
            (None,),
        ]
        assert query(NOTES) == [("goes on after its end",)] * 2

    async def test_is_forgotten_after_many_others(
        self, path: Path, query: Query, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is remembered of recordings that have ended is bounded."""
        monkeypatch.setattr("async_enginelog.listeners.recordings.MAX_PAST", 3)
        async with recording(path) as (log, recorder):
            for id in (1, 2, 3, 4, 5):
                client = MemoryClient(log).connect(recorder)
                await client.say(start(id), stop(id))
                await client.done()
            await until(lambda: not recorder._recordings._finishing)
            assert list(recorder._recordings._past) == [3, 4, 5]

    async def test_waits_until_the_first_is_finished(self, path: Path) -> None:
        """START of a recording that has ended begins another one, once the first is purged."""
        heard, finished = Heard(), list[Recording]()
        async with recording(path, heard, on_finished=finished.append) as (log, recorder):
            heard.may_go_on.clear()
            first = MemoryClient(log).connect(recorder)
            await first.say(start(), frame(1), audio(1), stop())
            await first.done()
            second = MemoryClient(log).connect(recorder)
            second.say_nowait(start(), frame(1), audio(2), stop())
            await until(lambda: second.unheard == 3)
            heard.may_go_on.set()
            await second.done()
        assert heard.audio() == audio(1) + audio(2)
        assert finished == heard.recordings
        assert len(finished) == 2

    async def test_does_not_wait_for_ever(self, path: Path, query: Query) -> None:
        """What isn't finished in time is left unfinished, and told; then the other one begins."""
        heard = Heard()
        async with recording(path, heard, timeout=0.1) as (log, recorder):
            heard.may_go_on.clear()
            first = MemoryClient(log).connect(recorder)
            await first.say(start(), frame(1), audio(1, 16 * 100), stop())
            await first.done()
            second = MemoryClient(log).connect(recorder)
            await second.say(start(), frame(1), audio(2), stop())
            heard.may_go_on.set()
            await second.done()
        assert heard.audio().endswith(audio(2)[16:])
        assert [text for (text,) in query(ERRORS) if text.endswith(" frames aren't analysed")]

    async def test_of_two_at_once_is_one(self, path: Path) -> None:
        """Two clients that wait for the same recording share the one that begins."""
        heard = Heard()
        async with recording(path, heard) as (log, recorder):
            heard.may_go_on.clear()
            first = MemoryClient(log).connect(recorder)
            await first.say(start(), frame(1), audio(1), stop())
            await first.done()
            clients = [MemoryClient(log).connect(recorder) for _ in range(2)]
            for client in clients:
                client.say_nowait(start())
            await until(lambda: sum(client.unheard for client in clients) == 0)
            heard.may_go_on.set()
            await clients[1].say(frame(1), audio(2), stop())
            await clients[1].done()
            await clients[0].leave()
        assert heard.audio() == audio(1) + audio(2)
        assert len(heard.recordings) == 2

    async def test_not_with_a_frame(self, path: Path, query: Query) -> None:
        """A frame alone doesn't begin a recording anew while that is being finished: it comes after STOP."""
        heard = Heard()
        async with recording(path, heard) as (log, recorder):
            heard.may_go_on.clear()
            first = MemoryClient(log).connect(recorder)
            await first.say(start(), frame(1), audio(1), stop())
            await first.done()
            second = MemoryClient(log).connect(recorder)
            await second.say(frame(2), audio(2))
            heard.may_go_on.set()
            await second.leave()
        assert heard.audio() == audio(1)
        [(text,)] = query(ERRORS)
        assert text.endswith("FRAME: FRAME after STOP: not taken")


class TestFinishing:
    async def test_is_told_and_purged(self, path: Path) -> None:
        """on_finished hears of a recording when its last frame is done; then its data is given back."""
        heard, data = Heard(), list[dict[Any, Any]]()

        async def analyse(recording: Recording, frame: Frame) -> int:
            recording.data[frame.number] = frame.audio
            return await heard(recording, frame)

        async def finished(recording: Recording) -> None:
            assert heard.audio() == audio(1)
            assert bound().recording_id == RECORDING
            data.append(dict(recording.data))

        async with recording(path, analyse, on_finished=finished) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            await client.say(start(), frame(1), audio(1), stop())
            await client.done()
            await until(lambda: data)
            await until(lambda: heard.recordings[0].data == {})
        assert data == [{1: audio(1)[:16], 2: audio(1)[16:]}]

    @pytest.mark.parametrize("kind", ["async", "sync"])
    async def test_may_fail(self, path: Path, query: Query, kind: str) -> None:
        """What on_finished raises is logged, with its place; the recording is purged all the same."""

        def finished(recording: Recording) -> None:
            raise SystemExit(7)

        async def finished_async(recording: Recording) -> None:
            finished(recording)

        on_finished = finished_async if kind == "async" else finished
        async with recording(path, on_finished=on_finished) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            await client.say(start(), stop())
            await client.done()
        [(message, function, id)] = query(
            "SELECT ERROR_MESSAGE_TEXT, PYTHON_FUNCTION_NAME, RECORDING_ID FROM ENGINE_DB_LOG_FUNCTION_ERROR"
        )
        assert (message, id) == ("SystemExit: 7", RECORDING)
        assert function.endswith(on_finished.__name__)
        assert query("SELECT count(DT_RECORDING_DATA_PURGED) FROM ENGINE_DB_LOG_RECORDING_CONFIG") == [(1,)]

    async def test_may_hang(self, path: Path, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
        """An on_finished that doesn't return is logged, and waited for no longer."""
        monkeypatch.setattr(calls, "GRACE", 0.01)
        released = asyncio.Event()

        async def finished(recording: Recording) -> None:
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    pass

        async with recording(path, on_finished=finished, timeout=0.05) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            await client.say(start(), stop())
            await client.done()
            await until(lambda: not recorder._recordings.is_finishing(RECORDING))
            released.set()
        assert query(ERRORS) == [("TimeoutError: it took longer than 0.05 seconds, and was cancelled",)]

    async def test_leaves_nothing_in_memory(self, path: Path) -> None:
        """When a recording is purged, the recorder holds nothing of it: no object, no task, no timer."""
        seen = list[weakref.ref[Recording]]()

        async def analyse(recording: Recording, frame: Frame) -> None:
            if not seen:
                seen.append(weakref.ref(recording))

        async with recording(path, {"fft": analyse, "ons": analyse}, linger=1000) as (log, recorder):
            before = len(asyncio.all_tasks())
            client = MemoryClient(log).connect(recorder)
            await client.say(start(), frame(2), audio(2), frame(1), audio(1))
            await client.lose()
            client = MemoryClient(log).connect(recorder)
            await client.say(stop())
            await client.done()
            await until(lambda: not recorder._recordings.is_finishing(RECORDING))
            recordings = recorder._recordings
            assert (recordings._running, recordings._timers, recordings._finishing) == ({}, {}, {})
            del client
            gc.collect()
            assert seen[0]() is None
            await until(lambda: len(asyncio.all_tasks()) == before)


class TestClosing:
    async def test_ends_what_runs(self, path: Path, query: Query) -> None:
        """Closing ends recordings, also those whose client is away, and closes their connections."""
        heard = Heard()
        async with recording(path, heard, linger=1000) as (log, recorder):
            client, lost = MemoryClient(log).connect(recorder), MemoryClient(log).connect(recorder)
            await client.say(start(), frame(1), audio(1))
            await lost.say(start(OTHER), frame(2, OTHER), audio(2))
            await lost.lose()
            await recorder.aclose()
            assert heard.audio() == audio(1)
            assert heard.audio(OTHER) == audio(2)
            await client.done()
            assert client.is_closed
        assert query("SELECT count(DT_RECORDING_DATA_PURGED) FROM ENGINE_DB_LOG_RECORDING_CONFIG") == [(2,)]
        assert query(NOTES) == [
            ("connection lost before STOP",),
            ("recorder closed before STOP",),
            ("recorder closed before STOP",),
        ]

    async def test_leaves_what_is_not_done_in_time(self, path: Path, query: Query) -> None:
        """What isn't analysed in time is left, and logged with its number; closing isn't held up."""
        heard = Heard()
        async with recording(path, heard, timeout=0.1) as (log, recorder):
            heard.may_go_on.clear()
            client = MemoryClient(log).connect(recorder)
            await client.say(start(), frame(1), audio(1, 16 * 50))
            await client.lose()
            began = time.monotonic()
            await recorder.aclose()
            assert time.monotonic() - began < 5
            assert not recorder._recordings.is_finishing(RECORDING)
        [text] = [text for (text,) in query(ERRORS) if text.startswith("RuntimeError")]
        left = int(text.removeprefix("RuntimeError: ").removesuffix(" frames aren't analysed"))
        assert 0 < left <= 50
        row = query("SELECT SPLIT_100_MS_FRAME_COUNTER + ? FROM ENGINE_DB_LOG_RECORDING_CONFIG", (left,))
        assert row == [(50,)]

    async def test_begins_no_more(self, path: Path, query: Query) -> None:
        """After closing, a START is told that it comes too late; nothing is begun."""
        heard = Heard()
        async with recording(path, heard) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            await recorder.aclose()
            await client.say(start(), frame(1), audio(1), stop())
            await client.done()
        assert heard.count == 0
        assert [text.partition(", ")[2] for (text,) in query(ERRORS)] == [
            "START: the recorder is closed",
            "FRAME: the recorder is closed",
            "STOP: STOP of a recording that doesn't run",
        ]

    async def test_again(self, path: Path) -> None:
        """Closing again, or two at once, is the same."""
        heard = Heard()
        async with recording(path, heard) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            await client.say(start(), frame(1), audio(1))
            await asyncio.gather(recorder.aclose(), recorder.aclose())
            await recorder.aclose()
        assert heard.audio() == audio(1)

    async def test_cancelled(self, path: Path) -> None:
        """Closing that is cancelled goes on by itself; closing again waits for it."""
        heard = Heard()
        async with recording(path, heard) as (log, recorder):
            heard.may_go_on.clear()
            client = MemoryClient(log).connect(recorder)
            await client.say(start(), frame(1), audio(1))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await recorder.aclose()
            heard.may_go_on.set()
            await recorder.aclose()
        assert heard.audio() == audio(1)

    async def test_frees_who_was_made_to_wait(self, path: Path) -> None:
        """A client that was made to wait for analysers isn't any more; its connection is closed."""
        heard = Heard()
        async with recording(path, heard, max_backlog=1, timeout=0.1) as (log, recorder):
            heard.may_go_on.clear()
            client = MemoryClient(log).connect(recorder)
            client.say_nowait(start(), frame(1), audio(1, 160), frame(2), audio(2))
            await until(lambda: client.unheard == 2)
            await recorder.aclose()
            await client.done()
        assert client.is_closed

    async def test_lets_the_threads_end(self, path: Path) -> None:
        """The threads of analysers have ended soon after."""
        async with recording(path, lambda recording, frame: 1) as (log, recorder):
            client = MemoryClient(log).connect(recorder)
            await client.say(start(), frame(1), audio(1), stop())
            await client.done()
        await until(lambda: not [t for t in threading.enumerate() if t.name == "enginelog-analyser"])


def test_without_closing(path: Path, query: Query) -> None:
    """A loop that ends under a recorder ends it, too: recordings that run, linger or are being finished."""
    troubles: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
        async with EngineLog(path) as log:
            heard = Heard()
            heard.may_go_on.clear()
            recorder = Recorder(log, {"fft": heard, "ons": lambda recording, frame: None})
            clients = [MemoryClient(log).connect(recorder) for _ in range(3)]
            for number, client in enumerate(clients):
                await client.say(start(number), frame(1, number), audio(1, 8820))
            await clients[1].lose()
            await clients[2].say(stop(2))
            await clients[2].done()

    asyncio.run(main())
    gc.collect()
    assert troubles == []
    assert query("SELECT count(*) FROM ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME") == [(3,)]
