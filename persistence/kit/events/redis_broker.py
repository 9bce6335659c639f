"""The broker of several processes: messages reach this process's listeners directly and the others' through Redis pub/sub.

Publishing never waits for Redis: messages leave from a bounded queue, and while Redis is away they are dropped, as the broker promises nothing more.
All messages share one Redis channel, so that listening needs no word with Redis either.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, suppress
from typing import Any

import structlog

from persistence.kit.events.broker import LocalBroker
from persistence.kit.redis.circuit_breaker import REDIS_ERRORS, CircuitBreaker
from persistence.kit.redis.client import connect
from persistence.kit.tasks.supervisor import SupervisedTask, Supervisor

log = structlog.get_logger(__name__)

ORIGIN_BYTES = 8
WAITING_MESSAGES = 1_024  # Beyond that the oldest are dropped: Redis is slow, and nobody waits for it.
CONNECT_SECONDS = 2.0
QUIET_SECONDS = 10.0  # Without a message for so long, Redis is asked whether it is there still.
ANSWER_SECONDS = 5.0
RETRY_SECONDS = 1.0


class RedisBroker:
    def __init__(self, url: str, namespace: str, supervisor: Supervisor | None = None) -> None:
        """`namespace` keeps services apart that share a Redis: a channel is one for all its databases."""
        self._local = LocalBroker()
        self._origin = secrets.token_bytes(ORIGIN_BYTES)
        self._channel = f"storegraph:broker:{hashlib.blake2b(namespace.encode(), digest_size=6).hexdigest()}"
        self._client: Any = connect(url, patience_seconds=CONNECT_SECONDS)
        self._outgoing: deque[bytes] = deque(maxlen=WAITING_MESSAGES)
        self._waiting = asyncio.Event()
        self._breaker = CircuitBreaker("broker", self._client)
        self._supervisor = supervisor or Supervisor()
        self._tasks: list[SupervisedTask] = []
        self._stopped = False

    async def publish(self, channel: str, message: bytes) -> None:
        self._local.deliver(channel, message)
        packed = self._origin + len(name := channel.encode()).to_bytes(2) + name + message
        if message or packed not in self._outgoing:  # A wake-up has no content: one that waits stands for all.
            self._outgoing.append(packed)
            self._waiting.set()

    def listeners(self, channel: str) -> int:
        return self._local.listeners(channel)

    def listening(self, channel: str) -> AbstractContextManager[AsyncIterator[bytes]]:
        return self._local.listening(channel)

    async def start(self) -> None:
        self._tasks = [self._supervisor.start("messages out", self._send), self._supervisor.start("messages in", self._receive)]

    async def stop(self) -> None:
        self._stopped = True  # A task in the midst of a timeout of zero seconds, which the client uses, may lose its cancellation.
        await asyncio.gather(*(task.stop() for task in self._tasks))
        with suppress(*REDIS_ERRORS):
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._client.aclose()

    async def _send(self) -> None:
        while not self._stopped:
            await self._waiting.wait()
            self._waiting.clear()
            while self._outgoing:
                message = self._outgoing.popleft()
                await self._breaker.call(lambda message=message: self._client.publish(self._channel, message))

    async def _receive(self) -> None:
        while not self._stopped:
            try:
                await self._client.ping()  # A cluster's client knows its nodes once it has been asked something.
                async with self._client.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(self._channel)
                    await self._hear(subscription)
            except REDIS_ERRORS as error:
                log.warning("Redis pub/sub is unavailable; no messages from other processes", error=repr(error))
            await asyncio.sleep(RETRY_SECONDS * random.uniform(0.5, 1))  # noqa: S311 -- spreads processes

    async def _hear(self, subscription: Any) -> None:
        """Raises: one of TROUBLE, when the connection breaks or Redis stops answering."""
        requested = False
        while not self._stopped:
            received = await subscription.get_message(timeout=ANSWER_SECONDS if requested else QUIET_SECONDS)
            if received is not None:
                requested = False
                if received["type"] == "message":
                    self._deliver(received["data"])
            elif requested:
                raise TimeoutError("Redis does not answer")
            else:
                await subscription.ping()
                requested = True

    def _deliver(self, packed: bytes) -> None:
        origin, rest = packed[:ORIGIN_BYTES], packed[ORIGIN_BYTES:]
        if origin != self._origin:
            end = 2 + int.from_bytes(rest[:2])
            self._local.deliver(rest[2:end].decode(), rest[end:])
