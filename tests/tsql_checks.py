"""
What a parser of Transact-SQL doesn't see, looked for in a script without a SQL Server.

Each check tells its faults; :func:`faults` tells all. That each of them finds what it is for is proven by
broken copies of the script, in test_sqlserver.py.

"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

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
    procedures_of,
    tokens,
    unquoted,
)

# https://learn.microsoft.com/sql/t-sql/functions/openquery-transact-sql: 8 KB
MAX_QUERY = 8000

TYPES = {"bigint", "bit", "char", "datetime2", "float", "int", "nvarchar", "sysname", "varchar"}

# What the script may call, and with which arguments; a number is an argument without a name.
# https://learn.microsoft.com/sql/relational-databases/system-stored-procedures/
PROCEDURES = {
    "master.dbo.sp_msset_oledb_prop": "1 2 3",
    "master.dbo.sp_addlinkedserver": "server srvproduct provider datasrc location provstr catalog",
    "master.dbo.sp_dropserver": "server droplogins",
    "master.dbo.sp_addlinkedsrvlogin": "rmtsrvname useself locallogin rmtuser rmtpassword",
    "master.dbo.sp_droplinkedsrvlogin": "rmtsrvname locallogin",
    "master.dbo.sp_serveroption": "server optname optvalue",
    "master.dbo.sp_testlinkedserver": "servername",
    "sys.sp_getapplock": "resource lockmode lockowner locktimeout dbprincipal",
    "sys.sp_releaseapplock": "resource lockowner dbprincipal",
    "msdb.dbo.sp_add_job": "job_name enabled description start_step_id category_name owner_login_name",
    "msdb.dbo.sp_delete_job": "job_id job_name originating_server delete_history delete_unused_schedule",
    "msdb.dbo.sp_add_jobstep": "job_id job_name step_id step_name subsystem command database_name",
    "msdb.dbo.sp_add_jobschedule": "job_id job_name name enabled freq_type freq_interval freq_subday_type "
    "freq_subday_interval",
    "msdb.dbo.sp_add_jobserver": "job_id job_name server_name",
}
EXECUTE_TEXT = "sys.sp_executesql"

# https://learn.microsoft.com/sql/relational-databases/system-stored-procedures/sp-serveroption-transact-sql
SERVER_OPTIONS = {
    *(
        "collation compatible",
        "collation name",
        "connect timeout",
        "data access",
        "dist",
        "lazy schema validation",
    ),
    *("pub", "query timeout", "rpc", "rpc out", "sub", "system", "use remote collation"),
    "remote proc transaction promotion",
}


Procedures = dict[str, list[str]]
Check = Callable[[Batch, Procedures], Iterator[str]]


def unended_quotes(batch: Batch, _: Procedures) -> Iterator[str]:
    """A quote or bracket that isn't closed."""
    yield from (f"{token.text} isn't closed" for token in batch if token.says("'", "[", "`", '"'))


def lost_variables(batch: Batch, _: Procedures) -> Iterator[str]:
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


def unknown_types(batch: Batch, _: Procedures) -> Iterator[str]:
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


def wrong_calls(batch: Batch, own: Procedures) -> Iterator[str]:
    """A procedure or an argument that doesn't exist."""
    for call in calls(batch):
        name = call.procedure.lower()
        if name == EXECUTE_TEXT:
            continue  # its arguments are those of the text
        if name not in PROCEDURES and name not in own:
            yield f"there is no procedure {call.procedure}"
            continue
        known = own[name] if name in own else PROCEDURES[name].split()
        for number, argument in enumerate(call.arguments, 1):
            given = argument[0].text[1:] if is_named(argument) else str(number)
            if given.lower() not in known:
                yield f"{call.procedure} has no argument {given}"


