"""A subscriber on a socket of its own, in the words of the graphql-transport-ws protocol."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import websockets
from websockets.typing import Subprotocol

if TYPE_CHECKING:
    from tests.support.service import Service

PROTOCOL = Subprotocol("graphql-transport-ws")


class Listener:
    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.socket = socket

    async def message(self) -> dict[str, Any]:
        while True:
            message = json.loads(await self.socket.recv())
            if message["type"] != "ping":
                return message

    async def payload(self) -> dict[str, Any]:
        """The next whole result."""
        message = await self.message()
        assert message["type"] == "next", message
        return message["payload"]

    async def next(self) -> Any:
        """The value of the next result's one root field."""
        payload = await self.payload()
        assert "errors" not in payload, payload
        (value,) = cast("dict[str, Any]", payload["data"]).values()
        return value

    async def refusal(self) -> str:
        """The code of the one error that ends the subscription."""
        message = await self.message()
        errors = message["payload"] if message["type"] == "error" else message["payload"]["errors"]
        assert len(errors) == 1, message
        return errors[0]["extensions"]["code"]

    async def completed(self) -> None:
        message = await self.message()
        assert message["type"] == "complete", message


@asynccontextmanager
async def listening(
    service: Service,
    query: str,
    variables: dict[str, Any] | None = None,
    *,
    token: str | None = None,
    extensions: dict[str, Any] | None = None,
) -> AsyncGenerator[Listener]:
    """A subscription that has been asked for. It need not have begun: only a first result tells that."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with websockets.connect(service.socket_url, subprotocols=[PROTOCOL]) as socket:
        await socket.send(json.dumps({"type": "connection_init", "payload": headers}))
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        payload = {"query": query, "variables": variables, "extensions": extensions}
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        yield Listener(socket)
