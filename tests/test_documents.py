"""
What the documents say is so: their code compiles and runs, their commands and links exist.

A block marked ``python`` must compile. If it is a whole program (it calls ``asyncio.run``), it is run,
too, in an empty folder; mark it ``python no-run`` if it can't be. A fragment with ``…`` in it isn't Python.

"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest
import typer
from markdown_it import MarkdownIt
from markdown_it.token import Token

from async_enginelog.cli import main

CHECKOUT = Path(__file__).resolve().parent.parent
README = CHECKOUT / "README.md"
DOCUMENTS = [README, *sorted((CHECKOUT / "docs").rglob("*.md"))]
PATIENCE = 60.0

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=[path.name for path in DOCUMENTS])

SHELLS = {"sh", "shell", "bash", "powershell", "console"}
PROMPT = re.compile(r"(?:\$|>|PS[^>]*>) ")

# Folders of a developer's machine. What stands before excludes the paths of URLs and of other roots.
MACHINE = re.compile(rb"(?<![\w.~*})-])/(?:work|root|home|Users)/|(?i:\b[a-z]):[\\/]+Users\b")


class Block(NamedTuple):
    """A fenced block: what it is marked as, its text, and the line where it begins."""

    marks: list[str]
    text: str
    line: int


def tokens_of(text: str) -> Iterator[Token]:
    """Return the parts of a Markdown text, those within a line, too."""
    for token in MarkdownIt().enable("table").parse(text):
        yield token
        yield from token.children or ()


def blocks_of(text: str) -> list[Block]:
    """Return the fenced blocks of a Markdown text."""
    return [
        Block(token.info.split(), token.content, token.map[0] + 1 if token.map else 0)
        for token in tokens_of(text)
        if token.type == "fence"
    ]


def spans_of(text: str) -> list[str]:
    """Return what a Markdown text has in backquotes."""
    return [token.content for token in tokens_of(text) if token.type == "code_inline"]


# -- code -------------------------------------------------------------------------------------------

PROGRAMS = [
    pytest.param(path, block, id=f"{path.name}:{block.line}")
    for path in DOCUMENTS
    for block in blocks_of(path.read_text("utf-8"))
    if block.marks == ["python"] and "asyncio.run(" in block.text
]


@each_document
def test_code_compiles(document: Path) -> None:
    """Each block of Python is Python; `await` may stand outside of a function."""
    for block in blocks_of(document.read_text("utf-8")):
        if block.marks[:1] == ["python"]:
            # As many empty lines before, so that an error tells the line of the document.
            source = "\n" * block.line + block.text
            compile(source, document, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


@pytest.mark.parametrize(("document", "block"), PROGRAMS)
def test_programs_run(document: Path, block: Block, tmp_path: Path) -> None:
    """Whole programs run as they are, without a warning."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", block.text],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
    )
    assert result.returncode == 0, f"{document}, line {block.line}:\n{result.stdout.decode(errors='replace')}"


# -- commands ---------------------------------------------------------------------------------------


class Call(NamedTuple):
    """A use of the command: the verb, if there is one, and the options."""

    verb: str | None
    options: list[str]


def lines_of(text: str) -> Iterator[str]:
    """Return what a reader of a Markdown text would type."""
    yield from spans_of(text)
    for block in blocks_of(text):
        if not SHELLS & set(block.marks[:1]):
            continue
        lines = block.text.replace("\\\n", " ").splitlines()
        # Where there are prompts, the rest is what is answered.
        typed = [PROMPT.sub("", line, count=1) for line in lines if PROMPT.match(line)]
        yield from typed or lines


def calls_in(line: str) -> Iterator[Call]:
    """Return the uses of the command in a line."""
    line = re.sub(r"\S*\bpy\S* -m async_enginelog\b", "enginelog", line)
    for part in re.split(r"[;|&]|(?:^|\s)#.*", line):
        words = [word for word in part.split() if "=" not in word or word.startswith("-")]
        words = words[1:] if words[:1] == ["sudo"] else words
        if words and re.split(r"[\\/]", words[0])[-1] in ("enginelog", "enginelog.exe"):
            verb = words[1] if words[1:] and re.fullmatch(r"[a-z][a-z-]*", words[1]) else None
            yield Call(verb, options_in(words[1:]))


def options_in(words: Iterable[str]) -> list[str]:
    """Return those words that are options, without their values."""
    return [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]


COMMAND: Any = typer.main.get_command(main)
VERBS: dict[str | None, Any] = {None: COMMAND, **COMMAND.commands}
OPTIONS = {
    verb: {"-h", "--help", *(option for one in command.params for option in (*one.opts, *one.secondary_opts))}
    for verb, command in VERBS.items()
}


