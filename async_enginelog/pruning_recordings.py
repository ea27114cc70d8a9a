"""
Judge recordings, and delete them whole.

A recording is deleted in one transaction, unless it has so many rows that a writer would have to wait.
Then it is noted first, in ENGINE_LOG_PRUNING, and its row in RECORDING_CONFIG deleted; the rest goes in
parts. So a recording that has its row there has all of its rows, whatever dies when; and whoever prunes
next goes on with those that were noted.

"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import orjson

from . import pruning_sql as sql
from .database import Database
from .retention import Facts, Fate, Limits, Pruned
from .tables import RECORDING_CONFIG, Table

__all__ = ["LOOK_ROWS", "Pause", "Recordings", "Round", "list_of"]

Pause = Callable[[], Awaitable[None]]

# So many rows are looked at in one step, and so many are deleted in one transaction: some 10 ms each.
LOOK_ROWS = 1000
STEP_ROWS = 1000


def list_of(numbers: Sequence[int]) -> str:
    """Return numbers as one parameter, however many there are."""
    return orjson.dumps(list(numbers)).decode()


@dataclass
class Round:
    """
    What all parts of a round share.

    Attributes:
        limits: What is old.
        pause: Called after each step, when others may use the connection: it isn't in a transaction.
        pruned: What went so far.
        watermark: The lowest at the beginning of the round, if there is one.
        living: Runs that hadn't ended then.
        importing: Runs that were being imported.

    """

    database: Database
    limits: Limits
    pause: Pause
    pruned: Pruned = field(default_factory=Pruned)
    watermark: int | None = None
    living: frozenset[int] = frozenset()
    importing: frozenset[int] = frozenset()

    async def begin(self) -> None:
        """Find out what stays whatever its age."""
        [(self.watermark,)] = await self.database.fetch(sql.WATERMARK)
        self.living = frozenset(run for (run,) in await self.database.fetch(sql.LIVING))
        self.importing = frozenset(run for (run,) in await self.database.fetch(sql.IMPORTING))

    async def delete(self, table: Table, statement: str, parameters: Sequence[object]) -> int:
        """Delete rows, in a transaction that somebody else ends, and keep the counts of their runs right."""
        runs = Counter(run for (run,) in await self.database.fetch(statement, parameters))
        for run, rows in runs.items():
            await self.database.execute(
                "UPDATE ENGINE_LOG_RUN SET ROWS_STORED = ROWS_STORED - ? WHERE ENGINE_RUN_ID = ?", (rows, run)
            )
        self.pruned.note_rows(table.name, runs)
        return runs.total()


class Recordings:
    """The recordings of a round."""

    def __init__(self, shared: Round) -> None:
        self._round = shared
        self._database = shared.database
        self._pause = shared.pause
        self._judged: set[int] = set()
        # Those that go next.
        self._group: list[Facts] = []
        # The highest LOG_SEQ before the first of them was looked at.
        self._seen = 0

    async def finish(self) -> None:
        """Bring to an end what was broken off."""
        for recording, newest_seq in await self._database.fetch(
            "SELECT RECORDING_ID, LOG_SEQ FROM ENGINE_LOG_PRUNING ORDER BY RECORDING_ID"
        ):
            await self._delete_parts(recording, newest_seq)

    # -- judging --------------------------------------------------------------------------------

    async def judge(self, recordings: set[int]) -> None:
        """Look at all rows of recordings that weren't judged yet; those that go, go in groups."""
        for recording in sorted(recordings - self._judged):
            self._judged.add(recording)
            facts = Facts(recording)
            if not self._group:
                [(self._seen,)] = await self._database.fetch(sql.NEWEST)
            await self._gather(facts)
            self._decide(facts)
            if sum(each.rows for each in self._group) >= STEP_ROWS:
                await self.delete_group()

    async def _gather(self, facts: Facts) -> None:
        skipped, is_more = 0, True
        while is_more:
            found = await self._database.fetch(sql.RECORDING, (facts.recording, LOOK_ROWS, skipped))
            for row in found:
                facts.add(*row)
            is_more = sum(rows for _, _, rows, _, _ in found) >= LOOK_ROWS
            skipped += LOOK_ROWS
            await self._pause()
        if facts.runs.keys() & self._round.living:
            facts.has_ended = bool(await self._database.fetch(sql.HAS_ENDED, (facts.recording,)))

    def _decide(self, facts: Facts) -> None:
        shared = self._round
        fate = facts.fate(
            shared.limits, watermark=shared.watermark, living=shared.living, importing=shared.importing
        )
        if fate is Fate.GOES:
            self._group.append(facts)
        else:
            shared.pruned.note_stays(fate, facts.rows, recordings=1)

    # -- deleting -------------------------------------------------------------------------------

    async def delete_group(self) -> None:
        """Delete those that go next: in one transaction all but those that are large."""
        group, self._group = self._group, []
        if group:
            await self._database.execute("BEGIN IMMEDIATE")
            group = await self._still_going(group)
            large = [facts for facts in group if facts.rows > STEP_ROWS]
            await self._delete_whole([facts for facts in group if facts not in large])
            for facts in large:
                await self._begin_parts(facts)
            await self._database.commit()
            await self._pause()
            for facts in large:
                await self._delete_parts(facts.recording, facts.newest_seq)

    async def _still_going(self, group: Sequence[Facts]) -> list[Facts]:
        """Leave out what somebody has said more of since it was judged, or has asked to keep."""
        wanted = list_of([facts.recording for facts in group])
        changed = {row for (row,) in await self._database.fetch(sql.CHANGED, (self._seen, wanted))}
        [(watermark,)] = await self._database.fetch(sql.WATERMARK)
        return [
            facts
            for facts in group
            if facts.recording not in changed and (watermark is None or facts.newest_seq <= watermark)
        ]

    async def _delete_whole(self, group: Sequence[Facts]) -> None:
        for table in sql.OF_RECORDINGS:
            there = [facts.recording for facts in group if facts.tables[table.name]]
            if there:
                await self._round.delete(table, sql.delete_recordings(table), (list_of(there),))
        self._round.pruned.recordings += len(group)

    async def _begin_parts(self, facts: Facts) -> None:
        await self._database.execute(
            "INSERT INTO ENGINE_LOG_PRUNING (RECORDING_ID, LOG_SEQ) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (facts.recording, facts.newest_seq),
        )
        only_row = (facts.recording, facts.newest_seq, 1)
        await self._round.delete(RECORDING_CONFIG, sql.delete_part(RECORDING_CONFIG), only_row)

    async def _delete_parts(self, recording: int, newest_seq: int) -> None:
        is_held = False
        for table in sql.OF_RECORDINGS:
            is_more = True
            while is_more:
                # In the transaction of what is deleted: a watermark that is set now holds now.
                await self._database.execute("BEGIN IMMEDIATE")
                [(watermark,)] = await self._database.fetch(sql.WATERMARK)
                up_to = newest_seq if watermark is None else min(newest_seq, watermark)
                is_held = is_held or up_to < newest_seq
                part = (recording, up_to, STEP_ROWS)
                is_more = await self._round.delete(table, sql.delete_part(table), part) > 0
                await self._database.commit()
                await self._pause()
        if is_held:
            return  # it stays noted, for the round in which the watermark has moved
        await self._database.execute("DELETE FROM ENGINE_LOG_PRUNING WHERE RECORDING_ID = ?", (recording,))
        await self._database.commit()
        self._round.pruned.recordings += 1
        await self._pause()
