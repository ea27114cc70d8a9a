"""
The scripts by which SQL Server reads the log along, and stops doing so: text in, text out.

A script is made of batches, which Management Studio sends one by one. A batch that fails doesn't stop
those after it; ``SET NOEXEC ON`` does.

"""

# ruff: noqa: S608 -- the text is the product here; what comes from outside is quoted by tsql.py
from __future__ import annotations

import ntpath
from collections.abc import Iterable, Iterator

from .odbc import SOURCES
from .odbc_paths import is_foreign
from .sqlserver_copy import (
    COPY,
    STATE,
    copy_batch,
    copy_name,
    copy_table_batch,
    drop_job,
    job_batch,
    state_batch,
)
from .sqlserver_link import (
    ROWS,
    Link,
    database_check,
    drop_server,
    instance_check,
    linked_server,
    name_check,
    provider,
    server_test,
)
from .sqlserver_views import RANGE, TIMELINE, range_batch, timeline_batch, view_batch
from .tsql import Target, call, is_ours, literal, quoted

__all__ = ["FIRST_WORDS", "ROWS", "Link", "Target", "create_script", "remove_script"]

# How a script of ours can be told from other files.
FIRST_WORDS = "-- Written by enginelog sqlserver-script"

# All that the script makes in a schema.
VIEWS = (*SOURCES, TIMELINE)
PROCEDURES = (COPY, RANGE)
TABLES = (*map(copy_name, SOURCES.values()), STATE)

RULE = "-- " + "-" * 100


def create_script(link: Link) -> str:
    """Return the script that links SQL Server with the log. It may be run again at any time."""
    return _joined([_heading(link), *_linking(link), *_views(link), *_copies(link), _BEHIND])


def _linking(link: Link) -> Iterator[str]:
    yield _BEFORE
    yield _title("1. Can it work here?", instance_check(link.target))
    yield _use(link.target.database)
    yield name_check(link.target, [*VIEWS, *PROCEDURES, *TABLES])
    yield _title("2. The linked server", provider())
    yield _use("master")
    yield linked_server(link)
    yield _title("3. Does it answer? If not, nothing more is done.", server_test(link))


def _views(link: Link) -> Iterator[str]:
    target = link.target
    yield _title("4. A view for each table, one of all, and a procedure for the rest", _use(target.database))
    if target.schema != "dbo":
        create = call("sys.sp_executesql", literal(f"CREATE SCHEMA {quoted(target.schema)}"))
        yield f"IF SCHEMA_ID({literal(target.schema)}) IS NULL\n    {create}"
    yield from (view_batch(target, source, link.rows) for source in SOURCES.values())
    yield timeline_batch(target, link.rows)
    yield _RANGE_WORDS.format(target.named(RANGE)) + range_batch(target)


def _copies(link: Link) -> Iterator[str]:
    target = link.target
    yield _title("5. Copies: tables of SQL Server that follow the log", state_batch(target))
    yield from (copy_table_batch(target, source) for source in SOURCES.values())
    yield _COPY_WORDS.format(target.named(COPY)) + copy_batch(target)
    if link.copy_every is not None:
        yield job_batch(target, link.copy_every)
    newest = f"SELECT TOP (20) * FROM {target.named(TIMELINE)} ORDER BY EVENT_TIME DESC;"
    yield _title("6. What the engine did last", newest)


def remove_script(target: Target) -> str:
    """Return the script that takes away all that the other makes. It may be run again at any time."""
    return _joined([_REMOVE_WORDS.format(target.server, target.database), *_removing(target), _BEHIND])


def _removing(target: Target) -> Iterator[str]:
    yield _BEFORE
    yield _title("1. The job of SQL Server Agent, if there is one, and the linked server", drop_job(target))
    yield drop_server(target)
    yield _title("2. Procedures and views", database_check(target))
    yield _use(target.database)
    yield _drop("PROCEDURE", target, PROCEDURES)
    yield _drop("VIEW", target, VIEWS)
    copies = _drop("TABLE", target, TABLES)
    yield _title("3. The copies, with what they kept of the log. To keep them, leave this part out.", copies)
    if target.schema != "dbo":
        yield _drop_schema(target.schema)


