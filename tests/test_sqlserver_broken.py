"""
The scripts for SQL Server, broken: the checks that test_sqlserver.py relies on find what they are for.

A case is added for whatever a review finds that no check saw.

"""

from __future__ import annotations

from functools import cache

import pytest

from async_enginelog.sqlserver import create_script

from . import tsql
from .test_sqlserver import FULL, parse_faults
from .tsql_checks import faults
from .tsql_tree import made_by

# What a copy of the script is broken by: the text that is replaced, once, and what takes its place.
BROKEN = {
    # These a parser sees.
    "CREATE misspelt": ("CREATE OR ALTER VIEW", "CRATE OR ALTER VIEW"),
    "SELECT misspelt": ("SELECT TOP (20)", "SELCT TOP (20)"),
    "no FROM": ("\nFROM OPENQUERY", "\nOPENQUERY"),
    "no FROM in an inner statement": ("SCHEMA_VERSION) FROM", "SCHEMA_VERSION)"),
    "variable misspelt in an inner statement": ("N'SELECT @version", "N'SELECT @versions"),
    "parenthesis open": ("q.DT_ADDED, 121)", "q.DT_ADDED, 121"),
    "quote open": ("@provider = N'MSDASQL'", "@provider = N'MSDASQL"),
    "quote not doubled": ("engine''s log", "engine's log"),
    "no comma between columns": ("AS DT_ADDED,\n", "AS DT_ADDED\n    q."),
    "END CATCH misspelt": ("END CATCH", "END CATSH"),
    "backquotes": ("VIEW [dbo].", "VIEW `dbo`."),
    "CREATE TABLE IF NOT EXISTS": ("CREATE TABLE [dbo]", "CREATE TABLE IF NOT EXISTS [dbo]"),
    "no THEN": ("WHEN MATCHED THEN", "WHEN MATCHED"),
    "no ON": ("                ON t.", "                t."),
    "no alias of CROSS APPLY": (") AS e (EVENT_TIME, WHAT)", ")"),
    # These it doesn't.
    "LIMIT": ("ORDER BY EVENT_TIME DESC;", "LIMIT 20;"),
    "no comma between arguments": ("@server = @server, @srvproduct", "@server = @server @srvproduct"),
    "argument computed": ("@provstr = @provider_string", "@provstr = N'Timeout=1;' + @provider_string"),
    "variable in OPENQUERY": ("OPENQUERY([ENGINE_LOG], 'SELECT", "OPENQUERY([ENGINE_LOG], @q + 'SELECT"),
    "only a variable in OPENQUERY": ("FROM V_ODBC_ENGINE_LOG_RUN') AS q;", "') AS q, OPENQUERY(a, @last);"),
    "OPENQUERY too long": ("'SELECT DT_ADDED", "'SELECT " + "DT_ADDED, " * 800 + "DT_ADDED"),
    "variable lost at GO": (
        "\nIF EXISTS (SELECT 1 FROM sys.servers WHERE name = @",
        "\nGO\nIF EXISTS (SELECT 1 WHERE 'x' = @",
    ),
    "GO;": ("GO\n", "GO;\n"),
    "GO with words": ("GO\n", "GO ON\n"),
    "GO in a text": ("in the list of", "\nGO\n"),
    "argument misspelt": ("@srvproduct", "@serverproduct"),
    "procedure misspelt": ("sp_addlinkedserver", "sp_addlinkserver"),
    "procedure in the wrong place": ("sys.sp_getapplock", "msdb.dbo.sp_getapplock"),
    "own argument misspelt": ("@up_to_seq = @newest", "@upto_seq = @newest"),
    "own procedure misspelt": (
        "\n            EXEC [dbo].[ENGINE_LOG_RANGE]",
        "\n            EXEC [dbo].[RANGE]",
    ),
    "server option misspelt": ("N'data access'", "N'data acces'"),
    "type of a variable": ("@provider_string nvarchar(4000)", "@provider_string nvarcher(4000)"),
    "type of a cast": ("AS bigint)", "AS biginteger)"),
    "type of a conversion": ("TRY_CONVERT(datetime2(6)", "TRY_CONVERT(datetime3(6)"),
    "ORDER BY in a view": ("0)') AS q;", "0)') AS q ORDER BY LOG_SEQ;"),
    "variable misspelt": ("1, @problem)", "1, @problems)"),
    "parameter misspelt": ("= @chunk;", "= @chunks;"),
    "view not first": ("CREATE OR ALTER VIEW", "SET NOCOUNT ON;\nCREATE OR ALTER VIEW"),
    "procedure not first": ("CREATE OR ALTER PROCEDURE", "SET NOCOUNT ON;\nCREATE OR ALTER PROCEDURE"),
    "no GO between views": (") AS q;\nGO\n", ") AS q;\n"),
    "statement behind a view": (") AS q;\nGO\n", ") AS q;\nPRINT N'made';\nGO\n"),
    "read in a transaction": (
        "BEGIN TRANSACTION;",
        "BEGIN TRANSACTION;\nEXEC [dbo].[ENGINE_LOG_RANGE] @table = N'x';",
    ),
    "MERGE without its end": ("s.LOG_SEQ);\n", "s.LOG_SEQ)\n"),
    "THROW without an end before": ("N'Session';\n        THROW", "N'Session'\n        THROW"),
    "temporary table misspelt": ("TRUNCATE TABLE #ENGINE_DB_LOG_STEPS", "TRUNCATE TABLE #ENGINE_DB_LOG_STEP"),
    "bracket open": ("USE [VIOLIN];", "USE [VIOLIN;"),
    "BEGIN without END": ("    SET NOEXEC ON;\nEND;", "    SET NOEXEC ON;"),
    "quotation marks open": ("USE [master];", 'USE "master;'),
}

