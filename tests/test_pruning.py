"""What is kept is exactly what should be: whole recordings, whatever the log looks like."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_enginelog import pruning, pruning_recordings
from async_enginelog.cli.prune_report import CONVERT
from async_enginelog.maintenance import Maintenance
from async_enginelog.pruning import Pruning
from async_enginelog.pruning_recordings import Pause
from async_enginelog.retention import Keep, Pruned
from async_enginelog.tables import TABLES
from async_enginelog.values import time_text

from . import pure_helpers  # noqa: F401  # its settings of hypothesis
from .planted import DAY, NOW, PlantedRow, insert, kept_of, plant, rows_in

FRAMES = "ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME"
CONFIG = "ENGINE_DB_LOG_RECORDING_CONFIG"
STEPS = "ENGINE_DB_LOG_STEPS"
CONNECTION = "ENGINE_DB_LOG_WEBSOCKET_CONNECTION"

MONTH = timedelta(days=30)
RUNS = {10: "closed", 11: "crashed", 12: None, 13: "importing", 14: "imported", 15: "copied"}

ages = st.sampled_from(
    [timedelta(seconds=1), timedelta(minutes=5), DAY / 2, 2 * DAY, 29 * DAY, 31 * DAY, 400 * DAY, -DAY]
)
recordings = st.none() | st.integers(1, 6)
planted_rows = st.lists(
    st.builds(
        PlantedRow,
        table=st.sampled_from(sorted(TABLES)),
        run=st.sampled_from(sorted(RUNS)),
        age=ages,
        recording=recordings,
        connection=st.none(),
        ended=st.booleans(),
    ),
    max_size=40,
)
keeps = st.builds(
    lambda age, rows: Keep(age=age, rows=rows if rows or age else 5),
    st.none() | st.sampled_from([DAY, MONTH, 1000 * DAY]),
    st.none() | st.integers(1, 40),
)


def one_config_each(rows: list[PlantedRow]) -> list[PlantedRow]:
    """Leave out the second row of a recording's configuration, and give each a connection that exists."""
    seen: set[int] = set()
    connections = [number for number, row in enumerate(rows, 1) if row.table == CONNECTION]
    kept = []
    for row in rows:
        recording = row.recording
        if row.table == CONFIG and recording in seen:
            row = row._replace(recording=None)
        elif row.table == CONFIG and recording is not None:
            seen.add(recording)
            if connections:
                row = row._replace(connection=connections[recording % len(connections)])
        kept.append(row)
    return kept


def prune(path: Path, keep: Keep, *, dry_run: bool = False, patience: int | None = None) -> Pruned:
    """Prune a log, all at once."""
    return asyncio.run(_prune(path, keep, dry_run, patience))


async def _prune(
    path: Path, keep: Keep, dry_run: bool, patience: int | None, pause: Pause | None = None
) -> Pruned:
    opened = Maintenance.open_reader(path) if dry_run else Maintenance.open(path, create=False)
    database = await opened
    try:
        pruning_ = Pruning(
            database, keep, NOW, time_text, pause=pause or no_pause, dry_run=dry_run, patience=patience
        )
        return await pruning_.run()
    finally:
        await database.close()


async def no_pause() -> None:
    """Go on at once."""


def runs_are_right(path: Path, newest: int) -> bool:
    """Tell whether each row is of a run that knows how many it has, and LOG_SEQ goes on after ``newest``."""
    with closing(sqlite3.connect(path)) as connection:
        stored = dict(connection.execute("SELECT ENGINE_RUN_ID, ROWS_STORED FROM ENGINE_LOG_RUN"))
        [(highest,)] = connection.execute("SELECT max(LAST_LOG_SEQ) FROM ENGINE_LOG_RUN")
    rows = rows_in(path)
    there = {run: sum(row.run == run for row in rows) for run in stored}
    return stored == there and {row.run for row in rows} <= stored.keys() and (highest or 0) == newest


