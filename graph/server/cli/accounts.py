"""Commands `grant`, `token` and `erase`: without a token of their own, since an operator who can read the settings may do anything anyway."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from graph.kit.auth import Scope
from graph.server.auth.tokens import Tokens
from graph.server.cli.terminal import fail, load_settings
from graph.server.settings import Settings
from graph.users.types import known_scopes
from persistence import audit, erasure, users
from persistence.kit.cache.table_versions import publishing_versions
from persistence.kit.database.database import Database
from persistence.kit.errors import NotFound
from persistence.schema import upgrade

NUMBER = re.compile(r"[0-9]{1,18}")


def grant(
    username: Annotated[str, typer.Argument(help="Username, in any case.")],
    scopes: Annotated[list[Scope] | None, typer.Argument(help="Scopes to add to those that the user holds.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Add every scope: for the first administrator.")] = False,
) -> None:
    """Grant scopes to a user: above all to the first administrator, whom the API cannot appoint."""
    supplied = list(Scope) if everything else scopes or []
    if not supplied:
        raise typer.BadParameter("name the scopes, or say --all")
    user = asyncio.run(grant_scopes(load_settings(), username, supplied))
    if user is None:
        fail(f"There is no user {username!r}: they must sign up first.")
    typer.echo(f"{user.username} may now: {' '.join(user.scopes)}")


def token(
    username: Annotated[str, typer.Argument(help="Username, in any case.")],
    scopes: Annotated[
        list[Scope] | None, typer.Option("--scope", help="Scope of the token; repeatable. Default: all that the user holds.")
    ] = None,
) -> None:
    """Print an access token of a user, valid for 30 minutes: for scripts on this machine and for debugging."""
    issued = asyncio.run(issue_token(load_settings(), username, scopes))
    if issued is None:
        fail(f"There is no active user {username!r}.")
    typer.echo(issued)


def erase(
    who: Annotated[list[str], typer.Argument(metavar="USERS", help="Usernames, or user ids of the database.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Erase user accounts permanently: on request, or again after an older backup was restored. Purchases stay, without a name."""
    if not yes:
        typer.confirm(f"Erase {', '.join(who)}? Nobody can undo it", abort=True)
    missing = asyncio.run(erase_accounts(load_settings(), who))
    if missing:
        fail(f"There is no user {' or '.join(missing)}. The others are erased." if len(missing) < len(who) else "There is no such user.")
    typer.echo("Erased. A service that runs removes files and other traces within seconds, one that does not when it starts.")


async def erase_accounts(settings: Settings, who: Collection[str]) -> list[str]:
    """Each in a transaction of its own; returns those whom there is not."""
    missing: list[str] = []
    async with _opened(settings) as database:
        for each in who:
            try:
                async with database.transaction() as work:
                    user = await (users.locked(work, int(each)) if NUMBER.fullmatch(each) else users.locked_by_name(work, each))
                    await erasure.erase(work, user, actor_id=None)
            except NotFound:
                missing.append(each)
    return missing


async def grant_scopes(settings: Settings, username: str, scopes: Collection[Scope]) -> users.User | None:
    """None, if there is no such user."""
    supplied = [scope.value for scope in scopes]
    async with _opened(settings) as database:
        try:
            async with database.transaction() as work:
                user = await users.change_scopes(work, username, give=supplied)
                await audit.write(work, "user.scopes_granted", actor_id=None, subject=("User", user.id), detail={"scopes": supplied})
        except NotFound:
            return None
    return user


async def issue_token(settings: Settings, username: str, scopes: Collection[Scope] | None) -> str | None:
    """An access token without a login, so it ends by itself. None, if there is no such user who may sign in."""
    async with _opened(settings) as database:
        async with database.reading_latest() as session:
            user = (await users.by_username(session, [username])).get(username)
        if user is None or not user.is_active:
            return None
        held = known_scopes(user.scopes)
        requested = held if scopes is None else [scope for scope in held if scope in scopes]
        return Tokens(database, settings.signing_key).issue(user.id, requested)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncGenerator[Database]:
    await upgrade(settings.database_url)
    database = Database.connect(settings.database_url, pool=settings.pool.for_commands)
    try:
        async with publishing_versions(database, settings.redis_url, settings.database_url):
            yield database
    finally:
        await database.close()
