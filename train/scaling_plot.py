"""The curves of a study as one picture: a panel for each evaluation set and metric, scenes along a logarithmic axis."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from randscene.figures import blank_figure, figure_png
from randscene.train.scaling_findings import Cell, Curve, Findings, Place, shown_places
from randscene.train.scaling_measures import Measure, measure_of, title
from randscene.train.scaling_study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#4878a8", "#d98c3f", "#5a9e6f", "#c0392b", "#8064a2", "#9a9a9a")
_WIDTH, _HEIGHT, _ACROSS = 3.4, 2.9, 4
"""Of a panel, inches, and how many of them side by side."""
_WIDEST, _MARGIN = 0.5, 0.08
"""How far intervals may widen a panel to either side, and what is left free there, in ranges of its points."""
_ASIDE = 0.025
"""Between arms of equally many scenes, in widths of the axis."""


def draw_curves(study: Study, found: Findings) -> bytes:
    """PNG: seeds as points, their mean as a line, its interval as a band, a determined power law dashed.

    Arms that belong to no entry of `sizes` are points with a bar; those of equally many scenes stand side by side. A
    law that the data do not determine is not drawn, and the panel says so. What no arm measured has no panel. The
    points rule what a panel shows: wide bands and bars leave it.
    """
    lone = [arm.name for arm in study.arms if not arm.family]
    colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate([*study.families(), *lone])}
    cells: dict[Place, list[Cell]] = {}
    for cell in found.cells:
        cells.setdefault((cell.set, cell.metric), []).append(cell)
    panels: dict[str, list[Place]] = {wanted.name: [] for wanted in study.evaluation}
    for place in shown_places(study, cells):
        panels[place[0]].append(place)
    across = min(max(1, *map(len, panels.values())), _ACROSS)
    rows = [places[first : first + across] for places in panels.values() for first in range(0, len(places), across)]
    figure = blank_figure(
        _WIDTH * across,
        _HEIGHT * max(len(rows), 1) + 0.9,
        left=0.55,
        right=0.15,
        bottom=0.5,
        top=0.7,
        gaps=(0.28, 0.4),
    )
    axes = figure.subplots(max(len(rows), 1), across, squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    for row, places in zip(axes, rows):
        for axis, place in zip(row, places):
            curves = [curve for curve in found.curves if (curve.set, curve.metric) == place]
            _panel(axis, place, cells[place], curves, colours)
    handles, labels = _legend(axes.flat)
    if handles:
        figure.legend(handles, labels, loc="upper center", ncols=min(len(labels), 6), fontsize=8, frameon=False)
    return figure_png(figure)


def _panel(axis: "Axes", place: Place, cells: Sequence[Cell], curves: Sequence[Curve], colours: dict[str, str]) -> None:
    measure = measure_of(place[1])
    assert measure is not None, place  # panels are of what is shown
    factor = measure.factor
    axis.set_axis_on()
    axis.set_title(f"{place[0]}: {title(place[1])}", fontsize=9)
    axis.set_xlabel("training scenes", fontsize=8)
    axis.set_xscale("log")
    sizes = sorted({cell.scenes for cell in cells if cell.arm.family})
    span = _ticks(axis, sizes, sorted({cell.scenes for cell in cells}))
    notes, rises = [], 0.0
    for curve in curves:
        colour = colours[curve.family]
        counts = np.array([cell.scenes for cell in curve.cells], np.float64)
        means = [factor * cell.mean.value for cell in curve.cells]
        rises += math.copysign(1, means[-1] - means[0])
        for cell in curve.cells:
            _points(axis, cell.scenes, cell, factor, colour)
        axis.plot(counts, means, color=colour, lw=1.5, label=curve.family)
        ends = [(cell.mean.low, cell.mean.high) for cell in curve.cells]
        if all(low is not None for low, _ in ends):
            low, high = (factor * np.array(side, np.float64) for side in zip(*ends))
            axis.fill_between(counts, low, high, color=colour, alpha=0.15, lw=0)
        if curve.fit.law is not None and not curve.fit.undetermined:
            along = np.geomspace(counts.min(), counts.max(), 100)
            axis.plot(along, factor * curve.fit.law(along), "--", color=colour, lw=1.2)
            notes.append((f"c = {curve.fit.law.c:.2f}", colour))
        else:
            notes.append(("no law", colour))
    for cell, x in _side_by_side([cell for cell in cells if not cell.arm.family], span):
        colour, mean = colours[cell.arm.name], cell.mean
        _points(axis, x, cell, factor, colour)
        if mean.low is not None and mean.high is not None:
            axis.plot([x] * 2, [factor * mean.low, factor * mean.high], "-", color=colour, lw=1)
        axis.plot([x], [factor * mean.value], "s", color=colour, ms=5, label=cell.arm.name)
    for number, (text, colour) in enumerate(notes):  # in the corner that a curve leaves free
        height = 0.03 + 0.09 * (len(notes) - 1 - number) if rises > 0 else 0.9 - 0.09 * number
        axis.text(0.98, height, text, transform=axis.transAxes, ha="right", va="bottom", fontsize=8, color=colour)
    axis.set_ylim(view_of(measure, cells))
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)


def view_of(measure: Measure, cells: Sequence[Cell]) -> tuple[float, float]:
    """Lowest and highest value of a panel, in the unit that is shown.

    All points lie inside. Intervals widen it by half of the points' range to either side and no further, and not
    beyond what the measure can be.
    """
    points = [measure.factor * value for cell in cells for value in cell.values]
    ends = [measure.factor * end for cell in cells for end in (cell.mean.low, cell.mean.high) if end is not None]
    lowest, highest = min(points), max(points)
    span = highest - lowest or 0.1 * abs(highest) or 1.0
    low = max(min([lowest, *ends]), lowest - _WIDEST * span, min(lowest, 0.0))
    high = min(max([highest, *ends]), highest + _WIDEST * span, max(highest, measure.top))
    return low - _MARGIN * span, high + _MARGIN * span


def _points(axis: "Axes", x: float, cell: Cell, factor: int, colour: str) -> None:
    values = [factor * value for value in cell.values]
    axis.plot([x] * len(values), values, "o", ms=3.5, mfc="none", mec=colour, alpha=0.8)


def _side_by_side(cells: Sequence[Cell], span: float) -> list[tuple[Cell, float]]:
    """Where each arm stands on an axis of `span` (a logarithm): around its number of scenes, beside others of it."""
    placed = []
    for cell in cells:
        same = [other for other in cells if other.scenes == cell.scenes]
        step = same.index(cell) - (len(same) - 1) / 2
        placed.append((cell, cell.scenes * math.exp(_ASIDE * span * step)))
    return placed


def _ticks(axis: "Axes", sizes: Sequence[int], counts: Sequence[int]) -> float:
    """The studied numbers of scenes themselves, those of `sizes` first, as far as their labels have room.

    Returns
    -------
    float
        Logarithm of the largest number over the smallest, at least 1.
    """
    from matplotlib.ticker import NullFormatter, NullLocator

    shown: list[int] = []
    span = max(math.log(counts[-1] / counts[0]), 1.0)
    for count in (*sizes, *counts):
        if all(abs(math.log(count / other)) > 0.15 * span for other in shown):
            shown.append(count)
    axis.set_xticks(shown, [f"{count:,}" for count in shown])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlim(counts[0] * math.exp(-0.08 * span), counts[-1] * math.exp(0.08 * span))
    return span


def _legend(axes: Any) -> tuple[list[Any], list[str]]:
    """Each name once, in the order of the panels."""
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels()):
            found.setdefault(label, handle)
    return list(found.values()), list(found)
