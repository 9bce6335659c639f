"""`migrate`."""

from __future__ import annotations

import asyncio

from graph.server.commands.terminal import loaded
from persistence.schema import upgrade


def migrate() -> None:
    """Bring the database up to date. `serve` does so too."""
    asyncio.run(upgrade(loaded().database_url))
