"""The last resort: rows and warnings on the console, and rows found again in a capture."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_enginelog import console as module
from async_enginelog.console import Console, ConsoleRow, rows_in
from async_enginelog.lines import decode, encoder_of
from async_enginelog.tables import TABLES

RUN = 1_763_872_243
LINE = b'["ENGINE_DB_LOG_STEPS",{"step_name":"resample"}]'
ROW = b"enginelog-row 1763872243 17 " + LINE
SOON = 10.0  # seconds; never waited for in full


@pytest.fixture
def console() -> Iterator[Console]:
    """A console, silent when the test has ended."""
    console = Console()
    yield console
    console.close(SOON)


class Gate(io.StringIO):
    """A console that doesn't read until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.opened = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.opened.wait(SOON)
        return super().write(text)


class Hostile(io.StringIO):
    """A console that fails in a way of its own."""

    def write(self, text: str) -> int:
        raise RuntimeError("lost the console")


def closed() -> io.StringIO:
    """Return a console that is closed."""
    stream = io.StringIO()
    stream.close()
    return stream


class TestPutRow:
    def test_says_rows_in_order(self, console: Console, capsys: pytest.CaptureFixture[str]) -> None:
        """Each row is one line on standard error, numbered from 1."""
        assert all(console.put_row(RUN, LINE + b"\n") for _ in range(3))
        console.close(SOON)
        shown = capsys.readouterr()
        text = LINE.decode()
        assert shown.err.splitlines() == [f"enginelog-row {RUN} {number} {text}" for number in (1, 2, 3)]
        assert shown.out == ""
        assert (console.rows, console.dropped) == (3, 0)

    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def test_is_found_again(self, text: str) -> None:
        """Whatever a row says, it is found again in what was said, and says the same."""
        line = encoder_of(TABLES["ENGINE_DB_LOG_WEBSOCKET_MESSAGE"])({"message_type": text})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stderr", stream := io.StringIO(newline=""))
            console = Console()
            console.put_row(RUN, line)
            console.close(SOON)
        [row] = rows_in(stream.getvalue().encode().splitlines(keepends=True))
        assert row[:2] == (RUN, 1)
        assert orjson.loads(row.line) == orjson.loads(line)

    @pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
    def test_survives_any_encoding(
        self, console: Console, encoding: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rows are found again also where the console doesn't speak UTF-8, as on Windows."""
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding, errors="backslashreplace")
        monkeypatch.setattr(sys, "stderr", stream)
        console.put_row(RUN, '["ENGINE_DB_LOG_STEPS",{"step_name":"é€😀\x85"}]'.encode())
        console.close(SOON)
        [row] = rows_in(raw.getvalue().splitlines())
        [(_, columns)], _ = decode(row.line + b"\n")
        assert columns == {"step_name": "é€😀\x85"}

    def test_counts_what_finds_no_room(self, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
        """A console that doesn't read holds a limited number of rows; the others are counted."""
        monkeypatch.setattr(module, "MAX_WAITING", 3)
        monkeypatch.setattr(sys, "stderr", gate := Gate())
        assert [console.put_row(RUN, LINE) for _ in range(5)] == [True, True, True, False, False]
        assert (console.rows, console.dropped) == (3, 2)
        gate.opened.set()
        console.close(SOON)
        assert console.put_row(RUN, LINE)
        console.close(SOON)
        assert [row.number for row in rows_in(gate.getvalue().encode().splitlines())] == [1, 2, 3, 4]

    @pytest.mark.parametrize("stream", [None, closed(), Hostile()], ids=["none", "closed", "hostile"])
    def test_counts_what_the_console_refuses(
        self, console: Console, stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without a console, rows are counted as dropped, not as said; and there is room again."""
        monkeypatch.setattr(module, "MAX_WAITING", 2)
        monkeypatch.setattr(sys, "stderr", stream)
        for _ in range(2):
            assert console.put_row(RUN, LINE)
            assert console.put_row(RUN, LINE)
            console.close(SOON)
        assert (console.rows, console.dropped) == (0, 4)

    def test_waits_for_memory(
        self, console: Console, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A row that is accepted stays until there is memory to write it, with those behind it."""
        write = module._write
        tries: list[int] = []

        def forgetful(rows: list[ConsoleRow]) -> int:
            tries.append(len(rows))
            if len(tries) in (1, 2, 4):
                raise MemoryError
            return write(rows)

        monkeypatch.setattr(module, "_write", forgetful)
        for _ in range(100):
            assert console.put_row(RUN, LINE)
        console.close(SOON)
        said = capsys.readouterr().err.encode().splitlines()
        assert [row.number for row in rows_in(said)] == [*range(1, 101)]
        assert (console.rows, console.dropped) == (100, 0)
        assert len(tries) >= 4

    def test_counts_what_cannot_be_shown(self, console: Console) -> None:
        """A row that isn't text is counted as dropped."""
        console.put_row(RUN, b"\xff")
        console.close(SOON)
        assert (console.rows, console.dropped) == (0, 1)

    def test_numbers_rows_of_all_threads(self, console: Console, capsys: pytest.CaptureFixture[str]) -> None:
        """Any thread may put rows: each number is given once, in the order of the lines."""
        threads = [
            threading.Thread(target=lambda: [console.put_row(RUN, LINE) for _ in range(50)]) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        console.close(SOON)
        found = [row.number for row in rows_in(capsys.readouterr().err.encode().splitlines())]
        assert found == list(range(1, 401))

    def test_waits_for_nobody(self, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who puts a row doesn't wait for the console; who closes waits no longer than told."""
        monkeypatch.setattr(sys, "stderr", gate := Gate())
        console.put_row(RUN, LINE)
        assert gate.reached.wait(SOON)
        console.close(0)
        assert gate.getvalue() == ""
        gate.opened.set()


class TestWarn:
    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """The time that the console sees; set its only item."""
        now = [1000.0]
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
        return now

    def test_tells_once_in_a_while(
        self, console: Console, clock: list[float], caplog: pytest.LogCaptureFixture
    ) -> None:
        """The same trouble is told at once, and again only after half a minute."""
        for clock[0] in (1000.0, 1000.0, 1029.9, 1030.0, 1059.9, 1060.0):
            console.warn("database", f"locked at {clock[0]}")
        console.close(SOON)
        assert caplog.messages == ["locked at 1000.0", "locked at 1030.0", "locked at 1060.0"]

    def test_tells_each_trouble(self, console: Console, caplog: pytest.LogCaptureFixture) -> None:
        """One trouble doesn't hide another; all are warnings of the logger of the package."""
        console.warn("database", "100 % locked %s")
        console.warn("spool", "full")
        console.close(SOON)
        name, level = "async_enginelog", logging.WARNING
        assert caplog.record_tuples == [(name, level, "100 % locked %s"), (name, level, "full")]

    def test_tells_when_it_is_over(
        self, console: Console, clock: list[float], caplog: pytest.LogCaptureFixture
    ) -> None:
        """The end of a trouble that was told is told once; a new one is told at once."""
        console.works_again("database", "never heard of")
        console.warn("database", "locked")
        console.works_again("database", "works again")
        console.works_again("database", "twice")
        console.warn("database", "locked again")
        console.close(SOON)
        assert caplog.messages == ["locked", "works again", "locked again"]

    def test_tells_also_right_after_the_machine_was_started(
        self, console: Console, clock: list[float], caplog: pytest.LogCaptureFixture
    ) -> None:
        """A clock that has just begun doesn't hide the first trouble."""
        clock[0] = 0.0
        console.warn("database", "locked")
        console.close(SOON)
        assert caplog.messages == ["locked"]


class TestRowsIn:
    @pytest.mark.parametrize(
        ("before", "behind"),
        [
            (b"", b""),
            (b"", b"\n"),
            (b"", b"\r\n"),
            (b"2026-01-31T12:00:00.123456789Z stderr F ", b"\n"),
            (b"Jan 31 12:00:00 host engine[4711]: ", b"\n"),
            (b"engine-1  | ", b"\n"),
            (b"\x1b[31m", b"\x1b[0m\n"),
            (b"\xff\xfe\0 broken ", b" \xff\n"),
            (b'{"level":"x"} ["a",{}] ', b' ["b",{"c":[{}]}]\n'),
            (b"enginelog-row enginelog-row 1 ", b" enginelog-row 1\n"),
        ],
    )
    def test_finds_rows_between_anything(self, before: bytes, behind: bytes) -> None:
        """A row is found whatever stands before and behind it, and nothing of that is taken."""
        assert list(rows_in([before + ROW + behind])) == [ConsoleRow(RUN, 17, LINE)]

    def test_finds_two_rows_in_one_line(self) -> None:
        """Rows of two processes that came without a line break between them are both found."""
        assert [row.number for row in rows_in([ROW + ROW.replace(b" 17 ", b" 18 ")])] == [17, 18]

    def test_finds_rows_written_before(self) -> None:
        """Rows in UTF-8, not only in ASCII, are found as they are."""
        line = '["ENGINE_DB_LOG_STEPS",{"step_name":"é"}]'.encode()
        assert list(rows_in([b"enginelog-row 1 2 " + line])) == [ConsoleRow(1, 2, line)]

    def test_finds_no_row_within_a_row(self) -> None:
        """A row that tells of a row is one row."""
        row = b"enginelog-row 1 1 " + orjson.dumps(["T", {"step_name": ROW.decode()}])
        assert [row.number for row in rows_in([row])] == [1]

    def test_finds_no_cut_row(self) -> None:
        """A row that was cut, wherever, isn't found."""
        assert list(rows_in(ROW[:cut] for cut in range(len(ROW)))) == []

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"engine started",
            LINE,
            b"enginelog-row 17 " + LINE,
            b"enginelog-row x 17 " + LINE,
            b"enginelog-row 1 2 {}",
            b'enginelog-row 1 2 ["T"]',
            b'enginelog-row 1 2 ["T",[]]',
            b'enginelog-row 1 2 ["T",{},1]',
            b'enginelog-row 1 2 ["T" oops,{"a":1}]',
            b'enginelog-row 1 2 ["T",' + b"[" * 100_000,
            b"enginelog-row 1 " + b"9" * 5_000 + b" " + LINE,
        ],
    )
    def test_finds_nothing_else(self, text: bytes) -> None:
        """What isn't a whole row is passed over."""
        assert list(rows_in([text])) == []

    @given(st.binary(), st.binary())
    def test_survives_anything(self, before: bytes, behind: bytes) -> None:
        """Whatever a capture holds, its rows are found and nothing is raised."""
        assert ConsoleRow(RUN, 17, LINE) in rows_in([before + ROW + behind])
