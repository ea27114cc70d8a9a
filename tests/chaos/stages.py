"""
Die in the middle of something: in the thread that does it, at a line of the library, or a moment later.

Runs in the victim. Python tells which line of which function comes next; when the victim has come to a chosen
one for the chosen time, it obeys an order: ``SIGKILL``, say. What SQLite does has no lines; a fuse that was
lit before burns for some milliseconds meanwhile.

"""

from __future__ import annotations

import random
import sys
import threading
import time
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from async_enginelog import database
from async_enginelog.migrations import migrations

if TYPE_CHECKING:
    from .victim import Victim

__all__ = ["RARE", "STAGES", "Moment", "arm", "keep_schema_old", "some_moment"]

PACKAGE = "async_enginelog"

# By stage, the functions in which it takes place.
STAGES = {
    "call": "EngineLog._accept EngineLog._accept_nowait RowEncoder.__call__ Spool.append "
    "Spool.append_from_thread Writer.attend Writer.give_way",
    "segment change": "Spool._append_to_next_segment Spool._prepare Spool._prepare_spare Spool._create "
    "create_segment _allocate Spool.release Spool._remove",
    "batch": "Writer._commit_all Writer._take_note Spool.read Spool._read_newest Spool._read_file "
    "Committer._gather Gathering.add Gathering._take_values Gathering.batch decode",
    "commit": "Writer._commit Committer.commit Database.write Connection.carry_out Handle.executescript "
    "_write _insert",
    "checkpoint": "_write",
    "opening": "EngineLog.open begin_run _make_spool _new_run claim_run Spool.__init__ "
    "create_segment take_lock Writer._connected",
    "migration": "Database.open Database.migrate Database._check_owner _migrate",
    "recovery": "recover_dead_runs _recover _commit_leftover Leftover.read Leftover.let_go take_leftover "
    "drop_lock runs_in is_alive Database.end_dead_runs",
    "aclose": "EngineLog._close EngineLog._end_writer EngineLog._end_threads Spool.close Spool._clean_up "
    "Spool._is_committed Database.end_run Writer._disconnect drop_lock",
    "pruning": "Pruning._take_lone Pruning._delete_runs Pruning._give_room_back Recordings.judge "
    "Recordings.delete_group Recordings._still_going Recordings._delete_whole Round.delete",
    "salvage": "_replace_damaged _is_whole _replace _held _swap save_rows",
    "backup": "Maintenance.copy_to Connection.copy_pages Connection.copy_pages.<locals>.step",
}

# A line of these comes up thousands of times a second, of the others a few times in a life.
BUSY = {"call", "batch", "commit", "checkpoint", "pruning", "salvage"}

# These take place only in an engine that prunes its log, or finds it damaged.
RARE = {"pruning", "salvage"}


class Moment(NamedTuple):
    """When to obey: in a stage, after so many of its lines, and so many seconds later."""

    stage: str
    skip: int
    fuse: float


def some_moment(stage: str, chance: random.Random) -> Moment:
    """Choose a moment of a stage."""
    most = 3.5 if stage in BUSY else 2.0
    fuse = chance.uniform(0.0, 0.005) if stage == "checkpoint" or chance.random() < 0.5 else 0.0
    return Moment(stage, int(10 ** chance.uniform(0.0, most)), fuse)


def arm(victim: Victim) -> None:
    """Have the victim obey the order ``extra["way"]`` at ``extra["moment"]``."""
    moment = Moment(*victim.orders.extra["moment"])
    way = victim.orders.extra["way"]
    fuse = _Fuse(victim, way, moment)
    threading.settrace(fuse.trace_call)
    sys.settrace(fuse.trace_call)


class _Fuse:
    def __init__(self, victim: Victim, way: str, moment: Moment) -> None:
        self._victim = victim
        self._way = way
        self._left = moment.skip
        self._delay = moment.fuse
        self._functions = set(STAGES[moment.stage].split())
        self._codes: dict[CodeType, bool] = {}

    def trace_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Tell Python whether to trace the lines of a call."""
        code = frame.f_code
        traced = self._codes.get(code)
        if traced is None:
            ours = str(frame.f_globals.get("__name__", "")).startswith(PACKAGE)
            traced = self._codes[code] = ours and code.co_qualname in self._functions
        return self._trace_line if traced else None

    def _trace_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            self._light()
        return self._trace_line

    def _light(self) -> None:
        threading.settrace(None)
        sys.settrace(None)
        if self._delay:
            threading.Thread(target=self._burn, daemon=True).start()
        else:
            self._victim.obey(self._way)

    def _burn(self) -> None:
        time.sleep(self._delay)
        self._victim.obey(self._way)


def keep_schema_old(victim: Victim) -> None:
    """Have the victim know only the first ``extra["schema"]`` migrations."""
    known = migrations()[: int(victim.orders.extra["schema"])]
    vars(database)["migrations"] = lambda: known
