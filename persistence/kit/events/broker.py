"""The message broker: publishes short-lived messages to the present listeners, in one process or through Redis in all of them.

Nothing is kept: a listener that is away misses what is sent meanwhile. Truth belongs in a table; this only carries wake-ups and echoes.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

QUEUE_MESSAGES = 256  # For one listener; a listener this far behind loses the oldest.


class Broker(Protocol):
    async def publish(self, channel: str, message: bytes) -> None:
        """Hand a message on. It never fails and never waits for another machine."""
        ...

    def listeners(self, channel: str) -> int:
        """How many listen in this process."""
        ...

    def listening(self, channel: str) -> AbstractContextManager[AsyncIterator[bytes]]:
        """The messages that are published from the moment of entry."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class LocalBroker:
    """Within this process."""

    def __init__(self) -> None:
        self._queues: defaultdict[str, set[asyncio.Queue[bytes]]] = defaultdict(set)

    async def publish(self, channel: str, message: bytes) -> None:
        self.deliver(channel, message)

    def deliver(self, channel: str, message: bytes) -> None:
        for queue in self._queues.get(channel, ()):
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(message)

    def listeners(self, channel: str) -> int:
        return len(self._queues.get(channel, ()))

    @contextmanager
    def listening(self, channel: str) -> Generator[AsyncIterator[bytes]]:
        queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUE_MESSAGES)
        self._queues[channel].add(queue)
        try:
            yield _messages(queue)
        finally:
            self._queues[channel].discard(queue)
            if not self._queues[channel]:
                del self._queues[channel]

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass


async def _messages(queue: asyncio.Queue[bytes]) -> AsyncIterator[bytes]:
    while True:
        yield await queue.get()
