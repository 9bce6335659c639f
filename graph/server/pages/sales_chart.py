"""Sales figures as a picture: revenue above, units below, one bar a period."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from persistence.sales import Period, Total

INK, REVENUE, UNITS = "#334155", "#4f46e5", "#0d9488"
LABELS = {Period.DAY: "%d %b", Period.WEEK: "%d %b", Period.MONTH: "%b %Y"}
MOST_LABELS = 13  # As many as a page's width holds.


def draw(totals: Sequence[Total], by: Period, title: str, out: Path) -> None:
    """Write the picture; its name's ending says in which format (svg, png, pdf). The same figures give the same file."""
    style = {"svg.hashsalt": title, "svg.fonttype": "none", "font.family": "sans-serif", "text.color": INK, "axes.labelcolor": INK}
    with cast("Any", mpl).rc_context(style):  # Its annotations leave half of the signature open.
        figure: Any = Figure(figsize=(10, 6), layout="constrained")
        revenue, units = figure.subplots(2, sharex=True, height_ratios=(3, 2))
        figure.suptitle(title, fontweight="bold")
        _bars(revenue, [float(total.revenue) for total in totals], "Revenue", REVENUE)
        _bars(units, [total.units for total in totals], "Units", UNITS)
        step = -(-len(totals) // MOST_LABELS)
        places = range(0, len(totals), step)
        units.set_xticks(list(places), [totals[place].starts_at.strftime(LABELS[by]) for place in places])
        figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)


def _bars(axes: Any, heights: Sequence[float], label: str, color: str) -> None:
    axes.bar(range(len(heights)), heights, color=color, width=0.8)
    axes.set_ylabel(label)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(color=INK, labelcolor=INK)
    axes.margins(x=0.01)
    axes.set_ylim(bottom=0)
