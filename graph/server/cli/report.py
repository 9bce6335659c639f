"""`report`: sales as a picture."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from graph.server.cli.terminal import fail, loaded, opened
from graph.server.settings import Settings
from persistence import sales
from persistence.kit.column_types import utc_now
from persistence.kit.errors import InvalidInput
from persistence.sales import Period

ENDINGS = (".svg", ".png", ".pdf")


def report(
    out: Annotated[Path, typer.Option(help=f"The file to write: {', '.join(ENDINGS)}.")] = Path("report.svg"),
    start: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="The first day; a year before the last without it.")
    ] = None,
    end: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="The last day; today without it.")] = None,
    by: Annotated[Period, typer.Option(help="What a bar stands for.")] = Period.MONTH,
) -> None:
    """Draw revenue and units as a picture."""
    if out.suffix not in ENDINGS:
        raise typer.BadParameter(f"must end in {', '.join(ENDINGS)}", param_hint="--out")
    try:
        from graph.server.pages import sales_chart
    except ImportError:
        fail("This command needs matplotlib: .venv/bin/python -m pip install matplotlib, or ./scripts/setup --dev.")
    until = (end.replace(tzinfo=UTC) if end else utc_now().replace(hour=0, minute=0, second=0, microsecond=0)) + timedelta(days=1)
    since = start.replace(tzinfo=UTC) if start else until - timedelta(days=365)
    settings = loaded()
    totals = asyncio.run(_totals(settings, since, until, by))
    title = f"{settings.app_name}: sales by {by.value}, {since:%Y-%m-%d} to {until - timedelta(days=1):%Y-%m-%d}"
    sales_chart.draw(totals, by, title, out)
    typer.echo(f"{out}: {sum(each.revenue for each in totals):,} in {sum(each.purchases for each in totals):,} purchases.")


async def _totals(settings: Settings, start: datetime, end: datetime, by: Period) -> Sequence[sales.Total]:
    async with opened(settings) as database, database.reading() as session:
        try:
            return await sales.report(session, start, end, by)
        except InvalidInput as error:
            fail(error.message)
