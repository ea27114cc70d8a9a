"""A daemon thread that does small jobs in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from async_enginelog.background import Background

SOON = 10.0  # seconds; long enough for any machine, never waited for in full


@pytest.fixture
def background() -> Iterator[Background]:
    """A background thread that has ended when the test has."""
    background = Background("enginelog-test")
    yield background
    background.close(SOON)


class Gate:
    """A job that holds the thread up until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self) -> str:
        self.reached.set()
        self.opened.wait(SOON)
        return threading.current_thread().name


def threads() -> list[threading.Thread]:
    """Return the threads of the tests of this module that are alive."""
    return [thread for thread in threading.enumerate() if thread.name == "enginelog-test"]


class TestSubmit:
    def test_gives_the_result(self, background: Background) -> None:
        """The future has what the job returned."""
        assert background.submit(lambda: 6 * 7).result(SOON) == 42

    @pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt(), SystemExit(1)])
    def test_gives_the_exception(self, background: Background, error: BaseException) -> None:
        """The future has what the job raised, whatever it is; the thread goes on."""

        def fail() -> None:
            raise error

        assert background.submit(fail).exception(SOON) is error
        assert background.submit(lambda: "next").result(SOON) == "next"

    def test_keeps_the_order(self, background: Background) -> None:
        """Jobs are done one after the other, in the order they were submitted."""
        done: list[int] = []
        futures = [background.submit(lambda number=number: done.append(number)) for number in range(100)]  # type: ignore[misc]
        futures[-1].result(SOON)
        assert done == list(range(100))

    def test_starts_one_thread_with_the_first_job(self, background: Background) -> None:
        """There is no thread before the first job, and one daemon after any number of them."""
        assert threads() == []
        callers = [threading.Thread(target=background.submit, args=(int,)) for _ in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(SOON)
        assert [thread.daemon for thread in threads()] == [True]

    def test_skips_what_is_cancelled(self, background: Background) -> None:
        """A job whose future is cancelled before its turn isn't done."""
        gate, done = Gate(), list[int]()
        background.submit(gate)
        cancelled = background.submit(lambda: done.append(1))
        assert cancelled.cancel()
        gate.opened.set()
        assert background.submit(lambda: done.append(2)).result(SOON) is None
        assert done == [2]


class TestClose:
    def test_waits_for_the_jobs(self, background: Background) -> None:
        """The jobs that wait are done before close returns, and the thread has ended."""
        done: list[int] = []
        background.submit(lambda: done.append(1))
        background.close(SOON)
        assert done == [1]
        assert threads() == []

    def test_needs_no_thread(self, background: Background) -> None:
        """Closing what never had a job, or twice, does nothing."""
        background.close(SOON)
        background.submit(int)
        background.close(SOON)
        background.close(SOON)
        assert threads() == []

    def test_gives_up_on_a_job_that_hangs(self, background: Background) -> None:
        """Close waits no longer than it is told; jobs after it aren't held up by the one that hangs."""
        gate = Gate()
        name = background.submit(gate)
        assert gate.reached.wait(SOON)
        background.close(0)
        assert background.submit(lambda: "done").result(SOON) == "done"
        assert not name.done()
        gate.opened.set()
        assert name.result(SOON) == "enginelog-test"
        background.close(SOON)
        for thread in threads():
            thread.join(SOON)
        assert threads() == []
