"""What the benchmarks compute from what they measure; the measuring itself is for ``make bench``."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import benchmarks.__main__
from async_enginelog.lines import encoder_of
from async_enginelog.tables import TABLES
from benchmarks import growth, machine, parts, take
from benchmarks.call import prepare_database
from benchmarks.cases import QUESTIONS, question_named
from benchmarks.markdown import Table, at_least, at_most
from benchmarks.results import Case, Figures, Results, Spread, highest, lowest, spread
from benchmarks.rivals import rival_named
from benchmarks.rivals.base import count_rows
from benchmarks.rivals.limits import STATEMENT_ROWS, limit
from benchmarks.rivals.names import LIMIT, MANY, MODULES, OLD
from benchmarks.rivals.names import OURS as OUR_NAME
from benchmarks.rows import insert_sql, wide_row
from benchmarks.trace import session, trace_row

OURS, THEIRS = Case("take", "ours", "narrow"), Case("take", "theirs", "narrow")


@pytest.fixture
def results() -> Results:
    """Three rounds, in the second of which the machine is half as fast."""
    rounds = [(200.0, 100.0), (100.0, 50.0), (300.0, 100.0)]
    return Results([{OURS: {"rows_s": ours}, THEIRS: {"rows_s": theirs}} for ours, theirs in rounds], {})


class TestResults:
    def test_ratio_is_taken_within_a_round(self, results: Results) -> None:
        """What slows both down in one round doesn't show in the ratio."""
        ratio = results.ratio("take", "rows_s", ("ours", "narrow"), ("theirs", "narrow"))
        assert ratio == Spread(2.0, 2.0, 3.0)

    def test_round_without_a_rival_is_left_out(self, results: Results) -> None:
        """A rival that failed in a round takes nothing away from the others."""
        del results.rounds[2][THEIRS]
        ratio = results.ratio("take", "rows_s", ("ours", "narrow"), ("theirs", "narrow"))
        assert ratio == Spread(2.0, 2.0, 2.0)

    def test_what_was_not_measured_is_none(self, results: Results) -> None:
        """Nothing is made up for what isn't there."""
        assert results.spread("take", "nobody", "narrow", "rows_s") is None
        assert results.ratio("take", "rows_s", ("ours", "narrow"), ("nobody", "narrow")) is None

    def test_json_and_back(self, results: Results) -> None:
        """Figures that are kept in a file can be shown again."""
        again = Results.of_json(json.loads(json.dumps(results.as_json())))
        assert again.rounds == results.rounds


