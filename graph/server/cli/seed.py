"""Command `seed`: fills the database with demo data."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from graph.server.cli.terminal import load_settings, open_database, plural, progress, whole_number
from graph.server.settings import Settings
from persistence.demo import seed as seeding


def seed(
    items: Annotated[
        int, typer.Option(parser=whole_number(1, 10_000_000), metavar="NUMBER", help="Number of items in the demo shop.")
    ] = 1_000,
) -> None:
    """Fill the database with a demo shop. Run again, it adds only what is missing; its users cannot sign in."""
    added = asyncio.run(_seeded(load_settings(), items))
    typer.echo(f"Added {plural(added.items, 'item')} and {plural(added.users, 'user')} with {plural(added.purchases, 'purchase')}.")


async def _seeded(settings: Settings, items: int) -> seeding.SeededCounts:
    async with open_database(settings) as database:
        with progress("Items", items) as report:
            return await seeding.seed(database, items, report)
