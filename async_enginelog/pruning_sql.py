"""
The statements of pruning. Performs no I/O.

The *time of a row* is the newest time in it, DT_ADDED left out: that is when it came into the log, which
is another matter for rows of an old engine's file. Where a row has no other, DT_ADDED counts; where
it has none at all, the last sign of life of its run.

"""

# ruff: noqa: S608 -- names come from our own tables, never from input
from __future__ import annotations

from functools import cache

from .tables import PROCESS_REGISTRY, RECORDING_CONFIG, TABLES, WEBSOCKET_CONNECTION, Kind, Table

__all__ = [
    "CHANGED",
    "DELETE_REPLAYED",
    "DELETE_RUNS",
    "EMPTY_RUNS",
    "FATES",
    "GONE",
    "HAS_ENDED",
    "IMPORTING",
    "LIVING",
    "LONE",
    "NEWEST",
    "NEXT_SEQS",
    "OF_RECORDINGS",
    "RECORDING",
    "RECORDINGS_OF_FATES",
    "ROWS_OF_FATES",
    "SCRATCH",
    "WATERMARK",
    "delete_lone",
    "delete_part",
    "delete_recordings",
    "lone_fates",
    "parts",
    "survey",
    "window",
]

OF_RECORDINGS = tuple(table for table in TABLES.values() if "recording_id" in table.columns)
# Connections last, when it is known which recordings go.
LONE = tuple(
    sorted(set(TABLES.values()) - set(OF_RECORDINGS), key=lambda table: table is WEBSOCKET_CONNECTION)
)

LIVING = "SELECT ENGINE_RUN_ID FROM ENGINE_LOG_RUN WHERE HOW_ENDED IS NULL"
IMPORTING = "SELECT ENGINE_RUN_ID FROM ENGINE_LOG_RUN WHERE HOW_ENDED = 'importing'"
NEWEST = "SELECT coalesce(max(LAST_LOG_SEQ), 0) FROM ENGINE_LOG_RUN"
WATERMARK = "SELECT min(LOG_SEQ) FROM ENGINE_LOG_WATERMARK"


@cache
def time_of(table: Table) -> str:
    """Return the expression for the time of a row; never NULL."""
    times = [
        f"coalesce({column.name}, '')"
        for column in table.columns.values()
        if column.kind is Kind.TIME and column is not table.added
    ]
    newest = f"max({', '.join(times)})" if len(times) > 1 else "".join(times)
    run = (
        "(SELECT DT_LAST_SIGN_OF_LIFE FROM ENGINE_LOG_RUN AS RUN "
        f"WHERE RUN.ENGINE_RUN_ID = {table.name}.ENGINE_RUN_ID)"
    )
    choices = [
        *([f"nullif({newest}, '')"] if times else []),
        *([table.added.name] if table.added else []),
        run,
        "''",
    ]
    return f"coalesce({', '.join(choices)})"


# -- rows that belong to no recording ---------------------------------------------------------------
# ?1 and ?2 are a window of LOG_SEQ, the first not within; ?3 to ?5 are of the limits: before, up_to_seq,
# settled.


@cache
def window(table: Table) -> str:
    """Return the query for the last LOG_SEQ of a window behind ?1 that has ?2 rows, and ends at ?3."""
    return (
        f"SELECT max(LOG_SEQ) FROM (SELECT LOG_SEQ FROM {table.name} "
        "WHERE LOG_SEQ > ?1 AND LOG_SEQ <= ?3 ORDER BY LOG_SEQ LIMIT ?2)"
    )


@cache
def survey(table: Table) -> str:
    """Return the query for what is old in a window: recording, run, whether it goes, how many rows."""
    recording = "RECORDING_ID" if table in OF_RECORDINGS else "NULL"
    return (
        f"SELECT {recording}, ENGINE_RUN_ID, {_fate(table, _needed(table))}, count(*) "
        f"FROM {table.name} WHERE {_old(table)} GROUP BY 1, 2, 3"
    )


