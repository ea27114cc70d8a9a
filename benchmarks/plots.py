"""The plots of the documentation, as SVG: what a reader should see at a glance."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import busy, call, growth, late, players
from .results import Case, Results, Spread
from .rivals.names import LIMIT, NOTHING, OURS, QUEUE_HANDLER

__all__ = ["draw_all"]

# The same file for the same figures, with text that can be searched.
mpl.rcParams.update(
    {
        "svg.hashsalt": "async_enginelog",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)
OUR_COLOUR, COLOUR, FAINT = "#d62728", "#7f8fa6", "#c8d0db"


def draw_all(results: Results, folder: Path) -> None:
    """Draw each plot for which there are figures."""
    draw: dict[str, tuple[str, Callable[[Results, Figure], None]]] = {
        "call": ("call", _call),
        "take": ("take", _take),
        "busy": ("busy", _busy),
        "late": ("late", _late),
        "players": ("players", _players),
        "growth": ("growth", _growth),
    }
    for question, (name, plot) in draw.items():
        if results.cases(question):
            figure = Figure(figsize=(8, 4.5), layout="constrained")
            plot(results, figure)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def _bars(
    axes: Axes, names: Sequence[str], spreads: Sequence[Spread | None], form: str, least: float = 0.0
) -> None:
    """
    Draw a bar for each rival, its figure and its range; on a scale of ratios, best on top.

    What is nothing at all doesn't show there: its bar is of the length ``least``.

    """
    pairs = [(name, spread) for name, spread in zip(names, spreads, strict=True) if spread]
    places = range(len(pairs), 0, -1)
    for place, (name, spread) in zip(places, pairs, strict=True):
        length, low, high = (max(value, least) for value in spread)
        axes.barh(place, length, color=OUR_COLOUR if name == OURS else COLOUR, height=0.7)
        axes.plot([low, high], [place, place], color="black", linewidth=1)
        figure, beside = f"{spread.median:{form}}", (4, 0)
        axes.annotate(figure, (high, place), beside, textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(list(places), [name for name, _ in pairs])
    axes.set_xscale("log")
    axes.set_xlim(right=max(spread.high for _, spread in pairs) * 4)


def _goal(axes: Axes, spread: Spread | None, factor: float) -> None:
    """Mark the goal, so many times what another comes to."""
    if spread:
        axes.axvline(factor * spread.median, color=COLOUR, linewidth=0.8, linestyle="--", zorder=0)
        axes.text(factor * spread.median, 1.0, "goal", transform=axes.get_xaxis_transform(), fontsize=8)


def _sorted(results: Results, question: str, setting: str, figure: str, *, best_high: bool) -> Any:
    names = results.rivals(question, setting)
    found = {name: results.spread(question, name, setting, figure) for name in names}
    known = [name for name in names if found[name]]
    known.sort(key=lambda name: found[name].median, reverse=best_high)  # type: ignore[union-attr]
    return known, [found[name] for name in known]


def _call(results: Results, figure: Figure) -> None:
    axes = figure.add_subplot()
    names, spreads = _sorted(results, "call", call.PACED, "median_us", best_high=False)
    kept = [results.spread("call", name, call.KILLED, "kept") for name in names]
    _bars(axes, names, spreads, ".1f")
    _goal(axes, results.spread("call", QUEUE_HANDLER, call.PACED, "median_us"), 0.15)
    crash_proof = [name for name, share in zip(names, kept, strict=True) if share and share.median == 1]
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name in crash_proof else "normal")
    axes.set_title("What does a call cost?", loc="left", pad=14)
    axes.set_xlabel("µs, median at 2,000 rows/s; bold: all rows survive kill -9")


def _take(results: Results, figure: Figure) -> None:
    axes = figure.add_subplot()
    names, spreads = _sorted(results, "take", "narrow", "rows_s", best_high=True)
    _bars(axes, names, spreads, ",.0f")
    _goal(axes, results.spread("take", LIMIT, "narrow", "rows_s"), 0.5)
    axes.set_title("How much can it take?", loc="left")
    axes.set_xlabel(f"rows/s to commit, idle loop, 9 columns; “{LIMIT}” is the limit")


def _busy(results: Results, figure: Figure) -> None:
    figure.set_size_inches(10, 4.5)
    every = figure.subplots(1, len(busy.SETTINGS), sharey=True)
    names = [name for name in results.rivals("busy") if name not in (LIMIT, NOTHING)]
    for axes, setting in zip(every, busy.SETTINGS, strict=True):
        spreads = [results.spread("busy", name, setting, "rows_s") for name in names]
        _bars(axes, names, spreads, ",.0f", least=1.0)
        _goal(axes, results.spread("busy", LIMIT, "", "rows_s"), 0.125)
        axes.set_xlabel("rows/s to commit", fontsize=8)
        axes.set_title(f"turns of {setting} ms" if setting in busy.TURNS else setting, fontsize=9, pad=10)
    figure.suptitle("And when the engine is busy?", x=0.01, ha="left")


def _late(results: Results, figure: Figure) -> None:
    cases = [case for case in results.cases("late") if results.values(*case[:3], "worst_frame_ms")]
    ours = [case for case in cases if case.rival == OURS]
    theirs = [case for case in cases if case.rival in late.RIVALS]
    figure.set_size_inches(9, 6.5)
    every = figure.subplots(max(len(ours), len(theirs)), 2, sharex=True, sharey=True, squeeze=False)
    for column, shown in zip(every.T, (ours, theirs), strict=True):
        for axes, case in zip(column, shown, strict=False):
            _seconds(axes, case, results.values(*case[:3], "worst_frame_ms"))
        for axes in column[len(shown) :]:
            axes.set_visible(False)
        column[len(shown) - 1].tick_params(labelbottom=True)
    every[0, 0].set_ylim(bottom=1)
    figure.supxlabel("seconds; in the faint ones nothing is logged", fontsize=9)
    figure.supylabel("latest frame of each second, ms; median of the rounds", fontsize=9)
    figure.suptitle(late.TITLE, x=0.01, ha="left")


def _seconds(axes: Axes, case: Case, rounds: list[list[float]]) -> None:
    """Draw a bar for each second, on a scale that has room for two milliseconds and for seconds."""
    colour = OUR_COLOUR if case.rival == OURS else COLOUR
    rate = int(case.setting)
    worst = [statistics.median(values) for values in zip(*rounds, strict=True)]
    colours = [colour if rate and second % 2 == 0 else FAINT for second in range(len(worst))]
    axes.bar(range(len(worst)), worst, color=colours, width=1.0)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_title(f"{case.rival}, {rate:,} rows/s", loc="left", fontsize=8, pad=2)
    axes.tick_params(labelsize=7)


def _players(results: Results, figure: Figure) -> None:
    axes = figure.add_subplot()
    names = results.rivals("players")
    spreads = [results.spread("players", name, "", "players") for name in names]
    _bars(axes, names, spreads, ",.0f")
    axes.set_xscale("linear")
    axes.set_xlim(left=0, right=max(spread.high for spread in spreads if spread) * 1.2)
    _goal(axes, results.spread("players", players.WITHOUT, "", "players"), 0.9)
    axes.set_title(players.TITLE, loc="left")
    axes.set_xlabel("players until one frame in a hundred is late")


def _growth(results: Results, figure: Figure) -> None:
    every = figure.subplots(1, 3)
    curves = results.values("growth", OURS, growth.GROWING, "curve")
    panels = (
        ("of_empty", "insert rate, of an empty database's"),
        ("tail_ms", "what is new, ms"),
        ("recording_ms", "a recording, ms"),
    )
    for axes, (name, title) in zip(every, panels, strict=True):
        for curve in curves:
            axes.plot(
                [max(p["rows"], 1000) for p in curve], [p[name] for p in curve], color=FAINT, linewidth=1
            )
        middle = [
            statistics.median(values) for values in zip(*([p[name] for p in c] for c in curves), strict=True)
        ]
        axes.plot([max(p["rows"], 1000) for p in curves[0]], middle, color=OUR_COLOUR, marker="o")
        axes.set_xscale("log")
        axes.set_ylim(0, 1.15 * max(p[name] for curve in curves for p in curve))
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("rows logged before", fontsize=8)
    every[0].axhline(0.9, color=COLOUR, linewidth=0.8)
    figure.suptitle("What does it cost as it grows?", x=0.01, ha="left")
