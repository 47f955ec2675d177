"""Plots: loss of saved images against seconds since the launch; cost against pixels."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.contenders import CONTENDERS, REFERENCE

Run = Mapping[str, Any]

# Paul Tol's "muted" scheme, which color-blind readers can tell apart; the reference is black.
_COLORS = ("#CC6677", "#DDAA33", "#332288", "#44AA99", "#117733", "#882255", "#88CCEE", "#AA4499")
_ORDER = [contender.name for contender in CONTENDERS]
_LABEL_HEIGHT = 0.055  # of the panel


def plot(runs: Sequence[Run], file: Path) -> None:
    """Draws the raw record.

    Args:
        runs: The raw record, at least one run.
        file: The PNG to write.
    """
    tasks = sorted({(run["pair"], run["image_size"], run["style_weight"]) for run in runs})
    columns = min(2, len(tasks))
    rows = math.ceil(len(tasks) / columns)
    with mpl.rc_context({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10.5 * columns, 5.5 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).flat
        for panel, (pair, image_size, style_weight) in zip(panels, tasks, strict=False):
            _panel(
                panel,
                [run for run in runs if _is_of(run, pair, image_size, style_weight)],
                f"{pair.replace('+', ' + ')}, {image_size} px, style weight {style_weight:g}",
            )
        for panel in list(panels):
            panel.set_visible(False)
        figure.savefig(file, dpi=110)


def plot_costs(summary: Mapping[str, Any], file: Path) -> None:
    """Draws seconds and peak memory of an evaluation against pixels.

    Args:
        summary: That of `benchmarks.evaluation_cost.summarize`.
        file: The PNG to write.
    """
    with mpl.rc_context({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(12, 5), layout="constrained")
        seconds, memory = figure.subplots(1, 2)
        for (name, row), color in zip(summary.items(), itertools.cycle(_COLORS), strict=False):
            points = sorted(row["sizes"].values(), key=lambda point: point["pixels"])
            pixels = [point["pixels"] / 1e6 for point in points]
            times = [point["seconds"] for point in points]
            seconds.plot(pixels, times, "o-", color=color, label=name)
            peaks = [point["peak_memory_bytes"] / 2**30 for point in points]
            memory.plot(pixels, peaks, "o-", color=color)
        for panel, title in ((seconds, "seconds per evaluation"), (memory, "peak memory, GiB")):
            panel.set_title(title, loc="left", fontweight="bold")
            panel.set(xscale="log", yscale="log")
            panel.set_xlabel("megapixels")
            panel.grid(alpha=0.25)
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            for axis in (panel.xaxis, panel.yaxis):
                axis.set_major_formatter("{x:g}")
                axis.set_minor_locator(NullLocator())
        seconds.legend(frameon=False, loc="lower right")  # nothing of many pixels is that fast
        figure.savefig(file, dpi=110)


def _is_of(run: Run, *task: object) -> bool:
    return (run["pair"], run["image_size"], run["style_weight"]) == task


def _panel(panel: Axes, runs: Sequence[Run], title: str) -> None:
    panel.set_title(title, loc="left", fontweight="bold")
    panel.set(xscale="log", yscale="log")
    panel.set_xlabel("seconds since the command was started")
    panel.set_ylabel("loss of the saved 8-bit image")
    panel.grid(alpha=0.25)
    for axis, ticks in ((panel.xaxis, (1, 2, 5)), (panel.yaxis, (1, 1.5, 2, 3, 5, 7))):
        axis.set_major_locator(LogLocator(subs=ticks))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    for run in runs:
        seconds = [save["seconds"] for save in run["saves"]]
        losses = [save["loss"] for save in run["saves"]]
        panel.plot(seconds, losses, "o-", color=_color(run), markersize=4.5, linewidth=1.6)
        if run["contender"] == REFERENCE:
            panel.axhline(min(losses), color=_color(run), linestyle=":", linewidth=1)
    _label(panel, runs)


def _label(panel: Axes, runs: Sequence[Run]) -> None:
    """Names each curve at the right, beside its last point and clear of the other names."""
    to_panel = panel.transScale + panel.transLimits
    panel.autoscale_view()
    ends = [(run, (run["saves"][-1]["seconds"], run["saves"][-1]["loss"])) for run in runs]
    heights = {id(run): float(to_panel.transform(end)[1]) for run, end in ends}
    places = _spread([heights[id(run)] for run, _ in ends])
    for (run, end), place in zip(ends, places, strict=True):
        memory = run["peak_memory_bytes"] / 2**30
        panel.annotate(
            f"{run['description']}, {memory:.1f} GiB",
            xy=end,
            xytext=(1.03, place),
            textcoords="axes fraction",
            color=_color(run),
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": _color(run),
                "lw": 0.7,
                "alpha": 0.6,
                "relpos": (0, 0.5),
            },
        )


def _spread(heights: Sequence[float]) -> list[float]:
    """Moves heights, in their order, until none is closer to the next than a label needs."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    places = list(heights)
    for lower, upper in itertools.pairwise(order):
        places[upper] = max(places[upper], places[lower] + _LABEL_HEIGHT)
    excess = max(0.0, places[order[-1]] - 1) if order else 0.0
    ceiling = 1.0
    for i in reversed(order):
        places[i] = min(places[i], ceiling) if excess else places[i]
        ceiling = places[i] - _LABEL_HEIGHT
    return places


def _color(run: Run) -> str:
    name = run["contender"]
    if name == REFERENCE:
        return "black"
    others = [other for other in _ORDER if other != REFERENCE]
    return _COLORS[others.index(name) % len(_COLORS)] if name in others else "grey"
