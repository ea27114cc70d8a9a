"""Daemon threads that do jobs, one after the other or side by side."""

from __future__ import annotations

import subprocess
import sys
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


class TestSeveral:
    @pytest.fixture
    def crew(self) -> Iterator[Background]:
        """Up to three threads that have ended when the test has."""
        crew = Background("enginelog-test", threads=3)
        yield crew
        crew.close(SOON)

    def test_work_side_by_side(self, crew: Background) -> None:
        """As many jobs as there may be threads are at work at once; a further one waits for its turn."""
        gates = [Gate() for _ in range(4)]
        futures = [crew.submit(gate) for gate in gates]
        assert all(gate.reached.wait(SOON) for gate in gates[:3])
        assert len(threads()) == 3
        assert not gates[3].reached.is_set()
        gates[1].opened.set()
        assert gates[3].reached.wait(SOON)
        for gate in gates:
            gate.opened.set()
        assert [future.result(SOON) for future in futures] == ["enginelog-test"] * 4

    def test_close_waits_for_all(self, crew: Background) -> None:
        """All jobs are done before close returns, and all threads have ended."""
        done: list[int] = []
        for number in range(100):
            crew.submit(lambda number=number: done.append(number))  # type: ignore[misc]
        crew.close(SOON)
        assert sorted(done) == list(range(100))
        assert threads() == []

    def test_one_is_added_for_one_that_hangs(self, background: Background) -> None:
        """An added thread takes up the jobs that wait; it starts at once, and ends with the others."""
        gate = Gate()
        background.submit(gate)
        assert gate.reached.wait(SOON)
        waiting = background.submit(lambda: "done")
        background.add_thread()
        assert waiting.result(SOON) == "done"
        assert len(threads()) == 2
        gate.opened.set()
        background.close(SOON)
        assert threads() == []

    def test_make_do_with_those_there_are(self, crew: Background, monkeypatch: pytest.MonkeyPatch) -> None:
        """If the system gives no more threads, those that run do the jobs."""
        crew.submit(int).result(SOON)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert crew.submit(lambda: 6 * 7).result(SOON) == 42
        assert len(threads()) == 1

    def test_none_is_an_error(self, crew: Background, monkeypatch: pytest.MonkeyPatch) -> None:
        """If it gives none at all, the caller is told, and the job isn't done later."""
        done: list[int] = []
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                crew.submit(lambda: done.append(1))
        crew.submit(lambda: done.append(2)).result(SOON)
        assert done == [2]


def test_none_is_started_at_the_very_end() -> None:
    """A job that Python submits as it takes the interpreter down is refused, and doesn't hang the exit."""
    script = """
import builtins
from async_enginelog.background import Background

class Late:
    def __init__(self):
        self.background = Background("late")
    def __del__(self):
        try:
            self.background.submit(print)
        except RuntimeError:
            print("refused", flush=True)

builtins.late = Late()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=SOON)
    assert (done.returncode, done.stdout, done.stderr) == (0, "refused\n", "")


def refuse(thread: threading.Thread) -> None:
    """Do what Python does when the system gives no more threads."""
    raise RuntimeError("can't start new thread")


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
