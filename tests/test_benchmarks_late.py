"""What the questions of lateness and of players compute and print; nothing is measured here."""

from __future__ import annotations

import pytest

from async_enginelog.tables import TABLES
from benchmarks import late, players
from benchmarks.late import Lateness
from benchmarks.parts import CHECKED
from benchmarks.players import COST_PLAYERS, Report, cost_of_frame
from benchmarks.results import Case, Figures, Results
from benchmarks.rivals.names import OLD, OURS


def _late(*, without: float, with_rows: float) -> Figures:
    """Return figures of a rival whose ticks and frames are all so late, in milliseconds."""
    phases = ((late.WITHOUT, without), (late.WITH, with_rows))
    return {
        f"{name} {label} {phase}": milliseconds
        for name in ("tick", "frame")
        for label in late.SHOWN
        for phase, milliseconds in phases
    }


def _lines(figures: dict[Case, Figures]) -> dict[str, list[str]]:
    table, _ = late.tables(Results([figures], {}))
    return {first: cells for first, *cells in table.rows}


class TestLateness:
    def test_second_with_rows_does_not_leak_into_the_next(self) -> None:
        """What is due while the rows of the second before may still be committed doesn't count."""
        frames = Lateness(begun=100.0)
        for due, late_ms in ((100.5, 3), (101.35, 50), (101.5, 1)):
            frames.note(due, due + late_ms / 1000)
        assert [list(map(round, values)) for values in (frames.with_rows, frames.without)] == [[3], [1]]
        assert {second: round(worst) for second, worst in frames.worst.items()} == {0: 3, 1: 1}


class TestLateTable:
    def test_ratio_of_who_keeps_up(self) -> None:
        """Who is as good as never late without rows has a ratio."""
        lines = _lines({Case("late", OURS, "2000"): _late(without=1.5, with_rows=1.8)})
        assert lines == {f"{OURS}, 2,000 rows/s": ["1.50 → 1.80 (1.20 times)"] * 4}

    def test_who_falls_behind_has_no_ratio(self) -> None:
        """Seconds without rows that are spent on those before are nothing to compare with."""
        lines = _lines({Case("late", OLD, "2000"): _late(without=681, with_rows=1781)})
        assert lines == {f"{OLD}, 2,000 rows/s": ["falls behind: 1,781 ms"] * 4}

    def test_it_is_the_frames_that_tell(self) -> None:
        """The ticker alone may be late for a reason that is none of the rival's."""
        figures = _late(without=1.5, with_rows=1.8) | {"tick p99 without": 20.0, "tick p99 with": 30.0}
        lines = _lines({Case("late", OURS, "2000"): figures})
        assert lines[f"{OURS}, 2,000 rows/s"][0] == "20.00 → 30.00 (1.50 times)"

    def test_latest_frames_of_all_rounds(self) -> None:
        """Seconds with rows, the first, third and so on, are counted apart from those without."""
        case = Case("late", OURS, "2000")
        rounds = [
            {case: _late(without=1.5, with_rows=1.8) | {"worst_frame_ms": worst}}
            for worst in ([1.0, 2.0, 4.0, 2.0], [5.0, 3.5, 1.0, 2.0])
        ]
        _, table = late.tables(Results(rounds, {}))
        assert table.rows == [[f"{OURS}, 2,000 rows/s", "1 of 4", "2 of 4", "2.00 → 2.50"]]

    def test_what_was_not_measured(self) -> None:
        """A case without figures leaves the others theirs."""
        assert set(_lines({Case("late", OURS, "2000"): {}})[f"{OURS}, 2,000 rows/s"]) == {"not measured"}

    def test_what_is_compared_with_is_named(self) -> None:
        """The noise and the calls alone are told from what is measured."""
        figures = _late(without=1.0, with_rows=1.0)
        lines = _lines({Case("late", OURS, "0"): figures, Case("late", CHECKED, "10000"): figures})
        assert list(lines) == [
            f"{OURS}, no rows in any second",
            "our calls alone, nobody writes, 10,000 rows/s",
        ]

    @pytest.mark.parametrize(("quick", "frames"), [(False, "1,800"), (True, "480")])
    def test_head_says_of_how_many_frames(self, *, quick: bool, frames: str) -> None:
        """A percentile of few values is nearly the largest of them, and a reader should know."""
        figures = {Case("late", OURS, "2000", quick): _late(without=1.0, with_rows=1.0)}
        table, _ = late.tables(Results([figures], {}))
        assert table.columns[3:] == (f"frames 99 % of {frames}", f"frames 99.9 % of {frames}")


