"""
The scripts for SQL Server, without one: parsed, checked, taken apart; and broken, to test the checks.

What the linked server is asked is run over ODBC in test_sqlserver_odbc.py.

"""

from __future__ import annotations

import dataclasses
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from async_enginelog.migrations import migrations
from async_enginelog.odbc import SOURCES, Source, bridge_version
from async_enginelog.odbc_paths import connection_string
from async_enginelog.resources import resource
from async_enginelog.sqlserver import Link, Target, create_script, remove_script

from . import tsql
from .tsql_checks import MAX_QUERY, faults
from .tsql_procedure import Raised, executed

sqlfluff = pytest.importorskip("sqlfluff.core", reason="the dev extra isn't installed: no sqlfluff")

VERSION = bridge_version(migrations())
PATH = r"C:\VIOLIN\engine_log.db"
DEFAULT = Link(PATH, Target("ENGINE_LOG", "VIOLIN"), VERSION)
FULL = dataclasses.replace(DEFAULT, logins=("PC\\me", "reader"), copy_every=30)
# Whatever has a meaning somewhere, at once.
AWKWARD = Link(
    r"D:\it's [a] %TEMP% ''log'' \ü 🎻.db",
    Target("it's ]a[ '' \"link\" 🎻 %s", "my]] 'data' 🎻 %d --", "sch'e]ma;GO"),
    VERSION,
    logins=("O'HARA\\ü]", "''", "a;b"),
    rows=1,
    copy_every=3600,
)
LINKS = {"full": FULL, "awkward": AWKWARD}

each_link = pytest.mark.parametrize("link", LINKS.values(), ids=list(LINKS))
each_source = pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))


@cache
def parse_faults(text: str) -> tuple[str, ...]:
    """Return what sqlfluff finds wrong with a text in Transact-SQL. It knows no doubled brackets."""
    text = tsql.TOKEN.sub(lambda match: "[x]" if match.lastgroup == "name" else match.group(), text)
    parsed = sqlfluff.Linter(dialect="tsql").parse_string(text)
    return tuple(str(violation)[:200] for violation in parsed.violations)


def scripts_of(link: Link) -> Iterator[str]:
    """Return what is written for a link: the script that makes it, and the one that takes it away."""
    yield create_script(link)
    yield remove_script(link.target)


def made_by(script: str, kind: str) -> set[str]:
    """Return the names of the views, procedures, tables or schemas that a script makes."""
    return set(re.findall(rf"^\s*CREATE (?:OR ALTER )?{kind} (\S.*?)(?: \(|$)", script, re.MULTILINE))


def named(text: str) -> str:
    """Return the name that stands in brackets."""
    return text[1:-1].replace("]]", "]")


def arguments_of(script: str, procedure: str) -> list[dict[str, str]]:
    """Return the arguments of each call of a procedure, as they are written."""
    return [
        {argument[0].text[1:]: argument[2].text for argument in call.arguments}
        for batch in map(tsql.tokens, tsql.batches(script))
        for call in tsql.calls(batch)
        if call.procedure == procedure
    ]


# -- the whole --------------------------------------------------------------------------------------


def test_the_copy_is_current() -> None:
    """The script for the defaults, that stands in migrations/sqlserver to be read, is what is written now."""
    copy = resource("migrations") / "sqlserver" / "create_sql_server_linked_server.sql"
    assert copy.read_text("utf-8") == create_script(DEFAULT)


@each_link
def test_scripts_parse(link: Link) -> None:
    """The scripts are Transact-SQL to a parser, with any names; and so are the texts they execute."""
    texts = [text for script in scripts_of(link) for text in (script, *tsql.inner_statements(script))]
    assert len(texts) > 2
    assert [parse_faults(text) for text in texts] == [()] * len(texts)


@each_link
def test_scripts_pass_the_checks(link: Link) -> None:
    """Nor do the checks find anything that a parser doesn't see."""
    for script in scripts_of(link):
        assert faults(script) == []


@pytest.mark.parametrize("into", [None, "#it's ]a['"])
@each_source
def test_statements_put_together_parse(source: Source, into: str | None) -> None:
    """What the procedure for ranges executes is Transact-SQL, too, and asks the right server."""
    script = create_script(AWKWARD)
    recording = 2**63 - 1 if source.has("RECORDING_ID") else None
    times = {"from_time": "2026-01-31 12:00:00.000000", "to_time": "2026-01-31 13:00:00.000000"}
    statement = executed(script, table=source.name, into=into, recording_id=recording, **times)
    assert parse_faults(statement) == ()
    assert faults(statement) == []
    found = tsql.tokens(statement)
    [server] = [found[place + 2] for place, token in enumerate(found) if token.says("OPENQUERY")]
    assert named(server.text) == AWKWARD.target.server
    assert [len(query) <= MAX_QUERY for query in tsql.pass_through_queries(statement)] == [True]


