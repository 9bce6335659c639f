"""Command `doctor`: checks everything the service needs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import typer
from rich.console import Console
from rich.markup import escape

from graph.server.cli import diagnostics as doctors
from graph.server.cli.diagnostics import CheckStatus
from graph.server.cli.terminal import load_settings
from graph.server.settings import Settings

SIGNS = {CheckStatus.GOOD: "[green]good   [/]", CheckStatus.WARNING: "[yellow]warning[/]", CheckStatus.BAD: "[red]bad    [/]"}


def doctor() -> None:
    """Check settings, clock, database, Redis and file storage, with advice for each problem. Exit code 1 if there is one."""
    if asyncio.run(_examined(load_settings())):
        raise typer.Exit(1)


async def _examined(settings: Settings) -> bool:
    """Whether something is bad."""
    console, statuses = Console(highlight=False, soft_wrap=True), set[CheckStatus]()
    async with aclosing(doctors.examine(settings)) as findings:
        async for about, finding in findings:
            statuses.add(finding.status)
            console.print(f"{SIGNS[finding.status]}  {about:<9} {escape(finding.what)}")
            if finding.advice:
                console.print(f"{'':<20}{escape(finding.advice)}")
    return CheckStatus.BAD in statuses
