"""Transact-SQL as a tree: what stands in parentheses, names, select lists, and what a script makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeGuard

from .tsql import (
    Batch,
    Token,
    batches,
    calls,
    created,
    is_named,
    parameters,
    tokens,
    unquoted,
)


class Group(NamedTuple):
    """What stands in parentheses."""

    nodes: list[Node]
    kind: str = "group"
    text: str = "(…)"

    def says(self, *words: str) -> bool:
        """Tell whether it is one of these words: it is none."""
        return False


Node = Token | Group
Nodes = Sequence[Node]


def tree(batch: Batch) -> list[Node]:
    """Return the tokens of a batch, those in parentheses together."""
    levels: list[list[Node]] = [[]]
    for token in batch:
        if token.says("("):
            levels.append([])
        elif token.says(")") and len(levels) > 1:
            group = Group(levels.pop())
            levels[-1].append(group)
        else:
            levels[-1].append(token)
    return levels[0]


def cut(nodes: Nodes, *words: str) -> list[list[Node]]:
    """Return the parts between these words or signs; those in parentheses don't count."""
    parts: list[list[Node]] = [[]]
    for node in nodes:
        if node.says(*words):
            parts.append([])
        else:
            parts[-1].append(node)
    return parts


def items(nodes: Nodes) -> list[list[Node]]:
    """Return what stands between commas."""
    return cut(nodes, ",") if nodes else []


def is_group(nodes: Nodes, place: int) -> TypeGuard[list[Node]]:
    """Tell whether there is something in parentheses at a place."""
    return 0 <= place < len(nodes) and isinstance(nodes[place], Group)


def group_at(nodes: Nodes, place: int) -> list[Node]:
    """Return what stands in parentheses at a place; nothing, if nothing does."""
    node = nodes[place] if 0 <= place < len(nodes) else None
    return node.nodes if isinstance(node, Group) else []


def says(nodes: Nodes, place: int, *words: str) -> bool:
    """Tell whether one of these words stands at a place."""
    return 0 <= place < len(nodes) and nodes[place].says(*words)


# -- names ------------------------------------------------------------------------------------------


class Name(NamedTuple):
    """A name with its dots: where it begins, where it ends, its parts."""

    start: int
    end: int
    parts: list[str]

    @property
    def whole(self) -> str:
        """The name as it is written."""
        return ".".join(self.parts)


def name_at(nodes: Nodes, place: int) -> Name | None:
    """Return the name that begins at a place, if one does."""
    if not (place < len(nodes) and nodes[place].kind in ("word", "name")):
        return None
    end = place + 1
    while says(nodes, end, ".") and end + 1 < len(nodes) and nodes[end + 1].kind in ("word", "name"):
        end += 2
    return Name(place, end, [node.text for node in nodes[place:end:2]])


def names(nodes: Nodes) -> Iterator[Name]:
    """Return the names at one level."""
    place = 0
    while place < len(nodes):
        name = name_at(nodes, place)
        if name:
            yield name
        place = name.end if name else place + 1


# -- what is selected -------------------------------------------------------------------------------


def select_list(nodes: Nodes) -> list[list[Node]] | None:
    """Return what the first SELECT of a level selects; None if there is none, or it selects ``*``."""
    start = next((place for place, node in enumerate(nodes) if node.says("SELECT")), None)
    if start is None:
        return None
    start += 1
    if says(nodes, start, "TOP"):
        start += 2
    listed = items(cut(nodes[start:], "FROM", "INTO", "WHERE", "UNION")[0])
    return None if any(len(item) == 1 and item[0].says("*") for item in listed) else listed


def column_name(item: Nodes) -> str | None:
    """Return how a selected column is called, if it is."""
    if len(item) > 2 and item[-2].says("AS"):
        return item[-1].text
    name = name_at(item, 0)
    return name.parts[-1] if name and name.end == len(item) else None


def columns_of_query(text: str) -> list[str]:
    """Return the columns of a query for the linked server."""
    return [column_name(item) or "" for item in select_list(tree(tokens(text))) or []]


# -- what a script makes ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """
    What a script makes, for itself to use.

    Attributes:
        procedures: Their parameters, by name in lower case.
        tables: The columns of tables and views, by name.
        servers: The linked servers that it speaks of in calls.
        databases: Those whose being there it looks after.

    """

    procedures: dict[str, list[str]] = field(default_factory=dict)
    tables: dict[str, list[str]] = field(default_factory=dict)
    servers: set[str] = field(default_factory=set)
    databases: set[str] = field(default_factory=set)

    def __hash__(self) -> int:
        return hash((*self.procedures, *self.tables, *self.servers))


def made_by(script: str) -> Made:
    """Return what a script makes."""
    made = Made()
    for batch in map(tokens, batches(script)):
        kind = created(batch)
        nodes = tree(batch)
        if kind in ("VIEW", "PROCEDURE"):
            name = next((name for name in names(nodes) if len(name.parts) == 2), Name(0, 0, []))
            if kind == "VIEW":
                made.tables[name.whole] = [column_name(item) or "" for item in select_list(nodes) or []]
            else:
                made.procedures[name.whole.lower()] = [name[1:].lower() for name in parameters(batch)]
        made.tables.update(_tables(nodes))
        made.servers.update(_servers(batch))
        made.databases.update(
            unquoted(batch[place + 2].text) for place, token in enumerate(batch) if token.says("DB_ID")
        )
    return made


def _tables(nodes: Nodes) -> Iterator[tuple[str, list[str]]]:
    for place, node in enumerate(nodes):
        if node.says("TABLE") and says(nodes, place - 1, "CREATE"):
            name = name_at(nodes, place + 1)
            if name:
                yield name.whole, [item[0].text for item in items(group_at(nodes, name.end)) if item]


def temporary_tables(nodes: Nodes, made: Made) -> dict[str, list[str]]:
    """Return the columns of the tables that SELECT INTO makes of whole other ones."""
    found = {}
    for statement in cut(nodes, ";"):
        for place, node in enumerate(statement):
            into, source = name_at(statement, place + 1), name_at(statement, place + 3)
            if node.says("INTO") and into and source and says(statement, into.end, "FROM"):
                found[into.whole] = made.tables.get(source.whole, [])
    return found


SERVER_ARGUMENTS = {"@server", "@servername", "@rmtsrvname"}


def _servers(batch: Batch) -> Iterator[str]:
    for call in calls(batch):
        for argument in call.arguments:
            if is_named(argument) and argument[0].text.lower() in SERVER_ARGUMENTS:
                yield value_of(argument[2], batch)


def value_of(token: Token, batch: Batch) -> str:
    """Return the text that a literal is, or that a variable is declared with."""
    if token.kind == "variable":
        for place, other in enumerate(batch):
            if other.text == token.text and place and batch[place - 1].says("DECLARE", ","):
                rest = batch[place : place + 10]
                token = next((text for text in rest if text.kind == "text"), token)
                break
    return unquoted(token.text) if token.kind == "text" else token.text
