"""What a run of the benchmarks keeps and tells; nothing is measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks import back, machine, take
from benchmarks.cases import Failed
from benchmarks.markdown import Goal, goal_table
from benchmarks.results import Case, Figures, Results
from benchmarks.rivals import rivals_here
from benchmarks.rivals.base import count_rows
from benchmarks.rivals.names import OURS

TAKE = Case("take", OURS, "narrow")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bench.Run:
    """A run that has measured a round of two; nobody changes the checkout meanwhile."""
    monkeypatch.setattr(machine, "_git", lambda command, *_: b"abc\n" if command == "rev-parse" else b"")
    results = Results([{TAKE: {"rows_s": 100.0}}], {})
    return bench.Run(
        tmp_path / "full.json", machine.description(), machine.rivals(), ["take"], 2, False, results
    )


class TestKeep:
    def test_can_go_on(self, run: bench.Run) -> None:
        """What is kept is all that a run needs."""
        run.keep()
        again = bench.go_on(run.path)
        assert again.results.rounds == run.results.rounds
        assert again._replace(results=run.results) == run
        assert list(run.path.parent.iterdir()) == [run.path]

    def test_figures_survive_a_write_that_fails(
        self, run: bench.Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who is killed while writing has the figures of before."""
        run.keep()
        before = run.path.read_text("utf-8")

        def write_half(path: Path, text: str, encoding: str) -> None:
            path.write_bytes(text.encode(encoding)[: len(text) // 2])
            raise OSError("killed")

        run.results.add(1, TAKE, {"rows_s": 200.0})
        monkeypatch.setattr(Path, "write_text", write_half)
        with pytest.raises(OSError, match="killed"):
            run.keep()
        assert run.path.read_text("utf-8") == before


class TestGoOn:
    def test_draws_beside_the_figures(self, run: bench.Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """Figures that were put elsewhere have their plots there."""
        folders: list[Path] = []
        monkeypatch.setattr(bench, "draw", lambda results, folder: folders.append(folder))
        monkeypatch.setattr(bench, "run_case", lambda case, folder: {"rows_s": 7.0})
        monkeypatch.setattr(take, "cases", lambda quick: [TAKE])
        run.keep()
        assert bench.main(["--go-on", str(run.path)]) == 0
        assert folders == [run.path.parent]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"aiosqlite": "0.1"}, r"else: aiosqlite 0\.1, and here is \d"),
            ({"commit": "0123456+89abcde"}, r"else: commit 0123456\+89abcde, and here is "),
            ({"no-such-rival": "1.0"}, r"else: no-such-rival 1\.0, and here is None"),
            ({"processor": "Z80", "processors": 0}, r"processors 0, and here is \d+; processor Z80, and"),
        ],
    )
    def test_refuses_what_was_measured_on_something_else(
        self, run: bench.Run, change: dict[str, object], message: str
    ) -> None:
        """Figures of other versions of rivals, another checkout or machine aren't mixed with these."""
        run._replace(machine=run.machine | change).keep()
        with pytest.raises(SystemExit, match=message):
            bench.go_on(run.path)


class TestMachine:
    def test_has_the_version_of_each_rival(self) -> None:
        """Each rival's package is there, by its name."""
        packages = {rival.package for rival in rivals_here() if rival.package}
        assert {"async-enginelog", "aiosqlite"} <= packages <= machine.description().keys()

    @pytest.mark.parametrize(("changes", "commit"), [(b"", r"abc"), (b"+ a line", r"abc\+[0-9a-f]{7}")])
    def test_uncommitted_changes_are_another_commit(
        self, changes: bytes, commit: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is measured is what is in the files."""
        answers = {"rev-parse": b"abc\n", "diff": changes}
        monkeypatch.setattr(machine, "_git", lambda command, *_: answers[command])
        assert re.fullmatch(commit, machine.description()["commit"])


class TestMeasureOne:
    def test_failure_is_told_though_other_rounds_worked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A rival that fails now and then isn't as certain as others; a round that is made up for is."""
        results = Results([], {})
        failing = {1, 2}

        def run_case(case: Case, folder: Path | None) -> Figures:
            if number in failing:
                raise Failed("killed")
            return {"rows_s": 1.0}

        monkeypatch.setattr(bench, "run_case", run_case)
        for number in range(4):
            bench.measure_one(results, number, TAKE, None)
        notes = {f"{OURS}, take narrow, round {number}": "killed" for number in (2, 3)}
        assert results.left_out == notes
        assert f"| {OURS}, take narrow, round 2 | killed |" in bench.report(results, [], [])

        failing.clear()
        number = 1
        bench.measure_one(results, number, TAKE, None)
        assert list(results.left_out) == [f"{OURS}, take narrow, round 3"]


class TestReport:
    def test_rivals_and_goals_come_first(self, run: bench.Run) -> None:
        """There is one table of all goals, and none of rivals that weren't measured."""
        rivals = [[OURS, "async-enginelog 1.0", "as it is"], ["nobody", "", ""]]
        told = bench.report(run.results, ["take", "back"], rivals)
        headings = [line for line in told.splitlines() if line.startswith("#")]
        assert headings == ["### The rivals", "### The goals", f"### {take.TITLE}", f"### {back.TITLE}"]
        assert "async-enginelog 1.0" in told
        assert "nobody" not in told
        goals = [line.split("|")[1].strip() for line in told.splitlines() if line.endswith("| reached |")]
        assert goals == ["question"]

    def test_goal_tells_its_question(self) -> None:
        """So that all can be in one table."""
        assert goal_table([("take", Goal("fast", "1", True))]).rows == [("take", "fast", "1", "yes")]

    def test_shows_figures_of_an_older_version(
        self, run: bench.Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Neither rivals nor a processor's name were kept then."""
        run.keep()
        data = json.loads(run.path.read_text("utf-8"))
        del data["rivals"], data["machine"]["processor"]
        run.path.write_text(json.dumps(data), "utf-8")
        assert bench.main(["--show", str(run.path)]) == 0
        told = capsys.readouterr().out
        assert "### The rivals" not in told
        assert "### The goals" in told


def test_large_database_is_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is opened with runs and numbers in it, as those of users are."""
    monkeypatch.setitem(back.ROWS, True, 2500)
    figures = back.measure(Case("back", OURS, back.LARGE, True), tmp_path)
    assert set(figures) == {"open_ms", "close_ms"}
    assert count_rows(tmp_path / "engine_log.db") == 2500
