"""Command `report`: draws a sales chart."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from graph.server.cli.terminal import STANDARD, Force, day, fail, load_settings, new_file, open_database, plural
from graph.server.rest import sales_report as reports
from graph.server.rest.sales_report import Chart
from graph.server.settings import Settings
from persistence.kit.errors import InvalidInput
from persistence.sales import Period


def report(
    out: Annotated[Path, typer.Option(dir_okay=False, help="SVG file to write. -: standard output.")] = Path("report.svg"),
    start: Annotated[
        datetime | None, typer.Option("--from", parser=day, metavar="DAY", help="First day. Default: a year before the last day.")
    ] = None,
    end: Annotated[
        datetime | None, typer.Option("--to", parser=day, metavar="DAY", help="Last day. Default: the day of the newest purchase.")
    ] = None,
    by: Annotated[Period, typer.Option(help="Period of one bar.")] = Period.MONTH,
    force: Force = False,
) -> None:
    """Draw a chart of revenue and units sold as an SVG file."""
    if out.suffix.lower() not in {"", ".svg"}:
        raise typer.BadParameter(f"the chart is SVG: name it {str(out.with_suffix('.svg'))!r}, not {str(out)!r}")
    with new_file(out, force=force) as place:
        chart = asyncio.run(_drawn(load_settings(), start, end, by))
        place.write_text(chart.svg, "utf-8")
    revenue, purchases = sum(each.revenue for each in chart.totals), sum(each.purchases for each in chart.totals)
    typer.echo(f"{out}: {revenue:,} in {plural(purchases, 'purchase')}.", err=out == STANDARD)


async def _drawn(settings: Settings, start: datetime | None, end: datetime | None, by: Period) -> Chart:
    first, last = start.date() if start else None, end.date() if end else None
    async with open_database(settings) as database, database.reading() as session:
        try:
            return await reports.chart(session, settings.app_name, first=first, last=last, by=by)
        except InvalidInput as error:
            fail(error.message)