def unknown_to_the_command(text: str) -> list[Call]:
    """Return uses of the command in a Markdown text that it would refuse."""
    calls = [call for line in lines_of(text) for call in calls_in(line)]
    return [
        call
        for call in calls
        if not set(call.options) <= OPTIONS.get(call.verb, set()) or call.verb not in VERBS
    ]


@each_document
def test_commands_exist(document: Path) -> None:
    """Each verb of `enginelog` that is mentioned exists, with each of the options it is shown with."""
    assert unknown_to_the_command(document.read_text("utf-8")) == []


@each_document
def test_options_exist(document: Path) -> None:
    """An option that is mentioned alone is one of the command's, of an example's or of the benchmark's."""
    scripts = [file for folder in ("examples", "benchmarks") for file in (CHECKOUT / folder).glob("*.py")]
    theirs = "\n".join(file.read_text("utf-8") for file in scripts)
    ours = set().union(*OPTIONS.values())
    mentioned = options_in(
        span.split()[0] for span in spans_of(document.read_text("utf-8")) if span.startswith("--")
    )
    assert [option for option in mentioned if option not in ours and f'"{option}"' not in theirs] == []


# -- links and paths --------------------------------------------------------------------------------


def links_of(text: str) -> Iterator[str]:
    """Return where the links and images of a Markdown text lead, as they are written."""
    for token in tokens_of(text):
        if token.type in ("html_inline", "html_block"):
            yield from re.findall(r"""\b(?:href|src)=["']([^"']+)""", token.content)
        elif token.type in ("link_open", "image"):
            yield str(token.attrs["href" if token.type == "link_open" else "src"])


def broken_links(document: Path, text: str) -> list[str]:
    """Return the relative links of a Markdown text that lead to no file of the checkout."""
    return [link for link in links_of(text) if urlsplit(link)[:2] == ("", "") and not leads(document, link)]


def leads(document: Path, link: str) -> bool:
    """Tell whether a link leads from a document to a file of the checkout."""
    target = (document.parent / unquote(urlsplit(link).path)).resolve() if urlsplit(link).path else document
    return target.exists() and target.is_relative_to(CHECKOUT)


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    """Each relative link leads to a file."""
    assert broken_links(document, document.read_text("utf-8")) == []


def tracked_files() -> list[Path]:
    """Return the files that git knows, except those that are what somebody's machine made."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"not a checkout of git: {error}")
    names = [name for name in listed.decode().split("\0") if name and not name.startswith("tests/fixtures/")]
    if not names:
        pytest.skip("not a checkout of git: it knows none of the files here")
    return [file for file in (CHECKOUT / name for name in names) if file.is_file()]


def test_no_path_of_a_developers_machine() -> None:
    """No file knows where somebody once worked on it."""
    found = [
        (str(file), hit.group()) for file in tracked_files() for hit in MACHINE.finditer(file.read_bytes())
    ]
    assert found == []


# -- the checks themselves --------------------------------------------------------------------------

SAMPLE = """
# Sample

`enginelog tail --json` and `enginelog VERB [DATABASE]`, see [here](no.md#top), [there](../README.md),
[elsewhere](https://example.org/x), ![](picture.png), <img src="other.png">.

| a | b |
|---|---|
| x | `py -m venv .venv; .venv\\Scripts\\enginelog demos` |

1. In a list:

   ```console
   $ engine 2>&1 | python3.12 -m async_enginelog replay --from -
   enginelog nonsense is what it answered
   $ sudo ENGINELOG_DB=x.db enginelog verify  # enginelog nothing
   $ enginelog --version
   ```
"""


def test_the_checks_see_commands() -> None:
    """A verb or option that doesn't exist is found wherever it is used, and nothing else is."""
    assert unknown_to_the_command(SAMPLE) == [
        Call("tail", ["--json"]),
        Call("demos", []),
        Call("replay", ["--from"]),
    ]


def test_the_checks_see_links() -> None:
    """A link that leads nowhere is found, also if it is an image or HTML."""
    assert broken_links(CHECKOUT / "docs" / "sample.md", SAMPLE) == ["no.md#top", "picture.png", "other.png"]


@pytest.mark.parametrize("folder", ["work", "root", "home", "Users"])
def test_the_checks_see_paths(folder: str) -> None:
    """The path of a machine is found; that of a URL, or below another folder, isn't one."""
    for text in (f"/{folder}/main", f'"/{folder}/x"', f"file:///{folder}/x", f"=/{folder}/"):
        assert MACHINE.search(text.encode()), text
    for text in (f"https://example.org/{folder}/x", f"~/{folder}/x", f"./{folder}/x", f"src/{folder}/x"):
        assert not MACHINE.search(text.encode()), text


@pytest.mark.parametrize("separator", ["\\", "\\\\", "/"])
def test_the_checks_see_paths_of_windows(separator: str) -> None:
    """The path of a Windows machine is found, escaped or not."""
    assert MACHINE.search(separator.join(["c:", "Users", "me"]).encode())
