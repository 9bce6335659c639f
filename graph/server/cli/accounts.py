"""Commands `grant` and `token`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from graph.kit.auth import Scope
from graph.server.cli import account_commands
from graph.server.cli.terminal import fail, loaded


def grant(
    username: Annotated[str, typer.Argument(help="Who signed up under this name, in any case.")],
    scopes: Annotated[list[Scope] | None, typer.Argument(help="What the user may do from now on, beside what they may do already.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every scope: for the first administrator.")] = False,
) -> None:
    """Let a user do more, such as the first administrator, whom nobody in the API can appoint."""
    supplied = list(Scope) if everything else scopes or []
    if not supplied:
        raise typer.BadParameter("name the scopes, or say --all")
    user = asyncio.run(account_commands.grant(loaded(), username, supplied))
    if user is None:
        fail(f"There is no user {username!r}: they must sign up first.")
    typer.echo(f"{user.username} may now: {' '.join(user.scopes)}")


def token(
    username: Annotated[str, typer.Argument(help="Whose token, in any case.")],
    scopes: Annotated[list[Scope] | None, typer.Option("--scope", help="Carry only this; may be given several times.")] = None,
) -> None:
    """Print an access token of a user, good for 30 minutes: for scripts on this machine and for finding faults."""
    issued = asyncio.run(account_commands.token(loaded(), username, scopes))
    if issued is None:
        fail(f"There is no active user {username!r}.")
    typer.echo(issued)
