"""Command `migrate`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from alembic.util import CommandError

from graph.server.cli.terminal import fail, loaded
from persistence.schema import downgrade, revise, upgrade


def migrate(
    new: Annotated[
        str | None, typer.Option(help="Write a migration instead, from what the code's tables have and the database has not.")
    ] = None,
    down: Annotated[str | None, typer.Option(help="Go back to this revision instead: 0004, or base for an empty database.")] = None,
) -> None:
    """Bring the database up to date. `serve` does so too."""
    url = loaded().database_url
    try:
        if new is not None:
            typer.echo(asyncio.run(revise(url, new)))
        elif down is not None:
            asyncio.run(downgrade(url, down))
        else:
            asyncio.run(upgrade(url))
    except CommandError as error:
        fail(str(error))
