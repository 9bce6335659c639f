"""Renders the sales chart: revenue above, units below, one bar a period.

The same figures give the same bytes, whatever the day, the machine or its language. Nothing in it runs or is loaded from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from math import ceil
from xml.etree import ElementTree as ET

from persistence.sales import Period, SalesTotal

MEDIA_TYPE = "image/svg+xml"
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # strftime's depend on the machine.
WIDTH, HEIGHT = 1000, 600
LEFT, RIGHT = 90, 980  # Between them stand the bars; left of them, numbers of eight digits have room.
PANELS = {"Revenue": (70, 330), "Units": (390, 540)}  # Where each begins and ends, from the top.
COLOURS = {"Revenue": "#4f46e5", "Units": "#0d9488"}
BAR_SHARE = 0.8  # Of a period's width.
GRID_LINES = 5  # About so many.
MOST_LABELS = 13  # As many as the width holds.
STYLE = "text{font:14px system-ui,sans-serif;fill:#334155}.title{font-size:18px;font-weight:600}.line{stroke:#e2e8f0}.number{text-anchor:end}.period{text-anchor:middle}"


def render(totals: Sequence[SalesTotal], by: Period, title: str) -> str:
    """The picture as an SVG document."""
    svg = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img")
    ET.SubElement(svg, "title").text = title
    ET.SubElement(svg, "style").text = STYLE
    ET.SubElement(svg, "rect", width="100%", height="100%", fill="#fff")
    _text(svg, WIDTH / 2, 34, title, "period title")
    labels = [_label(total, by) for total in totals]
    _panel(svg, "Revenue", [total.revenue for total in totals], labels)
    _panel(svg, "Units", [Decimal(total.units) for total in totals], labels)
    step = -(-len(totals) // MOST_LABELS) or 1
    for place in range(0, len(totals), step):
        _text(svg, _middle(place, len(totals)), PANELS["Units"][1] + 24, labels[place], "period")
    return ET.tostring(svg, encoding="unicode") + "\n"


def _panel(svg: ET.Element, name: str, heights: Sequence[Decimal], labels: Sequence[str]) -> None:
    top, bottom = PANELS[name]
    _text(svg, LEFT, top - 14, name, "panel")
    line = _line_distance(max(heights, default=Decimal(0)))
    full = max(line, ceil(max(heights, default=Decimal(0)) / line) * line)
    for number in range(int(full / line) + 1):
        y = bottom - float(number * line / full) * (bottom - top)
        ET.SubElement(svg, "line", x1=str(LEFT), x2=str(RIGHT), y1=_number(y), y2=_number(y)).set("class", "line")
        _text(svg, LEFT - 8, y + 5, _short(number * line), "number")
    width = (RIGHT - LEFT) / max(1, len(heights)) * BAR_SHARE
    for place, (value, label) in enumerate(zip(heights, labels, strict=True)):
        height = float(value / full) * (bottom - top)
        x = _middle(place, len(heights)) - width / 2
        size = {"x": _number(x), "y": _number(bottom - height), "width": _number(width), "height": _number(height)}
        bar = ET.SubElement(svg, "rect", size, fill=COLOURS[name])
        ET.SubElement(bar, "title").text = f"{label}: {value:,f}"


def _line_distance(highest: Decimal) -> Decimal:
    """1, 2 or 5 times a power of ten, so that about GRID_LINES lines reach the highest bar; at least 1."""
    ten = Decimal(10) ** max(0, (highest / GRID_LINES).adjusted()) if highest else Decimal(1)
    return next(step * ten for step in (1, 2, 5, 10) if step * ten * GRID_LINES >= highest)


def _short(value: Decimal) -> str:
    return f"{value:,f}" if value < 10**8 else f"{value:.3g}"


def _middle(place: int, periods: int) -> float:
    return LEFT + (place + 0.5) * (RIGHT - LEFT) / periods


def _label(total: SalesTotal, by: Period) -> str:
    day = total.starts_at
    return f"{MONTHS[day.month - 1]} {day.year}" if by is Period.MONTH else f"{day.day} {MONTHS[day.month - 1]}"


def _text(svg: ET.Element, x: float, y: float, text: str, kind: str) -> None:
    ET.SubElement(svg, "text", {"x": _number(x), "y": _number(y), "class": kind}).text = text


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
