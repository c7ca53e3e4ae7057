"""The curves of a study as one picture: a panel for each evaluation set and metric, scenes along a logarithmic axis."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from randscene.figures import blank_figure, figure_png
from randscene.train.scaling_findings import Cell, Curve, Findings, headline, title
from randscene.train.scaling_study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#4878a8", "#d98c3f", "#5a9e6f", "#c0392b", "#8064a2", "#9a9a9a")
_WIDTH, _HEIGHT, _ACROSS = 3.4, 2.9, 4
"""Of a panel, inches, and how many of them side by side."""


def draw_curves(study: Study, found: Findings) -> bytes:
    """PNG: seeds as points, their mean as a line, its interval as a band, a determined power law dashed.

    Arms that belong to no entry of `sizes` are points with a bar. A law that the data do not determine is not drawn,
    and the panel says so.
    """
    cells = [cell for cell in found.cells if headline(cell.metric)]
    sets = list(dict.fromkeys(cell.set for cell in cells))
    metrics = list(dict.fromkeys(cell.metric for cell in cells))
    lone = [arm.name for arm in study.arms if not arm.family]
    colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate([*study.families(), *lone])}
    across = min(max(len(metrics), 1), _ACROSS)
    down = -(-len(metrics) // across)  # rows a set
    figure = blank_figure(
        _WIDTH * across,
        _HEIGHT * max(len(sets) * down, 1) + 0.9,
        left=0.55,
        right=0.15,
        bottom=0.5,
        top=0.7,
        gaps=(0.28, 0.4),
    )
    axes = figure.subplots(max(len(sets) * down, 1), across, squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    for number, name in enumerate(sets):
        for place, metric in enumerate(metrics):
            axis = axes[number * down + place // across, place % across]
            inside = [cell for cell in cells if (cell.set, cell.metric) == (name, metric)]
            curves = [curve for curve in found.curves if (curve.set, curve.metric) == (name, metric)]
            _panel(axis, inside, curves, colours)
            axis.set_title(f"{name}: {title(metric)}", fontsize=9)
            axis.set_xlabel("training scenes", fontsize=8)
    handles, labels = _legend(axes.flat)
    if handles:
        figure.legend(handles, labels, loc="upper center", ncols=min(len(labels), 6), fontsize=8, frameon=False)
    return figure_png(figure)


def _panel(axis: "Axes", cells: Sequence[Cell], curves: Sequence[Curve], colours: dict[str, str]) -> None:
    axis.set_axis_on()
    if not cells:  # measured by none of the arms
        return
    axis.set_xscale("log")
    notes, rises = [], 0.0
    for curve in curves:
        colour = colours[curve.family]
        counts = np.array([cell.scenes for cell in curve.cells], np.float64)
        rises += math.copysign(1, curve.cells[-1].mean.value - curve.cells[0].mean.value)
        for cell in curve.cells:
            axis.plot([cell.scenes] * len(cell.values), cell.values, "o", ms=3.5, mfc="none", mec=colour, alpha=0.8)
        axis.plot(counts, [cell.mean.value for cell in curve.cells], color=colour, lw=1.5, label=curve.family)
        ends = [(cell.mean.low, cell.mean.high) for cell in curve.cells]
        if all(low is not None for low, _ in ends):
            low, high = (np.array(side, np.float64) for side in zip(*ends))
            axis.fill_between(counts, low, high, color=colour, alpha=0.15, lw=0)
        if curve.fit.law is not None and not curve.fit.undetermined:
            along = np.geomspace(counts.min(), counts.max(), 100)
            axis.plot(along, curve.fit.law(along), "--", color=colour, lw=1.2)
            notes.append((f"c = {curve.fit.law.c:.2f}", colour))
        else:
            notes.append(("no law", colour))
    for cell in cells:
        if not cell.arm.family:
            colour, mean = colours[cell.arm.name], cell.mean
            axis.plot([cell.scenes] * len(cell.values), cell.values, "o", ms=3.5, mfc="none", mec=colour, alpha=0.8)
            if mean.low is not None and mean.high is not None:
                axis.plot([cell.scenes] * 2, [mean.low, mean.high], "-", color=colour, lw=1)
            axis.plot([cell.scenes], [mean.value], "s", color=colour, ms=5, label=cell.arm.name)
    for place, (text, colour) in enumerate(notes):  # in the corner that a curve leaves free
        height = 0.03 + 0.09 * (len(notes) - 1 - place) if rises > 0 else 0.9 - 0.09 * place
        axis.text(0.98, height, text, transform=axis.transAxes, ha="right", va="bottom", fontsize=8, color=colour)
    sizes = sorted({cell.scenes for cell in cells if cell.arm.family})
    _ticks(axis, sizes, sorted({cell.scenes for cell in cells}))
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)


def _ticks(axis: "Axes", sizes: Sequence[int], counts: Sequence[int]) -> None:
    """The studied numbers of scenes themselves, those of `sizes` first, as far as their labels have room."""
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


def _legend(axes: Any) -> tuple[list[Any], list[str]]:
    """Each name once, in the order of the panels."""
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels()):
            found.setdefault(label, handle)
    return list(found.values()), list(found)