@settings(max_examples=80)
@given(planted_rows, keeps, st.lists(st.integers(0, 40), max_size=2), st.sampled_from([1, 3, 1000]))
def test_what_should_be_kept_is_kept(
    rows: list[PlantedRow], keep: Keep, watermarks: list[int], step_rows: int
) -> None:
    """Of any log, by any limits, with any size of steps: what goes is what should, counts stay right."""
    rows = one_config_each(rows)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "log.db"
        plant(path, rows, runs=RUNS if rows else None, watermarks=watermarks)
        expected = kept_of(path, keep)
        before = path.read_bytes()
        for module in (pruning, pruning_recordings):
            patch.setattr(module, "LOOK_ROWS", step_rows)
        patch.setattr(pruning_recordings, "STEP_ROWS", step_rows)

        foretold = prune(path, keep, dry_run=True)
        assert path.read_bytes() == before
        pruned = prune(path, keep)

        assert {row.log_seq for row in rows_in(path)} == expected
        assert pruned.rows == len(rows) - len(expected)
        assert pruned == foretold
        assert runs_are_right(path, len(rows))
        assert prune(path, keep).rows == 0


unlikely_rows = st.lists(
    st.builds(
        PlantedRow,
        table=st.sampled_from([CONFIG, CONNECTION, STEPS, FRAMES]),
        run=st.sampled_from([10, 12, 13]),
        age=st.sampled_from([40 * DAY, 2 * DAY, timedelta(minutes=5)]),
        recording=st.none() | st.integers(1, 3),
        connection=st.sampled_from([101, 102, None]),
        ended=st.booleans(),
    ),
    min_size=10,
    max_size=25,
)


@settings(max_examples=80)
@given(
    unlikely_rows,
    keeps,
    st.lists(st.integers(0, 25), max_size=1),
    st.dictionaries(st.integers(1, 4), st.integers(1, 25), max_size=2),
    st.integers(0, 3),
)
def test_a_dry_run_foretells_it(
    rows: list[PlantedRow], keep: Keep, watermarks: list[int], noted: dict[int, int], more_rows: int
) -> None:
    """Also of a log as none should be: broken off, without times or runs, with counts that are wrong."""
    keyed: dict[tuple[str, int | None], PlantedRow] = {}
    for place, row in enumerate(rows):
        if row.table != CONNECTION and row.table != CONFIG:
            row = row._replace(connection=None)
        thing = {CONNECTION: row.connection, CONFIG: row.recording}.get(row.table)
        keyed[row.table, -place if thing is None else thing] = row
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log.db"
        plant(
            path, list(keyed.values()), runs={10: "closed", 12: None, 13: "importing"}, watermarks=watermarks
        )
        with closing(sqlite3.connect(path)) as connection:
            connection.executemany("INSERT INTO ENGINE_LOG_PRUNING VALUES (?, ?)", noted.items())
            connection.execute(
                f"UPDATE {STEPS} SET DT_STEP_CALLED = NULL, DT_ADDED = NULL WHERE LOG_SEQ % 3 = 0"
            )
            connection.execute(f"UPDATE {FRAMES} SET ENGINE_RUN_ID = NULL WHERE LOG_SEQ % 5 = 0")
            connection.execute("UPDATE ENGINE_LOG_RUN SET ROWS_STORED = ROWS_STORED + ?", (more_rows,))
            connection.commit()
        before = rows_in(path)

        foretold = prune(path, keep, dry_run=True)
        assert rows_in(path) == before
        assert prune(path, keep) == foretold
        assert len(rows_in(path)) == len(before) - foretold.rows


# -- what a step leaves behind ------------------------------------------------------------------------


def recording(number: int, age: timedelta, *, rows: int = 10, run: int = 10) -> list[PlantedRow]:
    """Return the rows of a recording that has ended: its own, then so many others."""
    others = [PlantedRow((FRAMES, STEPS)[place % 2], run, age, number) for place in range(rows)]
    return [PlantedRow(CONFIG, run, age, number, ended=True), *others]


def counts(path: Path) -> dict[int | None, int]:
    """Return how many rows each recording has."""
    return dict(Counter(row.recording for row in rows_in(path)))


def execute(path: Path, sql: str) -> list[tuple[object, ...]]:
    """Do what somebody else does to a log."""
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        rows = connection.execute(sql).fetchall()
        connection.commit()
        return rows


class Interrupted(Exception):
    """A pruning is stopped at one of its steps."""


