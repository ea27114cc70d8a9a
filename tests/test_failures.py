"""How things end is told in words, and of an exception there is one row."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

import pytest

from async_enginelog import LogClosed
from async_enginelog.context import Bound
from async_enginelog.failures import MAX_MESSAGE, describe, ending, log_failure
from async_enginelog.places import Place

PLACE = Place("analyse", "analysis.py")
ABOUT = Bound(202508290514312002, 7, 2, 5)


class Rows:
    """A log that keeps its rows."""

    def __init__(self, run_id: int = 1) -> None:
        self.run_id = run_id
        self.closed = False
        self.rows: list[Mapping[str, Any]] = []

    def log_row_nowait(self, table: str, columns: Mapping[str, object]) -> None:
        """Keep a row."""
        assert table == "ENGINE_DB_LOG_FUNCTION_ERROR"
        if self.closed:
            raise LogClosed("closed")
        self.rows.append(columns)


E = TypeVar("E", bound=BaseException)


class Mute(Exception):
    """Can't say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def raised(error: E) -> E:
    """Return an exception with a traceback."""
    try:
        raise error
    except type(error) as caught:
        return caught


def logged(error: BaseException) -> Mapping[str, Any]:
    """Return the row of an exception."""
    rows = Rows()
    assert log_failure(rows, error, PLACE, ABOUT)
    return rows.rows[0]


class TestWords:
    def test_type_and_message(self) -> None:
        """An exception is its type and what it says, if it says anything."""
        assert describe(ValueError("boom")) == "ValueError: boom"
        assert describe(ValueError()) == "ValueError"
        assert describe(KeyError("x")) == "KeyError: 'x'"

    def test_an_exception_that_can_not_speak(self) -> None:
        """A __str__ that fails is no fault of the log."""
        assert describe(Mute()) == "Mute: <exception str() failed>"

    def test_long_messages_are_cut(self) -> None:
        """What no column has room for isn't carried along."""
        assert describe(ValueError("x" * 10**6)) == "ValueError: " + "x" * MAX_MESSAGE

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (None, "End (0.071s)"),
            (StopIteration(1), "End (0.071s)"),
            (StopAsyncIteration(), "End (0.071s)"),
            (asyncio.CancelledError(), "Cancelled (0.071s)"),
            (GeneratorExit(), "Closed (0.071s)"),
            (ValueError("boom"), "Error: ValueError: boom"),
            (TimeoutError(), "Error: TimeoutError"),
            (KeyboardInterrupt(), "Error: KeyboardInterrupt"),
            (Mute(), "Error: Mute: <exception str() failed>"),
        ],
    )
    def test_endings(self, error: BaseException | None, words: str) -> None:
        """What ends well, is cancelled, is closed or fails says so."""
        assert ending(error, 0.0712) == words