# These only checks that know what the script makes, and what there is in SQL Server.
BROKEN_SENSE = {
    "INSERT of a column fewer": (
        "                (DT_ADDED, PYTHON_FUNCTION_NAME,",
        "                (DT_ADDED,",
    ),
    "VALUES of a column fewer": ("(s.DT_ADDED, s.PYTHON_FUNCTION_NAME,", "(s.DT_ADDED,"),
    "INSERT SELECT of a column fewer": ("SELECT s.TABLE_NAME, 0\n", "SELECT s.TABLE_NAME\n"),
    "row of a value fewer": (", N'FUNCTIONS.DT_FUNCTION_MESSAGE_QUEUED')", ")"),
    "column inserted twice": (
        "(DT_ADDED, PYTHON_FUNCTION_NAME, PYTHON_FILE_NAME,",
        "(DT_ADDED, DT_ADDED, PYTHON_FILE_NAME,",
    ),
    "UNION of a column fewer": ("    CAST(NULL AS bigint) AS WEBSOCKET_CONNECTION_ID,\n", ""),
    "no COMMIT": ("            COMMIT TRANSACTION;\n", ""),
    "linked server misspelt": (
        "FROM OPENQUERY([ENGINE_LOG], 'SELECT DT_STEP_CALLED",
        "FROM OPENQUERY([ENGINE_LGO], 'SELECT DT_STEP_CALLED",
    ),
    "linked server of others": (
        "OPENQUERY([ENGINE_LOG], 'SELECT DT_ADDED",
        "OPENQUERY([OTHER], 'SELECT DT_ADDED",
    ),
    "linked server of others in a range": (" FROM OPENQUERY([ENGINE_LOG], ''", " FROM OPENQUERY([OTHER], ''"),
    "column of q misspelt": ("q.RECORDING_ID AS bigint", "q.RECORDNIG_ID AS bigint"),
    "column of s misspelt": ("RECORDING_ID = s.RECORDING_ID", "RECORDING_ID = s.RECORDNIG_ID"),
    "column set misspelt": ("                ENGINE_RUN_ID = s.", "                ENGINE_RNU_ID = s."),
    "column of an index misspelt": ("_COPY] (DT_STEP_CALLED)", "_COPY] (DT_STEP_CALLDE)"),
    "column misspelt": ("(SELECT MAX(ENGINE_RUN_ID)", "(SELECT MAX(ENGINE_RNU_ID)"),
    "column asked of SQLite misspelt": (
        "'SELECT DT_ADDED, PYTHON_FUNCTION_NAME,",
        "'SELECT DT_ADDDE, PYTHON_FUNCTION_NAME,",
    ),
    "column of an older copy misspelt": ("ADD STEP_NAME", "ADD STEP_NAEM"),
    "column of a question misspelt": ("COPY]', N'STEP_NAME')", "COPY]', N'STEP_NAEM')"),
    "alias q lost": (") AS q;\nGO", ");\nGO"),
    "alias twice": ("AS AUDIO_CHUNK_NO", "AS RECORDING_ID"),
    "alias of MERGE lost": ("WITH (HOLDLOCK) AS t", "WITH (HOLDLOCK)"),
    "hint misspelt": ("WITH (HOLDLOCK)", "WITH (HOLDLOK)"),
    "state table misspelt in a message": (
        "UPDATE [dbo].[ENGINE_LOG_COPY_STATE]",
        "UPDATE [dbo].[ENGINE_LOG_COPY_STATES]",
    ),
    "state table misspelt": (
        "            UPDATE [dbo].[ENGINE_LOG_COPY_STATE]",
        "            UPDATE [dbo].[ENGINE_LOG_COPY_STATES]",
    ),
    "procedure of the job misspelt": ("N'EXEC [dbo].[ENGINE_LOG_COPY_NEW];'", "N'EXEC [dbo].[COPY_NEW];'"),
    "bridge view misspelt in a range": ("N'V_ODBC_ENGINE_DB_LOG_STEPS'", "N'V_ODBC_ENGINE_DB_LOG_STEP'"),
    "RAISERROR in another order": ("16, 1, @problem", "1, 16, @problem"),
    "RAISERROR without what it says": ("N'%s', 16, 1, @problem", "N'%s', 16, 1"),
    "datetime2(8)": ("datetime2(6)", "datetime2(8)"),
    "nvarchar(5000)": ("nvarchar(4000)", "nvarchar(5000)"),
    "nvarchar without its length": ("@problem nvarchar(2000)", "@problem nvarchar"),
    "style that isn't there": ("q.DT_ADDED, 121)", "q.DT_ADDED, 999)"),
    "CATCH without TRY": ("BEGIN TRY", "BEGIN"),
    "view of the system misspelt": ("FROM sys.servers", "FROM sys.server"),
    "column of the system misspelt": ("o.schema_id", "o.shcema_id"),
    "property of the server misspelt": ("N'ProductBuild'", "N'ProductBiuld'"),
    "function misspelt": ("SUSER_SNAME()", "SUSR_SNAME()"),
    "aggregate misspelt": ("COUNT_BIG(*)", "COUNTBIG(*)"),
    "argument of a function lost": ("DB_ID(N'VIOLIN')", "NULLIF(N'VIOLIN')"),
    "function lost": ("COALESCE(@version, 0)", "(@version, 0)"),
    "END; before ELSE": ("\nELSE\nBEGIN\n", "\nBEGIN\n    PRINT N'';\nEND;\nELSE\nBEGIN\n"),
    "semicolon before ELSE": ("newer.'\nELSE IF", "newer.';\nELSE IF"),
    "value of a server option": ("@optvalue = N'true'", "@optvalue = N'yes'"),
    "another lock released": (
        "sys.sp_releaseapplock @Resource = N'ENGINE",
        "sys.sp_releaseapplock @Resource = N'X",
    ),
    "another database": ("USE [VIOLIN]", "USE [VIOLINS]"),
}


