"""The list of purchases …"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, text, update

from graph.kit.auth import Scope
from graph.kit.global_ids import global_id, row_id
from persistence.items import table as items
from persistence.kit.query.entity_list import Comparison, Condition
from persistence.purchases import listing
from persistence.purchases.table import CANCELLED, COMPLETED, QUEUED, Purchase

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.support.service import Service

LIST = """
query ($filter: PurchaseFilter, $orderBy: PurchaseOrder, $first: Int, $after: String, $last: Int, $before: String) {
  purchases(filter: $filter, orderBy: $orderBy, first: $first, after: $after, last: $last, before: $before) {
    totalCount
    edges { cursor node { id status quantity item { name owner { username } } buyer { username } } }
    pageInfo { hasNextPage hasPreviousPage }
  }
}
"""
PEOPLE = ("ada", "bob", "cem")
START = datetime(2026, 3, 1, tzinfo=UTC)
CONDITIONS = (
    (),
    *((Condition(name, name, Comparison.EQUAL, 1),) for name in ("item_id", "buyer_id", "seller_id")),
    (Condition("created_after", "created_at", Comparison.AT_LEAST, START),),
    (Condition("status", "status", Comparison.EQUAL, CANCELLED),),
)
STATUSES = (COMPLETED, COMPLETED, COMPLETED, QUEUED, CANCELLED)


class Market:
    """Three people who sell an item each, and buy of all, themselves included, in no order of time."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.tokens: dict[str, str] = {}
        self.ids: dict[str, int] = {}
        self.items: dict[str, int] = {}
        self.rows: list[dict[str, Any]] = []

    async def open(self, count: int = 60) -> None:
        for name in PEOPLE:
            user = await self.service.make_user(name, (Scope.ITEMS_READ,))
            self.ids[name], self.tokens[name] = user.id, self.service.tokens.issue(user.id, (Scope.ITEMS_READ,))
            async with self.service.database.transaction() as work:
                self.items[name] = (await items.create(work, items.ItemValues(f"{name}'s", Decimal(1)), owner_id=user.id)).id
        chance = Random(12)
        async with self.service.database.transaction() as work:
            for number in range(1, count + 1):
                seller, buyer = chance.choice(PEOPLE), chance.choice(PEOPLE)
                # Some of one instant, so that only their ids put them in order.
                at = START + timedelta(hours=chance.randrange(count // 2))
                row: dict[str, Any] = {
                    "item_id": self.items[seller],
                    "seller_id": self.ids[seller],
                    "buyer_id": self.ids[buyer],
                    "quantity": number,
                }
                row |= {"status": chance.choice(STATUSES), "created_at": at, "unit_price": Decimal("1.00")}
                row["id"] = await work.session.scalar(insert(Purchase).values(row).returning(Purchase.id))
                self.rows.append(row)

    def expected(self, *, of: str | None = None, **conditions: Any) -> list[int]:
        """Quantities, which number the purchases, in order of time."""
        rows = [
            row
            for row in self.rows
            if (of is None or self.ids[of] in (row["buyer_id"], row["seller_id"]))
            and all(row[name] == value for name, value in conditions.items())
        ]
        return [row["quantity"] for row in sorted(rows, key=lambda row: (row["created_at"], row["id"]))]

    async def listed(self, token: str, **variables: Any) -> dict[str, Any]:
        return (await self.service.ask(LIST, variables, token=token))["purchases"]

    async def quantities(self, token: str, **variables: Any) -> list[int]:
        found = await self.listed(token, **{"first": 100, **variables})
        assert found["totalCount"] == len(found["edges"])
        return [edge["node"]["quantity"] for edge in found["edges"]]


async def market(service: Service, count: int = 60) -> Market:
    made = Market(service)
    await made.open(count)
    return made


async def test_has_what_somebody_bought_and_sold_and_nothing_else(service: Service) -> None:
    shop = await market(service)
    for name in PEOPLE:
        assert await shop.quantities(shop.tokens[name]) == shop.expected(of=name)
    auditor = await service.sign_in(Scope.USERS_READ, username="auditor")
    assert await shop.quantities(auditor) == shop.expected()
    assert await shop.quantities(await service.sign_in(Scope.ITEMS_WRITE, username="newcomer")) == []
    assert await service.refused(LIST) == "UNAUTHENTICATED"


async def test_is_filtered_by_each_condition_and_by_all_together(service: Service) -> None:
    shop = await market(service)
    auditor = await service.sign_in(Scope.USERS_READ, username="auditor")
    ada, bob = global_id("User", shop.ids["ada"]), global_id("User", shop.ids["bob"])
    for token, of in ((shop.tokens["ada"], "ada"), (auditor, None)):
        for status in (QUEUED, COMPLETED, CANCELLED):
            assert await shop.quantities(token, filter={"status": status}) == shop.expected(of=of, status=status)
            both = {"status": status, "buyerId": ada}
            assert await shop.quantities(token, filter=both) == shop.expected(of=of, status=status, buyer_id=shop.ids["ada"])
        of_item = {"itemId": global_id("Item", shop.items["bob"])}
        assert await shop.quantities(token, filter=of_item) == shop.expected(of=of, item_id=shop.items["bob"])
        assert await shop.quantities(token, filter={"buyerId": bob}) == shop.expected(of=of, buyer_id=shop.ids["bob"])
        assert await shop.quantities(token, filter={"sellerId": bob}) == shop.expected(of=of, seller_id=shop.ids["bob"])
        for nothing in ({"itemId": "nonsense"}, {"itemId": ada}, {"buyerId": global_id("User", 2**40)}):
            assert await shop.quantities(token, filter=nothing) == []


async def test_has_the_purchases_from_an_instant_up_to_another(service: Service) -> None:
    shop = await market(service)
    since, until = START + timedelta(hours=5), START + timedelta(hours=12)
    inside = [row for row in shop.rows if since <= row["created_at"] < until]
    expected = [
        row["quantity"]
        for row in sorted(inside, key=lambda row: (row["created_at"], row["id"]))
        if shop.ids["ada"] in (row["buyer_id"], row["seller_id"])
    ]
    assert (
        await shop.quantities(shop.tokens["ada"], filter={"createdAfter": since.isoformat(), "createdBefore": until.isoformat()})
        == expected
    )


async def test_is_read_page_by_page_both_ways_and_in_both_orders(service: Service) -> None:
    shop = await market(service)
    auditor = await service.sign_in(Scope.USERS_READ, username="auditor")
    for token, of in ((shop.tokens["bob"], "bob"), (auditor, None)):
        for direction in ("ASC", "DESC"):
            expected = shop.expected(of=of) if direction == "ASC" else shop.expected(of=of)[::-1]
            order: dict[str, Any] = {"orderBy": {"field": "CREATED_AT", "direction": direction}}
            assert await read(shop, token, "first", "after", **order) == expected
            assert await read(shop, token, "last", "before", **order) == expected
            assert await read(shop, token, "first", "after", filter={"status": COMPLETED}, **order) == [
                quantity for quantity in expected if quantity in shop.expected(status=COMPLETED)
            ]


async def read(shop: Market, token: str, size: str, side: str, **variables: Any) -> list[int]:
    """The whole list, in pages of seven from one end or the other."""
    found, cursor = list[int](), None
    while True:
        page = await shop.listed(token, **variables, **{size: 7, side: cursor})
        quantities = [edge["node"]["quantity"] for edge in page["edges"]]
        found = found + quantities if size == "first" else quantities + found
        if not page["pageInfo"]["hasNextPage" if size == "first" else "hasPreviousPage"]:
            return found
        cursor = page["edges"][-1 if size == "first" else 0]["cursor"]


async def test_refuses_the_cursor_of_another_viewer_filter_or_order(service: Service) -> None:
    shop = await market(service)
    cursor = (await shop.listed(shop.tokens["ada"], first=1))["edges"][0]["cursor"]
    assert await service.refused(LIST, {"after": cursor}, token=shop.tokens["bob"]) == "BAD_USER_INPUT"
    assert await service.refused(LIST, {"after": cursor, "filter": {"status": QUEUED}}, token=shop.tokens["ada"]) == "BAD_USER_INPUT"
    assert (
        await service.refused(LIST, {"after": cursor, "orderBy": {"field": "CREATED_AT", "direction": "DESC"}}, token=shop.tokens["ada"])
        == "BAD_USER_INPUT"
    )
    assert await service.refused(LIST, {"first": 101}, token=shop.tokens["ada"]) == "BAD_USER_INPUT"


async def test_shows_a_seller_purchases_that_node_finds_too(service: Service) -> None:
    shop = await market(service)
    sold = next(row for row in shop.rows if row["seller_id"] == shop.ids["ada"] and row["buyer_id"] == shop.ids["bob"])
    node = "query ($id: ID!) { node(id: $id) { ... on Purchase { quantity buyer { username email } } } nodes(ids: [$id]) { id } }"
    id_ = global_id("Purchase", sold["id"])
    seen = {"node": {"quantity": sold["quantity"], "buyer": {"username": "bob", "email": None}}, "nodes": [{"id": id_}]}
    assert await service.ask(node, {"id": id_}, token=shop.tokens["ada"]) == seen
    assert await service.ask(node, {"id": id_}, token=shop.tokens["cem"]) == {"node": None, "nodes": [None]}


async def test_is_planned_as_one_statement(service: Service, statements: Callable[[], AbstractContextManager[list[str]]]) -> None:
    shop = await market(service, 10)
    await shop.listed(shop.tokens["ada"], first=5)
    with statements() as sent:
        assert len((await shop.listed(shop.tokens["bob"], first=3))["edges"]) == 3
    assert len([each for each in sent if "purchases" in each]) == 1


async def test_is_read_from_an_index_in_its_order(service: Service) -> None:
    """By whatever condition; of what one viewer bought and sold, each half."""
    shop = await market(service, 10)
    for condition in CONDITIONS:
        whole = replace(listing.EVERYBODYS, conditions=condition)
        plan = await explained(service, whole)
        assert [line for line in plan if "ix_purchases" in line], plan
        assert not [line for line in plan if "Sort" in line or "TEMP B-TREE" in line], plan
        plan = await explained(service, replace(whole, viewer_id=shop.ids["ada"]))
        assert len([line for line in plan if "ix_purchases" in line]) >= 2, plan


async def explained(service: Service, query: listing.PurchaseList) -> list[str]:
    """How the database reads a page, a step a line; PostgreSQL, which sorts ten rows sooner than it reads an index, as if they were many."""
    sqlite = service.database.dialect == "sqlite"
    async with service.database.transaction() as work:
        statement = query.listing().first_rows(5).compile((await work.session.connection()).engine, compile_kwargs={"literal_binds": True})
        for way in () if sqlite else ("seqscan", "bitmapscan", "sort", "hashjoin"):
            await work.session.execute(text(f"SET LOCAL enable_{way} = off"))
        rows = (await work.session.execute(text(f"EXPLAIN {'QUERY PLAN' if sqlite else ''} {statement}".replace(":", r"\:")))).all()
    return [row[-1] for row in rows]


async def test_has_the_seller_of_the_moment(service: Service) -> None:
    shop = await market(service, 4)
    bought = "mutation ($id: ID!) { purchaseItem(itemId: $id) { ... on Purchase { id } } }"
    basket = "mutation ($id: ID!) { purchaseItems(lines: [{itemId: $id}]) { ... on PurchaseItems { purchases { id } } } }"
    async with service.database.transaction() as work:
        await work.session.execute(update(items.Item).values(inventory=5))
    variables = {"id": global_id("Item", shop.items["cem"])}
    one = (await service.ask(bought, variables, token=shop.tokens["ada"]))["purchaseItem"]["id"]
    other = (await service.ask(basket, variables, token=shop.tokens["ada"]))["purchaseItems"]["purchases"][0]["id"]
    await service.background_done()
    found = await shop.listed(shop.tokens["cem"], last=2)
    assert [edge["node"]["id"] for edge in found["edges"]] == [one, other]
    async with service.database.reading() as session:
        assert (await session.get_one(Purchase, row_id("Purchase", one) or 0)).seller_id == shop.ids["cem"]
