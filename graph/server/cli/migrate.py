"""Command `migrate`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from alembic.util import CommandError

from graph.server.cli.terminal import fail, load_settings
from persistence.schema import downgrade, revise, upgrade


def migrate(
    new: Annotated[
        str | None, typer.Option(help="Write a migration from the difference between the code's tables and the database.")
    ] = None,
    down: Annotated[str | None, typer.Option(help="Downgrade to this revision: 0004, or base for an empty database.")] = None,
) -> None:
    """Migrate the database to the newest revision, as `serve` does at its start."""
    url = load_settings().database_url
    try:
        if new is not None:
            typer.echo(asyncio.run(revise(url, new)))
        elif down is not None:
            asyncio.run(downgrade(url, down))
        else:
            asyncio.run(upgrade(url))
    except CommandError as error:
        fail(str(error))
