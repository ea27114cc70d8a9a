"""What SQL Server reads through the linked server: a view for each table, the timeline, a range."""

# ruff: noqa: S608 -- the text is the product here; what comes from outside is quoted by tsql.py
from __future__ import annotations

from collections.abc import Iterator

from .odbc import SOURCES, Source, pass_through
from .tables import Column, Kind
from .tsql import MARK, Target, literal, names, typed

__all__ = ["RANGE", "TIMELINE", "range_batch", "timeline_batch", "view_batch"]

TIMELINE = "ENGINE_LOG_TIMELINE"
RANGE = "ENGINE_LOG_RANGE"

# Of the texts, those that a timeline has room for: no tracebacks, no headers.
TIMELINE_WIDTH = 1000


def view_batch(target: Target, source: Source, rows: int) -> str:
    """Return the view of a table, under its own name, with typed columns."""
    columns = ",\n".join(f"    {typed(column)} AS {column.name}" for column in source.columns)
    query = pass_through(source, source.columns, newest=rows)
    return (
        f"CREATE OR ALTER VIEW {target.named(source.name)}\nAS\n-- {MARK}.\nSELECT\n{columns}\n"
        f"FROM {target.ask(query)} AS q;"
    )


# -- the timeline -----------------------------------------------------------------------------------


def timeline_batch(target: Target, rows: int) -> str:
    """
    Return the view of all tables in one: each time that a row has is an event.

    That of the commit is one only where the row has no other.

    """
    parts = "\nUNION ALL\n".join(_events(target, source, rows) for source in SOURCES.values())
    return f"CREATE OR ALTER VIEW {target.named(TIMELINE)}\nAS\n-- {MARK}.\n{parts};"


def _events(target: Target, source: Source, rows: int) -> str:
    times, added = _moments(source)
    texts = _texts(source)
    ids = [
        _first(source, "RECORDING_ID"),
        _first(source, "FRAME_NO", "AUDIO_FRAME_NO"),
        _first(source, "WEBSOCKET_CONNECTION_ID"),
        _first(source, "ENGINE_RUN_ID"),
        _first(source, "LOG_SEQ", "LAST_LOG_SEQ"),
    ]
    asked = dict.fromkeys([*times, *added, *(column for column in ids if column), *texts])
    events = [(time, typed(time)) for time in times] + [(time, _instead(time, times)) for time in added]
    what = source.name.removeprefix("ENGINE_DB_LOG_")
    moments = ",\n".join(f"    ({at}, {literal(f'{what}.{time.name}')})" for time, at in events)
    recording, frame, connection, run, sequence = map(_id, ids)
    return f"""\
SELECT
    CAST(e.EVENT_TIME AS datetime2(6)) AS EVENT_TIME,
    CAST(e.WHAT AS nvarchar(128)) AS WHAT,
    {recording} AS RECORDING_ID,
    {frame} AS FRAME_NO,
    {connection} AS WEBSOCKET_CONNECTION_ID,
    {_joined(texts)} AS EVENT_TEXT,
    {run} AS ENGINE_RUN_ID,
    {sequence} AS LOG_SEQ
FROM {target.ask(pass_through(source, asked, newest=rows))} AS q
CROSS APPLY (VALUES
{moments}
) AS e (EVENT_TIME, WHAT)
WHERE e.EVENT_TIME IS NOT NULL"""


def _moments(source: Source) -> tuple[list[Column], list[Column]]:
    """Return the times of a row that are events, and that of the commit if there are others."""
    times = [column for column in source.columns if column.kind is Kind.TIME]
    own = [column for column in times if column.argument != "dt_added"]
    return (own, [column for column in times if column not in own]) if own else (times, [])


def _instead(added: Column, times: list[Column]) -> str:
    """Return the time of the commit, for a row that has no other."""
    nothing = "\n        AND ".join(f"{typed(time)} IS NULL" for time in times)
    return f"CASE WHEN {nothing}\n        THEN {typed(added)} END"


def _texts(source: Source) -> list[Column]:
    """Return the columns of which the text of an event is made."""
    return [
        column
        for column in source.columns
        if column.kind is Kind.REAL or (column.kind is Kind.TEXT and 1 < column.width <= TIMELINE_WIDTH)
    ]


def _first(source: Source, *names: str) -> Column | None:
    return next((column for name in names for column in source.columns if column.name == name), None)