def test_scripts_are_plain_text() -> None:
    """A script for plain names is ASCII, so that no tool can read it wrong."""
    assert all(script.isascii() for script in scripts_of(FULL))


# -- what is made, and with which names -------------------------------------------------------------


@each_link
def test_removes_what_it_makes(link: Link) -> None:
    """All that one script makes, the other drops."""
    create, remove = scripts_of(link)
    for kind in ("VIEW", "PROCEDURE", "TABLE"):
        made = made_by(create, kind)
        assert made == set(re.findall(rf"DROP {kind} IF EXISTS (.*)", remove)), kind
        assert len(made) == {"VIEW": len(SOURCES) + 1, "PROCEDURE": 2, "TABLE": len(SOURCES) + 1}[kind]
    [server] = arguments_of(remove, "master.dbo.sp_dropserver")
    assert tsql.unquoted(server["server"]) == link.target.server
    [job] = arguments_of(remove, "msdb.dbo.sp_delete_job")
    assert all(call["job_name"] == job["job_name"] for call in arguments_of(create, "msdb.dbo.sp_add_job"))
    assert "DROP SCHEMA" in remove or link.target.schema == "dbo"


@each_link
def test_names_survive(link: Link) -> None:
    """Names and the path arrive as they were given, whatever they have in them."""
    script = create_script(link)
    found = [token for batch in tsql.batches(script) for token in tsql.tokens(batch)]
    used = {named(after.text) for token, after in pairwise(found) if token.says("USE")}
    assert used == {link.target.database, "master"}
    servers = {named(found[n + 2].text) for n, token in enumerate(found) if token.says("OPENQUERY")}
    assert servers == {link.target.server}
    texts = {tsql.unquoted(token.text) for token in found if token.kind == "text"}
    assert {link.target.server, link.target.database, link.target.schema, *link.logins} <= texts
    assert connection_string(link.path) in texts
    # A statement that is a text, with a query that is a text.
    [inner] = [text for text in tsql.inner_statements(script) if "OPENQUERY" in text]
    [name] = [token.text for token in tsql.tokens(inner) if token.kind == "name"]
    assert named(name) == link.target.server


@each_link
def test_schema_is_made(link: Link) -> None:
    """A schema that isn't dbo is made where it isn't there."""
    made = [text for text in tsql.inner_statements(create_script(link)) if text.startswith("CREATE SCHEMA")]
    wanted = link.target.schema
    assert [named(text.removeprefix("CREATE SCHEMA ")) for text in made] == [wanted] * (wanted != "dbo")


def test_logins() -> None:
    """By default all logins may use the linked server; else those named, and who runs the script."""
    [everybody] = arguments_of(create_script(DEFAULT), "master.dbo.sp_addlinkedsrvlogin")
    assert everybody["locallogin"] == "NULL"
    some = arguments_of(create_script(FULL), "master.dbo.sp_addlinkedsrvlogin")
    assert [call["locallogin"] for call in some] == ["N'PC\\me'", "N'reader'", "@me"]
    for call in (everybody, *some):
        assert (call["useself"], call["rmtuser"], call["rmtpassword"]) == ("N'False'", "NULL", "NULL")


@pytest.mark.parametrize(
    ("seconds", "interval", "name"),
    [
        (10, "2 10", "every 10 seconds"),
        (59, "2 59", "every 59 seconds"),
        (60, "4 1", "every minute"),
        (120, "4 2", "every 2 minutes"),
        (86_340, "4 1439", "every 1439 minutes"),
    ],
)
def test_job(seconds: int, interval: str, name: str) -> None:
    """The job of the Agent runs as often as is asked for, and says so by its name."""
    link = dataclasses.replace(DEFAULT, copy_every=seconds)
    [schedule] = arguments_of(create_script(link), "msdb.dbo.sp_add_jobschedule")
    assert schedule["name"] == f"N'{name}'"
    assert f"{schedule['freq_subday_type']} {schedule['freq_subday_interval']}" == interval
    assert arguments_of(create_script(DEFAULT), "msdb.dbo.sp_add_job") == []


@pytest.mark.parametrize("path", ["/srv/engine_log.db", PATH])
def test_folder_to_grant(path: str) -> None:
    """The first lines say to which folder the service needs access."""
    folder = {PATH: r"C:\VIOLIN", "/srv/engine_log.db": "/srv"}[path]
    assert f'icacls "{folder}" /grant' in create_script(dataclasses.replace(DEFAULT, path=path))


