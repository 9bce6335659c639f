"""Creates Redis clients from a URL: `redis://`, encrypted `rediss://`, and with `+cluster` for a Redis Cluster.

What the URL's query says goes to the client, as in `rediss://host:6379/0?ssl_ca_certs=/etc/redis/ca.pem`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry as BlockingRetry

from persistence.kit.redis.circuit_breaker import TIMEOUT_SECONDS

T = TypeVar("T")

CLUSTER = "+cluster"
SCHEMES = ("redis", "rediss", f"redis{CLUSTER}", f"rediss{CLUSTER}")
SCANNED_AT_ONCE = 1_000
RETRIES = 1  # At once: after a restart of Redis the first word goes into a connection that is dead.

_library: Any = Redis  # Partly untyped.


@contextmanager
def _connection_errors() -> Generator[None]:
    """On a write to a connection that was reset while it was idle, uvloop raises a RuntimeError. redis-py takes such a connection for a good one.

    Raises: redis' ConnectionError instead, which is tried again at once, and otherwise taken for what it is.
    """
    try:
        yield
    except RuntimeError as error:
        raise RedisConnectionError(str(error)) from error


class _Retry(Retry):
    async def call_with_retry(self, do: Callable[[], Awaitable[T]], *arguments: Any, **options: Any) -> T:
        async def attempt() -> T:
            with _connection_errors():
                return await do()

        return await super().call_with_retry(attempt, *arguments, **options)


class _Cluster(RedisCluster):
    """Its nodes' clients send commands without a `Retry` of their own."""

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        with _connection_errors():
            return await super().execute_command(*arguments, **options)


def connect(url: str, *, patience_seconds: float = TIMEOUT_SECONDS) -> Redis:
    """Nothing is opened before the first use. A cluster's client takes the same commands, each for keys of one slot."""
    make: Any = _Cluster.from_url if is_cluster(url) else _library.from_url
    client: Redis = make(plain(url), retry=_Retry(NoBackoff(), RETRIES), **_waits(patience_seconds))
    return client


async def delete_matching(redis: Redis, pattern: str) -> None:
    """Delete keys by a pattern, looking at a thousand at a time: Redis answers others meanwhile."""
    client: Any = redis  # Partly untyped.
    async with aclosing(client.scan_iter(match=pattern, count=SCANNED_AT_ONCE)) as keys:
        async for key in keys:
            await client.unlink(key)


def blocking_options(patience_seconds: float) -> dict[str, Any]:
    """For a client that another library makes, to be used in threads."""
    return {"retry": BlockingRetry(NoBackoff(), RETRIES), **_waits(patience_seconds)}


def _waits(seconds: float) -> dict[str, Any]:
    return {"socket_connect_timeout": seconds, "socket_timeout": seconds, "socket_keepalive": True}


def is_cluster(url: str) -> bool:
    return url.partition("://")[0].endswith(CLUSTER)


def plain(url: str) -> str:
    """The URL as the client library knows it."""
    scheme, separator, rest = url.partition("://")
    return scheme.removesuffix(CLUSTER) + separator + rest


def check(url: str) -> None:
    """Raises: ValueError, saying what the URL must be."""
    if url.partition("://")[0] not in SCHEMES:
        raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in SCHEMES)}")
    parse_url(plain(url))
