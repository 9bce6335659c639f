"""The proxy of the histories …"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from socket import SO_LINGER, SOL_SOCKET

from tests.proofs.histories.fault_proxy import ABORTIVE, fault_proxy


async def test_tells_the_other_side_of_a_reset() -> None:
    """As of a process that was killed before it read an answer: PostgreSQL would hold its transaction open, with every lock, for ever."""
    heard, ended = asyncio.Event(), asyncio.Event()

    async def target(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(5)
        heard.set()
        with suppress(ConnectionError):
            await reader.read()
        ended.set()
        writer.close()

    server = await asyncio.start_server(target, "127.0.0.1", 0)
    async with asyncio.timeout(20), server, fault_proxy(server.sockets[0].getsockname()[1]) as proxy:
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"BEGIN")
        await heard.wait()
        writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, ABORTIVE)
        writer.transport.abort()
        await ended.wait()