# -- views ------------------------------------------------------------------------------------------


def view(name: str) -> str:
    """Return the batch that makes a view."""
    [batch] = [batch for batch in tsql.batches(create_script(DEFAULT)) if f"VIEW [dbo].[{name}]\n" in batch]
    return batch


@each_source
def test_views_are_typed(source: Source) -> None:
    """Each column has the type that it should have in SQL Server, under the engine's name."""
    found = re.findall(r"^    (?:CAST|TRY_CONVERT)\((.*)\) AS (\w+),?$", view(source.name), re.MULTILINE)
    assert [name for _, name in found] == [column.name for column in source.columns]
    for (text, name), column in zip(found, source.columns, strict=True):
        kind = column.declared.replace("VARCHAR", "nvarchar").replace("CHAR", "char").replace("REAL", "float")
        expected = {
            "DATETIME": f"datetime2(6), q.{name}, 121",
            "BIGINT": f"q.{name} AS bigint",
        }.get(column.declared, f"q.{name} AS {kind}")
        assert text == expected


def test_timeline_has_everything() -> None:
    """The timeline has each time of each table."""
    timeline = view("ENGINE_LOG_TIMELINE")
    moments = re.findall(
        r"TRY_CONVERT\(datetime2\(6\), q\.(\w+), 121\)(?: END)?, N'(\w+)\.(\w+)'\)", timeline
    )
    expected = {
        (source.name.removeprefix("ENGINE_DB_LOG_"), column.name)
        for source in SOURCES.values()
        for column in source.columns
        if column.declared == "DATETIME"
    }
    assert {(what, time) for _, what, time in moments} == expected
    assert all(read == said for read, _, said in moments)


def events_of(source: Source, row: dict[str, str]) -> dict[str, str]:
    """Return the events that the timeline makes of a row. But for the types, SQLite knows how."""
    what = source.name.removeprefix("ENGINE_DB_LOG_")
    [part] = [part for part in view("ENGINE_LOG_TIMELINE").split("UNION ALL") if f"N'{what}." in part]
    values = part.partition("CROSS APPLY (VALUES")[2].partition(") AS e (EVENT_TIME, WHAT)")[0]
    values = re.sub(r"TRY_CONVERT\(datetime2\(6\), (q\.\w+), 121\)", r"\1", values)
    values = re.sub(r"\bN'", "'", values)
    columns = ", ".join(f":{column.name} AS {column.name}" for column in source.columns)
    given = {column.name: row.get(column.name) for column in source.columns}
    with closing(sqlite3.connect(":memory:")) as connection:
        [(nested,)] = connection.execute(
            f"SELECT json_array({re.sub(r'[(](?=q|CASE)', 'json_array(', values)}) "
            f"FROM (SELECT {columns}) AS q",
            given,
        )
    return {name.partition(".")[2]: at for at, name in json.loads(nested) if at is not None}


@each_source
def test_timeline_leaves_no_row_out(source: Source) -> None:
    """A row is in the timeline by its times; by that of its commit if it has no other."""
    times = [column.name for column in source.columns if column.declared == "DATETIME"]
    for name in times:
        assert events_of(source, {name: "A"}) == {name: "A"}
    own = [name for name in times if name.upper() != "DT_ADDED"] or times
    assert events_of(source, dict.fromkeys(times, "A")) == dict.fromkeys(own, "A")
    if own != times:
        assert events_of(source, {own[-1]: "A", "DT_ADDED": "B", "dt_added": "B"}) == {own[-1]: "A"}


def test_timeline_has_the_same_columns_everywhere() -> None:
    """Each part of the timeline has the same eight columns, in the same order."""
    parts = view("ENGINE_LOG_TIMELINE").split("UNION ALL")
    columns = ["EVENT_TIME", "WHAT", "RECORDING_ID", "FRAME_NO", "WEBSOCKET_CONNECTION_ID"]
    columns += ["EVENT_TEXT", "ENGINE_RUN_ID", "LOG_SEQ"]
    assert len(parts) == len(SOURCES)
    for part in parts:
        selected = part[part.index("SELECT") : part.index("FROM OPENQUERY")]
        assert re.findall(r" AS (\w+),?$", selected, re.MULTILINE) == columns


