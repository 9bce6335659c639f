"""The clients that people use, with their defaults, against the service: Node's by the scripts in `clients/`, Python's `gql` from here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from gql import Client, GraphQLRequest
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.aiohttp_websockets import AIOHTTPWebsocketsTransport
from gql.transport.exceptions import TransportQueryError
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport

from tests.support.clients.node import CLIENTS, run

if TYPE_CHECKING:
    from gql.transport import AsyncTransport

    from tests.support.service import Service

SCHEMA = CLIENTS.parents[1] / "schema.graphql"
SCRIPTS = sorted(script.stem for script in CLIENTS.glob("*.mjs") if script.stem != "expect")


@pytest.mark.parametrize("script", SCRIPTS)
async def test_works_with(script: str, node: str, embedded: Service) -> None:
    token = await embedded.sign_in()
    said = await run(node, f"{script}.mjs", STOREGRAPH_URL=f"{embedded.url}/graphql", STOREGRAPH_TOKEN=token, STOREGRAPH_SCHEMA=str(SCHEMA))
    assert not said


CREATE = """mutation ($name: String!) { createItem(input: { name: $name, price: "9.99" }) { __typename ... on Item { name price } } }"""
CREATED = {"createItem": {"__typename": "Item", "name": "gql", "price": "9.99"}}
LISTEN = 'subscription { echo(channel: "gql", message: "first") { text } }'
SEND = 'mutation { sendEcho(channel: "gql", message: "second") { text } }'


def transports(service: Service, token: str) -> dict[str, AsyncTransport]:
    url, headers, socket = f"{service.url}/graphql", {"Authorization": f"Bearer {token}"}, service.socket_url
    return {
        "aiohttp": AIOHTTPTransport(url, headers=headers),
        "httpx": HTTPXAsyncTransport(url, headers=headers),
        "websockets": WebsocketsTransport(socket, init_payload=headers),
        "websockets with the token in the handshake": WebsocketsTransport(socket, headers=headers),
        "aiohttp over a socket": AIOHTTPWebsocketsTransport(socket, init_payload=headers),
    }


NAMES = ["aiohttp", "httpx", "websockets", "websockets with the token in the handshake", "aiohttp over a socket"]


@pytest.mark.parametrize("name", NAMES)
async def test_works_with_gql(name: str, embedded: Service) -> None:
    transport = transports(embedded, await embedded.sign_in())[name]
    async with Client(transport=transport, fetch_schema_from_transport=True) as session:
        assert await session.execute(GraphQLRequest(CREATE, variable_values={"name": "gql"})) == CREATED
        with pytest.raises(TransportQueryError) as refused:
            await session.execute(GraphQLRequest("query ($id: ID!) { item(id: $id) { id } }", variable_values={"id": None}))
    assert [error["extensions"]["code"] for error in refused.value.errors or ()] == ["BAD_USER_INPUT"]


@pytest.mark.parametrize("name", NAMES[2:])
async def test_subscribes_with_gql(name: str, embedded: Service) -> None:
    transport = transports(embedded, await embedded.sign_in())[name]
    heard: list[Any] = []
    async with Client(transport=transport) as session:
        async for event in session.subscribe(GraphQLRequest(LISTEN)):
            heard.append(event["echo"]["text"])
            if len(heard) == 2:
                break
            await session.execute(GraphQLRequest(SEND))
    assert heard == ["echo: first", "echo: second"]


@pytest.mark.parametrize("name", ["aiohttp", "httpx"])
async def test_tells_gql_of_a_bad_token(name: str, embedded: Service) -> None:
    async with Client(transport=transports(embedded, "forged")[name]) as session:
        with pytest.raises(TransportQueryError) as refused:
            await session.execute(GraphQLRequest("{ __typename }"))
    assert [error["extensions"]["code"] for error in refused.value.errors or ()] == ["UNAUTHENTICATED"]
