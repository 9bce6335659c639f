"""Small messages between whoever listens now: in one process, or in all processes through Redis.

Nothing is kept: a listener that is away misses what is sent meanwhile. Truth belongs in a table; this only carries wake-ups and echoes.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Protocol

QUEUE_MESSAGES = 256  # For one listener; a listener this far behind loses the oldest.


class Broker(Protocol):
    async def publish(self, channel: str, message: bytes) -> None: ...

    def subscribe(self, channel: str) -> AsyncGenerator[bytes]: ...

    async def close(self) -> None: ...


class LocalBroker:
    """Within this process."""

    def __init__(self) -> None:
        self._listeners: defaultdict[str, set[asyncio.Queue[bytes]]] = defaultdict(set)

    async def publish(self, channel: str, message: bytes) -> None:
        for queue in self._listeners.get(channel, ()):
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(message)

    async def subscribe(self, channel: str) -> AsyncGenerator[bytes]:
        queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUE_MESSAGES)
        self._listeners[channel].add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners[channel].discard(queue)
            if not self._listeners[channel]:
                with suppress(KeyError):
                    del self._listeners[channel]

    async def close(self) -> None:
        self._listeners.clear()