def computed_arguments(batch: Batch, _: Procedures) -> Iterator[str]:
    """An argument of EXEC that is neither a literal nor a variable; a comma that is missing between two."""
    for call in calls(batch):
        for argument in call.arguments:
            value = list(argument[2:] if is_named(argument) else argument)
            if value and value[-1].says("OUTPUT", "OUT"):
                value.pop()
            if value and value[0].says("-"):
                value.pop(0)
            if len(value) != 1 or value[0].kind not in ("text", "number", "variable", "word"):
                yield f"{call.procedure} has the argument {' '.join(token.text for token in argument)}"


def wrong_options(batch: Batch, _: Procedures) -> Iterator[str]:
    """An option of a linked server that doesn't exist."""
    for call in calls(batch):
        for argument in call.arguments:
            if argument[0].text.lower() == "@optname" and unquoted(argument[2].text) not in SERVER_OPTIONS:
                yield f"there is no server option {argument[2].text}"


def wrong_openqueries(batch: Batch, _: Procedures) -> Iterator[str]:
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


def foreign_words(batch: Batch, _: Procedures) -> Iterator[str]:
    """Words of other databases."""
    yield from (
        f"there is no {token.text} in Transact-SQL" for token in batch if token.says("LIMIT", "ILIKE")
    )


def sorted_views(batch: Batch, _: Procedures) -> Iterator[str]:
    """ORDER BY in a view."""
    if created(batch) == "VIEW" and any(token.says("ORDER") for token in batch):
        yield "a view has no ORDER BY"


def late_creations(batch: Batch, _: Procedures) -> Iterator[str]:
    """A view or procedure that isn't made by the first statement of its batch."""
    for place, token in enumerate(batch):
        words = [word.text.upper() for word in batch[place : place + 4]]
        if place and token.says("CREATE") and {"VIEW", "PROCEDURE", "FUNCTION", "TRIGGER"} & set(words[:4]):
            yield f"{' '.join(words)} isn't the first statement of its batch"


def crowded_views(batch: Batch, _: Procedures) -> Iterator[str]:
    """A statement after a view in the same batch."""
    if created(batch) == "VIEW" and any(token.says(";") for token in batch[:-1]):
        yield "something follows a view in its batch"


def reads_in_transactions(batch: Batch, _: Procedures) -> Iterator[str]:
    """Something that is asked of a linked server, or called, inside a transaction."""
    inside = False
    for place, token in enumerate(batch):
        if token.says("TRANSACTION", "TRAN") and place:
            inside = batch[place - 1].says("BEGIN")
        elif inside and token.says("OPENQUERY", "EXEC"):
            yield f"{token.text} in a transaction"


def open_merges(batch: Batch, _: Procedures) -> Iterator[str]:
    """A MERGE that doesn't end with a semicolon."""
    for place, token in enumerate(batch):
        if token.says("MERGE"):
            end = next((n for n, after in enumerate(batch[place:], place) if after.says(";")), len(batch))
            for before, after in pairwise(batch[place:end]):
                if after.says("UPDATE", "COMMIT", "EXEC", "IF", "END") and not before.says("THEN"):
                    yield "MERGE takes a semicolon at its end"


def open_blocks(batch: Batch, _: Procedures) -> Iterator[str]:
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


def nameless_values(batch: Batch, _: Procedures) -> Iterator[str]:
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


def unended_before_throw(batch: Batch, _: Procedures) -> Iterator[str]:
    """A THROW that would be read as part of the statement before."""
    for before, token in pairwise(batch):
        if token.says("THROW") and not before.says(";", "BEGIN", "CATCH"):
            yield "THROW takes a semicolon before it"


def lost_tables(batch: Batch, _: Procedures) -> Iterator[str]:
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


def faults(script: str) -> list[str]:
    """Return all that is wrong with a script."""
    own = procedures_of(script)
    found = list(broken_lines(script))
    for number, text in enumerate(batches(script), 1):
        batch = tokens(text)
        found += [f"batch {number}: {fault}" for check in CHECKS for fault in check(batch, own)]
    for text in inner_statements(script):
        found += [f"inner statement: {fault}" for fault in faults(text)]
    return found
