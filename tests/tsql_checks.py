"""
What a parser of Transact-SQL doesn't see, looked for in a script without a SQL Server.

Each check tells its faults; :func:`faults` tells all. That each of them finds what it is for is proven by
broken copies of the script, in test_sqlserver.py.

"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, lru_cache
from itertools import pairwise

from async_enginelog.migrations import migrations

from .tsql import (
    GO,
    TOKEN,
    Batch,
    batches,
    calls,
    created,
    inner_statements,
    is_named,
    parameters,
    pass_through_queries,
    tokens,
    unquoted,
)
from .tsql_calls import computed_arguments, other_locks, wrong_calls, wrong_options
from .tsql_names import wrong_names
from .tsql_procedure import Raised, executed
from .tsql_tree import Made, made_by
from .tsql_words import (
    TYPES,
    early_ends,
    foreign_databases,
    foreign_servers,
    names_in_texts,
    unknown_globals,
    wrong_arguments,
    wrong_sizes,
)

# https://learn.microsoft.com/sql/t-sql/functions/openquery-transact-sql: 8 KB
MAX_QUERY = 8000

Check = Callable[[Batch, Made], Iterator[str]]


def unended_quotes(batch: Batch, _: Made) -> Iterator[str]:
    """A quote or bracket that isn't closed."""
    yield from (f"{token.text} isn't closed" for token in batch if token.says("'", "[", "`", '"'))


def lost_variables(batch: Batch, _: Made) -> Iterator[str]:
    """A variable that isn't declared before, in the same batch."""
    declared = {name.lower() for name in parameters(batch)}
    names = {id(argument[0]) for call in calls(batch) for argument in call.arguments if is_named(argument)}
    declaring, depth = False, 0
    for place, token in enumerate(batch):
        depth += token.says("(") - token.says(")")
        if token.says("DECLARE", ";"):
            declaring = token.says("DECLARE")
        if token.kind != "variable" or token.text.startswith("@@") or id(token) in names:
            continue
        if declaring and not depth and batch[place - 1].says("DECLARE", ","):
            declared.add(token.text.lower())
        elif token.text.lower() not in declared:
            yield f"{token.text} isn't declared in this batch"


def unknown_types(batch: Batch, _: Made) -> Iterator[str]:
    """A type that isn't one of those the script needs: of a variable, a column, or a conversion."""
    depth, declaring = 0, False
    for place, token in enumerate(batch[:-1]):
        depth += token.says("(") - token.says(")")
        if token.says("DECLARE", ";"):
            declaring = token.says("DECLARE")
        after = batch[place + 1]
        typed = (
            (declaring and not depth and token.kind == "variable" and not after.says("=", ",", ";"))
            or (batch[place - 1].says("CONVERT", "TRY_CONVERT") and token.says("("))
            or (token.says("AS") and after.kind == "word" and _is_cast(batch, place))
        )
        if typed and after.text.lower() not in TYPES:
            yield f"there is no type {after.text}"


def _is_cast(batch: Batch, place: int) -> bool:
    depth = 0
    for before in range(place - 1, -1, -1):
        depth += batch[before].says(")") - batch[before].says("(")
        if depth < 0:
            return batch[before - 1].says("CAST", "TRY_CAST")
    return False


def wrong_openqueries(batch: Batch, _: Made) -> Iterator[str]:
    """A query for the linked server that isn't one plain literal, or is too long."""
    for place, token in enumerate(batch):
        if not token.says("OPENQUERY"):
            continue
        opened, server, comma, query, closed = batch[place + 1 : place + 6]
        shape = (opened.text, comma.text, closed.text) == ("(", ",", ")")
        if not (shape and server.kind in ("name", "word") and query.kind == "text"):
            yield "OPENQUERY takes a name and one literal"
        elif len(unquoted(query.text)) > MAX_QUERY:
            yield f"OPENQUERY takes {MAX_QUERY} characters, not {len(unquoted(query.text))}"


def foreign_words(batch: Batch, _: Made) -> Iterator[str]:
    """Words of other databases."""
    yield from (
        f"there is no {token.text} in Transact-SQL" for token in batch if token.says("LIMIT", "ILIKE")
    )


def sorted_views(batch: Batch, _: Made) -> Iterator[str]:
    """ORDER BY in a view."""
    if created(batch) == "VIEW" and any(token.says("ORDER") for token in batch):
        yield "a view has no ORDER BY"


def late_creations(batch: Batch, _: Made) -> Iterator[str]:
    """A view or procedure that isn't made by the first statement of its batch."""
    for place, token in enumerate(batch):
        words = [word.text.upper() for word in batch[place : place + 4]]
        if place and token.says("CREATE") and {"VIEW", "PROCEDURE", "FUNCTION", "TRIGGER"} & set(words[:4]):
            yield f"{' '.join(words)} isn't the first statement of its batch"


def crowded_views(batch: Batch, _: Made) -> Iterator[str]:
    """A statement after a view in the same batch."""
    if created(batch) == "VIEW" and any(token.says(";") for token in batch[:-1]):
        yield "something follows a view in its batch"


def reads_in_transactions(batch: Batch, _: Made) -> Iterator[str]:
    """Something that is asked of a linked server, or called, inside a transaction."""
    inside = False
    for place, token in enumerate(batch):
        if token.says("TRANSACTION", "TRAN") and place:
            inside = batch[place - 1].says("BEGIN")
        elif inside and token.says("OPENQUERY", "EXEC"):
            yield f"{token.text} in a transaction"


