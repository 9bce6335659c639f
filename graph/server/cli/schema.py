"""Commands `schema` and `deprecations`: write and check schema.graphql, report who still uses what is deprecated."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from graph.schema import schema as graphql_schema
from graph.server.cli import breaking_changes
from graph.server.cli.terminal import fail, load_settings, open_database, plural, whole_number
from graph.server.settings import Settings
from persistence import deprecated_usage as kept
from persistence.kit.column_types import utc_now

ROOT = Path(__file__).parents[3]
SCHEMA_FILE = ROOT / "schema.graphql"


def schema(
    check: Annotated[bool, typer.Option("--check", help="Only check that schema.graphql is up to date.")] = False,
    breaking: Annotated[bool, typer.Option("--breaking", help="Only list breaking changes that CHANGELOG.md does not announce.")] = False,
) -> None:
    """Generate schema.graphql from the code."""
    text = graphql_schema.as_str() + "\n"
    if breaking:
        base = breaking_changes.baseline(ROOT)
        if unannounced := breaking_changes.undocumented(base.schema, text, (ROOT / "CHANGELOG.md").read_text()):
            lines = "\n".join(f"- Breaking: {change}" for change in unannounced)
            fail(f"Since {base.name} the schema breaks clients. Undo it, or announce it in CHANGELOG.md, word for word:\n{lines}")
    elif not check:
        SCHEMA_FILE.write_text(text)
    elif not SCHEMA_FILE.exists() or SCHEMA_FILE.read_text() != text:
        fail("schema.graphql is out of date: run ./scripts/schema and commit it.")


def deprecations(
    days: Annotated[int, typer.Option(parser=whole_number(1, 400), metavar="NUMBER", help="Number of days to look back.")] = 30,
) -> None:
    """List the clients that still use deprecated fields. Exit code 1 if there are any, so that a removal can wait for 0."""
    uses = asyncio.run(_uses(load_settings(), days))
    if not uses:
        typer.echo(f"Nobody used anything deprecated in the last {plural(days, 'day')}.")
        return
    table = Table("Deprecated", "Client", "Version", "Uses", "Last used (UTC)")
    for each in uses:
        row = (each.use.coordinate, each.use.client_name, each.use.client_version, f"{each.count:,}", f"{each.last_used_at:%Y-%m-%d %H:%M}")
        table.add_row(*row)
    Console().print(table)
    raise typer.Exit(1)


async def _uses(settings: Settings, days: int) -> Sequence[kept.ClientUseCount]:
    async with open_database(settings) as database, database.reading() as session:
        return await kept.since(session, utc_now().date() - timedelta(days=days))
