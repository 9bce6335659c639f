"""The floor: JSON made by PostgreSQL and passed on by bare asyncpg, and bytes that are ready, on plain Starlette routes."""

import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FIELDS = """'id', i.id, 'name', i.name, 'description', i.description, 'price', to_char(i.price_cents / 100.0, 'FM9999999990.00'),
 'tags', i.tags, 'inventory', i.inventory, 'inStock', i.in_stock, 'createdAt', i.created_at"""
ITEM = f"SELECT json_build_object({FIELDS})::text FROM items i WHERE i.id = $1 AND i.deleted_at IS NULL"
PAGE = f"""SELECT json_agg(json_build_object({FIELDS}))::text FROM
 (SELECT * FROM items WHERE id > $1 AND deleted_at IS NULL ORDER BY id LIMIT $2) i"""
OWNER = "json_build_object('username', u.username, 'fullName', u.full_name)"
OWNED = f"""SELECT json_agg(json_build_object({FIELDS}, 'owner', {OWNER}) ORDER BY i.id)::text FROM
 (SELECT * FROM items WHERE id > $1 AND deleted_at IS NULL ORDER BY id LIMIT $2) i LEFT JOIN users u ON u.id = i.owner_id"""
NESTED = """SELECT json_agg(json_build_object('name', i.name, 'price', to_char(i.price_cents / 100.0, 'FM9999999990.00'),
 'owner', json_build_object('username', u.username, 'items', json_build_object('nodes', n.items))) ORDER BY i.id)::text FROM
 (SELECT * FROM items WHERE id > $1 AND deleted_at IS NULL ORDER BY id LIMIT 20) i LEFT JOIN users u ON u.id = i.owner_id
 LEFT JOIN LATERAL (SELECT json_agg(json_build_object('name', o.name, 'price', to_char(o.price_cents / 100.0, 'FM9999999990.00'))) AS items
 FROM (SELECT * FROM items WHERE owner_id = u.id AND deleted_at IS NULL ORDER BY id LIMIT 3) o) n ON true"""

CHANGE = "UPDATE items SET description = $2, version = version + 1, updated_at = now() WHERE id = $1 AND deleted_at IS NULL"
TELL_CHANGE = "INSERT INTO events (kind, subject_id, data, occurred_at) VALUES ('item.updated', $1, '{}', now())"
NOW = f"""SELECT json_build_object({FIELDS}, 'owner', {OWNER})::text FROM items i LEFT JOIN users u ON u.id = i.owner_id
 WHERE i.id = $1"""

TAKE = """UPDATE items SET inventory = inventory - $2, version = version + 1, updated_at = now()
 WHERE id = $1 AND deleted_at IS NULL AND inventory >= $2 RETURNING price_cents"""
SELL = """INSERT INTO purchases (item_id, buyer_id, quantity, unit_price_cents, status, created_at)
 VALUES ($1, $2, $3, $4, 'QUEUED', now()) RETURNING id"""
TELL = "INSERT INTO events (kind, subject_id, data, occurred_at) VALUES ('item.purchased', $1, $2, now())"
QUEUE = "INSERT INTO jobs (kind, key, data, attempts, created_at, parked_at) VALUES ('purchase.placed', $1, $2, 0, now(), now())"

BUYER = 1
ready: dict[str, bytes] = {}


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None]:
    async with asyncpg.create_pool(os.environ["PLAIN_DATABASE_URL"], min_size=10, max_size=10) as app.state.pool:
        yield


def _json(text: str) -> Response:
    return Response(text, media_type="application/json")


async def item(request: Request) -> Response:
    return _json(await request.app.state.pool.fetchval(ITEM, request.path_params["id"]))


async def items(request: Request) -> Response:
    return _json(await request.app.state.pool.fetchval(PAGE, int(request.query_params["after"]), 50))


async def owned_items(request: Request) -> Response:
    return _json(await request.app.state.pool.fetchval(OWNED, int(request.query_params["after"]), 50))


async def nested_items(request: Request) -> Response:
    return _json(await request.app.state.pool.fetchval(NESTED, int(request.query_params["after"])))


async def change(request: Request) -> Response:
    id_, text = request.path_params["id"], (await request.json())["text"]
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        await connection.execute(CHANGE, id_, text)
        await connection.execute(TELL_CHANGE, id_)
        return _json(await connection.fetchval(NOW, id_))


async def purchase(request: Request) -> Response:
    requested: dict[str, Any] = await request.json()
    item_id, quantity = requested["item"], requested["quantity"]
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        cents = await connection.fetchval(TAKE, item_id, quantity)
        sold = await connection.fetchval(SELL, item_id, BUYER, quantity, cents)
        data = json.dumps({"purchase_id": sold, "quantity": quantity})
        await connection.execute(TELL, item_id, data)
        await connection.execute(QUEUE, f"bare:{sold}", data)
    return _json(json.dumps({"id": sold, "total": cents * quantity}))


async def keep(request: Request) -> Response:
    ready["body"] = await request.body()
    return Response(status_code=204)


async def static(request: Request) -> Response:
    return Response(ready["body"], media_type="application/json")


app = Starlette(
    routes=[
        Route("/items/{id:int}", item),
        Route("/items", items),
        Route("/owned-items", owned_items),
        Route("/nested-items", nested_items),
        Route("/changed-items/{id:int}", change, methods=["POST"]),
        Route("/purchases", purchase, methods=["POST"]),
        Route("/static", keep, methods=["PUT"]),
        Route("/static", static),
    ],
    lifespan=lifespan,
)
