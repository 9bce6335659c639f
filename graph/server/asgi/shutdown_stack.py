"""The shutdown of the service's parts, in the reverse order of their start: a step that fails or hangs keeps no other from being taken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import structlog

log = structlog.get_logger(__name__)

STEP_SECONDS = 5.0


class ShutdownStack(AsyncExitStack):
    def step(self, name: str, end: Callable[[], Awaitable[object]], *, seconds: float = STEP_SECONDS) -> None:
        """Call `end` when the stack is left, and wait `seconds` for it."""
        self.push_async_callback(_taken, name, end, seconds)


async def _taken(name: str, end: Callable[[], Awaitable[object]], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await end()
    except Exception:  # Of a step, not of the shutdown: the next ones are taken as well.
        log.exception("a step of the shutdown failed", step=name)
