"""What is asked in W1 to W3 and C1 to C3: the same questions in each server's own words, and how their answers compare."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, cast

import orjson

from scripts.benchmark import load, servers
from scripts.benchmark.servers import Server

PAGE = 50
FIELDS = "id name description price tags inventory inStock createdAt"
ITEM = f"query ($id: ID!) {{ item(id: $id) {{ {FIELDS} }} }}"
ITEMS = f"query ($after: String) {{ items(first: {PAGE}, after: $after) {{ nodes {{ {FIELDS} }} }} }}"
OWNED = f"query ($after: String) {{ items(first: {PAGE}, after: $after) {{ nodes {{ {FIELDS} owner {{ username fullName }} }} }} }}"
INCLUDED = OWNED.replace("($after: String)", "($after: String, $all: Boolean = true)").replace("owner {", "owner @include(if: $all) {")
COUNTED = OWNED.replace("{ nodes", "{ totalCount nodes")
NODE = f"query ($id: ID!) {{ node(id: $id) {{ __typename id ... on Item {{ {FIELDS} }} }} }}"
FIRST_CURSOR = "{ items(first: 1) { pageInfo { endCursor } } }"

Ask = Callable[[int], bytes]  # A request about the item with this id, or about the page after it.


def graphql(query: str, **variables: Any) -> bytes:
    return load.post("/graphql", orjson.dumps({"query": query, "variables": variables}))


def item_id(id_: int) -> str:
    return base64.b64encode(f"Item:{id_}".encode()).decode()


async def cursors(port: int) -> Callable[[int], str]:
    """How the service writes the cursor of an item: with a mark of the list, which its first page tells."""
    answer = orjson.loads(await load.once(port, graphql(FIRST_CURSOR)))
    supplied: str = answer["data"]["items"]["pageInfo"]["endCursor"]
    tag = orjson.loads(base64.urlsafe_b64decode(supplied + "=" * (-len(supplied) % 4)))[0]
    return lambda id_: base64.urlsafe_b64encode(orjson.dumps([tag, id_, id_])).decode().rstrip("=")


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    query: str
    path: str

    async def ask(self, who: Server) -> Ask:
        single = self.query in {ITEM, NODE}
        if who.name in {servers.REST, servers.BARE}:
            return (lambda id_: load.get(f"{self.path}/{id_}")) if single else lambda id_: load.get(f"{self.path}?after={id_}")
        if who.name in {servers.STOCK, servers.NODE, servers.COMPILED}:
            return (lambda id_: graphql(self.query, id=str(id_))) if single else lambda id_: graphql(self.query, after=str(id_))
        if single:
            return lambda id_: graphql(self.query, id=item_id(id_))
        cursor = await cursors(who.port)
        return lambda id_: graphql(self.query, after=cursor(id_))

    def seen(self, body: bytes) -> list[Any]:
        """The answer in a form that is the same for all."""
        answer: Any = orjson.loads(body)
        found: Any = _answered(answer["data"]) if "data" in answer else answer
        rows = cast("list[Any]", found) if isinstance(found, list) else [found]
        return [_plain(row) for row in rows]


def _answered(data: dict[str, Any]) -> Any:
    [found] = data.values()
    return found.get("nodes", found)


READS = (
    Case("W1", "an item by id, 8 fields", ITEM, "/items"),
    Case("W2", f"a page of {PAGE} × 8 fields", ITEMS, "/items"),
    Case("W3", "W2 and each item's owner", OWNED, "/owned-items"),
)
CLIENTS = (
    Case("C1", f"a page of {PAGE} × 8 fields, each item's owner by @include", INCLUDED, "/owned-items"),
    Case("C2", f"a page of {PAGE} × 8 fields, each item's owner, and the count", COUNTED, "/owned-items"),
    Case("C3", "an item by node, 8 fields and __typename", NODE, "/items"),
)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Names as GraphQL writes them, instants to the millisecond, without ids: ours are opaque."""
    owner = row.get("owner")
    created = datetime.fromisoformat(row.get("createdAt") or row["created_at"])
    return {
        "name": row["name"],
        "description": row["description"],
        "price": row["price"],
        "tags": row["tags"],
        "inventory": row["inventory"],
        "inStock": row.get("inStock", row.get("in_stock")),
        "created": int((created if created.tzinfo else created.replace(tzinfo=UTC)).timestamp() * 1000),
        "owner": owner and {"username": owner["username"], "fullName": owner.get("fullName", owner.get("full_name"))},
    }


async def verified(case: Case, who: Sequence[Server], ids: Sequence[int]) -> dict[str, list[bytes]]:
    """Each server's requests about these ids, once some were asked and all answered the same. Raises: Broken."""
    asks = {each.name: await case.ask(each) for each in who}
    for id_ in Random(7).sample(list(ids), 20):
        answers = {each.name: case.seen(await load.once(each.port, asks[each.name](id_))) for each in who}
        if differing := [name for name, answer in answers.items() if answer != answers[who[0].name]]:
            raise load.Broken(f"{case.name}: {' and '.join(differing)} answered otherwise than {who[0].name} about {id_}")
    return {name: [ask(id_) for id_ in ids] for name, ask in asks.items()}
