"""A script of Transact-SQL, read without a SQL Server: its batches, tokens, calls and queries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<comment>--[^\n]*|/\*.*?\*/)
    | (?P<text>N?'(?:[^']|'')*')
    | (?P<name>\[(?:[^\]]|\]\])*\])
    | (?P<variable>@@?\w+)
    | (?P<number>\d+(?:\.\d+)?)
    | (?P<word>[#A-Za-z_][\w\#$]*)
    | (?P<sign><>|<=|>=|!=|.)
    """,
    re.VERBOSE | re.DOTALL,
)
GO = re.compile(r"^[ \t]*GO(?:[ \t]+\d+)?[ \t]*(?:--.*)?$", re.IGNORECASE | re.MULTILINE)


class Token(NamedTuple):
    """A piece of a batch; its kind is the group of TOKEN that it matched."""

    kind: str
    text: str

    def says(self, *words: str) -> bool:
        """Tell whether it is one of these words or signs, in any case."""
        return self.kind in ("word", "sign") and self.text.upper() in words


class Call(NamedTuple):
    """An EXEC: what is called, and its arguments."""

    procedure: str
    arguments: list[Sequence[Token]]


Batch = list[Token]


def batches(script: str) -> list[str]:
    """Return the batches of a script."""
    return [batch for batch in GO.split(script) if batch.strip()]


@lru_cache(maxsize=10_000)
def tokens(text: str) -> Batch:
    """Return what a text is made of, without spaces and comments; not to be changed."""
    found = (Token(str(match.lastgroup), match.group()) for match in TOKEN.finditer(text))
    return [token for token in found if token.kind not in ("space", "comment")]


def unquoted(literal: str) -> str:
    """Return the text that a literal stands for."""
    return literal.removeprefix("N")[1:-1].replace("''", "'")


def pass_through_queries(text: str) -> list[str]:
    """Return what the linked server is asked, also by statements that are texts in the script."""
    queries = []
    found = tokens(text)
    for place, token in enumerate(found):
        if token.says("OPENQUERY") and found[place + 4].kind == "text":
            queries.append(unquoted(found[place + 4].text))
        elif token.kind == "text" and re.search(r"OPENQUERY\(\[.*\], '[^']", token.text.replace("''", "'")):
            queries += pass_through_queries(unquoted(token.text))
    return queries


def calls(batch: Batch) -> Iterator[Call]:
    """Return the procedures that are called."""
    for place, token in enumerate(batch):
        if token.says("EXEC", "EXECUTE"):
            yield _call(batch[place + 1 :])


def _call(rest: Batch) -> Call:
    if len(rest) > 1 and rest[0].kind == "variable" and rest[1].says("="):
        rest = rest[2:]
    end = next((place for place, token in enumerate(rest) if token.says(";", "END")), len(rest))
    statement = rest[:end]
    name = 0
    while name < len(statement) and (statement[name].kind in ("word", "name") or statement[name].says(".")):
        name += 1
    return Call("".join(token.text for token in statement[:name]), list(_split(statement[name:])))


def _split(arguments: Batch) -> Iterator[Batch]:
    """Cut at commas that stand in no parentheses."""
    depth, argument = 0, Batch()
    for token in arguments:
        depth += token.says("(") - token.says(")")
        if token.says(",") and not depth:
            yield argument
            argument = Batch()
        else:
            argument.append(token)
    if argument:
        yield argument


def inner_statements(script: str) -> list[str]:
    """Return the statements that are texts in a script, each with its variables declared before it."""
    return [*_executed(script), *_commands(script)]


def _commands(script: str) -> list[str]:
    """Return what the jobs of a script do."""
    return [
        unquoted(argument[2].text)
        for batch in map(tokens, batches(script))
        for call in calls(batch)
        for argument in call.arguments
        if is_named(argument) and argument[0].text == "@command"
    ]


def _executed(script: str) -> list[str]:
    executing = (
        call
        for batch in map(tokens, batches(script))
        for call in calls(batch)
        if call.procedure.lower() == "sys.sp_executesql" and call.arguments[0][0].kind == "text"
    )
    return [
        _with_variables(*(unquoted(argument[0].text) for argument in call.arguments[:2]))
        for call in executing
    ]


def _with_variables(statement: str, variables: str = "") -> str:
    return f"DECLARE {variables.replace(' OUTPUT', '')};\n{statement}" if variables else statement


def is_named(argument: Sequence[Token]) -> bool:
    """Tell whether an argument is given by its name."""
    return len(argument) > 1 and argument[0].kind == "variable" and argument[1].says("=")


def created(batch: Batch) -> str:
    """Return what kind of thing a batch creates by its first statement: "VIEW", "PROCEDURE", … or ""."""
    words = [token.text.upper() for token in batch[:4] if token.kind == "word"]
    if words[:1] != ["CREATE"]:
        return ""
    return "".join(words[3:4] if words[1:3] == ["OR", "ALTER"] else words[1:2])


def parameters(batch: Batch) -> list[str]:
    """Return the parameters of the procedure that a batch creates, if it creates one."""
    if created(batch) != "PROCEDURE":
        return []
    start = next(place for place, token in enumerate(batch) if token.says("PROCEDURE")) + 4
    end = next(place for place, token in enumerate(batch) if token.says("AS"))
    return [part[0].text for part in _split(batch[start:end])]
