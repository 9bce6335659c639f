"""Commands `jobs list` and `jobs retry`: background jobs that used up their attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from graph.server.cli.terminal import fail, load_settings, open_database, whole_number
from graph.server.settings import Settings
from persistence.kit.jobs import queue as jobs

commands = typer.Typer(help="List and retry background jobs that used up their attempts.", no_args_is_help=True)


@commands.command("list")
def list_jobs() -> None:
    """List parked jobs, the oldest first: number, kind, key, attempts and last error."""
    waiting, parked = asyncio.run(_listed(load_settings()))
    for job in parked:
        since = f"{job.parked_at:%Y-%m-%d %H:%M}" if job.parked_at else ""
        typer.echo(f"{job.id:>6}  {job.kind}  {job.key}  parked {since} after {job.attempts} attempts: {job.error or 'no error'}")
    typer.echo(f"{waiting.parked} parked, {waiting.waiting} waiting.")


@commands.command("retry")
def retry_jobs(
    numbers: Annotated[
        list[int] | None,
        typer.Argument(parser=whole_number(1, 2**63 - 1), metavar="NUMBERS", help="Job numbers, as `jobs list` prints them."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Retry all parked jobs.")] = False,
) -> None:
    """Queue parked jobs again with all their attempts. A running service picks them up within a second."""
    if bool(numbers) == everything:
        raise typer.BadParameter("name the jobs by their numbers, or say --all")
    count = asyncio.run(_retried(load_settings(), numbers or None))
    if not count:
        fail("There is no such parked job.")
    typer.echo(f"{count} queued again.")


async def _listed(settings: Settings) -> tuple[jobs.QueueStats, Sequence[jobs.Job]]:
    async with open_database(settings) as database, database.reading_latest() as session:
        return await jobs.backlog(session), await jobs.parked(session)


async def _retried(settings: Settings, numbers: Sequence[int] | None) -> int:
    async with open_database(settings) as database, database.transaction() as work:
        return len(await jobs.retry(work, numbers))
