"""Pictures of a layout report: histograms, and layouts seen from above."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from randscene.figures import blank_figure, figure_png
from randscene.generator.layout_report import LayoutReport
from randscene.generator.scene_check import SceneCheck

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARGINS = {"left": 0.5, "right": 0.2, "bottom": 0.35, "top": 0.75}
"""Inches."""
_GAPS = (0.16, 0.3)
_BLUE, _ORANGE, _GREEN, _RED, _GREY = "#4878a8", "#d98c3f", "#5a9e6f", "#c0392b", "#9a9a9a"
_BINS = 40


def draw_histograms(report: LayoutReport) -> bytes:
    """Histograms of counts, sizes, densities, distances, contacts and the sampler's toil, as PNG."""
    samples, limits = report.statistics.samples, report.tolerances
    figure = blank_figure(13, 10.5, **_MARGINS, gaps=_GAPS)
    axes = iter(figure.subplots(4, 3).flat)
    _counts(next(axes), samples["objects"], "objects a scene")
    _counts(next(axes), samples["stacked"], "stacked objects a scene")
    _values(next(axes), samples["size"], "largest extent of an object, m")
    _values(next(axes), samples["density"], "area of the discs over the region's")
    _values(next(axes), samples["distance_over_radii"], "distance of two discs over their radii", mark=1.0)
    _values(next(axes), samples["nearest_distance_over_radii"], "the same, nearest pair of each scene", mark=1.0)
    _values(next(axes), samples["tries_over_objects"], "tries for a disc, mean of a scene", log=True)
    _counts(next(axes), samples["expansions"], "expansions of the region")
    gaps = np.array([*samples["ground_gap_over_size"], *samples["rest_gap_over_size"]]) / limits.contact
    _values(next(axes), np.clip(gaps, -3, 3), "gap below an object over its tolerance", log=True, mark=1.0, both=True)
    _values(next(axes), samples["clearance_over_size"], "outline to polygon's edge over size", mark=0.0)
    _values(next(axes), samples["margin_over_size"], "centre of mass to footing's edge over size", mark=0.0)
    _uses(next(axes), sorted(report.statistics.uses.values(), reverse=True))
    figure.suptitle(f"{report.scenes} scenes, {len(samples['size'])} objects")
    return figure_png(figure)


def draw_layouts(report: LayoutReport) -> bytes:
    """Up to twelve layouts seen from above, as PNG: discs, outlines and ids; what violates a tolerance is red."""
    figure = blank_figure(14, 3.8 * max(1, math.ceil(len(report.drawn) / 4)), **_MARGINS, gaps=_GAPS)
    axes = list(figure.subplots(max(1, math.ceil(len(report.drawn) / 4)), 4, squeeze=False).flat)
    for axis, check in zip(axes, report.drawn):
        _layout(axis, check)
    for axis in axes[len(report.drawn) :]:
        axis.set_axis_off()
    figure.suptitle("dashed: discs   blue: on the ground   green: carries an object   orange: stacked   red: violation")
    return figure_png(figure)


def _layout(axis: "Axes", check: SceneCheck) -> None:
    from matplotlib.patches import Circle, Polygon

    bad = {number for violation in check.violations for number in violation.instances}
    for centre, radius in zip(check.layout.centres, check.layout.radii):
        axis.add_patch(Circle(centre, radius, fill=False, linestyle="--", edgecolor=_GREY, linewidth=0.8))
    for number, item in sorted(enumerate(check.instances, start=1), key=lambda pair: pair[1].layer):
        color = _ORANGE if item.layer else _GREEN if item.carries else _BLUE
        edge = _RED if number in bad else color
        outline = np.asarray(item.outline).reshape(-1, 2)
        axis.add_patch(
            Polygon(outline, facecolor=color, alpha=0.35, edgecolor="none", zorder=2 + item.layer),
        )
        axis.add_patch(Polygon(outline, fill=False, edgecolor=edge, linewidth=1.4, zorder=2 + item.layer))
        # The id of what carries something goes to its edge, clear of what stands in its middle.
        where = (0.2 * outline.mean(axis=0) + 0.8 * outline[0]) if item.carries else outline.mean(axis=0)
        axis.text(where[0], where[1], str(number), ha="center", va="center", fontsize=8, zorder=9, clip_on=True)
    points = np.concatenate([np.asarray(item.outline).reshape(-1, 2) for item in check.instances])
    discs = [
        np.array(centre) + side * radius
        for centre, radius in zip(check.layout.centres, check.layout.radii)
        for side in (-1, 1)
    ]
    points = np.concatenate((points, np.reshape(discs, (-1, 2))))
    middle, half = (points.min(axis=0) + points.max(axis=0)) / 2, 0.53 * np.ptp(points, axis=0).max()
    axis.set_xlim(middle[0] - half, middle[0] + half)
    axis.set_ylim(middle[1] - half, middle[1] + half)
    axis.set_aspect("equal")
    axis.tick_params(labelsize=7)
    worst = max(check.violations, key=lambda violation: violation.ratio, default=None)
    title = f"scene {check.scene}" + (f": {worst.check} {worst.ratio:.3g} x tolerance" if worst else "")
    axis.set_title(title, fontsize=9, color=_RED if worst else "black")


def _counts(axis: "Axes", values: Sequence[float], title: str) -> None:
    """A bar for each whole number."""
    from matplotlib.ticker import MaxNLocator

    numbers, counts = np.unique(np.asarray(values, np.int64), return_counts=True)
    axis.bar(numbers, counts, width=0.85, color=_BLUE)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(axis, title)


def _values(
    axis: "Axes",
    values: Sequence[float] | NDArray[Any],
    title: str,
    *,
    mark: float | None = None,
    both: bool = False,
    log: bool = False,
) -> None:
    """A histogram; `mark` is a limit that is drawn, on both sides of zero if `both`."""
    data = np.asarray(values, np.float64)
    if len(data):
        low, high = float(data.min()), float(data.max())
        widest = max(high - low, 1e-9 * max(abs(low), abs(high), 1.0))
        axis.hist(data, bins=_BINS, range=(low, low + widest), color=_BLUE)
        if log:
            axis.set_yscale("log")
    else:
        axis.text(0.5, 0.5, "none", transform=axis.transAxes, ha="center", color=_GREY)
    for limit in () if mark is None else (mark, -mark) if both else (mark,):
        axis.axvline(limit, color=_RED, linewidth=1, linestyle="--")
    _finish(axis, title)


def _uses(axis: "Axes", uses: Sequence[int]) -> None:
    axis.plot(np.arange(1, len(uses) + 1), uses, color=_BLUE)
    axis.set_ylim(bottom=0)
    _finish(axis, "uses of each asset, most used first")


def _finish(axis: "Axes", title: str) -> None:
    axis.set_title(title, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
