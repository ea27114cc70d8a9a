"""The part of the script that links SQL Server with the log: is it possible, how, and does it answer?"""

# ruff: noqa: S608 -- the text is the product here; what comes from outside is quoted by tsql.py
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .odbc_paths import connection_string
from .tsql import Target, call, checked_name, is_ours, literal, raised

__all__ = [
    "ROWS",
    "Link",
    "database_check",
    "drop_server",
    "instance_check",
    "linked_server",
    "name_check",
    "provider",
    "server_test",
]

# How many of its newest rows a view shows.
ROWS = 10_000

PRODUCT = literal("SQLite")

MINUTE, DAY = 60, 86_400

# What sp_serveroption is told. Nothing but queries goes to SQLite, and no transaction takes it in.
OPTIONS = {
    "data access": "true",
    "rpc": "false",
    "rpc out": "false",
    "collation compatible": "false",
    "use remote collation": "false",
    "connect timeout": "10",
    "query timeout": "60",
    "remote proc transaction promotion": "false",
}

WHERE_IT_WORKS = "It takes SQL Server on the Windows machine of the engine."


@dataclass(frozen=True)
class Link:
    """
    What is linked with what.

    Attributes:
        path: The database of the log, as :func:`~async_enginelog.odbc_paths.local_path` returns it.
        target: The linked server, and where its views are.
        schema_version: The schema version that the database of the log needs to have.
        logins: Who may use the linked server, besides whoever runs the script; if empty, everybody.
        rows: How many of its newest rows a view shows.
        copy_every: How often the copies follow, in seconds, or in whole minutes from a minute on; not by
            themselves if :obj:`None`.

    Raises:
        ValueError: If a login can't be one, or a number is out of range.

    """

    path: str
    target: Target
    schema_version: int
    logins: tuple[str, ...] = ()
    rows: int = ROWS
    copy_every: int | None = None

    def __post_init__(self) -> None:
        for login in self.logins:
            checked_name(login, "the login")
        if not 1 <= self.rows < 2**31:
            raise ValueError(f"rows is {self.rows}; pass a positive number of 32 bits")
        if self.copy_every is not None:
            _check_interval(self.copy_every)


def _check_interval(seconds: int) -> None:
    if not 10 <= seconds < DAY:
        raise ValueError(f"copy_every is {seconds}; pass 10 seconds or more, less than a day")
    if seconds > MINUTE and seconds % MINUTE:
        less = seconds // MINUTE * MINUTE
        near = " or ".join(str(whole) for whole in (less, less + MINUTE) if whole < DAY)
        raise ValueError(
            f"copy_every is {seconds}; pass {near}, as SQL Server Agent counts whole minutes from a minute on"
        )


# -- is it possible? --------------------------------------------------------------------------------


def instance_check(target: Target) -> str:
    """Return what stops the script where it can't work."""
    return _stop_at(
        [
            (
                "@@VERSION LIKE N'%Linux%'",
                f"SQL Server on Linux has no linked servers over ODBC. {WHERE_IT_WORKS}",
            ),
            (
                "CONVERT(int, SERVERPROPERTY(N'EngineEdition')) IN (5, 6, 8, 9, 11)",
                f"Azure SQL has no linked servers over ODBC. {WHERE_IT_WORKS}",
            ),
            (
                f"{_number('ProductMajorVersion')} < 13"
                # SP1 of 2016; before, there was no CREATE OR ALTER. Older ones don't know the property.
                f" OR ({_number('ProductMajorVersion')} = 13 AND {_number('ProductBuild')} < 4001)",
                "This takes SQL Server 2016 SP1 or newer.",
            ),
            (
                "IS_SRVROLEMEMBER(N'sysadmin') = 0",
                "Run this as a member of sysadmin: it sets an option of the instance, adds a linked server.",
            ),
            _no_database(target),
            (
                f"EXISTS (SELECT 1 FROM sys.databases WHERE name = {literal(target.database)}"
                " AND compatibility_level < 110)",
                f"The compatibility level of the database {target.database} is below 110; raise it.",
            ),
            (
                f"EXISTS ({_servers(target)} AND (is_linked = 0 OR product <> {PRODUCT}))",
                f"There is a server {target.server} already, for something else. Choose another name with "
                "--linked-server.",
            ),
        ]
    )


def _number(name: str) -> str:
    return f"COALESCE(CONVERT(int, SERVERPROPERTY({literal(name)})), 0)"


def database_check(target: Target) -> str:
    """Return what stops the script where there is no such database."""
    return _stop_at([_no_database(target)])


def _no_database(target: Target) -> tuple[str, str]:
    return (
        f"DB_ID({literal(target.database)}) IS NULL",
        f"There is no database {target.database} here. Create it, or choose another with --sql-database.",
    )


def _servers(target: Target) -> str:
    return f"SELECT 1 FROM sys.servers WHERE name = {literal(target.server)}"


def _stop_at(problems: Iterable[tuple[str, str]]) -> str:
    """Return what shows the first problem whose condition holds, and stops the script."""
    checks = "\nELSE ".join(f"IF {found}\n    SET @problem = {literal(text)}" for found, text in problems)
    return f"""\
DECLARE @problem nvarchar(2000);
{checks};
IF @problem IS NOT NULL
BEGIN
    {raised("%s", "@problem")}
    SET NOEXEC ON;
END;"""


