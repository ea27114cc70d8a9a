"""The frames of a client: in order, each once, and none waits for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from async_enginelog import EngineLog
from async_enginelog.listeners.client_frames import MAX_HELD_BYTES, MAX_JUMP, MAX_RECOGNISED, ClientFrames
from async_enginelog.listeners.recording_log import ClientFrame, RecordingLog
from async_enginelog.listeners.settings import Settings
from async_enginelog.sequence import MAX_GAPS, MAX_HELD

from ..conftest import Query
from .clients import RECORDING, until

pytestmark = pytest.mark.usefixtures("small_segments")

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
SETTINGS = Settings(10, 800, 2, timeout=1, patience=1, linger=1, max_backlog=10)

ERRORS = "SELECT ERROR_MESSAGE_TEXT, AUDIO_FRAME_NO FROM ENGINE_DB_LOG_FUNCTION_ERROR ORDER BY LOG_SEQ"
NOTES = "SELECT STEP_NAME, FRAME_NO FROM ENGINE_DB_LOG_STEPS ORDER BY LOG_SEQ"


class Taker:
    """Takes frames, and says what it got."""

    def __init__(self, log: RecordingLog, patience: float = 1000, first: int = 1) -> None:
        self.taken: list[int | None] = []
        self.audio = b""
        # How many were taken whenever no frame waited for others.
        self.complete: list[int] = []
        self.frames = ClientFrames(
            log, patience, first, self._take, lambda: self.complete.append(len(self.taken))
        )
        self.frames.attend()

    @property
    def ends_at(self) -> float:
        """When patience ends, in the time of the loop."""
        assert self.frames._timer is not None
        return self.frames._timer.when()

    def _take(self, frame: ClientFrame) -> None:
        self.taken.append(frame.number)
        self.audio += frame.audio

    def put(self, *numbers: int, audio: bytes | None = None) -> None:
        """Put frames in, each with audio of its own."""
        for number in numbers:
            self.frames.put(number, ClientFrame(audio or f"{number} ".encode(), NOON, 1))


class Book:
    """An open log, and what was written into it."""

    def __init__(self, log: EngineLog, query: Query) -> None:
        self.log = log
        self.query = query

    def taker(self, **settings: Any) -> Taker:
        """Return one that logs into it."""
        return Taker(RecordingLog(self.log, RECORDING, SETTINGS, ()), **settings)

    async def errors(self) -> list[tuple[Any, ...]]:
        """Return the errors so far, each with the number of the frame."""
        await self.log.flush()
        return self.query(ERRORS)

    async def notes(self) -> list[tuple[Any, ...]]:
        """Return the notes so far, each with the number of the frame."""
        await self.log.flush()
        return self.query(NOTES)


@pytest.fixture
async def book(path: Path, query: Query) -> AsyncIterator[Book]:
    """A log that is open as long as the test runs."""
    async with EngineLog(path) as log:
        yield Book(log, query)


class TestNumbers:
    async def test_in_order(self, book: Book) -> None:
        """Frames are taken in the order of their numbers; those that others wait for are missing."""
        taker = book.taker()
        taker.put(1, 4, 3)
        assert (taker.taken, list(taker.frames.missing), taker.frames.highest) == ([1], [2], 4)
        taker.put(2)
        assert (taker.taken, list(taker.frames.missing)) == ([1, 2, 3, 4], [])
        assert (await book.errors(), await book.notes()) == ([], [])

    async def test_that_wait_have_their_row(self, book: Book) -> None:
        """A frame that waits for others is logged when it comes; where it lies, when it is cut."""
        taker = book.taker()
        taker.put(2)
        await book.log.flush()
        assert book.query(
            "SELECT AUDIO_FRAME_NO, AUDIO_FRAME_SIZE_BYTES, WEBSOCKET_CONNECTION_ID, "
            "DT_FRAME_SPLIT_INTO_100_MS_FRAMES FROM ENGINE_DB_LOG_PRE_SPLIT_AUDIO_FRAME"
        ) == [(2, 2, 1, None)]

    async def test_that_came_twice(self, book: Book) -> None:
        """The same frame again isn't taken again, whether it was taken or waits."""
        taker = book.taker()
        taker.put(1, 3, 1, 3, 2, 3)
        assert taker.taken == [1, 2, 3]
        assert await book.notes() == [("frame came twice, not cut again", n) for n in (1, 3, 3)]
        assert await book.errors() == []

    async def test_that_are_used_again(self, book: Book) -> None:
        """Other audio under a number that was used is heard where it comes, and disturbs no other frame."""
        taker = book.taker()
        taker.put(1, 2)
        taker.put(1, audio=b"other ")
        taker.put(1, audio=b"other ")
        taker.put(1)
        taker.put(4, 3)
        assert taker.audio == b"1 2 other 3 4 "
        assert taker.taken == [1, 2, None, 3, 4]
        text = "ValueError: client frame 1 came before, with other audio or long ago: cut in where it came"
        assert await book.errors() == [(text, 1)]
        assert await book.notes() == [("frame came twice, not cut again", 1)] * 2

    @pytest.mark.parametrize("number", [-1, -(2**63) + 1, 2**63 - 1, MAX_JUMP + 2])
    async def test_that_are_absurd(self, book: Book, number: int) -> None:
        """A frame whose number can't be is heard where it comes, and disturbs no other frame."""
        taker = book.taker()
        taker.put(1, number, 2, 4, 3)
        assert taker.audio == f"1 {number} 2 3 4 ".encode()
        text = f"ValueError: client frame {number} has an absurd number: cut in where it came"
        assert await book.errors() == [(text, number)]

    async def test_from_zero(self, book: Book) -> None:
        """A client may count from 0."""
        taker = book.taker()
        taker.put(0, 1, 2)
        assert taker.taken == [0, 1, 2]

    @pytest.mark.parametrize(("first", "begins"), [(5412, 5412), (0, 0), (-7, 1), (2**63 - 1, 1)])
    async def test_begin_where_they_can(self, book: Book, first: int, begins: int) -> None:
        """The first frame may have any number that can be one."""
        taker = book.taker(first=first)
        taker.put(begins)
        assert taker.taken == [begins]

    async def test_far_ahead(self, book: Book) -> None:
        """After a leap, what clients keep is waited for; what they don't isn't, and that is told."""
        taker = book.taker()
        taker.put(1, 3, 200)
        assert taker.taken == [1, 3]
        assert list(taker.frames.missing) == list(range(200 - MAX_HELD, 200))
        text = "LookupError: client frame 2, 4 to 71 never came; it goes on without"
        assert await book.errors() == [(text, None)]


