"""
Names and numbers of columns in a script: what it speaks of has to be there, and lists have to be as long.

A statement is looked at from outside in: the tables that it reads, then each name at its level, then
what stands in parentheses, where outer tables can still be seen.

"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .tsql import Batch, created, unquoted
from .tsql_tree import (
    Group,
    Made,
    Name,
    Nodes,
    column_name,
    columns_of_query,
    cut,
    group_at,
    is_group,
    items,
    name_at,
    names,
    says,
    select_list,
    temporary_tables,
    tree,
)
from .tsql_words import FUNCTIONS, KEYWORDS, SYSTEM_VIEWS, TYPES

# Behind these stands the name of a table, view or procedure, or of something that is made.
BEFORE_THINGS = ("FROM", "JOIN", "APPLY", "USING", "MERGE", "INTO", "UPDATE", "TABLE", "VIEW", "PROCEDURE")
# And behind these a name that means nothing elsewhere: another's, a type, what an index is called.
BEFORE_WORDS = ("AS", "INDEX", "ADD")


class Read(NamedTuple):
    """A table that a statement reads: how it is called there, and its columns, if they are known."""

    alias: str
    columns: list[str] | None


def wrong_names(batch: Batch, made: Made) -> Iterator[str]:
    """A table, alias, column, function or word that isn't there; lists that aren't as long as each other."""
    nodes = tree(batch)
    known = Made(made.procedures, made.tables | temporary_tables(nodes, made), made.servers)
    for statement in cut(nodes, ";"):
        yield from _level(statement, [], known)
    if created(batch) == "VIEW":
        yield from _view(select_list(nodes) or [])


def _view(listed: Sequence[Nodes]) -> Iterator[str]:
    called = Counter(map(column_name, listed))
    yield from (f"{count} columns are called {name}" for name, count in called.items() if count > 1)
    if None in called:
        yield "a column of a view has no name"


def _level(nodes: Nodes, outer: list[Read], made: Made) -> Iterator[str]:
    branches = cut(nodes, "UNION")
    lengths = {len(listed) for listed in map(select_list, branches) if listed is not None}
    if len(branches) > 1 and len(lengths) > 1:
        yield f"UNION of {sorted(lengths)} columns"
    yield from _insertions(nodes, made)
    for branch in branches:
        seen = [*outer, *_tables_read(branch, made)]
        yield from _things(branch, made)
        yield from _words(branch, seen)
        for place, node in enumerate(branch):
            if isinstance(node, Group) and not _is_apart(branch, place):
                yield from _level(node.nodes, seen, made)


def _is_apart(nodes: Nodes, place: int) -> bool:
    """Tell whether what stands in parentheses is no expression: definitions, or names checked elsewhere."""
    before = nodes[place - 1].text.lower() if place else ""
    if before in ("openquery", "insert", *TYPES) or says(nodes, place - 2, "AS"):
        return True
    start = max((name.start for name in names(nodes[:place]) if name.end == place), default=-1)
    return says(nodes, start - 1, "TABLE", "INTO") or (
        says(nodes, start - 1, "ON") and says(nodes, start - 3, "INDEX")
    )


# -- tables -----------------------------------------------------------------------------------------


def _tables_read(nodes: Nodes, made: Made) -> Iterator[Read]:
    for place, node in enumerate(nodes):
        if node.says("FROM", "JOIN", "APPLY", "USING", "MERGE", "UPDATE", "ON") and place + 1 < len(nodes):
            if node.says("ON") and not says(nodes, place - 2, "INDEX"):
                continue
            yield _table_read(nodes, place + 1, made)


def _table_read(nodes: Nodes, place: int, made: Made) -> Read:
    columns: list[str] | None
    name = name_at(nodes, place)
    if name is None:
        inner = group_at(nodes, place)
        columns, end = [column_name(item) or "" for item in select_list(inner) or []], place + 1
    elif says(nodes, place, "OPENQUERY"):
        query = group_at(nodes, name.end)[-1:]
        columns, end = columns_of_query(unquoted(query[0].text)) if query else [], name.end + 1
    else:
        columns, end = _columns_of(name, made), name.end
    if says(nodes, end, "WITH"):
        end += 2
    if not says(nodes, end, "AS"):
        return Read("", columns)
    if is_group(nodes, end + 2):
        columns = [item[0].text for item in items(group_at(nodes, end + 2))]
    return Read(nodes[end + 1].text, columns)


def _columns_of(name: Name, made: Made) -> list[str] | None:
    if name.whole.startswith("[#"):
        return None  # made by whoever calls
    found = made.tables.get(name.whole, [])
    return found or SYSTEM_VIEWS.get(name.whole.lower(), "").split()


def _things(nodes: Nodes, made: Made) -> Iterator[str]:
    """Tables and views that aren't there. A script may drop what it doesn't make."""
    for name in names(nodes):
        if not says(nodes, name.start - 1, *BEFORE_THINGS):
            continue
        if name.whole.upper() in (*KEYWORDS, "OPENQUERY") or name.whole.lower() in made.procedures:
            continue
        if _columns_of(name, made) == []:
            yield f"there is no table {name.whole}"


# -- words ------------------------------------------------------------------------------------------


def _words(nodes: Nodes, seen: list[Read]) -> Iterator[str]:
    columns = {column for table in seen for column in table.columns or ()}
    anything = any(table.columns is None for table in seen)
    for name in names(nodes):
        if says(nodes, name.start - 1, *BEFORE_THINGS, *BEFORE_WORDS):
            continue
        if len(name.parts) > 1:
            yield from _dotted(nodes, name, seen)
        elif is_group(nodes, name.end) and not _is_known(name):
            yield from _function(name.whole, len(items(group_at(nodes, name.end))))
        elif not (_is_known(name) or anything or name.whole in columns):
            yield f"there is no {name.whole}"


def _is_known(name: Name) -> bool:
    word = name.whole
    return word.startswith("[") or word.upper() in KEYWORDS or word.lower() in TYPES


def _dotted(nodes: Nodes, name: Name, seen: list[Read]) -> Iterator[str]:
    if says(nodes, name.start - 1, "EXEC", "=") and name.parts[0].lower() in ("sys", "master", "msdb"):
        return  # a procedure, which another check knows
    if says(nodes, name.start - 1, "EXEC", "EXISTS", "ON") and name.whole.startswith("["):
        return
    alias, column = name.parts[0], name.parts[-1]
    found = [table for table in seen if table.alias == alias]
    if not found:
        yield f"nothing is called {alias} in {name.whole}"
    elif found[-1].columns is not None and column not in found[-1].columns:
        yield f"{alias} has no column {column}"


def _function(name: str, given: int) -> Iterator[str]:
    fewest, most = FUNCTIONS.get(name.upper(), (-1, -1))
    if fewest < 0:
        yield f"there is no function {name}"
    elif not fewest <= given <= most:
        yield f"{name} takes no {given} arguments"


# -- numbers of columns -----------------------------------------------------------------------------


def _insertions(nodes: Nodes, made: Made) -> Iterator[str]:
    target: list[str] | None = None
    for place, node in enumerate(nodes):
        if node.says("MERGE", "INTO"):
            name = name_at(nodes, place + 1)
            target = _columns_of(name, made) if name else None
        if node.says("INSERT"):
            name = name_at(nodes, place + 2) if says(nodes, place + 1, "INTO") else None
            at = name.end if name else place + 1
            into = _columns_of(name, made) if name else target
            yield from _insertion(nodes, at, into)
        if node.says("VALUES") and place == 0:
            yield from _rows(nodes)
        if is_group(nodes, place) and says(group_at(nodes, place), 0, "VALUES"):
            yield from _named_rows(group_at(nodes, place), group_at(nodes, place + 3))
        if node.says("INDEX"):
            yield from _index(nodes, place, made)
        if node.says("TABLE") and says(nodes, place - 1, "CREATE"):
            yield from _definitions(nodes, name_at(nodes, place + 1))
        if node.says("ADD") and says(nodes, place - 4, "TABLE"):
            added, table = name_at(nodes, place + 1), name_at(nodes, place - 3)
            if added and table and added.whole not in (_columns_of(table, made) or [added.whole]):
                yield f"{table.whole} has no column {added.whole}"


def _insertion(nodes: Nodes, at: int, into: list[str] | None) -> Iterator[str]:
    columns = [item[0].text for item in items(group_at(nodes, at)) if item]
    yield from (f"there is no column {name}" for name in columns if into is not None and name not in into)
    yield from (f"{name} is inserted {times} times" for name, times in Counter(columns).items() if times > 1)
    if says(nodes, at + 1, "VALUES"):
        given = [len(items(group_at(nodes, at + 2)))]
    else:
        given = [len(listed) for listed in [select_list(nodes[at:])] if listed is not None]
    yield from (f"{len(columns)} columns, {count} values" for count in given if count != len(columns))


def _rows(nodes: Nodes) -> Iterator[str]:
    lengths = {len(items(group_at(item, 0))) for item in items(nodes[1:])}
    if len(lengths) > 1:
        yield f"rows of {sorted(lengths)} values"


def _named_rows(rows: Nodes, columns: Nodes) -> Iterator[str]:
    for row in items(rows[1:]):
        if len(items(group_at(row, 0))) != len(items(columns)):
            yield f"{len(items(group_at(row, 0)))} values for {len(items(columns))} columns"


def _definitions(nodes: Nodes, table: Name | None) -> Iterator[str]:
    for column in items(group_at(nodes, table.end)) if table else ():
        if len(column) < 2 or column[1].text.lower() not in TYPES:
            yield f"the column {column[0].text} has no type"
        yield from _words(column[1:], [])


def _index(nodes: Nodes, place: int, made: Made) -> Iterator[str]:
    table = name_at(nodes, place + 3)
    if table:
        known = _columns_of(table, made) or []
        columns = [item[0].text for item in items(group_at(nodes, table.end))]
        yield from (f"{table.whole} has no column {column}" for column in columns if column not in known)
