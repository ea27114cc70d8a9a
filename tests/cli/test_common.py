"""What the verbs share: errors, output that goes away, harmless texts, tables, help."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import typer

from async_enginelog import __version__
from async_enginelog.cli import common
from async_enginelog.errors import StorageError

from .conftest import Outcome

VERBS = [
    "init",
    "tail",
    "stats",
    "runs",
    "verify",
    "replay",
    "backup",
    "doctor",
    "import",
    "sqlserver-script",
]


def ended(work: Callable[[], int]) -> int:
    """Run work as a verb does, and return how the command ends."""

    async def coroutine() -> int:
        return work()

    with pytest.raises(typer.Exit) as exit_info:
        common.run(coroutine())
    return exit_info.value.exit_code


def failing(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(enginelog: Callable[..., Outcome], verb: str) -> None:
    """--help of each verb tells what one gets, with examples, in characters any console has."""
    code, out, _ = enginelog(verb, "--help")

    assert code == 0
    assert f"enginelog {verb}" in out
    assert "Examples:" in out
    assert out.isascii()


def test_help_lists_the_verbs_in_whole_sentences(enginelog: Callable[..., Outcome]) -> None:
    """The list of verbs isn't cut."""
    code, out, _ = enginelog("--help")

    assert code == 0
    lines = dict(line.split(maxsplit=1) for line in out.partition("Commands:")[2].splitlines() if line)
    assert all(lines[verb].endswith(".") and "..." not in lines[verb] for verb in VERBS)


def test_version(enginelog: Callable[..., Outcome]) -> None:
    """--version says the version of the package."""
    assert enginelog("--version") == (0, f"enginelog {__version__}\n", "")


def test_module_is_the_command() -> None:
    """python -m async_enginelog is the command."""
    done = subprocess.run(
        [sys.executable, "-m", "async_enginelog", "--version"], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == f"enginelog {__version__}"


@pytest.mark.parametrize(("name", "runs"), [("__main__", True), ("imported", False)])
def test_module_runs_only_as_a_program(monkeypatch: pytest.MonkeyPatch, name: str, runs: bool) -> None:
    """Importing the module of the command doesn't run it."""
    monkeypatch.setattr(sys, "argv", ["enginelog", "--version"])
    with pytest.raises(SystemExit) if runs else nullcontext():
        runpy.run_module("async_enginelog", run_name=name)


@pytest.mark.parametrize("verb", [["tail"], ["stats"], ["runs"], ["verify"], ["init"], ["backup", "copy.db"]])
@pytest.mark.parametrize(
    "message", ["the folder", "is a folder", "isn't a SQLite", "customers", "version 99"]
)
def test_unusable_database(
    enginelog: Callable[..., Outcome],
    unusable: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    verb: list[str],
    message: str,
) -> None:
    """A path that can't be used is one sentence on standard error and exit code 2."""
    monkeypatch.chdir(tmp_path)
    path = next(path for text, path in unusable.items() if message in text)

    code, out, err = enginelog(*verb, path)

    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "copy.db").exists()


@pytest.mark.parametrize("verb", [["tail"], ["stats"], ["runs"], ["verify"], ["backup", "copy.db"]])
def test_database_that_does_not_exist_or_is_empty(
    enginelog: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verb: list[str]
) -> None:
    """Verbs that read create nothing, and tell how to create it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.db").touch()

    for name in ("nowhere.db", "empty.db"):
        code, out, err = enginelog(*verb, name)
        assert (code, out) == (2, "")
        assert f"enginelog init {name}" in err
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]


@pytest.mark.parametrize("verb", ["doctor", "runs", "stats", "tail", "verify"])
@pytest.mark.parametrize("name", [".", "", "/", "loop", "fifo"])
def test_path_that_cannot_be(
    enginelog: Callable[..., Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    name: str,
) -> None:
    """No verb breaks or hangs at folders without a name, links in a circle, or what isn't a file."""
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    if hasattr(os, "mkfifo"):
        os.mkfifo("fifo")
    code, out, err = enginelog(verb, name)
    assert (code, bool(out)) in {(2, False), (1, verb == "doctor")}
    assert re.search("is a folder|can't be a path|isn't a file|isn't readable|doesn't exist", out + err)


