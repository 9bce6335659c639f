"""How long a revocation takes to reach an open socket among thousands, of which some do not read: `python -m tests.support.load.revocation --sockets 5000`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from graph.kit.auth import Scope
from persistence import passwords, users
from persistence.kit.database.database import Database
from tests.conftest import settings_for
from tests.support.servers.processes import Process, serving
from tests.support.service import PASSWORD

HANDSHAKE = (
    "GET /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)
SIGN_IN = "mutation ($name: String!, $password: String!) { token(username: $name, password: $password) { ... on Token { accessToken } } }"
REVOKE = "mutation ($token: String!) { revokeToken(token: $token) { __typename } }"
ECHO = 'subscription { echo(channel: "flood") { text } }'
SEND = 'mutation ($text: String!) { sendEcho(channel: "flood", message: $text) { text } }'
FLOOD = 3_000  # Messages of 4 kB: more than the buffers of a socket on loopback.
STALLED = 5
TOKENS = 50  # Shared by all sockets but the last.


def frame(message: dict[str, object]) -> bytes:
    payload = json.dumps(message).encode()
    head = bytes([0x81, 0x80 | 126]) + len(payload).to_bytes(2, "big") if len(payload) > 125 else bytes([0x81, 0x80 | len(payload)])
    return head + bytes(4) + payload  # A mask that changes nothing.


async def opened(port: int, token: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HANDSHAKE.encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.write(frame({"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}}))
    assert b"connection_ack" in await reader.read(200)
    return reader, writer


async def asked(http: httpx.AsyncClient, query: str, variables: dict[str, str], token: str | None = None) -> dict[str, dict[str, str]]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = (await http.post("/graphql", json={"query": query, "variables": variables}, headers=headers)).json()
    assert "errors" not in answer, answer
    return answer["data"]


async def measured(process: Process, sockets: int) -> float:
    async with httpx.AsyncClient(base_url=process.url, timeout=60) as http:
        signing = {"name": "ada", "password": PASSWORD}
        tokens = [(await asked(http, SIGN_IN, signing))["token"]["accessToken"] for _ in range(TOKENS)]
        connections = [await opened(process.port, tokens[number % (TOKENS - 1)]) for number in range(sockets)]
        for _, writer in connections[:STALLED]:
            writer.write(frame({"id": "1", "type": "subscribe", "payload": {"query": ECHO}}))
        for _ in range(0, FLOOD, 50):
            await asyncio.gather(*(asked(http, SEND, {"text": "\U0001f600" * 1_000}) for _ in range(50)))
        revoked, _writer = await opened(process.port, tokens[-1])
        others = [reader.read(1) for reader, _ in connections[STALLED:]]
        waiting = [asyncio.ensure_future(other) for other in others]
        # The stalled ones are to go as well: their goodbyes must delay nobody.
        began = time.monotonic()
        await asked(http, REVOKE, {"token": tokens[0]}, tokens[0])
        await asked(http, REVOKE, {"token": tokens[-1]}, tokens[-1])
        heard = await asyncio.wait_for(revoked.read(200), 30)
        took = time.monotonic() - began
        assert b"Token revoked" in heard, heard
        for each in waiting:
            each.cancel()
        return took


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=5_000)
    sockets = parser.parse_args().sockets
    with TemporaryDirectory(prefix="storegraph-revoking-") as folder:
        settings = await settings_for("sqlite", Path(folder), connections_per_caller=sockets + 100)
        database = Database.connect(settings.database_url)
        hashed = await passwords.hash_password(PASSWORD)
        async with database.transaction() as work:
            await users.sign_up(work, users.SignUpValues("ada", PASSWORD), password_hash=hashed, scopes=[scope.value for scope in Scope])
        await database.close()
        with serving(settings, Path(folder), LOG_LEVEL="ERROR") as process:
            took = await measured(process, sockets)
    sys.stdout.write(f"{sockets} sockets, {STALLED} of which do not read: a revocation closed its socket after {took * 1000:.0f} ms\n")


if __name__ == "__main__":
    asyncio.run(main())
