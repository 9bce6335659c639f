"""Command `doctor`: checks everything the service needs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import typer
from rich.console import Console
from rich.markup import escape

from graph.server.cli import diagnostics as doctors
from graph.server.cli.diagnostics import Verdict
from graph.server.cli.terminal import loaded
from graph.server.settings import Settings

SIGNS = {Verdict.GOOD: "[green]good   [/]", Verdict.WARNING: "[yellow]warning[/]", Verdict.BAD: "[red]bad    [/]"}


def doctor() -> None:
    """Check settings, clock, database, Redis and file storage, with advice for each problem. Exit code 1 if there is one."""
    if asyncio.run(_examined(loaded())):
        raise typer.Exit(1)


async def _examined(settings: Settings) -> bool:
    """Whether something is bad."""
    console, verdicts = Console(highlight=False, soft_wrap=True), set[Verdict]()
    async with aclosing(doctors.examine(settings)) as findings:
        async for about, finding in findings:
            verdicts.add(finding.verdict)
            console.print(f"{SIGNS[finding.verdict]}  {about:<9} {escape(finding.what)}")
            if finding.advice:
                console.print(f"{'':<20}{escape(finding.advice)}")
    return Verdict.BAD in verdicts