def open_merges(batch: Batch, _: Made) -> Iterator[str]:
    """A MERGE that doesn't end with a semicolon."""
    for place, token in enumerate(batch):
        if token.says("MERGE"):
            end = next((n for n, after in enumerate(batch[place:], place) if after.says(";")), len(batch))
            for before, after in pairwise(batch[place:end]):
                if after.says("UPDATE", "COMMIT", "EXEC", "IF", "END") and not before.says("THEN"):
                    yield "MERGE takes a semicolon at its end"


def open_blocks(batch: Batch, _: Made) -> Iterator[str]:
    """A block that doesn't end, or not as it began."""
    begun: list[str] = []
    for place, token in enumerate(batch):
        after = batch[place + 1].text.upper() if batch[place + 1 :] else ""
        kind = after if after in ("TRY", "CATCH") else ""
        if token.says("CASE") or (token.says("BEGIN") and after not in ("TRAN", "TRANSACTION")):
            begun.append(kind)
        elif token.says("END") and (not begun or begun.pop() != kind):
            yield f"END {kind} ends nothing that began so"
    yield from ("BEGIN without END" for _ in begun)


def nameless_values(batch: Batch, _: Made) -> Iterator[str]:
    """Rows of values as a table, without a name."""
    for place, token in enumerate(batch):
        if not (token.says("VALUES") and batch[place - 1].says("(")):
            continue
        depth, end = 1, place
        while depth and end + 1 < len(batch):
            end += 1
            depth += batch[end].says("(") - batch[end].says(")")
        if not (batch[end + 1 :] and batch[end + 1].says("AS")):
            yield "VALUES as a table take a name"


def unended_before_throw(batch: Batch, _: Made) -> Iterator[str]:
    """A THROW that would be read as part of the statement before."""
    for before, token in pairwise(batch):
        if token.says("THROW") and not before.says(";", "BEGIN", "CATCH"):
            yield "THROW takes a semicolon before it"


def lost_tables(batch: Batch, _: Made) -> Iterator[str]:
    """A temporary table that isn't made before, in the same batch."""
    made = set()
    for place, token in enumerate(batch):
        if token.kind != "word" or not token.text.startswith("#"):
            continue
        if batch[place - 1].says("INTO") or batch[place - 2].says("CREATE"):
            made.add(token.text)
        elif token.text not in made:
            yield f"{token.text} isn't made in this batch"


CHECKS: list[Check] = [
    unended_quotes,
    lost_variables,
    unknown_types,
    wrong_calls,
    computed_arguments,
    wrong_options,
    wrong_openqueries,
    foreign_words,
    sorted_views,
    late_creations,
    crowded_views,
    reads_in_transactions,
    open_merges,
    open_blocks,
    nameless_values,
    unended_before_throw,
    lost_tables,
    wrong_names,
    wrong_sizes,
    wrong_arguments,
    early_ends,
    foreign_servers,
    foreign_databases,
    unknown_globals,
    other_locks,
    names_in_texts,
]


def broken_lines(script: str) -> Iterator[str]:
    """Lines that begin with GO but don't end a batch; those within a text, which do."""
    bare = TOKEN.sub(lambda match: " " if match.lastgroup in ("text", "comment") else match.group(), script)
    for line in bare.splitlines():
        if re.match(r"\s*GO\b", line, re.IGNORECASE) and not GO.fullmatch(line):
            yield f"{line.strip()} isn't GO"
    for match in TOKEN.finditer(script):
        if match.lastgroup in ("text", "comment", "name") and GO.search(match.group()):
            yield f"GO within {match.group()[:40]}"


def unreadable_queries(text: str) -> Iterator[str]:
    """A query for the linked server that SQLite doesn't take, on a database of this version."""
    for query in pass_through_queries(text):
        try:
            _database().execute(f"EXPLAIN {query}")
        except sqlite3.Error as error:
            yield f"{query[:40]}…: {error}"


@cache
def _database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    for script in migrations():
        for statement in script:
            connection.execute(statement)
    return connection


def statements_of_range(script: str) -> Iterator[str]:
    """Return what the procedure for ranges executes, for each of its tables."""
    for batch in map(tokens, batches(script)):
        if created(batch) == "PROCEDURE" and "@table" in parameters(batch):
            tables = [unquoted(batch[n + 2].text) for n, token in enumerate(batch) if token.text == "@table"]
            for table in filter(None, tables):
                with suppress(Raised):
                    yield executed(script, table=table, into="#new", from_time="A", to_time="B")


# Of most broken copies, only one batch is another one.
@lru_cache(maxsize=5000)
def _faults_of(text: str, made: Made) -> list[str]:
    batch = tokens(text)
    return [*unreadable_queries(text), *(fault for check in CHECKS for fault in check(batch, made))]


def faults(script: str, made: Made | None = None) -> list[str]:
    """Return all that is wrong with a script; ``made`` is what the script makes that it is part of."""
    found = list(broken_lines(script))
    inner = inner_statements(script)
    if made is None:
        made = made_by(script)
        inner += statements_of_range(script)
    for number, text in enumerate(batches(script), 1):
        found += [f"batch {number}: {fault}" for fault in _faults_of(text, made)]
    for text in inner:
        found += [f"inner statement: {fault}" for fault in faults(text, made)]
    return found
