"""Speaks the graphql-transport-ws protocol in raw frames, as a careless client does."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.support.service import Service

SUBPROTOCOL = "graphql-transport-ws"
INIT = {"type": "connection_init"}
ACK = {"type": "connection_ack"}
LISTEN = "subscription ($channel: ID! = a) { echo(channel: $channel) { text } }".replace("= a", '= "a"')
CREATE = 'mutation { createItem(input: { name: "Kettle", price: "1.00" }) { __typename } }'
NAMES = "{ items { edges { node { name } } } }"


class Talk:
    """A socket as a careless client sees it: anything can be sent."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def send(self, *messages: Any) -> None:
        for message in messages:
            await self._socket.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def hear(self) -> Any:
        return json.loads(await asyncio.wait_for(self._socket.recv(), 10))

    async def result(self, query: str, id_: str = "1", **payload: Any) -> Any:
        await self.send(subscribe(query, id_, **payload))
        heard = await self.hear()
        if heard["type"] == "next":
            assert await self.hear() == {"id": id_, "type": "complete"}
        return heard

    async def closed(self) -> tuple[int, str]:
        """The close code and reason, with no message before it."""
        with pytest.raises(ConnectionClosed) as closed:
            raise AssertionError(await asyncio.wait_for(self._socket.recv(), 10))
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code, closed.value.rcvd.reason


@asynccontextmanager
async def talking(
    service: Service, *, init: bool | dict[str, Any] = True, subprotocol: Any = SUBPROTOCOL, **headers: str
) -> AsyncGenerator[Talk]:
    offered = [subprotocol] if subprotocol else None
    async with connect(service.socket_url, subprotocols=offered, additional_headers=headers, max_size=None) as socket:
        talk = Talk(socket)
        if init:
            await talk.send(INIT if init is True else INIT | {"payload": init})
            assert await talk.hear() == ACK
        yield talk


def subscribe(query: str, id_: str = "1", **payload: Any) -> dict[str, Any]:
    return {"type": "subscribe", "id": id_, "payload": {"query": query, **payload}}


def bearer(token: str) -> dict[str, Any]:
    return {"Authorization": f"Bearer {token}"}


async def echo(service: Service, message: str, channel: str = "a") -> None:
    query = "mutation ($channel: ID!, $message: String!) { sendEcho(channel: $channel, message: $message) { text } }"
    await service.ask(query, {"channel": channel, "message": message})


async def heard_after_start(talk: Talk, service: Service, id_: str = "1", channel: str = "a", **variables: Any) -> None:
    """Start a subscription and return once it has heard something: then it is certainly running."""
    greeting = 'subscription ($channel: ID!) { echo(channel: $channel, message: "hello") { text } }'
    await talk.send(subscribe(greeting, id_, variables={"channel": channel, **variables}))
    assert await talk.hear() == {"id": id_, "type": "next", "payload": {"data": {"echo": {"text": "echo: hello"}}}}
