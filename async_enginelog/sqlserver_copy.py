"""Tables of SQL Server that follow the log: a copy of each table, and what brings it what is new."""

# ruff: noqa: S608 -- the text is the product here; what comes from outside is quoted by tsql.py
from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

from .odbc import SOURCES, Source
from .sqlserver_views import RANGE
from .tables import Column
from .tsql import MARK, Target, call, column_type, literal, names, quoted, raised

__all__ = [
    "COPY",
    "STATE",
    "copy_batch",
    "copy_name",
    "copy_table_batch",
    "drop_job",
    "job_batch",
    "state_batch",
]

STATE = "ENGINE_LOG_COPY_STATE"
COPY = "ENGINE_LOG_COPY_NEW"

# In UTF-16 units, as SQL Server counts.
MAX_JOB_NAME = 128

# As text, because the driver would tell another type of an expression once it has a number (see odbc.py).
NEWEST = (
    "SELECT substr(coalesce(max(LAST_LOG_SEQ), 0), 1, 20) AS NEWEST, "
    "substr(coalesce(min(ENGINE_RUN_ID), 0), 1, 20) AS FIRST_RUN FROM V_ODBC_ENGINE_LOG_RUN"
)


def copy_name(source: Source) -> str:
    """Return the name of the copy of a table."""
    return f"{source.name}_COPY"


# -- tables -----------------------------------------------------------------------------------------


def state_batch(target: Target) -> str:
    """Return the table that knows how far each copy is."""
    table = target.named(STATE)
    mark = _mark(target, STATE)
    known = ",\n".join(f"    ({literal(source.name)})" for source in SOURCES.values())
    return f"""\
IF OBJECT_ID({literal(table)}, N'U') IS NULL
BEGIN
    CREATE TABLE {table} (
        TABLE_NAME sysname NOT NULL PRIMARY KEY,
        LOG_SEQ bigint NOT NULL,
        DT_COPIED datetime2(6) NULL
    );
    {mark}
END;
INSERT INTO {table} (TABLE_NAME, LOG_SEQ)
SELECT s.TABLE_NAME, 0
FROM (VALUES
{known}
) AS s (TABLE_NAME)
WHERE NOT EXISTS (SELECT 1 FROM {table} AS t WHERE t.TABLE_NAME = s.TABLE_NAME);"""


def copy_table_batch(target: Target, source: Source) -> str:
    """Return the copy of a table, with the indexes that it is read by, and what it has got since."""
    table = target.named(copy_name(source))
    mark = _mark(target, copy_name(source))
    columns = ",\n".join(f"        {column.name} {column_type(column)} NULL" for column in source.columns)
    indexes = "\n".join(f"    {line}" for line in _indexes(table, source))
    added = "\n".join(_missing(table, column) for column in source.columns if column.name not in source.key)
    return f"""\
IF OBJECT_ID({literal(table)}, N'U') IS NULL
BEGIN
    CREATE TABLE {table} (
{columns}
    );
    {mark}
{indexes}
END;
-- What an older copy lacks.
{added}"""


def _mark(target: Target, table: str) -> str:
    """Return what marks a table as one that the script made."""
    return call(
        "sys.sp_addextendedproperty",
        name=literal(MARK),
        value=literal("With --remove, it drops this."),
        level0type="N'SCHEMA'",
        level0name=literal(target.schema),
        level1type="N'TABLE'",
        level1name=literal(table),
    )


def _missing(table: str, column: Column) -> str:
    return (
        f"IF COL_LENGTH({literal(table)}, {literal(column.name)}) IS NULL"
        f" ALTER TABLE {table} ADD {column.name} {column_type(column)} NULL;"
    )


def _indexes(table: str, source: Source) -> Iterator[str]:
    # Not unique: rows without their whole key stand alone, and there may be many.
    yield f"CREATE CLUSTERED INDEX {source.name}_KEY ON {table} ({', '.join(source.key)});"
    if source.key[0] != "RECORDING_ID" and source.has("RECORDING_ID"):
        yield f"CREATE INDEX {source.name}_RECORDING ON {table} (RECORDING_ID);"
    yield f"CREATE INDEX {source.name}_TIME ON {table} ({source.time});"


# -- the procedure ----------------------------------------------------------------------------------


def copy_batch(target: Target) -> str:
    """Return the procedure that copies what is new or changed since it ran last."""
    lock = {"Resource": literal(job_name(target)), "LockOwner": "N'Session'"}
    take = call("@result = sys.sp_getapplock", **lock, LockMode="N'Exclusive'", LockTimeout="0")
    release = call("sys.sp_releaseapplock", **lock)
    tables = "\n\n".join(_copy_source(target, source) for source in SOURCES.values())
    state, runs = target.named(STATE), target.named(copy_name(SOURCES["ENGINE_LOG_RUN"]))
    in_transaction = f"Call {COPY} outside of a transaction: what is read over ODBC can't be part of one."
    begins_anew = (
        "The log is another one than before: its numbers begin anew. Empty the copies if you don't need "
        f"them, then run UPDATE {state} SET LOG_SEQ = 0, and this procedure again."
    )
    return f"""\
CREATE OR ALTER PROCEDURE {target.named(COPY)}
    @chunk bigint = 10000
AS
BEGIN
    -- {MARK}.
    SET NOCOUNT ON;
    SET XACT_ABORT ON;
    SET IMPLICIT_TRANSACTIONS OFF;
    DECLARE @result int, @newest bigint, @first_run bigint, @highest bigint, @last bigint, @count bigint;

    -- Pieces of no rows would never come to an end.
    IF @chunk IS NULL OR @chunk < 1
        SET @chunk = 10000;
    IF @@TRANCOUNT > 0
    BEGIN
        {raised(in_transaction)}
        RETURN;
    END;
    {take}
    IF @result < 0
    BEGIN
        PRINT N'Another copy is under way; this one leaves it to that.';
        RETURN;
    END;

    BEGIN TRY
        SELECT @newest = TRY_CONVERT(bigint, q.NEWEST), @first_run = TRY_CONVERT(bigint, q.FIRST_RUN)
        FROM {target.ask(NEWEST)} AS q;
        SELECT @highest = MAX(LOG_SEQ) FROM {state};
        IF @newest < @highest
            OR (@highest > 0 AND @first_run > (SELECT MAX(ENGINE_RUN_ID) FROM {runs}))
            {raised(begins_anew)}

{tables}

        {release}
    END TRY
    BEGIN CATCH
        IF @@TRANCOUNT > 0
            ROLLBACK TRANSACTION;
        {release}
        THROW;
    END CATCH;
END;"""