class TestRow:
    def test_it_says_all(self) -> None:
        """The row has function, file, message, traceback, and what was worked on."""
        row = dict(logged(raised(ValueError("boom"))))
        traceback = row.pop("traceback_text")
        assert traceback.startswith("Traceback (most recent call last):\n")
        assert traceback.endswith("    raise error\nValueError: boom\n")
        assert row == {
            "python_function_name": "analyse",
            "python_file_name": "analysis.py",
            "error_message_text": "ValueError: boom",
            "recording_id": ABOUT.recording_id,
            "audio_frame_no": 7,
            "audio_chunk_no": 2,
        }

    def test_there_is_one(self) -> None:
        """An exception that was logged isn't logged again."""
        rows, error = Rows(), raised(ValueError("boom"))
        assert log_failure(rows, error, PLACE, ABOUT)
        assert not log_failure(rows, error, Place("outer", None), Bound())
        assert len(rows.rows) == 1

    def test_there_is_one_in_each_run(self) -> None:
        """Another log has its own row of it."""
        error = raised(ValueError("boom"))
        assert log_failure(Rows(1), error, PLACE, ABOUT)
        assert log_failure(Rows(2), error, PLACE, ABOUT)

    def test_what_was_not_logged_can_be(self) -> None:
        """If the row couldn't be logged, the next one who sees the exception logs it."""
        rows, error = Rows(), raised(ValueError("boom"))
        rows.closed = True
        with pytest.raises(LogClosed):
            log_failure(rows, error, PLACE, ABOUT)
        rows.closed = False
        assert log_failure(rows, error, PLACE, ABOUT)

    @pytest.mark.parametrize(
        "error", [asyncio.CancelledError(), GeneratorExit(), StopIteration(), StopAsyncIteration()]
    )
    def test_what_is_no_failure_has_none(self, error: BaseException) -> None:
        """A cancellation isn't an error, nor is the end of a generator."""
        rows = Rows()
        assert not log_failure(rows, raised(error), PLACE, ABOUT)
        assert rows.rows == []

    def test_the_message_may_be_another(self) -> None:
        """Who logs it may say more."""
        rows = Rows()
        log_failure(rows, ValueError("boom"), PLACE, ABOUT, message="frame 7: boom")
        assert rows.rows[0]["error_message_text"] == "frame 7: boom"

    def test_exceptions_that_refuse_attributes(self) -> None:
        """An exception whose class guards its attributes has its one row, too."""

        class Frozen(Exception):
            def __setattr__(self, name: str, value: object) -> None:
                raise AttributeError(name)

        rows, error = Rows(), raised(Frozen())
        assert [log_failure(rows, error, PLACE, ABOUT) for _ in range(2)] == [True, False]


class TestTraceback:
    def test_causes_and_notes_are_in_it(self) -> None:
        """It is what Python prints: with what led to the exception, and with its notes."""
        error = ValueError("outer")
        error.__cause__ = raised(KeyError("inner"))
        error.add_note("of frame 7")
        text = logged(error)["traceback_text"]
        assert "KeyError: 'inner'" in text
        assert "direct cause" in text
        assert text.endswith("ValueError: outer\nof frame 7\n")

    def test_groups_are_in_it(self) -> None:
        """So are the parts of a group."""
        group = raised(ExceptionGroup("two", [raised(ValueError("a")), KeyError("b")]))
        text = logged(group)["traceback_text"]
        assert "ExceptionGroup: two (2 sub-exceptions)" in text
        assert "ValueError: a" in text

    def test_deep_recursion_keeps_its_end(self) -> None:
        """Of a thousand calls, the last are told."""

        def descend(depth: int) -> None:
            if depth == 0:
                raise ValueError("at the bottom")
            descend(depth - 1)

        with pytest.raises(ValueError, match="bottom") as caught:
            descend(500)
        text = logged(caught.value)["traceback_text"]
        assert text.endswith('    raise ValueError("at the bottom")\nValueError: at the bottom\n')
        assert len(text) < 4000

    def test_a_long_chain_is_told_alone(self) -> None:
        """An exception of a thousand causes is told without them, not with a second of waiting."""
        error = raised(ValueError(0))
        for number in range(1, 1000):
            following = ValueError(number)
            following.__cause__ = error
            error = raised(following)
        text = logged(error)["traceback_text"]
        assert text.count("ValueError") == 1
        assert text.endswith("    raise error\nValueError: 999")

    def test_a_chain_in_a_circle(self) -> None:
        """Exceptions that are each other's causes are told once."""
        first, second = raised(ValueError("a")), raised(ValueError("b"))
        first.__cause__, second.__cause__ = second, first
        assert logged(first)["traceback_text"].count("ValueError: b") == 1

    def test_groups_in_groups(self) -> None:
        """A group of groups of groups, too deep to be printed, is told alone."""
        error: Exception = ValueError("boom")
        for _ in range(3000):
            error = ExceptionGroup("deep", [error])
        assert logged(error)["traceback_text"] == "ExceptionGroup: deep (1 sub-exception)"

    def test_a_traceback_that_can_not_be_printed(self) -> None:
        """Attributes that are somebody's own don't keep an exception from its row."""

        class Odd(Exception):
            @property
            def __cause__(self) -> BaseException:  # type: ignore[override]
                raise RuntimeError("no")

        assert logged(raised(Odd("boom")))["traceback_text"].endswith("    raise error\nOdd: boom")
