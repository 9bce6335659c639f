"""A shop of few rows, seen by several viewers through the planner and through the reference executor, and the tables that are read meanwhile."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import insert, select

from graph.kit.auth import Caller, Scope
from graph.kit.global_ids import global_id
from graph.server.graphql.requests import GraphQLRequest
from persistence import audit, files
from persistence.items import table as items
from persistence.purchases import table as purchases
from tests.support.planner.comparison import STRANGER, Ways, answer, caller
from tests.support.service import Service

NAME = re.compile(r"\{(\w+)\}")
READING = ContextVar[list[str]]("READING")


def note(statement: str) -> Callable[[], None]:
    if (sent := READING.get(None)) is not None:
        sent.append(statement)
    return lambda: None


class Shop(Ways):
    """A few rows of each entity, and viewers with different rights."""

    viewers: dict[str, Caller]

    async def answer(self, way: str, request: GraphQLRequest, viewer: str) -> bytes:
        return await answer(getattr(self, way), request, self.viewers[viewer])

    def fill(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.fill(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
        return NAME.sub(lambda found: self.names.get(found[1], found[0]), value) if isinstance(value, str) else value


async def filled(service: Service) -> Shop:
    ada = await service.make_user("ada", email="ada@example.com", full_name="Ada “Countess” Lovelace")
    bob = await service.make_user("bob", (Scope.ITEMS_READ,), email="bob@example.com")
    async with service.database.transaction() as work:
        drafts = [
            items.ItemValues("Motörhead", Decimal("4.99"), 'Quotes " and \\ and\nlines', ("rock", "loud"), 30),
            items.ItemValues("Moth", Decimal("0.1"), None, (), 0),
            items.ItemValues("安い", Decimal("9999999999.99"), "", ("ro,ck",), 2**31 - 1),
            items.ItemValues("zebra", Decimal(5), "\u2028 \U0001f600", ("rock",), 1),
            items.ItemValues("deleted", Decimal(1)),
        ]
        owners = (None, ada.id, ada.id, bob.id, ada.id)
        rows = [await items.create(work, draft, owner_id=owner) for draft, owner in zip(drafts, owners, strict=True)]
        for buyer, quantity in ((ada, 1), (bob, 2), (ada, 3), (bob, 2_000_000)):
            await purchases.purchase(work, rows[2 if quantity > 9 else 0].id, buyer_id=buyer.id, quantity=quantity)
        await items.delete(work, rows[-1].id)
        details: dict[str, Any] = {"b": [1, 2.5, None, {"ü": "\u2028"}], "a": "x"}
        await audit.write(work, "test", actor_id=ada.id, subject=("Item", rows[0].id), detail=details)
        await audit.write(work, "other", actor_id=None)
        file = {"filename": "a b/ü?.txt", "content_type": "text/plain", "sha256": "0" * 64, "uploaded_at": datetime.now(UTC)}
        sizes = ((1, ada.id), (2**53 - 1, None), (2**53, bob.id))
        every = [{**file, "filename": f"{n}{file['filename']}", "blob_key": str(n), "size_bytes": n, "owner_id": o} for n, o in sizes]
        await work.session.execute(insert(files.StoredFile), every)
    await service.background_done()
    service.database.watch(note)
    shop = Shop(service)
    async with service.database.reading() as session:
        bought = {row.buyer_id: row.id for row in await session.scalars(select(purchases.Purchase))}
        entry, stored = [await session.scalar(select(model.id)) for model in (audit.AuditEntry, files.StoredFile)]
    page = await service.ask("{ items(first: 1) { pageInfo { endCursor } nodes { id } } }")
    of_ada = "query ($id: ID!) { node(id: $id) { ... on User { items(first: 1) { pageInfo { endCursor } } } } }"
    adas = await service.ask(of_ada, {"id": global_id("User", ada.id)})
    shop.names = {
        "item": global_id("Item", rows[0].id),
        "other": global_id("Item", rows[1].id),
        "deleted": global_id("Item", rows[-1].id),
        "ada": global_id("User", ada.id),
        "bob": global_id("User", bob.id),
        "purchase": global_id("Purchase", bought[ada.id]),
        "bobs": global_id("Purchase", bought[bob.id]),
        "file": global_id("StoredFile", stored or 0),
        "audit": global_id("Audit", entry or 0),
        "cursor": page["items"]["pageInfo"]["endCursor"],
        "start": service.services.feed.cursor(0),
        "adas_cursor": adas["node"]["items"]["pageInfo"]["endCursor"],
    }
    shop.viewers = {
        "nobody": STRANGER,
        "ada": caller(ada.id, Scope.ITEMS_READ),
        "bob": caller(bob.id),
        "auditor": caller(bob.id, *Scope),
    }
    return shop
