"""Requests as bytes on a connection, so that a test decides each of them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.support.service import Service

CRLF = "\r\n"


@asynccontextmanager
async def connected(service: Service) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
    try:
        async with asyncio.timeout(60):
            yield reader, writer
    finally:
        writer.close()


async def exchange(service: Service, sent: bytes) -> bytes:
    """All that comes until the connection ends."""
    async with connected(service) as (reader, writer):
        writer.write(sent)
        return await reader.read()


def head(*fields: str, line: str = "GET /live HTTP/1.1") -> bytes:
    return CRLF.join([line, *fields, "", ""]).encode("latin-1")


UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Protocol: graphql-transport-ws",
)
HANDSHAKE = "GET /graphql HTTP/1.1"
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\n"
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"


def length(number: int) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % number
