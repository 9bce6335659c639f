"""The commands of a page for operators, as a proof runs them: the page cannot drift from what is proved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.support.page_examples import FENCE

ROOT = Path(__file__).parents[2]


def section(page: str, title: str) -> str:
    text = (ROOT / page).read_text().partition(f"# {title}\n")[2]
    assert text, f"{page} has no section {title!r}"
    return text.partition("\n#")[0]


def block(page: str, title: str, kind: str, number: int = 0, places: Mapping[str, str] = MappingProxyType({})) -> str:
    """The section's block of that kind, with each place of the page (such as `/data`) replaced by one of the proof's."""
    text = [text for found, _, text in FENCE.findall(section(page, title)) if found == kind][number]
    for place, value in places.items():
        assert place in text, f"{place!r} is not in:\n{text}"
        text = text.replace(place, value)
    return text