ALL = BROKEN | BROKEN_SENSE


@cache
def whole() -> str:
    """Return the script that is broken."""
    return create_script(FULL)


@cache
def catcher(name: str) -> str:
    """Return who finds that a script is broken: "checks", else "parser", else nobody."""
    old, new = ALL[name]
    broken = whole().replace(old, new, 1)
    if faults(broken):
        return "checks"
    # Only what has changed: the rest is parsed by another test.
    changed = [batch for batch in tsql.batches(broken) if batch not in set(tsql.batches(whole()))]
    inner = [text for batch in changed for text in tsql.inner_statements(batch)]
    return "parser" if any(parse_faults(text) for text in (*changed, *inner)) else ""


@pytest.mark.parametrize("name", ALL)
def test_broken_scripts_are_caught(name: str) -> None:
    """Each way to break the script is seen by the checks, or where a parser is enough, by that."""
    old, _ = ALL[name]
    assert old in whole(), "this breaks nothing any more"
    assert catcher(name) == "checks" or (name in BROKEN and catcher(name) == "parser")


def test_how_many_broken_scripts_are_caught(capsys: pytest.CaptureFixture[str]) -> None:
    """Together they see all."""
    caught = [catcher(name) for name in ALL]
    with capsys.disabled():
        print(
            f"\nbroken scripts: {len(ALL)}; caught by the checks: {caught.count('checks')}, "
            f"of the others by the parser: {caught.count('parser')}, by nobody: {caught.count('')}"
        )
    assert all(caught)


def misspelt() -> dict[str, str]:
    """Return, by word, the batch in which it stands first, with an X behind it; but not names of indexes."""
    found: dict[str, str] = {}
    for batch in tsql.batches(whole()):
        before = ""
        for match in tsql.TOKEN.finditer(batch):
            if match.lastgroup in ("space", "comment"):
                continue
            word, end = match.group(), match.end() - (match.lastgroup == "name")
            if match.lastgroup in ("word", "name", "variable") and before != "INDEX":
                found.setdefault(word, f"{batch[:end]}X{batch[end:]}")
            before = word
    return found


def test_misspelt_words_are_caught() -> None:
    """Each word, name and variable of the script, misspelt where it stands first, is seen."""
    words = misspelt()
    made = made_by(whole())
    # What a table's definition says, is so: other batches see it.
    defined = {column for columns in made.tables.values() for column in columns}
    unseen = [word for word, batch in words.items() if word not in defined and not faults(batch, made)]
    assert unseen == []
    assert len(words) > 300