@cache
def delete_lone(table: Table) -> str:
    """Return the statement that deletes what goes in a window; it returns the run of each row."""
    return (
        f"DELETE FROM {table.name} WHERE {_lone_and_old(table)} "
        f"AND {_fate(table, _needed(table))} = 'goes' RETURNING ENGINE_RUN_ID"
    )


def _old(table: Table) -> str:
    return f"LOG_SEQ > ?1 AND LOG_SEQ <= ?2 AND ({time_of(table)} < ?3 OR LOG_SEQ <= ?4)"


def _lone_and_old(table: Table) -> str:
    return _old(table) + (" AND RECORDING_ID IS NULL" if table in OF_RECORDINGS else "")


def _fate(table: Table, needed: str) -> str:
    return (
        f"CASE WHEN {needed} THEN 'needed' "
        f"WHEN {table.name}.LOG_SEQ > ({WATERMARK}) THEN 'unread' ELSE 'goes' END"
    )


def _needed(table: Table, staying: str = "1") -> str:
    """Return the expression for what stays whatever its age; ``staying`` tells which recordings do."""
    run = f"coalesce({table.name}.ENGINE_RUN_ID, 0)"
    # ?5 is asked for by each, so that all have the same parameters.
    growing = f"{time_of(table)} >= ?5"
    if table is PROCESS_REGISTRY:
        growing = f"({growing} OR 1)"
    if table is WEBSOCKET_CONNECTION:
        growing = f"({growing} OR DT_CONNECTION_CLOSED IS NULL)"
    needed = f"{run} IN ({IMPORTING}) OR ({run} IN ({LIVING}) AND {growing})"
    if table is WEBSOCKET_CONNECTION:
        needed += (
            f" OR EXISTS (SELECT 1 FROM {RECORDING_CONFIG.name} AS RECORDING "
            f"WHERE RECORDING.WEBSOCKET_CONNECTION_ID = {table.name}.WEBSOCKET_CONNECTION_ID AND {staying})"
        )
    return f"({needed})"


# -- recordings -------------------------------------------------------------------------------------

# What the rows of recording ?1 say, by table and run, ?2 rows of each table behind the first ?3.
# How many are skipped is read off the index alone.
RECORDING = " UNION ALL ".join(
    f"SELECT '{table.name}', RUN, count(*), max(NEWEST), coalesce(max(SEQ), 0) FROM ("
    f"SELECT ENGINE_RUN_ID AS RUN, {time_of(table)} AS NEWEST, LOG_SEQ AS SEQ FROM {table.name} "
    "WHERE RECORDING_ID = ?1 LIMIT ?2 OFFSET ?3) GROUP BY RUN"
    for table in OF_RECORDINGS
)

# Recordings of the list ?2 of which something was said since LOG_SEQ ?1; looked for by LOG_SEQ, hence the +.
CHANGED = " UNION ".join(
    f"SELECT RECORDING_ID FROM {table.name} "
    "WHERE LOG_SEQ > ?1 AND +RECORDING_ID IN (SELECT value FROM json_each(?2))"
    for table in OF_RECORDINGS
)

HAS_ENDED = (
    f"SELECT 1 FROM {RECORDING_CONFIG.name} WHERE RECORDING_ID = ? "
    "AND coalesce(DT_RECORDING_END, DT_RECORDING_DATA_PURGED) IS NOT NULL"
)


@cache
def delete_recordings(table: Table) -> str:
    """Return the statement that deletes the rows of a list of recordings; it returns the run of each."""
    return (
        f"DELETE FROM {table.name} WHERE RECORDING_ID IN (SELECT value FROM json_each(?1)) "
        "RETURNING ENGINE_RUN_ID"
    )


