"""A client of Redis …"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import uvloop
from redis.asyncio import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError

from graph.server.settings import BadSettings, load
from persistence.kit.limits.moving_window import SharedMovingWindow
from persistence.kit.limits.token_bucket import Budget, SharedTokenBucket
from persistence.kit.redis.client import connect
from tests.persistence.events.test_broker import two_brokers
from tests.proofs.histories.fault_proxy import fault_proxy
from tests.support.endpoints import until
from tests.support.servers.certificates import certificate
from tests.support.servers.databases import Redis, free_port
from tests.support.service import SECRET

if TYPE_CHECKING:
    from pathlib import Path

SLOTS = 16_384
GOSSIP_PORT = 10_000  # Above its own port, a node listens to its fellows.


async def works(url: str) -> None:
    """Every use of Redis, by two clients as of two processes, with keys enough for each node of a cluster to get some."""
    one, other = connect(url, patience_seconds=5), connect(url, patience_seconds=5)
    quotas = [SharedTokenBucket(client, Budget(10, 0.001)) for client in (one, other)]
    windows = [SharedMovingWindow(client) for client in (one, other)]
    for caller in map(str, range(12)):
        assert (await quotas[0].charge(caller, 6)).granted
        assert not (await quotas[1].charge(caller, 6)).granted
        assert await windows[0].hit("1/hour", "a field", caller) == 0
        assert await windows[1].hit("1/hour", "a field", caller) > 0
        await windows[1].undo("1/hour", "a field", caller)
        assert await windows[1].hit("1/hour", "a field", caller) == 0
    assert [use.breaker.failures for use in (*quotas, *windows)] == [0, 0, 0, 0]
    async with two_brokers(url):
        pass  # They have found each other.
    await one.aclose()
    await other.aclose()


class Node(Redis):
    """Of a cluster."""

    settings: ClassVar[Mapping[str, str]] = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}

    def __init__(self) -> None:
        super().__init__()
        while self.port + GOSSIP_PORT > 65_535:
            self.port = free_port()


@asynccontextmanager
async def cluster() -> AsyncGenerator[list[Node]]:
    """Three nodes that share the slots."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(Node.own()) for _ in range(3)]
        clients: list[Any] = [connect(node.url, patience_seconds=5) for node in nodes]
        for number, client in enumerate(clients):
            await client.execute_command("CLUSTER", "ADDSLOTS", *range(number * SLOTS // 3, (number + 1) * SLOTS // 3))
            await client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        async with asyncio.timeout(30):
            for client in clients:
                while b"cluster_state:ok" not in await client.execute_command("CLUSTER", "INFO", NEVER_DECODE=True):  # noqa: ASYNC110 -- it tells nobody
                    await asyncio.sleep(0.05)
        for client in clients:
            await client.aclose()
        yield nodes


@asynccontextmanager
async def encrypted(port: int, folder: Path) -> AsyncGenerator[str]:
    """In front of a Redis on this machine. The packaged one is built without TLS, so it ends one step before."""
    certificate_file, key_file = certificate(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate_file, key_file)

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while part := await source.read(65_536):
                target.write(part)
                await target.drain()
        target.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, redis_writer), carry(redis_reader, writer))

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context)
    yield f"rediss://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    server.close()


async def test_speaks_tls_to_whom_the_named_authority_vouches_for_and_to_nobody_else(tmp_path: Path) -> None:
    with Redis.own() as redis:
        async with encrypted(redis.port, tmp_path) as url:
            await works(f"{url}?ssl_ca_certs={tmp_path / 'certificate.pem'}")
            stranger: Any = connect(url)
            with pytest.raises(RedisConnectionError, match="certificate"):
                await stranger.ping()
            await stranger.aclose()


async def test_finds_its_way_in_a_cluster_and_goes_on_alone_without_it() -> None:
    async with cluster() as nodes:
        url = nodes[0].url.replace("redis://", "redis+cluster://")
        await works(url)
        client = connect(url)
        quota = SharedTokenBucket(client, Budget(10, 0.001))
        assert (await quota.charge("eve", 6)).granted
        for node in nodes:
            node.stop()
        assert (await quota.charge("eve", 6)).granted
        assert quota.breaker.failures == 1
        await client.aclose()


def test_tries_again_on_a_connection_that_was_reset_while_it_was_idle() -> None:
    """uvloop, with which the service runs, says so in a way of its own, which was an internal error of whoever came next."""

    async def spends(redis: Redis) -> None:
        async with fault_proxy(redis.port) as proxy, connect(f"redis://127.0.0.1:{proxy.port}", patience_seconds=5) as client:
            quota = SharedTokenBucket(client, Budget(10, 0.001))
            assert (await quota.charge("eve", 6)).granted
            proxy.reset()
            await until(lambda: proxy.is_idle)
            assert not (await quota.charge("eve", 6)).granted
            assert quota.breaker.failures == 0

    with Redis.own() as redis, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(spends(redis))


async def test_of_a_cluster_takes_such_a_connection_for_one_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: Any) -> None:
        raise RuntimeError("the handler is closed")

    monkeypatch.setattr(RedisCluster, "execute_command", fails)
    quota = SharedTokenBucket(connect("redis+cluster://127.0.0.1:1"), Budget(10, 0.001))
    assert (await quota.charge("eve", 6)).granted
    assert quota.breaker.failures == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:6379", "redis://127.0.0.1?socket_timeout=soon"])
def test_is_not_made_from_a_url_that_is_none_of_redis(url: str) -> None:
    with pytest.raises(BadSettings, match="REDIS_URL"):
        load(secret_key=SECRET, redis_url=url)