class TestGoOn:
    @pytest.fixture
    def path(self, tmp_path: Path, results: Results) -> Path:
        """A run that was broken off in its third round, before one of the rivals."""
        del results.rounds[2][THEIRS]
        measured_on = machine.description() | {"date": "2001-01-01"}
        facts = {"machine": measured_on, "quick": False, "questions": ["take"], "planned_rounds": 3}
        path = tmp_path / "full.json"
        path.write_text(json.dumps(facts | results.as_json()), "utf-8")
        return path

    def test_measures_what_is_missing(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A run of hours that was broken off goes on where it was."""
        measured: list[Case] = []
        monkeypatch.setattr(take, "cases", lambda quick: [OURS, THEIRS])

        def run_case(case: Case, folder: Path | None) -> Figures:
            measured.append(case)
            return {"rows_s": 7.0}

        monkeypatch.setattr(benchmarks.__main__, "run_case", run_case)
        arguments = ["--go-on", str(path), "--plots", str(tmp_path / "plots")]
        assert benchmarks.__main__.main(arguments) == 0

        assert measured == [THEIRS]
        kept = Results.of_json(json.loads(path.read_text("utf-8")))
        assert [figures[THEIRS]["rows_s"] for figures in kept.rounds] == [100.0, 50.0, 7.0]
        assert "medians of 3 rounds" in capsys.readouterr().out

    def test_refuses_figures_of_another_machine(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was measured with other versions isn't mixed with these."""
        monkeypatch.setattr("sqlite3.sqlite_version", "3.99.0")
        with pytest.raises(SystemExit, match=r"on something else: sqlite .*, and here is 3\.99\.0"):
            benchmarks.__main__.main(["--go-on", str(path)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["late", "nothing"], "'nothing' isn't a question; these are: call,"),
        (["--folder", "nowhere"], "nowhere isn't a folder; create it"),
    ],
)
def test_wrong_options(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmarks.__main__.main(arguments)
    assert message in capsys.readouterr().err


def test_spread_is_median_and_range() -> None:
    """A single round that was disturbed doesn't move the median."""
    assert spread([3.0, 100.0, 2.0]) == Spread(3.0, 2.0, 100.0)


def test_worst_round_counts() -> None:
    """For what must never be, or always, the median isn't asked."""
    found = Spread(2.0, 1.0, 9.0)
    assert (lowest(found), highest(found)) == (Spread(1.0, 1.0, 9.0), Spread(9.0, 1.0, 9.0))
    assert lowest(None) is highest(None) is None


def test_table_is_markdown() -> None:
    """Columns are aligned, so that the same text is read in a terminal."""
    assert Table(("a", "bb"), [("long", "1")]).text() == "| a    | bb |\n|------|----|\n| long | 1  |"


def test_goals_compare_the_median() -> None:
    """A goal is reached by the median; one that wasn't measured is neither reached nor missed."""
    found = Spread(2.0, 1.0, 9.0)
    assert [at_most("", 2.0, found).reached, at_least("", 2.5, found).reached] == [True, False]
    assert at_most("", 2.0, None).reached is None


@pytest.mark.parametrize("name", QUESTIONS)
def test_questions_have_what_is_asked_of_them(name: str) -> None:
    """Each question can be asked, and told of when nothing was measured."""
    question = question_named(name)
    nothing = Results([], {})
    assert question.TITLE
    assert question.tables(nothing)
    assert all(goal.reached is None for goal in question.goals(nothing))


class TestParts:
    def test_most_is_what_the_parts_leave_time_for(self) -> None:
        """Parts that take 4 µs together allow 250,000 rows a second; without inserting, a third more."""
        row = {"call": 1.5, "decode": 1.0, "gather": 0.5, "bind and insert": 1.0}
        limit = Case("take", LIMIT, "narrow")
        results = Results([{Case("parts", OUR_NAME, "a row"): row, limit: {"rows_s": 500_000.0}}], {})
        most = question_named("parts").tables(results)[2]
        assert [list(line[1:]) for line in most.rows] == [["250,000", "0.50"], ["333,333", "0.67"]]

    async def test_parts_of_a_row_are_measured(self, tmp_path: Path) -> None:
        """All rows go the whole way, and each part of it takes time."""
        figures = await asyncio.to_thread(parts.measure_row, tmp_path / "engine_log.db", 2)
        assert count_rows(tmp_path / "engine_log.db") == 2 * STATEMENT_ROWS
        assert all(figures[part] > 0 for part in parts.PARTS)


class TestTake:
    @pytest.mark.parametrize("name", [OUR_NAME, MANY, OLD])
    def test_no_row_of_the_trace_is_lost(self, name: str, tmp_path: Path) -> None:
        """We merge rows of one thing, others don't, and none has fewer rows than it should."""
        rival, path, rows = rival_named(name), tmp_path / "engine_log.db", len(session()) * 2 + 10
        prepare_database(rival, path)
        figures = asyncio.run(take.saturated(rival, path, "trace", rows, patience=60.0))
        assert figures["lost"] == 0
        assert count_rows(path) == take.expected_rows(rival, rows)
        assert (take.expected_rows(rival, rows) < rows) is (name != OLD)

    @pytest.mark.parametrize("shape", take.SETTINGS)
    def test_limit_inserts_all_rows(self, shape: str, tmp_path: Path) -> None:
        """What we are held against writes the same rows, with run and number."""
        path, rival, rows = tmp_path / "engine_log.db", rival_named(OUR_NAME), 3000
        prepare_database(rival, path)
        limit(path, shape, rows)
        assert count_rows(path) == (take.expected_rows(rival, rows) if shape == "trace" else rows)


class TestBusy:
    def test_goal_shows_both(self) -> None:
        """Who commits nothing isn't a divisor; both are shown."""
        ours, theirs = Case("busy", OUR_NAME, "0.2"), Case("busy", MANY, "0.2")
        results = Results([{ours: {"rows_s": 1000.0}, theirs: {"rows_s": 0.0}}], {})
        goal = question_named("busy").goals(results)[0]
        assert (goal.figure, goal.reached) == ("1,000 against 0 rows/s", True)


def test_old_file_has_the_times_that_the_real_one_has(tmp_path: Path) -> None:
    """In the old engine's file of a session, rows of functions say when they were added, frames don't."""
    path = tmp_path / "old.db"
    growth.write_old_file(path, session())
    with closing(sqlite3.connect(path)) as connection:
        for table, every in (("FUNCTIONS", True), ("SPLIT_100_MS_AUDIO_FRAME", False)):
            rows, stamped = connection.execute(
                f"SELECT count(*), count(DT_ADDED) FROM ENGINE_DB_LOG_{table}"
            ).fetchone()
            assert rows
            assert stamped == (rows if every else 0)


class TestRows:
    def test_trace_is_taken(self) -> None:
        """The tables have a place for all that the session says."""
        assert all(encoder_of(TABLES[name])(columns.copy()) for name, columns in session())

    def test_trace_goes_on_with_other_ids(self) -> None:
        """A session that is repeated is another recording: its rows don't merge with those of the first."""
        length = len(session())
        of_first, of_second = (
            {trace_row(first + n)[1].get("recording_id") for n in range(length)} for first in (0, length)
        )
        assert not (of_first & of_second) - {None}

    def test_wide_row_fills_20_columns(self) -> None:
        """It is what it is called."""
        name, columns = wide_row(1)
        assert (len(columns), len(TABLES[name].columns)) == (20, 48)

    def test_inserts_name_their_columns(self) -> None:
        """Rivals insert with bound parameters."""
        sql = insert_sql("ENGINE_DB_LOG_STEPS", ("step_name", "frame_no"))
        assert sql == "INSERT INTO ENGINE_DB_LOG_STEPS (STEP_NAME,FRAME_NO) VALUES (?,?)"


def test_each_rival_has_a_module() -> None:
    """We come first in the tables, then what no log can beat."""
    assert list(MODULES)[:2] == ["async_enginelog", "await and list.append"]