@cache
def delete_part(table: Table) -> str:
    """Return the statement that deletes ?3 rows of recording ?1 up to LOG_SEQ ?2; it returns their runs."""
    return (
        f"DELETE FROM {table.name} WHERE rowid IN (SELECT rowid FROM {table.name} "
        "WHERE RECORDING_ID = ?1 AND +LOG_SEQ <= ?2 LIMIT ?3) RETURNING ENGINE_RUN_ID"
    )


# -- all tables -------------------------------------------------------------------------------------

# The LOG_SEQ of the row that is number ?2 + 1 behind LOG_SEQ ?1: SQLite merges the indexes, and stops there.
NEXT_SEQS = (
    " UNION ALL ".join(f"SELECT LOG_SEQ FROM {table.name} WHERE LOG_SEQ > ?1" for table in TABLES.values())
    + " ORDER BY LOG_SEQ LIMIT 1 OFFSET ?2"
)

# Runs that may go once they have no rows, and how many they have: old by ?1 (before) or ?2 (up_to_seq), and
# read to the end by all who say so. The one that gave the highest LOG_SEQ stays: LOG_SEQ must go on from
# there. So does the newest, and those of imports: they are what tells that a file was imported before.
EMPTY_RUNS = f"""
SELECT ENGINE_RUN_ID, ROWS_STORED FROM ENGINE_LOG_RUN
WHERE HOW_ENDED IN ('closed', 'crashed', 'copied')
    AND (max(coalesce(DT_ENDED, ''), coalesce(DT_LAST_SIGN_OF_LIFE, ''), coalesce(DT_STARTED, '')) < ?1
        OR LAST_LOG_SEQ <= ?2)
    AND LAST_LOG_SEQ < (SELECT max(LAST_LOG_SEQ) FROM ENGINE_LOG_RUN)
    AND ENGINE_RUN_ID < (SELECT max(ENGINE_RUN_ID) FROM ENGINE_LOG_RUN)
    AND NOT coalesce(LAST_LOG_SEQ >= ({WATERMARK}), 0)
"""

# Of the list ?1, those that have no rows, and that all have read.
DELETE_RUNS = f"""
DELETE FROM ENGINE_LOG_RUN WHERE ENGINE_RUN_ID IN (SELECT value FROM json_each(?1))
    AND ROWS_STORED = 0 AND NOT coalesce(LAST_LOG_SEQ >= ({WATERMARK}), 0)
    AND LAST_LOG_SEQ < (SELECT max(LAST_LOG_SEQ) FROM ENGINE_LOG_RUN)
RETURNING ENGINE_RUN_ID
"""
DELETE_REPLAYED = "DELETE FROM ENGINE_LOG_REPLAYED WHERE ENGINE_RUN_ID IN (SELECT value FROM json_each(?1))"


# -- foretelling ------------------------------------------------------------------------------------
# A dry run reads whole tables. What it notes is its connection's own, and gone with its transaction.

SCRATCH = (
    # What the rows of a recording in one table say that are of one run. BROKEN_OFF are those of a
    # recording that an earlier round has begun to delete; what was logged for it since is judged anew.
    "CREATE TEMP TABLE PRUNING_PART (RECORDING_ID, BROKEN_OFF, TABLE_NAME, ENGINE_RUN_ID, ROWS_THERE, "
    "NEWEST, NEWEST_SEQ, HAS_ENDED)",
    "CREATE TEMP TABLE PRUNING_FATE (RECORDING_ID, BROKEN_OFF, FATE, "
    "PRIMARY KEY (RECORDING_ID, BROKEN_OFF)) WITHOUT ROWID",
    # Rows of RECORDING_CONFIG that would be gone when connections are judged.
    "CREATE TEMP TABLE PRUNING_GONE (CONFIG_ROW INTEGER PRIMARY KEY)",
)