class TestLateGoals:
    def test_none_for_what_is_compared_with(self) -> None:
        """There is nothing to be reached without rows, nor by calls that nobody writes down."""
        compared = [case for case in late.cases(quick=True) if case.rival == CHECKED or case.setting == "0"]
        assert len(compared) == 3
        figures = {case: _late(without=1.0, with_rows=9.0) for case in compared}
        goals = late.goals(Results([figures], {}))
        assert [goal.reached for goal in goals] == [None] * len(late.RATES) * 4

    def test_all_for_ours(self) -> None:
        """Each rate of ours has its four."""
        figures = {Case("late", OURS, str(rate)): _late(without=1.0, with_rows=1.05) for rate in late.RATES}
        assert [goal.reached for goal in late.goals(Results([figures], {}))] == [True] * 12


class TestPlayers:
    def test_headers_can_be_inserted(self) -> None:
        """A rival's writer would end with the first connection if its headers weren't text."""
        columns = {"websocket_connection_id": 17, "client_headers": {"Host": "here"}}
        sql, values = players.insert_of(TABLES["ENGINE_DB_LOG_WEBSOCKET_CONNECTION"], columns)
        assert "ENGINE_DB_LOG_WEBSOCKET_CONNECTION" in sql
        assert values == [17, '{"Host": "here"}']

    def test_cost_of_a_frame(self) -> None:
        """It is what the loop's thread, and the rest of the process, used for the frames of the interval."""
        before = Report(frames=999, late=0, loop=2.0, process=3.0)
        after = Report(frames=1000, late=5, loop=2.4, process=3.46)
        assert cost_of_frame(before, after) == pytest.approx({"loop_us": 400.0, "others_us": 60.0})

    def test_no_cost_without_a_frame(self) -> None:
        """A server that came to nothing has no cost of a frame."""
        assert cost_of_frame(Report(10, 0, 1.0, 1.0), Report(0, 0, 2.0, 2.0)) == {}

    def test_table_has_the_cost(self) -> None:
        """Who never reached the number of players where it is taken says so."""
        figures: dict[Case, Figures] = {
            Case("players", OURS): {"players": 220.0, "loop_us": 400.4, "others_us": 59.6},
            Case("players", OLD): {"players": 20.0},
        }
        [table] = players.tables(Results([figures], {}))
        assert str(COST_PLAYERS) in table.columns[0]
        assert [row[3:] for row in table.rows] == [["400", "60"], ["not measured"] * 2]

    def test_cost_is_taken_at_a_step(self) -> None:
        """The ramp passes the number of players at which it is taken."""
        assert COST_PLAYERS % players.STEP == 0

    def test_frames_that_never_came_are_late(self) -> None:
        """A server that analyses half of what was sent in time isn't in time; nor is one that is silent."""
        half = players._late_share(Report(50, 0, 0.0, 0.0), players=10, seconds=1.0)
        assert half == pytest.approx(0.45)
        assert players._late_share(Report(0, 0, 0.0, 0.0), players=10, seconds=1.0) == 1.0

    def test_players_carried_lie_between_two_steps(self) -> None:
        """The line is crossed where the share of late frames is one in a hundred."""
        assert players._carried([(10, 0.0), (20, 0.02)]) == pytest.approx(15.0)
        assert players._carried([(10, 0.0), (20, 0.01)]) == 20.0
