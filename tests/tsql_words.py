"""
Words and values that Transact-SQL knows, as far as the script needs them, and where it uses others.

What is new in the script may have to be written down here first, which is the moment to look it up.

"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from .tsql import Batch, unquoted
from .tsql_tree import Group, Made, Node, Nodes, group_at, items, says, tree

MANY = 254

WHOLE_NAME = re.compile(r"\[(?:[^\]]|\]\])+\]\.\[ENGINE\w+\]")

# How many arguments a function takes: at least, at most.
# https://learn.microsoft.com/sql/t-sql/functions/functions
FUNCTIONS = {
    **dict.fromkeys(["ERROR_MESSAGE", "SYSUTCDATETIME"], (0, 0)),
    **dict.fromkeys(["DB_ID", "SCHEMA_ID", "SUSER_SNAME"], (0, 1)),
    **dict.fromkeys(["CAST", "COUNT_BIG", "LTRIM", "MAX", "MIN", "OBJECT_DEFINITION"], (1, 1)),
    **dict.fromkeys(["IS_SRVROLEMEMBER", "OBJECT_ID", "QUOTENAME"], (1, 2)),
    **dict.fromkeys(["COL_LENGTH", "NULLIF", "OPENQUERY"], (2, 2)),
    **dict.fromkeys(["CONVERT", "TRY_CONVERT"], (2, 3)),
    **dict.fromkeys(["COALESCE", "CONCAT"], (2, MANY)),
    **{"SERVERPROPERTY": (1, 1), "REPLACE": (3, 3), "RAISERROR": (3, 23)},
}

_WORDS = """
    ADD ALL ALTER AND APPLY AS BEGIN BY CASE CATCH CLUSTERED COMMIT CREATE CROSS DECLARE DESC DROP ELSE END
    EXEC EXISTS FROM HOLDLOCK IF IMPLICIT_TRANSACTIONS IN INDEX INSERT INTO IS JOIN KEY LIKE MATCHED MERGE
    NOCOUNT NOEXEC NOT NULL OFF ON OR ORDER OUTPUT PRIMARY PRINT PROCEDURE RETURN ROLLBACK SCHEMA SELECT SET
    TABLE TARGET THEN THROW TOP TRANSACTION TRUNCATE TRY UNION UPDATE USE USING VALUES VIEW WHEN WHERE WHILE
    WITH XACT_ABORT
"""
KEYWORDS = frozenset(_WORDS.split())

# https://learn.microsoft.com/sql/relational-databases/system-catalog-views/catalog-views-transact-sql
SYSTEM_VIEWS = {
    "sys.databases": "name database_id compatibility_level state",
    "sys.extended_properties": "class class_desc major_id minor_id name value",
    "sys.objects": "name object_id schema_id type type_desc",
    "sys.servers": "server_id name product provider data_source provider_string is_linked",
    "msdb.dbo.sysjobs": "job_id name enabled",
}

# The largest number behind a type; 0 if it takes none.
# https://learn.microsoft.com/sql/t-sql/data-types/data-types-transact-sql
TYPES = {
    **dict.fromkeys(["bigint", "bit", "int", "sysname"], 0),
    **{"char": 8000, "datetime2": 7, "float": 53, "nvarchar": 4000, "varchar": 8000},
}
# Without a number, these have 1 character, or 30.
TEXTS = {"char", "nvarchar", "varchar"}

BEFORE_LISTS = {"IN", "INSERT", "VALUES"}

# https://learn.microsoft.com/sql/t-sql/functions/cast-and-convert-transact-sql
STYLES = {"20", "21", "25", "120", "121", "126", "127"}
# https://learn.microsoft.com/sql/t-sql/functions/serverproperty-transact-sql
PROPERTIES = {"EngineEdition", "ProductBuild", "ProductMajorVersion"}


def wrong_sizes(batch: Batch, _: Made) -> Iterator[str]:
    """A type with a number that it doesn't take, or without one that it needs."""
    for place, token in enumerate(batch):
        limit = TYPES.get(token.text.lower()) if token.kind == "word" else None
        if limit is None:
            continue
        sized = place + 2 < len(batch) and batch[place + 1].says("(")
        size = batch[place + 2].text if sized else ""
        if sized and not size.isdigit() and size.upper() != "MAX":
            yield f"there is no {token.text}({size})"
        if size.isdigit() and not int(token.text.lower() != "datetime2") <= int(size) <= limit:
            yield f"there is no {token.text}({size})"
        if not sized and token.text.lower() in TEXTS:
            yield f"{token.text} without its length"


