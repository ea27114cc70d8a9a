"""What a call works on is found among its arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_enginelog.arguments import FIELDS, LARGEST, SMALLEST, ArgumentReader
from async_enginelog.context import Bound

RECORDING = 202508290514312002
OUTSIDE = Bound(1, 2, 3, 4)


def read(function: Callable[..., Any], *args: object, **kwargs: object) -> Bound:
    """Return what a call works on where nothing is bound."""
    return ArgumentReader(function).read(args, kwargs, Bound())


def analyse(
    self: object, recording_id: object, /, audio_frame_no: object = None, *rest: object, chunk: object = 5
) -> None:
    """Have parameters of all kinds but one."""


def takes_any(frame: object = None, **columns: object) -> None:
    """Have a parameter that takes any name."""


class Number(IntEnum):
    """Whole numbers with names."""

    SEVEN = 7


def test_positions_and_names() -> None:
    """Arguments are found wherever they are passed."""
    assert read(analyse, None, RECORDING, 7) == Bound(RECORDING, 7, 5)
    assert read(analyse, None, RECORDING, audio_frame_no=7) == Bound(RECORDING, 7, 5)
    assert read(analyse, None, RECORDING, 7, 8, 9, chunk=2) == Bound(RECORDING, 7, 2)


def test_defaults_count() -> None:
    """What isn't passed has the value that the function gets."""
    assert read(analyse, None, RECORDING) == Bound(RECORDING, None, 5)


def test_missing_arguments_say_nothing() -> None:
    """A call that can't be, because an argument is missing, is no fault of the log."""
    assert read(analyse) == Bound(None, None, 5)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("recording_id", "recording_id"),
        ("RECORDING_ID", "recording_id"),
        ("recording", "recording_id"),
        ("frame_no", "frame_no"),
        ("audio_frame_no", "frame_no"),
        ("Frame", "frame_no"),
        ("audio_chunk_no", "audio_chunk_no"),
        ("chunk_no", "audio_chunk_no"),
        ("chunk", "audio_chunk_no"),
        ("websocket_connection_id", "websocket_connection_id"),
        ("Connection_Id", "websocket_connection_id"),
    ],
)
def test_names(name: str, column: str) -> None:
    """Each name is known in any case: of a parameter, and of what a function takes with **kwargs."""
    namespace: dict[str, Any] = {}
    exec(f"def function({name}): ...", namespace)  # noqa: S102  # a parameter of that name
    expected = Bound(**{column: 7})
    assert read(namespace["function"], 7) == read(namespace["function"], **{name: 7}) == expected
    assert read(takes_any, **{name: 7}) == expected


@pytest.mark.parametrize("value", [7, "7", "007", Number.SEVEN])
def test_numbers_and_digits_are_taken(value: object) -> None:
    """A whole number is taken, also as text, as clients send it."""
    assert read(analyse, None, value) == Bound(7, None, 5)


@pytest.mark.parametrize(
    "value",
    [
        *(True, None, 7.0, object(), [7], b"7", 2**63, -(2**63) - 1),
        *("", "x", "-7", " 7", "²", "\u0667", str(2**63), "9" * 20),
    ],
)
def test_anything_else_is_not(value: object) -> None:
    """An object of that name, a truth, a number that doesn't fit or a text that is none say nothing."""
    assert read(analyse, None, value, value, chunk=value) == Bound()
    assert ArgumentReader(analyse).read((None, value, 7), {"chunk": 8}, OUTSIDE) == Bound(1, 7, 8, 4)


def test_the_limits_fit() -> None:
    """The largest and the smallest number of 64 bits are taken."""
    assert read(analyse, None, LARGEST, SMALLEST, chunk=str(LARGEST)) == Bound(LARGEST, SMALLEST, LARGEST)


def test_what_arguments_do_not_say_is_bound() -> None:
    """What is bound counts where the arguments say nothing."""
    assert ArgumentReader(analyse).read((None, RECORDING), {}, OUTSIDE) == Bound(RECORDING, 2, 5, 4)
    assert ArgumentReader(len).read(([],), {}, OUTSIDE) == OUTSIDE


def test_the_precise_name_wins() -> None:
    """Where two names speak of the same, the more precise one counts, however they are ordered."""

    def function(frame_no: int, frame: int, audio_frame_no: int) -> None: ...

    assert read(function, 1, 2, 3).frame_no == 1
    assert read(takes_any, FRAME=1, audio_frame_no=2).frame_no == 2


def test_an_object_leaves_it_to_the_number() -> None:
    """A precise name that holds no number leaves the word to the other."""

    def function(frame: int, frame_no: object) -> None: ...

    assert read(function, 7, object()).frame_no == 7


def test_parameters_win_over_the_rest() -> None:
    """What is passed for a parameter counts more than what **kwargs has of that name."""
    assert read(takes_any, 7, FRAME_NO=8).frame_no == 7


def test_methods_and_partials() -> None:
    """Positions are those of the call: without self where Python adds it, without what is already passed."""

    class Engine:
        def analyse(self, frame_no: int) -> None: ...

    assert read(Engine.analyse, Engine(), 7) == read(Engine().analyse, 7) == Bound(frame_no=7)
    assert read(functools.partial(analyse, None), RECORDING) == Bound(RECORDING, None, 5)


def test_decorated_functions_have_their_own_names() -> None:
    """A decorator that takes anything doesn't hide the names."""

    @functools.wraps(analyse)
    def decorated(*args: object, **kwargs: object) -> None: ...

    assert read(decorated, None, RECORDING, 7) == Bound(RECORDING, 7, 5)


def test_functions_without_a_signature() -> None:
    """Some functions of C don't tell their parameters."""
    with pytest.raises(ValueError, match="no signature found"):
        inspect.signature(dict.update)
    assert ArgumentReader(dict.update).read((1, 2), {}, OUTSIDE) == OUTSIDE


VALUES = st.integers() | st.text() | st.booleans() | st.none()


@given(st.lists(VALUES), st.dictionaries(st.sampled_from([*FIELDS]), VALUES))
def test_whatever_is_passed(args: list[object], kwargs: dict[str, object]) -> None:
    """No arguments make reading fail, and what is read fits into a column."""
    for function in (analyse, takes_any):
        for number in ArgumentReader(function).read(args, kwargs, Bound()):
            assert number is None or (type(number) is int and SMALLEST <= number <= LARGEST)
