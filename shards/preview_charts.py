"""Histograms as inline SVG. Colours come from the page's style sheet, so that they follow its light and dark."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 320, 168
LEFT, RIGHT, TOP, BOTTOM = 34, 8, 8, 34


def histogram(
    values: NDArray[Any], *, title: str, axis: str, note: str = "", bounds: tuple[float, float] | None = None
) -> str:
    """A titled histogram of continuous values as an HTML figure.

    Parameters
    ----------
    values : np.ndarray
        Any shape; may be empty.
    title, axis, note : str
        What is shown, the name of the horizontal axis, and a line of small print.
    bounds : (float, float), optional
        Range of the horizontal axis; that of the values by default.
    """
    values = np.asarray(values, float).ravel()
    if not values.size:
        return _figure(title, "", "nothing to show", note)
    ticks = _ticks(*bounds) if bounds else _ticks(float(values.min()), float(values.max()))
    low, high = ticks[0], ticks[-1]
    bins = int(np.clip(np.sqrt(values.size) * 1.2, 6, 24))
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    bars = [(f"{_number(a)} to {_number(b)}", a, b, int(n)) for a, b, n in zip(edges, edges[1:], counts)]
    median, (near, far) = np.median(values), np.percentile(values, (5, 95))
    summary = f"median {_number(median)}, 90 % in {_number(near)} to {_number(far)}"
    plot = _plot(title, axis, bars, [(_number(tick), tick) for tick in ticks], (low, high))
    return _figure(title, plot, summary, note)


def count_chart(values: NDArray[Any], *, title: str, axis: str, note: str = "") -> str:
    """A titled bar chart of how often each whole number occurs, as an HTML figure; parameters as in `histogram`."""
    values = np.asarray(values, int).ravel()
    if not values.size:
        return _figure(title, "", "nothing to show", note)
    low, high = int(values.min()), int(values.max())
    numbers = range(low, high + 1)
    bars = [(str(n), n - 0.5, n + 0.5, int((values == n).sum())) for n in numbers]
    step = max(1, -(-len(numbers) // 12))
    summary = f"mean {values.mean():.3g}, {low} to {high}"
    plot = _plot(title, axis, bars, [(str(n), float(n)) for n in numbers[::step]], (low - 0.5, high + 0.5))
    return _figure(title, plot, summary, note)


def _figure(title: str, plot: str, summary: str, note: str) -> str:
    small = f"<small>{escape(note)}</small>" if note else ""
    caption = f"<figcaption><b>{escape(title)}</b><span>{escape(summary)}</span></figcaption>"
    return f"<figure class=chart>{caption}{plot}{small}</figure>"


def _plot(
    title: str,
    axis: str,
    bars: Sequence[tuple[str, float, float, int]],
    ticks: Sequence[tuple[str, float]],
    bounds: tuple[float, float],
) -> str:
    low, high = bounds
    top = _round_up(max(count for *_, count in bars))

    def across(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)

    def up(count: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * count / top

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for level in (0, top / 2, top):
        line = "axis" if level == 0 else "grid"
        parts.append(f'<line class={line} x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(level):.1f}" y2="{up(level):.1f}"/>')
        if level == int(level):
            parts.append(f'<text x="{LEFT - 5}" y="{up(level) + 3.5:.1f}" text-anchor="end">{_short(level)}</text>')
    for label, start, end, count in bars:
        if count:
            left, right = across(start) + 0.75, across(end) - 0.75
            parts.append(
                f'<rect class=bar x="{left:.1f}" width="{right - left:.1f}" y="{up(count):.1f}" '
                f'height="{HEIGHT - BOTTOM - up(count):.1f}" rx="1.5"><title>{escape(label)}: {count:,}</title></rect>'
            )
    for label, value in ticks:
        x = min(across(value), WIDTH - RIGHT + 4 - 2.9 * len(label))  # the last label must not leave the picture
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 13}" text-anchor="middle">{escape(label)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class=name x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{escape(axis)}</text></svg>')
    return "".join(parts)


def _round_up(value: int) -> int:
    """The next even number of at most two leading digits that is not smaller."""
    power = 1
    while True:
        for factor in (2, 4, 6, 8, 10, 12, 14, 16):
            if factor * power >= value:
                return factor * power
        power *= 10


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers, evenly spaced, that hold [low, high]."""
    span = high - low if high > low else max(abs(high), 1.0)
    power = 10 ** math.floor(math.log10(span / 4))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= 0.999 * span / 4)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [step * number for number in range(first, last + 1)]


def _number(value: float) -> str:
    """Three digits for people: `0.458`, `45.8`, `1,690`."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
