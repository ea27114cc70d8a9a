"""
The tables of the log: columns, types, widths and keys, read off :mod:`~async_enginelog.rows`.

``migrations/sqlite/`` is the truth of the file; a test holds the two together.

"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from . import rows
from .rows import Width

__all__ = ["TABLES", "Column", "Kind", "Table", "find_table"]


class Kind(Enum):
    """What a column holds, and the type it is declared with: one that ODBC reads right."""

    INTEGER = "BIGINT"
    REAL = "REAL"
    TEXT = "VARCHAR"
    TIME = "DATETIME"


@dataclass(frozen=True, slots=True)
class Column:
    """A column; ``argument`` is its name in lower case, ``name`` the engine's spelling."""

    name: str
    argument: str
    kind: Kind
    width: int = 0
    keep_end: bool = False
    headers: bool = False

    @property
    def declared(self) -> str:
        """The type as it is declared in SQL."""
        if self.kind is not Kind.TEXT:
            return str(self.kind.value)
        return "CHAR(1)" if self.width == 1 else f"VARCHAR({self.width})"


@dataclass(frozen=True, eq=False)
class Table:
    """
    A table of the log.

    Attributes:
        name: Its name in SQL.
        columns: Its columns by argument, in the order of the table.
        key: Arguments that make two calls speak of the same thing; empty for
            tables that only grow.
        run_in_key: Whether the same key in two runs means two things.
        stamp: The argument that is the time of the call if it isn't passed.

    """

    name: str
    columns: dict[str, Column]
    key: tuple[str, ...] = ()
    run_in_key: bool = True
    stamp: str | None = None

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of the unique index, in its order: the reader's columns first."""
        names = tuple(self.columns[argument].name for argument in self.key)
        return (*names, "ENGINE_RUN_ID") if names and self.run_in_key else names

    @property
    def added(self) -> Column | None:
        """The column that is stamped at the commit, if there is one."""
        return self.columns.get("dt_added")


def _column(name: str, argument: str, hint: Any) -> Column:
    if get_origin(hint) is Annotated:
        width = next(item for item in hint.__metadata__ if isinstance(item, Width))
        return Column(name, argument, Kind.TEXT, *width)
    kinds = {datetime: Kind.TIME, float: Kind.REAL, int: Kind.INTEGER}
    return Column(name, argument, next(kinds[item] for item in get_args(hint) if item in kinds))


# All of them, by name; in this order they are shown everywhere.
TABLES: dict[str, Table] = {}


def _table(name: str, row: type, *, lower_case: bool = False, **rest: Any) -> Table:
    """Describe a table, which is one of TABLES from then on."""
    hints = get_type_hints(row, include_extras=True)
    columns = {
        argument: _column(argument if lower_case else argument.upper(), argument, hint)
        for argument, hint in hints.items()
    }
    TABLES[name] = Table(name, columns, **rest)
    return TABLES[name]


FUNCTIONS = _table("ENGINE_DB_LOG_FUNCTIONS", rows.FunctionExecution, stamp="dt_function_message_queued")
FUNCTION_ERROR = _table("ENGINE_DB_LOG_FUNCTION_ERROR", rows.FunctionError)
AUDIO_FRAME = _table(
    "ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME", rows.AudioFrame, key=("recording_id", "audio_frame_no")
)
PRE_SPLIT_AUDIO_FRAME = _table(
    "ENGINE_DB_LOG_PRE_SPLIT_AUDIO_FRAME", rows.PreSplitAudioFrame, key=("recording_id", "audio_frame_no")
)
RECORDING_CONFIG = _table(
    "ENGINE_DB_LOG_RECORDING_CONFIG", rows.RecordingConfig, key=("recording_id",), run_in_key=False
)
WEBSOCKET_CONNECTION = _table(
    "ENGINE_DB_LOG_WEBSOCKET_CONNECTION", rows.WebsocketConnection, key=("websocket_connection_id",)
)
WEBSOCKET_MESSAGE = _table("ENGINE_DB_LOG_WEBSOCKET_MESSAGE", rows.WebsocketMessage, key=("message_id",))
PROCESS_REGISTRY = _table(
    # The engine spells these columns in lower case.
    "ENGINE_DB_LOG_PROCESS_REGISTRY",
    rows.ProcessRegistry,
    lower_case=True,
    key=("process_id",),
)
STEPS = _table("ENGINE_DB_LOG_STEPS", rows.Step, stamp="dt_step_called")
RESOURCE_MONITOR = _table("ENGINE_DB_LOG_RESOURCE_MONITOR", rows.ResourceUsage, stamp="dt_measurement")


def find_table(name: str) -> Table:
    """
    Return the table called ``name``, in any case.

    Raises:
        ValueError: If there is no such table.

    """
    table = TABLES.get(name.upper()) if isinstance(name, str) else None
    if table is None:
        raise ValueError(f"there is no table {name!r}; the tables are {', '.join(TABLES)}")
    return table
