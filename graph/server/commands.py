"""The command line: serve, migrate, print the schema, give scopes and tokens."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Annotated, NoReturn

import typer
import uvicorn

from graph.kit.access import Scope
from graph.schema import schema as graphql_schema
from graph.server import accounts, logs, settings
from persistence.schema import upgrade

# Frames beyond this are never held in memory whole; the socket's own limit is in characters, of four bytes at most.
SOCKET_BYTES = 2**20
SCHEMA_FILE = Path(__file__).parents[2] / "schema.graphql"

cli = typer.Typer(help="Storegraph: a store catalogue as one GraphQL API.", no_args_is_help=True, pretty_exceptions_enable=False)


@cli.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; more than one needs REDIS_URL.")] = 1,
    reload: Annotated[bool, typer.Option("--reload", help="Start anew when the code changes.")] = False,
) -> None:
    """Bring the database up to date, then serve in the foreground until SIGTERM."""
    chosen = loaded()
    logs.configure(chosen)
    asyncio.run(upgrade(chosen.database_url))
    if workers > 1 and chosen.metrics_folder is None:
        os.environ["METRICS_FOLDER"] = tempfile.mkdtemp(prefix="storegraph-metrics-")
    uvicorn.run(
        "graph.server.process:app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        reload=reload,
        access_log=False,
        log_config=None,
        proxy_headers=False,  # TRUSTED_PROXIES says whose word counts; uvicorn would take anybody's on this machine.
        ws="websockets-sansio",
        ws_max_size=SOCKET_BYTES,
        loop="uvloop",
        http="httptools",
        ws_per_message_deflate=False,
    )


@cli.command()
def migrate() -> None:
    """Bring the database up to date."""
    asyncio.run(upgrade(loaded().database_url))


@cli.command()
def schema(check: Annotated[bool, typer.Option("--check", help="Only say whether schema.graphql is up to date.")] = False) -> None:
    """Write schema.graphql from the code."""
    text = graphql_schema.as_str() + "\n"
    if not check:
        SCHEMA_FILE.write_text(text)
    elif not SCHEMA_FILE.exists() or SCHEMA_FILE.read_text() != text:
        typer.echo("schema.graphql is out of date: run ./scripts/schema and commit it.", err=True)
        raise typer.Exit(1)


@cli.command()
def grant(
    username: Annotated[str, typer.Argument(help="Who signed up under this name, in any case.")],
    scopes: Annotated[list[Scope] | None, typer.Argument(help="What the user may do from now on, beside what they may do already.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every scope: for the first administrator.")] = False,
) -> None:
    """Let a user do more, such as the first administrator, whom nobody in the API can appoint."""
    given = list(Scope) if everything else scopes or []
    if not given:
        raise typer.BadParameter("name the scopes, or say --all")
    user = asyncio.run(accounts.grant(loaded(), username, given))
    if user is None:
        _fail(f"There is no user {username!r}: they must sign up first.")
    typer.echo(f"{user.username} may now: {' '.join(user.scopes)}")


@cli.command()
def token(
    username: Annotated[str, typer.Argument(help="Whose token, in any case.")],
    scopes: Annotated[list[Scope] | None, typer.Option("--scope", help="Carry only this; may be given several times.")] = None,
) -> None:
    """Print an access token of a user, good for 30 minutes: for scripts on this machine and for finding faults."""
    issued = asyncio.run(accounts.token(loaded(), username, scopes))
    if issued is None:
        _fail(f"There is no active user {username!r}.")
    typer.echo(issued)


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)


def loaded() -> settings.Settings:
    try:
        return settings.load()
    except settings.BadSettings as error:
        typer.echo(f"Storegraph cannot start:\n{error}", err=True)
        raise typer.Exit(2) from error
