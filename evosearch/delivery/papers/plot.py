"""plot.svg: the drawing of a card. The only file with matplotlib; the same drawing gives the same bytes."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from evosearch.delivery.papers.curves import Drawing, Panel, extent

_LINES = (("#c2410c", "-", 2.4), ("#475569", "--", 1.4), ("#0369a1", ":", 1.8))  # told apart without color, too


def svg(drawing: Drawing) -> str:
    """The panels side by side."""
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's matplotlibrc says
        mpl.rc("svg", hashsalt="evosearch", fonttype="none")
        mpl.rc("axes.spines", top=False, right=False)
        count = len(drawing.panels)
        figure = Figure(figsize=(4 * count, 3.4))
        FigureCanvasSVG(figure)
        figure.subplots_adjust(left=0.12 / count, right=1 - 0.04 / count, bottom=0.14, top=0.9, wspace=0.2)
        for axes, panel in zip(figure.subplots(1, count, squeeze=False)[0], drawing.panels, strict=True):
            _draw(axes, panel)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _draw(axes: Axes, panel: Panel) -> None:
    for order, (line, (color, style, width)) in reversed(list(enumerate(zip(panel.lines, _LINES, strict=False)))):
        y = np.where(np.isfinite(line.y), line.y, np.nan)
        looks: dict[str, Any] = {"linestyle": "none", "marker": "osv"[order], "markersize": 3} if line.dots else {"linestyle": style, "linewidth": width}
        axes.plot(line.x, y, color=color, label=line.name, zorder=10 - order, **looks)
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel(panel.across)
    if panel.powers:
        axes.set_xscale("log")
        axes.set_yscale("log")
        values = np.concatenate([line.y[np.isfinite(line.y) & (line.y > 0)] for line in panel.lines])
        axes.set_ylim(min([0.1, *values]) / 1.5, max([10.0, *values]) * 1.5)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(*extent(panel.lines))
        axes.locator_params(nbins=6)
        axes.axhline(0, color="#cbd5e1", linewidth=0.8, zorder=0)
        axes.axvline(0, color="#cbd5e1", linewidth=0.8, zorder=0)
    handles, names = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], names[::-1], fontsize=8, frameon=False)