def _id(column: Column | None) -> str:
    return typed(column) if column else "CAST(NULL AS bigint)"


def _joined(columns: list[Column]) -> str:
    """Return an expression of texts, and of numbers with their names, with spaces between."""
    parts = [
        f"N' {column.name}=' + CONVERT(nvarchar(40), {typed(column)})"
        if column.kind is Kind.REAL
        else f"N' ' + {typed(column)}"
        for column in columns
    ]
    # CONCAT takes NULL for an empty text.
    return f"CAST(NULLIF(LTRIM(CONCAT(N'', {names(parts, 8)})), N'') AS nvarchar(4000))"


# -- ranges -----------------------------------------------------------------------------------------


def range_batch(target: Target) -> str:
    """Return the procedure that reads any range of a table, also beyond what its view shows."""
    tables = "\n\n".join(_range_source(source) for source in SOURCES.values())
    opened = literal(f" FROM {target.ask('')}"[:-2])
    return f"""\
CREATE OR ALTER PROCEDURE {target.named(RANGE)}
    @table sysname,
    @after_seq bigint = 0,
    @up_to_seq bigint = 9223372036854775807,
    @from_time datetime2(6) = NULL,
    @to_time datetime2(6) = NULL,
    @recording_id bigint = NULL,
    @max_rows bigint = 10000,
    @into sysname = NULL
AS
BEGIN
    -- {MARK}.
    SET NOCOUNT ON;
    DECLARE @view nvarchar(128), @seq nvarchar(128), @time nvarchar(128), @recording nvarchar(128);
    DECLARE @names nvarchar(max), @typed nvarchar(max), @query nvarchar(max), @sql nvarchar(max);

{tables}

    IF @view IS NULL
    BEGIN
        RAISERROR(N'The log has no table %s.', 16, 1, @table);
        RETURN;
    END;
    IF @recording_id IS NOT NULL AND @recording IS NULL
    BEGIN
        RAISERROR(N'The table %s has no RECORDING_ID.', 16, 1, @table);
        RETURN;
    END;
    IF @after_seq IS NULL SET @after_seq = 0;
    IF @up_to_seq IS NULL SET @up_to_seq = 9223372036854775807;
    IF @max_rows IS NULL SET @max_rows = 10000;

    -- Only numbers and times of our own making get into the text that SQLite is sent.
    SET @query = N'SELECT ' + @names + N' FROM ' + @view
        + N' WHERE ' + @seq + N' > ' + CONVERT(nvarchar(20), @after_seq)
        + N' AND ' + @seq + N' <= ' + CONVERT(nvarchar(20), @up_to_seq);
    IF @recording_id IS NOT NULL
        SET @query = @query + N' AND ' + @recording + N' = ' + CONVERT(nvarchar(20), @recording_id);
    IF @from_time IS NOT NULL
        SET @query = @query + N' AND ' + @time + N' >= ''' + CONVERT(nvarchar(26), @from_time, 121) + N'''';
    IF @to_time IS NOT NULL
        SET @query = @query + N' AND ' + @time + N' < ''' + CONVERT(nvarchar(26), @to_time, 121) + N'''';
    SET @query = @query + N' ORDER BY ' + @seq + N' LIMIT ' + CONVERT(nvarchar(20), @max_rows);

    SET @sql = N'SELECT ' + @typed + {opened} + REPLACE(@query, N'''', N'''''') + N''') AS q';
    IF @into IS NOT NULL
        SET @sql = N'INSERT INTO ' + QUOTENAME(@into) + N' (' + @names + N') ' + @sql;
    IF @into IS NULL
        SET @sql = @sql + N' ORDER BY ' + @seq;
    EXEC sys.sp_executesql @sql;
END;"""


def _range_source(source: Source) -> str:
    has_recording = source.has("RECORDING_ID")
    return "\n".join(_range_lines(source, "N'RECORDING_ID'" if has_recording else "NULL"))


def _range_lines(source: Source, recording: str) -> Iterator[str]:
    yield f"    IF @table = {literal(source.name)}"
    yield f"        SELECT @view = {literal(source.view)}, @seq = {literal(source.sequence)},"
    yield f"            @time = {literal(source.time)}, @recording = {recording},"
    yield f"            @names = {literal(names((column.name for column in source.columns), 16))},"
    columns = (f"{typed(column)} AS {column.name}" for column in source.columns)
    yield f"            @typed = {literal(names(columns, 16))};"
