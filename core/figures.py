"""Matplotlib figures without pyplot: no display, no state of the process, and the same bytes for the same picture."""

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110


def blank_figure(
    width: float, height: float, *, left: float, right: float, bottom: float, top: float, gaps: tuple[float, float]
) -> "Figure":
    """An empty figure of `width` by `height` inches.

    Parameters
    ----------
    width, height : float
    left, right, bottom, top : float
        Margins around its panels, inches.
    gaps : (float, float)
        Between panels, across and down, in panels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        bottom=bottom / height,
        top=1 - top / height,
        wspace=gaps[0],
        hspace=gaps[1],
    )
    FigureCanvasAgg(figure)
    return figure


def figure_png(figure: "Figure") -> bytes:
    """The figure as PNG, without a word of the software that drew it."""
    data = io.BytesIO()
    metadata: dict[str, Any] = {"Software": None}
    figure.savefig(data, format="png", dpi=DPI, metadata=metadata)
    return data.getvalue()
