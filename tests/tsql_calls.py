"""What a script calls: procedures that there are, with arguments that they take."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .tsql import Batch, calls, is_named, unquoted
from .tsql_tree import Made

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
    "sys.sp_addextendedproperty": "name value level0type level0name level1type level1name",
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

# What an option may be set to.
# https://learn.microsoft.com/sql/relational-databases/system-stored-procedures/sp-serveroption-transact-sql
SERVER_OPTIONS = {
    **dict.fromkeys(
        [
            *(
                "collation compatible",
                "data access",
                "dist",
                "lazy schema validation",
                "pub",
                "rpc",
                "rpc out",
            ),
            *("remote proc transaction promotion", "sub", "system", "use remote collation"),
        ],
        "true|false|on|off",
    ),
    **dict.fromkeys(["connect timeout", "query timeout"], r"\d+"),
}


def wrong_calls(batch: Batch, made: Made) -> Iterator[str]:
    """A procedure or an argument that doesn't exist."""
    for call in calls(batch):
        name = call.procedure.lower()
        if name == EXECUTE_TEXT:
            continue  # its arguments are those of the text
        if name not in PROCEDURES and name not in made.procedures:
            yield f"there is no procedure {call.procedure}"
            continue
        known = made.procedures.get(name) or PROCEDURES[name].split()
        for number, argument in enumerate(call.arguments, 1):
            given = argument[0].text[1:] if is_named(argument) else str(number)
            if given.lower() not in known:
                yield f"{call.procedure} has no argument {given}"


def computed_arguments(batch: Batch, _: Made) -> Iterator[str]:
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


def wrong_options(batch: Batch, _: Made) -> Iterator[str]:
    """An option of a linked server that doesn't exist, or can't be set to that."""
    for call in calls(batch):
        given = {argument[0].text: argument[2].text for argument in call.arguments if is_named(argument)}
        if "@optname" not in given:
            continue
        name, value = unquoted(given["@optname"]), unquoted(given.get("@optvalue", "''"))
        if not re.fullmatch(SERVER_OPTIONS.get(name, r"(?!)"), value):
            yield f"there is no server option {name} of {value}"


def other_locks(batch: Batch, _: Made) -> Iterator[str]:
    """A lock that is released but was not taken, or the other way round."""
    resources = {
        argument[2].text
        for call in calls(batch)
        if call.procedure.lower().endswith("applock")
        for argument in call.arguments
        if argument[0].text == "@Resource"
    }
    if len(resources) > 1:
        yield f"several locks: {sorted(resources)}"