@pytest.mark.parametrize("rows", [1, 500])
def test_rows_of_views(rows: int) -> None:
    """How many rows a view shows stands in what the linked server is asked, where it saves the reading."""
    script = create_script(dataclasses.replace(DEFAULT, rows=rows))
    queries = [query for query in tsql.pass_through_queries(script) if "OFFSET" in query]
    assert len(queries) == 2 * len(SOURCES)
    assert all(re.search(rf"OFFSET\s+{rows - 1}\),\s+0\)$", query) for query in queries)


# -- ranges -----------------------------------------------------------------------------------------


def test_range_of_unknown_table() -> None:
    """A name that is none of the tables gets into no statement."""
    with pytest.raises(Raised, match="no table"):
        executed(create_script(DEFAULT), table="sys.objects'; DROP TABLE x")


def test_range_of_recording_where_there_is_none() -> None:
    """A recording is an error for a table that knows none."""
    with pytest.raises(Raised, match="no RECORDING_ID"):
        executed(create_script(DEFAULT), table="ENGINE_LOG_RUN", recording_id=1)


def test_ranges() -> None:
    """Limits get into what the linked server is asked; those left out, or NULL, have their default."""
    script = create_script(DEFAULT)
    given = {
        "after_seq": 5,
        "up_to_seq": 9,
        "recording_id": 7,
        "max_rows": 3,
        "from_time": "A",
        "to_time": "B",
    }
    [query] = tsql.pass_through_queries(executed(script, table="ENGINE_DB_LOG_STEPS", **given))
    assert query.endswith(
        "FROM V_ODBC_ENGINE_DB_LOG_STEPS WHERE LOG_SEQ > 5 AND LOG_SEQ <= 9 AND RECORDING_ID = 7 "
        "AND DT_STEP_CALLED >= 'A' AND DT_STEP_CALLED < 'B' ORDER BY LOG_SEQ LIMIT 3"
    )
    for nothing in ({}, dict.fromkeys(given)):
        [query] = tsql.pass_through_queries(executed(script, table="ENGINE_DB_LOG_STEPS", **nothing))
        assert query.endswith(f"WHERE LOG_SEQ > 0 AND LOG_SEQ <= {2**63 - 1} ORDER BY LOG_SEQ LIMIT 10000")


# -- what the documentation says --------------------------------------------------------------------

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "sqlserver.md"


@pytest.mark.skipif(not DOCUMENT.exists(), reason="the documentation isn't here")
def test_commands_of_the_documentation() -> None:
    """PowerShell takes a $ in double quotes for a variable, and knows no \\" for a quote in them."""
    blocks = re.findall(r"^ *```(\w+)\n(.*?)^ *```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert {kind for kind, _ in blocks} >= {"powershell", "bat", "sql"}
    for kind, text in blocks:
        if kind == "powershell":
            assert '\\"' not in text
            assert not re.search(r'"[^"\n]*\$[^"\n]*"', text)
        elif kind == "sql":
            assert parse_faults(text) == ()
        elif kind == "bat":
            assert "schtasks" in text
            assert "'" not in text


# -- wrong arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        ("x" * 129, "longer than 128"),
        ("🎻" * 65, "longer than 128"),
        ("a\nGO\nb", "control characters"),
        ("a\0", "control characters"),
        ("\ud83d", "control characters"),
        ("a\u2028b", "control characters"),
        ("a\u202eb", "control characters"),
    ],
)
def test_refused_names(name: str, reason: str) -> None:
    """A name that would break the script, or that SQL Server refuses, is refused, wherever it is given."""
    for names in ((name, "V", "dbo"), ("E", name, "dbo"), ("E", "V", name)):
        with pytest.raises(ValueError, match=reason):
            Target(*names)
    with pytest.raises(ValueError, match=f"the login .*{reason}"):
        dataclasses.replace(DEFAULT, logins=("me", name))


@pytest.mark.parametrize(
    "wrong",
    [{"rows": 0}, {"rows": 2**31}]
    + [{"copy_every": seconds} for seconds in (9, 86_400, 0, 61, 90, 119, 86_399)],
)
def test_refused_numbers(wrong: dict[str, int]) -> None:
    """Numbers out of range are refused, and intervals that the Agent can't keep."""
    [(name, value)] = wrong.items()
    with pytest.raises(ValueError, match=f"{name} is {value}; pass"):
        dataclasses.replace(DEFAULT, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("seconds", "near"), [(90, "60 or 120"), (119, "60 or 120"), (86_399, "86340")])
def test_intervals_near(seconds: int, near: str) -> None:
    """Who asks for what isn't whole minutes is told what would be."""
    with pytest.raises(ValueError, match=f"; pass {near}, as SQL Server Agent counts"):
        dataclasses.replace(DEFAULT, copy_every=seconds)