def _broken_off(table: Table) -> str:
    up_to = f"min(NOTED.LOG_SEQ, coalesce(({WATERMARK}), NOTED.LOG_SEQ))"
    return (
        f"coalesce({table.name}.LOG_SEQ <= (SELECT {up_to} FROM ENGINE_LOG_PRUNING AS NOTED "
        f"WHERE NOTED.RECORDING_ID = {table.name}.RECORDING_ID), 0)"
    )


@cache
def parts(table: Table) -> str:
    """Return the statement that notes what the rows of all recordings in a table say."""
    ended = "0"
    if table is RECORDING_CONFIG:
        ended = "max(coalesce(DT_RECORDING_END, DT_RECORDING_DATA_PURGED) IS NOT NULL)"
    # Not by the index of recordings: to look up each row of a large table takes longer than to read it.
    return (
        f"INSERT INTO PRUNING_PART SELECT RECORDING_ID, {_broken_off(table)}, '{table.name}', "
        f"ENGINE_RUN_ID, count(*), max({time_of(table)}), coalesce(max(LOG_SEQ), 0), {ended} "
        f"FROM {table.name} NOT INDEXED WHERE RECORDING_ID IS NOT NULL GROUP BY 1, 2, 4"
    )


# What becomes of each recording, as Facts.fate() has it. ?1 to ?4 are the limits.
FATES = f"""
INSERT INTO PRUNING_FATE SELECT RECORDING_ID, BROKEN_OFF, CASE
    WHEN BROKEN_OFF THEN 'goes'
    WHEN max(NEWEST) >= ?1 AND max(NEWEST_SEQ) > ?2 THEN 'young'
    WHEN max(ENGINE_RUN_ID IN ({IMPORTING})) THEN 'needed'
    WHEN max(ENGINE_RUN_ID IN ({LIVING})) AND max(NEWEST) >= iif(max(HAS_ENDED), ?3, ?4) THEN 'needed'
    WHEN max(NEWEST_SEQ) > ({WATERMARK}) THEN 'unread'
    ELSE 'goes' END
FROM PRUNING_PART GROUP BY RECORDING_ID, BROKEN_OFF
"""

ROWS_OF_FATES = """
SELECT TABLE_NAME, ENGINE_RUN_ID, FATE, sum(ROWS_THERE)
FROM PRUNING_PART JOIN PRUNING_FATE USING (RECORDING_ID, BROKEN_OFF) GROUP BY 1, 2, 3
"""
# Whoever brings a broken one to an end counts it, even if none of its rows is left.
RECORDINGS_OF_FATES = f"""
SELECT FATE, count(*) FROM PRUNING_FATE WHERE NOT BROKEN_OFF GROUP BY 1
UNION ALL SELECT 'goes', count(*) FROM ENGINE_LOG_PRUNING WHERE LOG_SEQ <= coalesce(({WATERMARK}), LOG_SEQ)
"""

# The same parameters as those of lone_fates().
GONE = f"""
INSERT INTO PRUNING_GONE
SELECT {RECORDING_CONFIG.name}.rowid FROM {RECORDING_CONFIG.name} JOIN PRUNING_FATE USING (RECORDING_ID)
WHERE BROKEN_OFF = {_broken_off(RECORDING_CONFIG)} AND FATE = 'goes'
UNION ALL SELECT rowid FROM {RECORDING_CONFIG.name}
WHERE {_lone_and_old(RECORDING_CONFIG)} AND {_fate(RECORDING_CONFIG, _needed(RECORDING_CONFIG))} = 'goes'
"""


@cache
def lone_fates(table: Table) -> str:
    """Return the query for what is old in a window and belongs to no recording: run, fate, how many rows."""
    needed = _needed(table, "RECORDING.rowid NOT IN (SELECT CONFIG_ROW FROM PRUNING_GONE)")
    return (
        f"SELECT ENGINE_RUN_ID, {_fate(table, needed)}, count(*) "
        f"FROM {table.name} WHERE {_lone_and_old(table)} GROUP BY 1, 2"
    )
