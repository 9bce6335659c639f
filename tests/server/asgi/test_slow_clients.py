"""Hundreds of clients that never read or never write, in the short form of `scripts/slow-clients` …"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graph.server.asgi.deadline import OPERATION_SECONDS
from tests.support.load.slow_clients import IMPATIENT, KINDS, hold, served

if TYPE_CHECKING:
    from pathlib import Path

EACH = 10
MOST_BYTES_EACH = 2**20
PROCESS_BYTES = 64 * 2**20  # Of the allocator and the caches, however few the clients are.
"""Of the server's memory. A client that is owed a page of 900 kB, or a part of a file of 1 MB, holds that until it is given up."""


async def test_are_all_let_go_while_others_are_served(tmp_path: Path) -> None:
    async with served(tmp_path, IMPATIENT) as (process, target, victim):
        first, *again = [await hold(process, target, victim, each=EACH, seconds=60) for _ in range(3)]
    for each in (first, *again):
        assert (each.clients, dict(each.left), each.lines) == (EACH * len(KINDS), {}, []), each
        assert each.grown_bytes < each.clients * MOST_BYTES_EACH + PROCESS_BYTES, each
        assert each.busy_p99 < OPERATION_SECONDS, each
    # What the first ones took is used again: what is never freed grows each time, and by as much; the allocator may take more once.
    assert min(each.kept_bytes for each in again) < first.grown_bytes / 2, again
