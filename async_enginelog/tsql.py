"""How things are said in Transact-SQL: names, texts, types, calls; and where the script makes things."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from .tables import Column, Kind
from .terminal import harmless

__all__ = [
    "MARK",
    "Target",
    "call",
    "checked_name",
    "column_type",
    "is_ours",
    "literal",
    "names",
    "quoted",
    "raised",
    "typed",
]

WIDTH = 110

# https://learn.microsoft.com/sql/relational-databases/databases/database-identifiers
MAX_NAME = 128

# How what the script makes can be told from what others made: it stands in the text of views and
# procedures, and is the name of a property of tables.
MARK = "Made by enginelog sqlserver-script"

# Those of tables and other things as a whole, not of their columns.
PROPERTIES = "SELECT 1 FROM sys.extended_properties WHERE class = 1 AND minor_id = 0"

TYPES = {Kind.INTEGER: "bigint", Kind.REAL: "float", Kind.TIME: "datetime2(6)"}


def quoted(name: str) -> str:
    """Return a name in brackets."""
    return "[" + name.replace("]", "]]") + "]"


def literal(text: str) -> str:
    """Return a text in quotes."""
    return "N'" + text.replace("'", "''") + "'"


def checked_name(name: str, meaning: str) -> str:
    """
    Return ``name`` if something can be called so.

    Raises:
        ValueError: If it is empty or too long, would break a line of the script, or show it as what it isn't.

    """
    if not name.strip():
        raise ValueError(f"{meaning} is empty; give it a name")
    if len(name.encode("utf-16-le", "surrogatepass")) > 2 * MAX_NAME:
        raise ValueError(f"{meaning} {name!r} is longer than {MAX_NAME} characters; use a shorter name")
    if harmless(name) != name:
        raise ValueError(f"{meaning} {name!r} has control characters in it; use another name")
    return name


@dataclass(frozen=True)
class Target:
    """
    Where the script makes things.

    Attributes:
        server: The name of the linked server.
        database: The database of SQL Server that gets the views.
        schema: The schema in it.

    Raises:
        ValueError: If something can't be called so.

    """

    server: str
    database: str
    schema: str = "dbo"

    def __post_init__(self) -> None:
        checked_name(self.server, "the linked server")
        checked_name(self.database, "the database of SQL Server")
        checked_name(self.schema, "the schema")

    def named(self, name: str) -> str:
        """Return the whole name of a thing in the schema."""
        return f"{quoted(self.schema)}.{quoted(name)}"

    def ask(self, query: str) -> str:
        """
        Return what stands behind FROM to ask the linked server.

        https://learn.microsoft.com/sql/t-sql/functions/openquery-transact-sql: no N before the text.

        """
        lines = textwrap.wrap(query, WIDTH - 4, break_long_words=False, break_on_hyphens=False)
        text = literal("\n    ".join(lines)).removeprefix("N")
        return f"OPENQUERY({quoted(self.server)}, {text})"


def is_ours(object_id: str, kind: str = "") -> str:
    """Return the condition that a thing was made by the script; shorter, if its kind is known."""
    said = f"COALESCE(OBJECT_DEFINITION({object_id}), N'') LIKE {literal(f'%{MARK}%')}"
    marked = f"EXISTS ({PROPERTIES} AND major_id = {object_id} AND name = {literal(MARK)})"
    return {"": f"({said} OR {marked})", "TABLE": marked}.get(kind, said)


def column_type(column: Column) -> str:
    """Return the type of a column in SQL Server."""
    if column.kind is Kind.TEXT:
        return "char(1)" if column.width == 1 else f"nvarchar({column.width})"
    return TYPES[column.kind]


def typed(column: Column) -> str:
    """Return what gives a column of the driver's answer, called ``q``, its type."""
    if column.kind is Kind.TIME:
        return f"TRY_CONVERT(datetime2(6), q.{column.name}, 121)"
    return f"CAST(q.{column.name} AS {column_type(column)})"


def names(items: Iterable[str], indent: int) -> str:
    """Return items with commas, in lines that can be read; the first without its indent."""
    lines = [""]
    for item in items:
        if lines[-1] and indent + len(lines[-1]) + len(item) + 2 > WIDTH:
            lines.append("")
        lines[-1] += f"{item}, "
    return f"\n{' ' * indent}".join(line.rstrip() for line in lines).removesuffix(",")


def call(procedure: str, *positional: str, **arguments: str) -> str:
    """Return a call of a procedure; arguments are literals or variables, as EXEC takes no expressions."""
    given = [*positional, *(f"@{name} = {value}" for name, value in arguments.items())]
    return " ".join(["EXEC", procedure, ", ".join(given)]).rstrip() + ";"


def raised(message: str, *arguments: str) -> str:
    """Return what raises an error; ``%s`` stands for an argument only if there are arguments."""
    shown = message if arguments else message.replace("%", "%%")
    return f"RAISERROR({', '.join([literal(shown), '16', '1', *arguments])});"