class TestPatience:
    async def test_ends(self, book: Book) -> None:
        """What doesn't come is given up after a while, and told; what comes then is taken where it comes."""
        taker = book.taker(patience=0.05)
        taker.put(2)
        assert taker.taken == []
        await until(lambda: taker.taken == [2])
        taker.put(1)
        assert taker.taken == [2, 1]
        assert await book.errors() == [("LookupError: client frame 1 never came; it goes on without", None)]
        assert await book.notes() == [("frame came too late for its place, cut in where it came", 1)]

    async def test_is_of_each_frame(self, book: Book) -> None:
        """The frame that waits longest decides: all that is missing before it is given up at once."""
        taker = book.taker(patience=0.05)
        taker.put(9, 3, 6)
        await until(lambda: taker.taken)
        assert taker.taken == [3, 6, 9]
        text = "LookupError: client frame 1 to 2, 4 to 5, 7 to 8 never came; it goes on without"
        assert await book.errors() == [(text, None)]

    async def test_of_a_later_frame_is_its_own(self, book: Book) -> None:
        """The frame that came first decides how long is waited; when it waits no more, the next one does."""
        taker = book.taker()
        taker.put(2)
        first = taker.ends_at
        taker.put(4)
        assert taker.ends_at == first
        taker.put(1)
        assert taker.taken == [1, 2]
        assert taker.ends_at > first

    async def test_is_not_lost_while_the_client_is_away(self, book: Book) -> None:
        """Nothing is given up while nobody is there to send it; then patience begins anew."""
        taker = book.taker(patience=0.05)
        taker.put(2)
        before = taker.ends_at
        taker.frames.leave()
        assert taker.frames._timer is None
        taker.put(3)
        assert taker.frames._timer is None
        taker.frames.attend()
        assert taker.ends_at > before
        await until(lambda: taker.taken == [2, 3])

    async def test_ends_at_once_when_told(self, book: Book) -> None:
        """All that waits can be had without what is missing; nothing waits then, and no timer runs."""
        taker = book.taker(patience=0.05)
        taker.put(5, 3)
        taker.frames.give_up()
        assert taker.taken == [3, 5]
        taker.frames.give_up()
        taker.put(6)
        assert taker.taken == [3, 5, 6]
        assert taker.frames._timer is None

    async def test_is_told_when_it_is_not_needed(self, book: Book) -> None:
        """Whenever no frame waits for others, that is told."""
        taker = book.taker()
        assert taker.complete == [0]
        taker.put(1, 3, 4)
        assert taker.complete == [0, 1]
        taker.put(2)
        assert taker.complete == [0, 1, 4]


class TestMemory:
    async def test_of_frames_that_wait_is_bounded(self, book: Book) -> None:
        """However large frames are, no more of them waits than so many bytes."""
        taker = book.taker()
        taker.frames.leave()
        for number in range(2, 30):
            taker.put(number, audio=bytes([number]) * 2**20)
            assert sum(len(frame.audio) for frame in taker.frames._frames.held.values()) <= MAX_HELD_BYTES
            taker.audio = b""
        taker.frames.give_up()
        assert taker.taken == list(range(2, 30))

    async def test_of_frames_that_came_is_bounded(self, book: Book) -> None:
        """The newest frames are recognised when they come again; an older one is taken as a new one."""
        taker = book.taker()
        taker.put(*range(1, MAX_RECOGNISED + 2))
        taken = len(taker.taken)
        taker.put(2)
        assert len(taker.taken) == taken
        taker.put(1)
        assert taker.taken[-1] is None

    async def test_of_an_endless_client_is_bounded(self, book: Book) -> None:
        """After 100,000 frames, some missing, early or late, no more is kept than after a few."""
        taken: list[int | None] = []
        log = RecordingLog(book.log, RECORDING, SETTINGS, ())
        frames = ClientFrames(log, 1000, 1, lambda frame: taken.append(frame.number), lambda: None)
        frames.attend()
        for number in range(1, 100_001):
            if number % 90:
                frames.put(number, ClientFrame(b"audio", NOON, 1))
            if number % 90 == 1:
                frames.give_up()
            if not number % 1000:
                frames.put(number - 50, ClientFrame(b"late", NOON, 1))
                await book.log.flush()
        assert len(taken) == 100_000 - 100_000 // 90 + 100
        assert len(frames._recognised) == MAX_RECOGNISED
        assert len(frames._frames._gaps) == MAX_GAPS
        assert not frames._frames.held