def _drop(kind: str, target: Target, names: Iterable[str]) -> str:
    return "\n".join(_drop_ours(kind, target.named(name)) for name in names)


def _drop_ours(kind: str, name: str) -> str:
    stays = f"{name} stays: it isn't what enginelog sqlserver-script made."
    return f"""\
IF {is_ours(f"OBJECT_ID({literal(name)})", kind)}
    DROP {kind} IF EXISTS {name}
ELSE IF OBJECT_ID({literal(name)}) IS NOT NULL
    PRINT {literal(stays)};"""


def _drop_schema(schema: str) -> str:
    objects = f"SELECT 1 FROM sys.objects WHERE schema_id = SCHEMA_ID({literal(schema)})"
    drop = f"DROP SCHEMA IF EXISTS {quoted(schema)};"
    return f"-- Unless there is something else in it.\nIF NOT EXISTS ({objects})\n    {drop}"


def _joined(batches: Iterable[str]) -> str:
    return "\nGO\n\n".join(batches) + "\nGO\n"


def _title(title: str, batch: str) -> str:
    return f"{RULE}\n-- {title}\n{RULE}\n\n{batch}"


def _use(database: str) -> str:
    return f"USE {quoted(database)};"


# -- words ------------------------------------------------------------------------------------------

_BEFORE = """\
-- An earlier run in this window may have stopped.
SET NOEXEC OFF;"""

_BEHIND = "SET NOEXEC OFF;"

_RANGE_WORDS = """\
-- Any range of a table, also what its view doesn't show. A recording:
--   EXEC {0} @table = N'ENGINE_DB_LOG_STEPS', @recording_id = 202508290514312002;
-- What is new since LOG_SEQ 123456, at most 5,000 rows:
--   EXEC {0} @table = N'ENGINE_DB_LOG_STEPS', @after_seq = 123456, @max_rows = 5000;
-- An hour, in UTC; this one looks at all rows of the table:
--   EXEC {0} @table = N'ENGINE_DB_LOG_STEPS',
--       @from_time = '2026-01-31T12:00:00', @to_time = '2026-01-31T13:00:00';
"""

_COPY_WORDS = """\
-- Brings into the copies what is new or changed since it ran last, by LOG_SEQ. As often as you like:
--   EXEC {0};
-- It reads outside of any transaction; then, in one, it merges what it has read and notes how far it is.
"""

_REMOVE_WORDS = (
    FIRST_WORDS
    + """ --remove
--
-- Takes away all that create_sql_server_linked_server.sql made: the linked server {0}, and views,
-- procedures and copies in the database {1}. The log itself isn't touched,
-- nor is anything of the same name that others made.
--
-- Run it in Management Studio, as a member of sysadmin. It may be run again at any time.
--
-- The option AllowInProcess of MSDASQL stays, as other linked servers may need it. To set it back:
--   EXEC master.dbo.sp_MSset_oledb_prop N'MSDASQL', N'AllowInProcess', 0;"""
)


def _heading(link: Link) -> str:
    return f"""\
{FIRST_WORDS}
--
-- Lets SQL Server read the log of an engine along, as views in the database {link.target.database}:
--   {link.path}
-- It never stops the engine: SQLite's readers don't lock out the writer.
--
-- Before:
-- 1. Engine, log and SQL Server are on the same Windows machine. SQL Server on Linux and Azure SQL
--    can't read SQLite.
-- 2. Install SQLite's ODBC driver, 64 bit: sqliteodbc_w64.exe of http://www.ch-werner.de/sqliteodbc/
-- 3. Give the account of the SQL Server service the right Modify on the folder of the log, as SQLite's
--    readers write beside the file. For the default instance, in a command window (cmd):
--      icacls "{_folder(link.path)}" /grant "NT SERVICE\\MSSQLSERVER:(OI)(CI)M"
--    For an instance with a name: NT SERVICE\\MSSQL$NAME
-- 4. Bring the log up to date: enginelog init "{link.path}"
--
-- Then open this file in Management Studio, connected as a member of sysadmin, and press F5.
-- It may be run again at any time. To take it all away: enginelog sqlserver-script --remove"""


def _folder(path: str) -> str:
    return ntpath.dirname(path) if is_foreign(path) else path.rpartition("/")[0]
