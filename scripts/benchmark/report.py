"""What was found, beside what was promised; as text for people and for README.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scripts.benchmark.servers import PRODUCT


@dataclass(frozen=True)
class Target:
    """`used` is how much of what is allowed was taken: 1 is the limit."""

    text: str
    used: float

    @property
    def met(self) -> bool:
        return self.used <= 1

    def __str__(self) -> str:
        return f"{'✓' if self.met else '✗'} {self.text} ({self.used:.2f} of it)"


def at_most(text: str, value: float, allowed: float) -> Target:
    return Target(text, value / allowed)


def at_least(text: str, value: float, requested: float) -> Target:
    return Target(text, requested / value)


@dataclass(frozen=True)
class Finding:
    case: str
    title: str
    unit: str
    values: Mapping[str, float]
    targets: Sequence[Target] = ()
    more: Mapping[str, str] = field(default_factory=dict[str, str])
    """What else is worth telling of each server."""


HEAD = "| case | measured | figures | targets |\n|---|---|---|---|"


def line(found: Finding) -> str:
    """Of a table in Markdown."""
    return f"| {found.case} {found.title} | {found.unit} | {_figures(found)} | {'<br>'.join(map(str, found.targets))} |"


def _figures(found: Finding) -> str:
    ours = next((value for name, value in found.values.items() if name.startswith(PRODUCT)), 0)
    return "<br>".join(
        f"{name} {value:,.{_digits(value)}f}{_ratio(value, ours)}{_more(found, name)}" for name, value in found.values.items()
    )


def _digits(value: float) -> int:
    return 0 if value >= 20 else 1 if value >= 1 else 2


def _ratio(value: float, ours: float) -> str:
    return f" ({value / ours:.2f} ×)" if ours and value != ours else ""


def _more(found: Finding, name: str) -> str:
    return f" – {found.more[name]}" if name in found.more else ""