class Stop:
    """Stop a pruning at its step number ``steps``, or do something there."""

    def __init__(self, steps: int, act: Callable[[], object] | None = None) -> None:
        self.left = steps
        self.act = act

    async def __call__(self) -> None:
        """Count down."""
        self.left -= 1
        if self.left == 0:
            if self.act is None:
                raise Interrupted
            self.act()


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of a few rows, so that a small recording is a large one."""
    for module in (pruning, pruning_recordings):
        monkeypatch.setattr(module, "LOOK_ROWS", 4)
    monkeypatch.setattr(pruning_recordings, "STEP_ROWS", 4)
    monkeypatch.setattr(pruning, "STEP_PAGES", 1)


@pytest.mark.usefixtures("small_steps")
def test_stopped_after_any_step(path: Path) -> None:
    """After each step all counts are right, and a recording that has its row has all; the next goes on."""
    old = [row for number in range(1, 4) for row in recording(number, 40 * DAY, rows=3 * number)]
    new = recording(9, DAY, rows=9)
    steps = 0
    finished = False
    while not finished:
        steps += 1
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        plant(path, [*old, *new])
        try:
            asyncio.run(_prune(path, Keep(age=MONTH), False, None, Stop(steps)))
            finished = True
        except Interrupted:
            pass
        assert runs_are_right(path, len(old) + len(new))
        listed = {row.recording or 0 for row in rows_in(path) if row.table.name == CONFIG}
        whole = {1: 4, 2: 7, 3: 10, 9: 10}
        assert {number: counts(path)[number] for number in listed} == {n: whole[n] for n in listed}
        noted = {number for (number,) in execute(path, "SELECT RECORDING_ID FROM ENGINE_LOG_PRUNING")}
        assert counts(path).keys() - listed <= noted

        prune(path, Keep(age=MONTH))
        assert counts(path) == {9: 10}
        assert execute(path, "SELECT * FROM ENGINE_LOG_PRUNING") == []
    assert steps > 20


@pytest.mark.usefixtures("small_steps")
def test_broken_off_is_foretold(path: Path) -> None:
    """A dry run after one that was broken off says what the next one does."""
    plant(path, [*recording(1, 40 * DAY, rows=20), *recording(2, DAY)])
    while not execute(path, "SELECT * FROM ENGINE_LOG_PRUNING"):
        for steps in range(1, 100):
            with pytest.raises(Interrupted):
                asyncio.run(_prune(path, Keep(age=MONTH), False, None, Stop(steps)))
            if execute(path, "SELECT * FROM ENGINE_LOG_PRUNING"):
                break
    foretold = prune(path, Keep(age=MONTH), dry_run=True)

    assert prune(path, Keep(age=MONTH)) == foretold
    assert foretold.recordings == 1
    assert counts(path) == {2: 11}


class TestMeanwhile:
    def test_a_recording_that_goes_on(self, path: Path) -> None:
        """A recording that somebody logs for after it was judged stays, whole."""
        plant(path, recording(1, 40 * DAY))

        def log() -> None:
            with closing(sqlite3.connect(path)) as connection:
                insert(connection, PlantedRow(STEPS, 10, timedelta(), 1), 12)
                connection.execute("UPDATE ENGINE_LOG_RUN SET ROWS_STORED = 12, LAST_LOG_SEQ = 12")
                connection.commit()

        for steps in range(1, 20):
            asyncio.run(_prune(path, Keep(age=MONTH), False, None, Stop(steps, log)))
            if len(rows_in(path)) == 12:
                break
            assert len(rows_in(path)) in (0, 1)
            for file in path.parent.glob(f"{path.name}*"):
                file.unlink()
            plant(path, recording(1, 40 * DAY))
        assert counts(path) == {1: 12}

    def test_a_watermark_that_is_set(self, path: Path) -> None:
        """What a reader asks to keep while a round is under way isn't deleted any more."""
        for steps in range(1, 20):
            plant(path, [*recording(1, 40 * DAY), PlantedRow(STEPS, 10, 40 * DAY)])
            mark = f"INSERT INTO ENGINE_LOG_WATERMARK VALUES ('reader', 3, '{NOW:%F %T}')"
            before: list[int] = []
            stop = Stop(steps, lambda b=before, m=mark: (b.append(len(rows_in(path))), execute(path, m)))  # type: ignore[misc]
            asyncio.run(_prune(path, Keep(age=MONTH), False, None, stop))
            if not before:
                break
            assert [len(rows_in(path))] == before
            for file in path.parent.glob(f"{path.name}*"):
                file.unlink()
        assert steps > 3

    def test_a_watermark_that_is_set_within_a_recording(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of a large recording that is being deleted, too; it goes on once the watermark has moved."""
        monkeypatch.setattr(pruning_recordings, "STEP_ROWS", 2)

        def unread_rows(path: Path) -> set[object]:
            both = f"SELECT LOG_SEQ FROM {FRAMES} UNION SELECT LOG_SEQ FROM {STEPS}"
            return set(execute(path, f"SELECT * FROM ({both}) WHERE LOG_SEQ > 8"))

        seen = set()
        for steps in range(1, 40):
            plant(path, recording(1, 40 * DAY, rows=20))
            mark = f"INSERT INTO ENGINE_LOG_WATERMARK VALUES ('reader', 8, '{NOW:%F %T}')"
            unread: list[set[object]] = []

            def set_mark(unread: list[set[object]] = unread, mark: str = mark) -> None:
                unread.append(unread_rows(path))
                execute(path, mark)

            asyncio.run(_prune(path, Keep(age=MONTH), False, None, Stop(steps, set_mark)))
            if not unread:
                break
            assert [unread_rows(path)] == unread
            noted = bool(execute(path, "SELECT 1 FROM ENGINE_LOG_PRUNING"))
            # Whoever prunes next, whatever he wants to keep: it is half gone, and the rest goes when it may.
            assert prune(path, Keep(age=MONTH)).rows == 0
            execute(path, "DELETE FROM ENGINE_LOG_WATERMARK")
            if noted:
                assert prune(path, Keep(age=MONTH)).recordings == 1
                assert rows_in(path) == []
            seen.add(noted)
            for file in path.parent.glob(f"{path.name}*"):
                file.unlink()
        assert seen == {True, False}

    def test_a_reader_sees_one_state(self, path: Path) -> None:
        """Who reads in a transaction sees all rows as long as that lasts, and then those that are left."""
        plant(path, [*recording(1, 40 * DAY), *recording(2, DAY)])
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            assert reader.execute(f"SELECT count(*) FROM {FRAMES}").fetchone() == (10,)
            assert prune(path, Keep(age=MONTH)).recordings == 1
            assert reader.execute(f"SELECT count(*) FROM {FRAMES}").fetchone() == (10,)
            reader.execute("COMMIT")
            assert reader.execute(f"SELECT count(*) FROM {FRAMES}").fetchone() == (5,)

    async def test_two_at_once(self, path: Path) -> None:
        """Two that prune at the same time get in nobody's way, and count each row once."""
        rows = [row for number in range(1, 60) for row in recording(number, 40 * DAY)]
        plant(path, [*rows, *recording(99, DAY)])

        async def between() -> None:
            await asyncio.sleep(0)

        both = await asyncio.gather(*(_prune(path, Keep(age=MONTH), False, None, between) for _ in range(2)))
        assert sum(pruned.rows for pruned in both) == len(rows)
        assert counts(path) == {99: 11}
        assert runs_are_right(path, len(rows) + 11)


class TestRows:
    def test_order_of_times(self, path: Path) -> None:
        """A row goes by its own time, wherever it stands in the log; DT_ADDED doesn't make it young."""
        plant(path, [PlantedRow(STEPS, 10, age * DAY) for age in (1, 50, 2, 40, 3)])

        assert prune(path, Keep(age=MONTH)).lone_rows == 2
        assert [row.log_seq for row in rows_in(path)] == [1, 3, 5]

    def test_counts_that_somebody_changed(self, path: Path) -> None:
        """Where there are fewer rows than the runs say, nothing is deleted for it."""
        plant(path, [PlantedRow(STEPS, 10, DAY)] * 5)
        execute(path, "UPDATE ENGINE_LOG_RUN SET ROWS_STORED = 50")
        assert prune(path, Keep(rows=3)).rows == 0

    def test_patience(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A running engine stops looking behind rows that are all young; what came in order goes."""
        monkeypatch.setattr(pruning, "LOOK_ROWS", 2)
        plant(path, [PlantedRow(STEPS, 10, age * DAY) for age in (50, 50, 2, 50, 1, 1, 1, 1, 50)])

        assert prune(path, Keep(age=MONTH), patience=2).rows == 3
        assert prune(path, Keep(age=MONTH)).rows == 1

    def test_connection_of_a_recording(self, path: Path) -> None:
        """A connection stays as long as a recording that came over it; then it goes, too."""
        rows = [PlantedRow(CONNECTION, 10, 50 * DAY, connection=7, ended=True)]
        rows += [PlantedRow(CONFIG, 10, 20 * DAY, 1, connection=7, ended=True)]
        plant(path, rows)

        assert prune(path, Keep(age=MONTH)).rows == 0
        assert prune(path, Keep(age=DAY), dry_run=True) == prune(path, Keep(age=DAY))
        assert rows_in(path) == []

    def test_damaged_times_and_no_times(self, path: Path) -> None:
        """A row without any time is as old as its run."""
        plant(path, [PlantedRow(STEPS, 10, 40 * DAY), PlantedRow(STEPS, 11, DAY)])
        execute(path, f"UPDATE {STEPS} SET DT_STEP_CALLED = NULL, DT_ADDED = NULL")

        assert prune(path, Keep(age=MONTH)).rows == 1
        assert [row.run for row in rows_in(path)] == [11]


class TestRuns:
    def test_go_with_their_last_rows(self, path: Path) -> None:
        """A run goes when it is old and has no rows, but never the one from which LOG_SEQ goes on."""
        plant(path, [PlantedRow(STEPS, run, (60 - run) * DAY) for run in (10, 11, 12, 50)])

        assert prune(path, Keep(age=MONTH)).runs == 3
        assert execute(path, "SELECT ENGINE_RUN_ID FROM ENGINE_LOG_RUN") == [(50,)]
        assert prune(path, Keep(age=DAY)).rows == 1
        assert execute(path, "SELECT LAST_LOG_SEQ, ROWS_STORED FROM ENGINE_LOG_RUN") == [(4, 0)]

    def test_take_their_replayed_rows_along(self, path: Path) -> None:
        """What was noted of rows that were replayed goes with the run."""
        plant(path, [PlantedRow(STEPS, 10, 50 * DAY), PlantedRow(STEPS, 20, DAY)])
        execute(path, "INSERT INTO ENGINE_LOG_REPLAYED VALUES (10, 1)")
        prune(path, Keep(age=MONTH))

        assert execute(path, "SELECT * FROM ENGINE_LOG_REPLAYED") == []

    def test_stay_until_they_are_read(self, path: Path) -> None:
        """A run that ends where a reader stands stays: the reader knows by it that it is the same log."""
        rows = [PlantedRow(STEPS, 10, 50 * DAY), PlantedRow(STEPS, 20, DAY), PlantedRow(STEPS, 20, DAY)]
        plant(path, rows, watermarks=[1])

        assert prune(path, Keep(age=MONTH)).runs == 0
        execute(path, "UPDATE ENGINE_LOG_WATERMARK SET LOG_SEQ = 2")
        assert prune(path, Keep(age=MONTH)).runs == 1


class TestRoom:
    def test_is_given_back(self, path: Path) -> None:
        """The file becomes smaller."""
        plant(path, [row for number in range(1, 80) for row in recording(number, 40 * DAY, rows=50)])
        before = path.stat().st_size
        prune(path, Keep(age=MONTH))

        assert execute(path, "PRAGMA freelist_count") == [(0,)]
        execute(path, "PRAGMA wal_checkpoint(TRUNCATE)")
        assert path.stat().st_size < before / 2

    def test_file_of_an_earlier_version(self, path: Path) -> None:
        """A file that can't become smaller is pruned all the same; one VACUUM converts it."""
        plant(path, [row for number in range(1, 80) for row in recording(number, 40 * DAY, rows=50)])
        execute(path, "PRAGMA auto_vacuum = NONE")
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA auto_vacuum = NONE")
            connection.execute("VACUUM")
            assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
        assert prune(path, Keep(age=MONTH)).recordings == 79
        assert execute(path, "PRAGMA freelist_count") != [(0,)]

        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.executescript(CONVERT)
            assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_file_bytes(self, path: Path) -> None:
        """Down to a size: the newest recordings are kept, as many as fit."""
        plant(path, [row for number in range(1, 200) for row in recording(number, number * DAY, rows=100)])
        limit = path.stat().st_size // 2
        foretold = prune(path, Keep(file_bytes=limit), dry_run=True)

        assert prune(path, Keep(file_bytes=limit)) == foretold
        assert 0 < foretold.rows < 199 * 101
        [(pages,)], [(page_bytes,)] = execute(path, "PRAGMA page_count"), execute(path, "PRAGMA page_size")
        assert limit * 0.7 < int(str(pages)) * int(str(page_bytes)) <= limit
        # By LOG_SEQ: the first that were logged go first, whole, until a part of one is needed.
        assert set(counts(path).values()) == {101}
