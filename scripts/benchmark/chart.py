"""The comparison as a picture for README.md: one bar for each server, as long as its figure is beside the longest of its case."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from scripts.benchmark.report import Finding
from scripts.benchmark.servers import BARE, COMPILED, NODE, PLANNING, PRODUCT, PSQL, REST, STATIC, STOCK

WIDTH, LABELS, FIGURES, BAR, GAP, HEAD = 860, 200, 170, 18, 18, 24
COLOURS = {
    PRODUCT: "#2f6fde",
    REST: "#8a8f98",
    STOCK: "#b3b7be",
    NODE: "#e0a100",
    PLANNING: "#8e6bbf",
    COMPILED: "#c0504d",
    BARE: "#3fa66b",
    STATIC: "#3fa66b",
    PSQL: "#3fa66b",
}
OTHER = "#7aa5ee"
SHOWN = frozenset({"C1", "C2", "C3", "C4", "C5", "W1", "W2", "W3", "W4", "W5", "W6", "W8"})


def drawn(findings: Sequence[Finding]) -> str:
    parts: list[str] = []
    top = 14
    for found in findings:
        if found.case in SHOWN:
            parts.append(_group(found, top))
            top += HEAD + len(found.values) * BAR + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}" role="img"'
        ' font-family="system-ui, sans-serif" font-size="12">'
        "<title>Storegraph beside its rivals</title>"
        f'<rect width="{WIDTH}" height="{top}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _group(found: Finding, top: int) -> str:
    longest = max(found.values.values())
    title = f'<text x="12" y="{top + 12}" fill="#1f2328" font-weight="600">{escape(f"{found.case} {found.title}: {found.unit}")}</text>'
    bars = "".join(_bar(name, value, longest, top + HEAD + place * BAR) for place, (name, value) in enumerate(found.values.items()))
    return title + bars


def _bar(name: str, value: float, longest: float, top: int) -> str:
    length = max(2.0, (WIDTH - LABELS - FIGURES) * value / longest)
    middle = top + BAR - 6
    return (
        f'<text x="{LABELS - 8}" y="{middle}" fill="#1f2328" text-anchor="end">{escape(name)}</text>'
        f'<rect x="{LABELS}" y="{top + 2}" width="{length:.1f}" height="{BAR - 4}" rx="2" fill="{COLOURS.get(name, OTHER)}"/>'
        f'<text x="{LABELS + length + 6:.1f}" y="{middle}" fill="#59636e">{value:,.{0 if value >= 20 else 1}f}</text>'
    )
