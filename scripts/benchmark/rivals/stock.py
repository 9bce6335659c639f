"""Strawberry as its documentation shows it: its own ASGI application, the ORM, DataLoaders."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from typing import Any

import strawberry
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.dataloader import DataLoader

from scripts.benchmark.rivals import tables

Info = strawberry.Info[Any, None]


@strawberry.type
class User:
    username: str
    full_name: str | None


@strawberry.type
class Item:
    id: strawberry.ID
    name: str
    description: str | None
    price: str
    tags: list[str]
    inventory: int
    in_stock: bool
    created_at: datetime
    owner_id: strawberry.Private[int | None]

    @strawberry.field
    async def owner(self, info: Info) -> User | None:
        if self.owner_id is None:
            return None
        row = await info.context["users"].load(self.owner_id)
        return User(username=row.username, full_name=row.full_name)


def _item(row: tables.Item) -> Item:
    return Item(
        id=strawberry.ID(str(row.id)),
        name=row.name,
        description=row.description,
        price=row.price,
        tags=row.tags,
        inventory=row.inventory,
        in_stock=row.in_stock,
        created_at=row.created_at,
        owner_id=row.owner_id,
    )


@strawberry.type
class Items:
    nodes: list[Item]


@strawberry.type
class ItemCreated:
    cursor: str
    item: Item


@strawberry.type
class Query:
    @strawberry.field
    async def item(self, id: strawberry.ID) -> Item | None:
        async with tables.sessions() as session:
            row = await tables.by_id(session, int(id))
        return _item(row) if row else None

    @strawberry.field
    async def items(self, first: int = 20, after: str | None = None) -> Items:
        async with tables.sessions() as session:
            rows = await tables.page(session, after=int(after or 0), size=first)
        return Items(nodes=[_item(row) for row in rows])


queues: set[asyncio.Queue[ItemCreated]] = set()


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def burst(self, count: int) -> int:
        async with tables.sessions() as session:
            rows = await tables.page(session, after=0, size=1)
        for number in range(count):
            for queue in queues:
                queue.put_nowait(ItemCreated(cursor=str(number), item=_item(rows[0])))
        return count


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def item_events(self) -> AsyncGenerator[ItemCreated, None]:
        queue = asyncio.Queue[ItemCreated]()
        queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            queues.remove(queue)


async def _users(keys: list[int]) -> list[tables.User]:
    async with tables.sessions() as session:
        rows = {row.id: row for row in await session.scalars(select(tables.User).where(tables.User.id.in_(keys)))}
    return [rows[key] for key in keys]


class Endpoint(GraphQL[Any, None]):
    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Mapping[str, Any]:
        return {"users": DataLoader(_users)}


endpoint = Endpoint(strawberry.Schema(Query, Mutation, Subscription))
app = Starlette(routes=[Route("/graphql", endpoint), WebSocketRoute("/graphql", endpoint)])