def test_setting_names_the_database(
    enginelog: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, log_path: Path
) -> None:
    """Without DATABASE, the setting ENGINELOG_DB says which."""
    monkeypatch.setenv("ENGINELOG_DB", str(log_path))

    assert str(log_path) in enginelog("verify").out


class TestRun:
    def test_interrupt(self) -> None:
        """Ctrl+C ends with 130, and nothing is said."""
        assert ended(failing(KeyboardInterrupt())) == 130

    def test_storage_fault(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Errors of the package are one harmless line."""
        assert ended(failing(StorageError("the disk\x1b[2J is full"))) == 2
        assert capsys.readouterr().err == "enginelog: the disk\\x1b[2J is full\n"

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (FileNotFoundError(errno.ENOENT, "No such file", "capture.txt"), "capture.txt: No such file"),
            (OSError("odd"), "odd"),
        ],
    )
    def test_errors_of_the_system(
        self, capsys: pytest.CaptureFixture[str], error: OSError, message: str
    ) -> None:
        """Errors of the operating system are one line, too."""
        assert ended(failing(error)) == 2
        assert capsys.readouterr().err == f"enginelog: {message}\n"

    def test_output_that_nobody_reads(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """When the reader of a pipe goes away, the command ends quietly."""
        monkeypatch.setattr(typer, "echo", failing_echo(errno.EPIPE))
        with (tmp_path / "out").open("w") as out:
            monkeypatch.setattr(sys, "stdout", out)
            assert ended(lambda: common.say("row") or 0) == 0  # type: ignore[func-returns-value]

    def test_output_that_is_no_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same where standard output isn't a file."""
        monkeypatch.setattr(typer, "echo", failing_echo(errno.EINVAL))
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        assert ended(lambda: common.say("row") or 0) == 0  # type: ignore[func-returns-value]

    def test_output_that_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Output that can't be written otherwise, such as to a full disk, isn't passed over."""
        monkeypatch.setattr(typer, "echo", failing_echo(errno.ENOSPC))
        with pytest.raises(OSError, match="trouble"):
            common.say("row")


def failing_echo(number: int) -> Callable[[str], None]:
    def echo(text: str) -> None:
        raise OSError(number, "trouble")

    return echo


def test_pipe_closed_early(start: Callable[..., subprocess.Popen[bytes]], log_path: Path) -> None:
    """enginelog tail | head prints no traceback."""
    process = start("tail", "-n", "20", log_path)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, größer, 音", "plain, größer, 音"),
        ("\x1b[31m", "\\x1b[31m"),
        ("two\nlines\r\0", "two\\nlines\\r\\x00"),
        ("\u202eright to left", "\\u202eright to left"),
        ("\u2028\ud800", "\\u2028\\ud800"),
        ("no-break\u00a0space\n", "no-break\u00a0space\\n"),
    ],
)
def test_harmless(text: str, expected: str) -> None:
    """What would move the cursor or hide is written as its number, all else as it is."""
    assert common.harmless(text) == expected


def test_table_text() -> None:
    """Numbers stand to the right, None is a dash, and lines have no blanks at the end."""
    text = common.table_text(["name", "rows"], [("a", 1234), ("long name", None)])

    assert text.splitlines() == ["name        rows", "a          1,234", "long name      -"]


def test_plural() -> None:
    """Counts read like English."""
    assert [common.plural(1, "row"), common.plural(1200, "row")] == ["1 row", "1,200 rows"]
    assert common.plural(2, "thing is", "things are") == "2 things are"


def test_never_fail_to_print(monkeypatch: pytest.MonkeyPatch) -> None:
    """A console that doesn't know a character gets its number."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    common.never_fail_to_print()
    print("größer", flush=True)

    assert raw.getvalue().strip() == b"gr\\xf6\\xdfer"


def test_progress_bar_only_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bar is drawn where there is a terminal, nothing elsewhere."""
    with common.progress_bar("copying") as advance:
        advance(1, 2)
    assert capsys.readouterr() == ("", "")

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with common.progress_bar("copying") as advance:
        advance(1, 2)
    assert "copying" in capsys.readouterr().err


def test_run_needs_no_loop() -> None:
    """run() leaves no event loop behind."""
    assert ended(lambda: 0) == 0
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