def _copy_source(target: Target, source: Source) -> str:
    """Return the part of the procedure that copies a table: in pieces, each merged in a transaction."""
    state, new = target.named(STATE), f"#{source.name}"
    name = literal(source.name)
    if source.changes_are_numbered:
        first = f"(SELECT LOG_SEQ FROM {state} WHERE TABLE_NAME = {name})"
        limits = {"after_seq": "@last", "up_to_seq": "@newest"}
        done = "LOG_SEQ = @last, DT_COPIED = SYSUTCDATETIME()"
    else:
        # The runs are few, and change without a new number: all of them, each time.
        first, limits, done = "0", {"after_seq": "@last"}, "DT_COPIED = SYSUTCDATETIME()"
    read = call(target.named(RANGE), table=name, **limits, max_rows="@chunk", into=literal(new))
    return f"""\
        SELECT TOP (0) * INTO {new} FROM {target.named(copy_name(source))};
        SET @last = {first};
        SET @count = @chunk;
        WHILE @count >= @chunk
        BEGIN
            TRUNCATE TABLE {new};
            {read}
            SELECT @count = COUNT_BIG(*), @last = COALESCE(MAX({source.sequence}), @last) FROM {new};
            BEGIN TRANSACTION;
{_merge(target, source, new)}
            UPDATE {state} SET {done} WHERE TABLE_NAME = {name};
            COMMIT TRANSACTION;
        END;"""


def _merge(target: Target, source: Source, new: str) -> str:
    columns = [column.name for column in source.columns]
    same = "\n                AND ".join(f"t.{name} = s.{name}" for name in source.key)
    changed = [f"{name} = s.{name}" for name in columns if name not in source.key]
    update = f"\n            WHEN MATCHED THEN UPDATE SET\n                {names(changed, 16)}"
    return f"""\
            MERGE {target.named(copy_name(source))} WITH (HOLDLOCK) AS t
            USING {new} AS s
                ON {same}{"" if source.grows else update}
            WHEN NOT MATCHED BY TARGET THEN INSERT
                ({names(columns, 17)})
            VALUES
                ({names((f"s.{name}" for name in columns), 17)});"""


# -- the job ----------------------------------------------------------------------------------------


def job_name(target: Target) -> str:
    """
    Return the name of the job of SQL Server Agent, and of the lock: one for each schema that has copies.

    Not one for each linked server: there is one procedure in a schema, whichever server it asks.

    """
    name = f"{COPY} {quoted(target.database)}.{quoted(target.schema)}"
    units = name.encode("utf-16-le")
    if len(units) <= 2 * MAX_JOB_NAME:
        return name
    # Cut, two long names could be the same.
    number = sha256(units).hexdigest()[:16]
    return f"{units[: 2 * (MAX_JOB_NAME - 17)].decode('utf-16-le', 'ignore')} {number}"


def job_batch(target: Target, seconds: int) -> str:
    """Return the job that runs the procedure again and again."""
    name = literal(job_name(target))
    command = literal(f"EXEC {target.named(COPY)};")
    lines = [
        call(
            "msdb.dbo.sp_add_job",
            job_name=name,
            description=literal("Copies what is new in the engine's log."),
        ),
        call(
            "msdb.dbo.sp_add_jobstep",
            job_name=name,
            step_name=literal("copy"),
            subsystem="N'TSQL'",
            database_name=literal(target.database),
            command=command,
        ),
        call(
            "msdb.dbo.sp_add_jobschedule",
            job_name=name,
            name=literal(_often(seconds)),
            freq_type="4",  # daily
            freq_interval="1",
            **_interval(seconds),
        ),
        call("msdb.dbo.sp_add_jobserver", job_name=name, server_name="N'(local)'"),
    ]
    calls = "\n".join(f"    {line}" for line in lines)
    return f"""\
{drop_job(target)}
IF CONVERT(int, SERVERPROPERTY(N'EngineEdition')) = 4
    PRINT N'SQL Server Express has no Agent; let the task scheduler of Windows run {COPY}.'
ELSE
BEGIN
{calls}
END;"""


def _interval(seconds: int) -> dict[str, str]:
    """Return how the Agent is told an interval: 2 are seconds, 4 are minutes."""
    kind, count = (2, seconds) if seconds < 60 else (4, seconds // 60)
    return {"freq_subday_type": str(kind), "freq_subday_interval": str(count)}


def _often(seconds: int) -> str:
    if seconds == 60:
        return "every minute"
    return f"every {seconds} seconds" if seconds < 60 else f"every {seconds // 60} minutes"


def drop_job(target: Target) -> str:
    """Return what removes the job if it is there."""
    name = literal(job_name(target))
    drop = call("msdb.dbo.sp_delete_job", job_name=name)
    return f"IF EXISTS (SELECT 1 FROM msdb.dbo.sysjobs WHERE name = {name})\n    {drop}"
