"""The losses of a job as a plot, an SVG file made of its trace."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from nst_tf.io import files

_SIZE = (720, 420)
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 696, 56, 366
"""Sides of the plot area in the image, in pixels."""

_COLORS = {
    "loss": "#808080",
    "content_loss": "#1f8fd6",
    "style_loss": "#d9730d",
    "grain_loss": "#2a9d5c",
    "tv_loss": "#a05ad6",
}
"""By the column of the trace; all can be told from a white and from a black page."""

_GRAY = "#808080"
_DECADES = 6
"""The axis ends so many powers of ten below the largest value."""

_LABEL_WIDTH = 80
"""Room for the size of a level, in pixels."""

_MOST_POINTS = 1000
"""Of a line; a longer one is thinned."""


class _Row(NamedTuple):
    iteration: int
    size: str
    losses: Mapping[str, float]


class _Axes(NamedTuple):
    """The ranges of a plot: iterations, and powers of ten of the loss."""

    first: int
    last: int
    low: float
    high: float

    def x(self, iteration: int) -> float:
        share = (iteration - self.first) / max(1, self.last - self.first)
        return _LEFT + share * (_RIGHT - _LEFT)

    def y(self, loss: float) -> float:
        power = math.log10(loss) if loss > 0 else -math.inf
        share = (max(self.low, power) - self.low) / (self.high - self.low)
        return _BOTTOM - share * (_BOTTOM - _TOP)


def write(path: Path, trace: Path) -> None:
    """Plots the losses of all iterations against their number, on a logarithmic axis.

    Args:
        path: The SVG file, which is replaced. It is not written for a run without iterations.
        trace: The table that `nst_tf.jobs.callbacks.Trace` wrote.

    Raises:
        OSError: The table cannot be read.
        ValueError: It is damaged.
        MachineError: The file cannot be written.
    """
    rows = _read(trace)
    if rows:
        files.atomic_write(path, _svg(rows).encode())


def _read(trace: Path) -> list[_Row]:
    with trace.open(encoding="utf-8", newline="") as file:
        rows = [
            _Row(
                int(row["iteration"]),
                f"{row['width']}x{row['height']}",
                {name: float(row[name]) for name in _COLORS},
            )
            for row in csv.DictReader(file)
        ]
    return [row for row in rows if all(map(math.isfinite, row.losses.values()))]


def _svg(rows: Sequence[_Row]) -> str:
    names = [name for name in _COLORS if any(row.losses[name] > 0 for row in rows)]
    axes = _axes(rows, names)
    width, height = _SIZE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" font-family="sans-serif" font-size="13" fill="{_GRAY}">',
        "<title>Losses against iterations</title>",
        *_grid(axes),
        *_levels(rows, axes),
        *(line for name in names for line in _lines(name, rows, axes)),
        *_legend(names),
        _text((_LEFT + _RIGHT) / 2, height - 12, "iteration"),
        f'<text transform="translate(18 {(_TOP + _BOTTOM) / 2:.0f}) rotate(-90)" '
        'text-anchor="middle">weighted loss</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _axes(rows: Sequence[_Row], names: Sequence[str]) -> _Axes:
    positive = [row.losses[name] for row in rows for name in names if row.losses[name] > 0]
    powers = [math.log10(value) for value in positive or [1.0]]
    high = max(powers)
    low = max(min(powers), high - _DECADES)
    margin = 0.04 * max(high - low, 0.5)
    return _Axes(rows[0].iteration, rows[-1].iteration, low - margin, high + margin)


def _grid(axes: _Axes) -> Iterator[str]:
    """Yields horizontal lines with the losses, and marks with the numbers of iterations."""
    for loss in _loss_ticks(axes):
        y = axes.y(loss)
        yield (
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_RIGHT}" y2="{y:.1f}" stroke="{_GRAY}" '
            'stroke-opacity="0.25"/>'
        )
        yield _text(_LEFT - 8, y + 4, f"{loss:g}", "end")
    yield f'<path d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}" fill="none" stroke="{_GRAY}"/>'
    for iteration in _iteration_ticks(axes):
        x = axes.x(iteration)
        yield f'<path d="M{x:.1f} {_BOTTOM}v5" stroke="{_GRAY}"/>'
        yield _text(x, _BOTTOM + 20, f"{iteration}")


def _loss_ticks(axes: _Axes) -> list[float]:
    """Returns powers of ten, with steps between them where there are few."""
    powers = range(math.floor(axes.low), math.ceil(axes.high) + 1)
    for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), tuple(1 + step / 2 for step in range(18))):
        ticks = [step * 10.0**power for power in powers for step in steps]
        inside = [tick for tick in ticks if axes.low <= math.log10(tick) <= axes.high]
        if len(inside) >= 3:
            return inside
    return [10.0 ** (axes.low + share * (axes.high - axes.low)) for share in (0.1, 0.5, 0.9)]


def _iteration_ticks(axes: _Axes) -> list[int]:
    """Returns multiples of 1, 2 or 5 times a power of ten, eight at most."""
    steps = (step * 10**power for power in range(9) for step in (1, 2, 5))
    step = next(step for step in steps if (axes.last - axes.first) / step <= 8)
    return list(range(-(-axes.first // step) * step, axes.last + 1, step))


def _levels(rows: Sequence[_Row], axes: _Axes) -> Iterator[str]:
    """Yields a line where each level begins, and its size where there is room for it."""
    room_from = 0.0
    for size, level in groupby(rows, key=lambda row: row.size):
        x = axes.x(next(level).iteration)
        yield (
            f'<path d="M{x:.1f} {_TOP}V{_BOTTOM}" stroke="{_GRAY}" stroke-opacity="0.5" '
            'stroke-dasharray="2 4"/>'
        )
        if room_from <= x <= _RIGHT - _LABEL_WIDTH:
            yield _text(x + 4, _TOP - 6, size, "start")
            room_from = x + _LABEL_WIDTH
        elif room_from <= _RIGHT - _LABEL_WIDTH:  # the last level, where it is short
            yield _text(_RIGHT, _TOP - 6, size, "end")
            room_from = _RIGHT


def _lines(name: str, rows: Sequence[_Row], axes: _Axes) -> Iterator[str]:
    """Yields the line of a term for each level, as losses of two sizes cannot be compared."""
    every = math.ceil(len(rows) / _MOST_POINTS)
    for _, group in groupby(rows, key=lambda row: row.size):
        level = list(group)
        shown = [*level[:-1:every], level[-1]]
        points = [(axes.x(row.iteration), axes.y(row.losses[name])) for row in shown]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        width = 2.5 if name == "loss" else 1.5
        yield (
            f'<path d="M{path}" fill="none" stroke="{_COLORS[name]}" stroke-width="{width}" '
            'stroke-linejoin="round" stroke-linecap="round"/>'
        )


def _legend(names: Sequence[str]) -> Iterator[str]:
    for number, name in enumerate(names):
        x = _LEFT + 110 * number
        label = "total" if name == "loss" else name.removesuffix("_loss")
        yield f'<path d="M{x} 20h24" stroke="{_COLORS[name]}" stroke-width="3"/>'
        yield _text(x + 30, 24, label, "start")


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