def name_check(target: Target, names: Iterable[str]) -> str:
    """Return what stops the script where others have taken its names, such as tables of the old engine."""
    wanted = ",\n".join(f"    ({literal(name)})" for name in names)
    taken = (
        "There is already something else called %s, where the script would make its own. Rename it with "
        "sp_rename, or choose another schema with --schema."
    )
    return f"""\
DECLARE @taken nvarchar(128);
SELECT @taken = MIN(o.name)
FROM sys.objects AS o
JOIN (VALUES
{wanted}
) AS v (name) ON v.name = o.name
WHERE o.schema_id = SCHEMA_ID({literal(target.schema)})
    AND NOT {is_ours("o.object_id")};
IF @taken IS NOT NULL
BEGIN
    {raised(taken, "@taken")}
    SET NOEXEC ON;
END;"""


# -- the linked server ------------------------------------------------------------------------------


def provider() -> str:
    """Return what lets everybody, not only administrators, read over ODBC."""
    option = call("master.dbo.sp_MSset_oledb_prop", "N'MSDASQL'", "N'AllowInProcess'", "1")
    return f"""\
-- The bridge to ODBC runs within SQL Server; else only administrators could read.
-- This is so for all linked servers of this instance that use it.
{option}"""


def linked_server(link: Link) -> str:
    """Return what makes the linked server, in the place of an earlier one of ours."""
    drop = call("master.dbo.sp_dropserver", server="@server", droplogins="N'droplogins'")
    add = call(
        "master.dbo.sp_addlinkedserver",
        server="@server",
        srvproduct=PRODUCT,
        provider="N'MSDASQL'",
        provstr="@provider_string",
    )
    options = "\n".join(
        call("master.dbo.sp_serveroption", server="@server", optname=literal(name), optvalue=literal(value))
        for name, value in OPTIONS.items()
    )
    return f"""\
DECLARE @server sysname = {literal(link.target.server)};
-- NoCreat: a wrong path makes no empty file. BigInt: whole numbers have 64 bits. Timeout: for a lock, in ms.
DECLARE @provider_string nvarchar(4000) =
    {literal(connection_string(link.path))};

IF EXISTS (SELECT 1 FROM sys.servers WHERE name = @server)
    {drop}
{add}

-- Who may use it. Whoever asks, the file is opened by the account of the SQL Server service.
{_logins(link.logins)}

{options}"""


def _logins(logins: tuple[str, ...]) -> str:
    # The default that sp_addlinkedserver makes: each login with its own name.
    default = call("master.dbo.sp_droplinkedsrvlogin", rmtsrvname="@server", locallogin="NULL")
    if not logins:
        return f"-- All logins of this instance; to choose some, use --login.\n{default}\n{_login('NULL')}"
    some = "\n".join(_login(literal(login)) for login in logins)
    return f"""\
{default}
{some}
-- Whoever runs this script makes and tests the views.
DECLARE @me sysname = SUSER_SNAME();
{_login("@me")}"""


def _login(login: str) -> str:
    return call(
        "master.dbo.sp_addlinkedsrvlogin",
        rmtsrvname="@server",
        useself="N'False'",
        locallogin=login,
        rmtuser="NULL",
        rmtpassword="NULL",
    )


def drop_server(target: Target) -> str:
    """Return what drops the linked server, if it is ours."""
    drop = call("master.dbo.sp_dropserver", server=literal(target.server), droplogins="N'droplogins'")
    return f"IF EXISTS ({_servers(target)} AND is_linked = 1 AND product = {PRODUCT})\n    {drop}"


# -- does it answer? --------------------------------------------------------------------------------


def server_test(link: Link) -> str:
    """Return what tries the linked server, and stops the script with hints if it doesn't answer."""
    test = call("master.dbo.sp_testlinkedserver", servername=literal(link.target.server))
    # As text: see odbc.py. As a statement of its own, because this batch couldn't even begin otherwise.
    version = link.target.ask("SELECT substr(user_version, 1, 10) AS SCHEMA_VERSION FROM pragma_user_version")
    ask = call(
        "sys.sp_executesql",
        literal(f"SELECT @version = TRY_CONVERT(int, q.SCHEMA_VERSION) FROM {version} AS q"),
        literal("@version int OUTPUT"),
        version="@version OUTPUT",
    )
    too_old = (
        "The database of the log is of an older version of enginelog. Bring it up to date: enginelog init"
    )
    hints = "\n".join(f"    PRINT {literal(hint)};" for hint in _hints(link))
    return f"""\
DECLARE @version int;
BEGIN TRY
    {test}
    {ask}
    IF COALESCE(@version, 0) < {link.schema_version}
        {raised(too_old)}
END TRY
BEGIN CATCH
    DECLARE @message nvarchar(2000) = ERROR_MESSAGE();
{hints}
    {raised("%s", "@message")}
    SET NOEXEC ON;
END CATCH;"""


def _hints(link: Link) -> Iterator[str]:
    yield "SQL Server can't read the log. Look at these, one by one, and run this script again:"
    yield "1. The driver: is SQLite3 ODBC Driver in the list of the 64-bit odbcad32.exe, tab Drivers?"
    yield f"2. The path: is the log at {link.path}, on a disk of this machine, not on a mapped drive?"
    yield "3. The folder: may the account of the SQL Server service write there, as said at the top?"
    yield "4. The tables: was the file made by enginelog, and brought up to date with enginelog init?"
    yield "5. The login (message 7416): may you use the linked server? Name logins with --login."
    yield "6. After a change of the driver or its option, restart the SQL Server service."
