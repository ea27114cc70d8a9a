"""What is bound is what code works on, in its own context and nowhere else."""

from __future__ import annotations

import asyncio
import contextvars
import re
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from async_enginelog.context import Bound, bind, bind_for_good, bound

RECORDING = 202508290514312002


def test_nothing_is_bound_at_first() -> None:
    """Without bind(), nothing is known."""
    assert bound() == Bound(None, None, None, None)


def test_the_names_are_columns() -> None:
    """What is bound has the names of the columns of ENGINE_DB_LOG_FUNCTIONS."""
    with bind(recording_id=RECORDING, frame_no=7, audio_chunk_no=2, websocket_connection_id=5):
        assert bound()._asdict() == {
            "recording_id": RECORDING,
            "frame_no": 7,
            "audio_chunk_no": 2,
            "websocket_connection_id": 5,
        }


def test_it_ends_with_the_block() -> None:
    """After the block, all is bound as it was before."""
    with bind(recording_id=RECORDING):
        with bind(recording_id=1, frame_no=7):
            assert bound() == Bound(1, 7)
        assert bound() == Bound(RECORDING)
    assert bound() == Bound()


def test_what_is_not_passed_stays() -> None:
    """An inner block adds to what is bound outside; None binds nothing."""
    with bind(recording_id=RECORDING, frame_no=7), bind(frame_no=8, recording_id=None):
        assert bound() == Bound(RECORDING, 8)


def test_zero_is_bound() -> None:
    """Zero is a number like another."""
    with bind(frame_no=7), bind(frame_no=0):
        assert bound().frame_no == 0


@pytest.mark.parametrize("value", ["202508290514312002", 1.0, True, b"1", []])
@pytest.mark.parametrize("name", Bound._fields)
def test_what_is_no_number_is_refused(name: str, value: Any) -> None:
    """Rows that say so would be refused, one by one."""
    with pytest.raises(TypeError, match=re.escape(f"{name} is {value!r}; pass a whole number")):
        bind(**{name: value})


def test_numbers_of_other_libraries_are_whole_numbers() -> None:
    """As :mod:`operator` has it: NumPy's, for instance."""

    class Seven:
        def __index__(self) -> int:
            return 7

    with bind(frame_no=Seven()):  # type: ignore[arg-type]
        assert bound() == Bound(frame_no=7)


def test_an_exception_passes() -> None:
    """An exception leaves the block as it is, and what was bound goes."""
    with pytest.raises(ValueError, match="boom"), bind(frame_no=7):
        raise ValueError("boom")
    assert bound() == Bound()


def test_one_object_binds_again_and_again() -> None:
    """The same object may be used for several blocks, also one within another."""
    seventh = bind(frame_no=7)
    with seventh as entered, bind(frame_no=8), seventh:
        assert entered is seventh
        assert bound().frame_no == 7
    assert bound() == Bound()


async def test_a_task_takes_it_along() -> None:
    """A task has what was bound when it was made, also when the block is over."""

    async def look() -> Bound:
        await asyncio.sleep(0)
        return bound()

    with bind(recording_id=RECORDING):
        task = asyncio.create_task(look())
    assert bound() == Bound()
    assert await task == Bound(RECORDING)


async def test_tasks_do_not_see_each_others() -> None:
    """What a task binds is its own, whoever runs meanwhile."""
    here = asyncio.Barrier(3)

    async def work(frame_no: int) -> int | None:
        with bind(frame_no=frame_no):
            await here.wait()
            return bound().frame_no

    assert await asyncio.gather(*map(work, range(3))) == [0, 1, 2]


async def test_a_thread_takes_it_along() -> None:
    """asyncio.to_thread() runs with what is bound."""
    with bind(recording_id=RECORDING):
        assert await asyncio.to_thread(bound) == Bound(RECORDING)


async def test_a_generator_may_be_closed_elsewhere() -> None:
    """A block in an asynchronous generator may be left in the context of another task, without a fault."""

    async def frames() -> AsyncGenerator[int, None]:
        with bind(frame_no=7):
            yield 1

    generator = frames()
    await anext(generator)
    await asyncio.create_task(generator.aclose())


def test_for_good_is_for_the_rest_of_the_context() -> None:
    """A connection is bound until its context ends, beside what else is bound, and not outside of it."""

    def handle() -> Bound:
        with bind(frame_no=7):
            bind_for_good(websocket_connection_id=5)
            return bound()

    assert contextvars.copy_context().run(handle) == Bound(frame_no=7, websocket_connection_id=5)
    assert bound() == Bound()