def wrong_arguments(batch: Batch, made: Made) -> Iterator[str]:
    """An argument that a function doesn't take: a style, a property, a thing that the script doesn't make."""
    yield from _arguments(tree(batch), made)


def _arguments(nodes: Nodes, made: Made) -> Iterator[str]:
    for before, node in pairwise([*nodes[:1], *nodes]):
        if not isinstance(node, Group):
            continue
        yield from _arguments(node.nodes, made)
        given = [item[0] for item in items(node.nodes) if item]
        rows = says(nodes, 0, "VALUES") or says(node.nodes, 0, "VALUES")
        if len(given) > 1 and not (rows or _takes_list(before)):
            yield f"{before.text} takes no list of {len(given)}"
        texts = [unquoted(token.text) for token in given if token.kind == "text"]
        if before.says("CONVERT", "TRY_CONVERT") and len(given) > 2 and given[2].text not in STYLES:
            yield f"{before.text} knows no style {given[2].text}"
        if before.says("SERVERPROPERTY") and not set(texts) <= PROPERTIES:
            yield f"a server has no property {texts}"
        if before.says("OBJECT_ID", "COL_LENGTH") and texts and made.tables and not _is_made(texts, made):
            yield f"{before.text} of {texts}, which the script doesn't make"
        if before.says("RAISERROR"):
            yield from _raised(node.nodes)


def _takes_list(before: Node) -> bool:
    return before.kind in ("word", "name") and before.text.upper() not in KEYWORDS - BEFORE_LISTS


def _is_made(texts: list[str], made: Made) -> bool:
    name, *rest = texts
    if name.lower() in made.procedures:
        return True
    columns = made.tables.get(name)
    return columns is not None and (rest in ([], ["U"]) or set(rest) <= set(columns))


def _raised(arguments: Nodes) -> Iterator[str]:
    """https://learn.microsoft.com/sql/t-sql/language-elements/raiserror-transact-sql"""
    said, severity, state, *rest = (item[0].text for item in items(arguments))
    # Below 11, nothing stops and nothing is caught; above 18, it takes an administrator.
    if not (severity.isdigit() and 11 <= int(severity) <= 18 and state.isdigit() and int(state) <= 255):
        yield f"RAISERROR of severity {severity}, state {state}"
    if len(re.findall("%[sd]", said.replace("%%", ""))) != len(rest):
        yield f"RAISERROR of {said} with {len(rest)} arguments"


def names_in_texts(batch: Batch, made: Made) -> Iterator[str]:
    """A table or procedure that a text speaks of, be it a message or a statement, but nobody makes."""
    known = {*made.tables, *made.procedures}
    for token in batch if made.tables else ():
        for name in WHOLE_NAME.findall(unquoted(token.text)) if token.kind == "text" else ():
            if not {name, name.lower()} & known:
                yield f"a text speaks of {name}, which the script doesn't make"


def early_ends(batch: Batch, _: Made) -> Iterator[str]:
    """
    A semicolon before ELSE.

    Behind END it ends the IF. Behind a statement SQL Server takes it; the script keeps to one way.

    """
    yield from ("a semicolon before ELSE" for a, b in pairwise(batch) if a.says(";") and b.says("ELSE"))


def foreign_servers(batch: Batch, made: Made) -> Iterator[str]:
    """A linked server that isn't the one which the script is about."""
    nodes = tree(batch)
    asked = {unbracketed(name) for name in _asked(nodes)} | made.servers
    if len(asked) > 1:
        yield f"several linked servers: {sorted(asked)}"


def unbracketed(name: str) -> str:
    """Return a name without its brackets."""
    return name[1:-1].replace("]]", "]") if name.startswith("[") else name


def _asked(nodes: Nodes) -> Iterator[str]:
    for place, node in enumerate(nodes):
        if node.says("OPENQUERY"):
            yield from (inner.text for inner in group_at(nodes, place + 1)[:1])
        elif isinstance(node, Group):
            yield from _asked(node.nodes)


def foreign_databases(batch: Batch, made: Made) -> Iterator[str]:
    """A database that isn't the one which the script is about, nor that of the server itself."""
    for before, token in pairwise(batch):
        if before.says("USE") and unbracketed(token.text) not in made.databases | {"master"}:
            yield f"there may be no database {token.text}"


def unknown_globals(batch: Batch, _: Made) -> Iterator[str]:
    """A variable of the server's own that it hasn't."""
    yield from (
        f"there is no {token.text}"
        for token in batch
        if token.text.startswith("@@") and token.text not in ("@@TRANCOUNT", "@@VERSION")
    )
