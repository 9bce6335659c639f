"""What is asked in W1 to W3 and C1 to C5: the same questions in each server's own words, and how their answers compare."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
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
NESTED = (
    "query ($after: String) { items(first: 20, after: $after) {"
    " nodes { id name price owner { username items(first: 3) { nodes { id name price } } } } } }"
)
PAYLOAD = f"{FIELDS} owner {{ username fullName }}"
CHANGED = "mutation ($id: ID!, $text: String!) { updateItem(id: $id, input: {description: $text}) { ... on Item { " + PAYLOAD + " } } }"
CHANGED_PLAIN = "mutation ($id: ID!, $text: String!) { updateItem(id: $id, description: $text) { " + PAYLOAD + " } }"
FIRST_CURSOR = "{ items(first: 1) { pageInfo { endCursor } } }"

Ask = Callable[[int], bytes]  # A request about the item with this id, or about the page after it.


def graphql(query: str, headers: Mapping[str, str] | None = None, **variables: Any) -> bytes:
    return load.post("/graphql", orjson.dumps({"query": query, "variables": variables}), **(headers or {}))


def item_id(id_: int) -> str:
    return base64.b64encode(f"Item:{id_}".encode()).decode()


async def cursors(port: int) -> Callable[[int], str]:
    """How the service writes the cursor of an item: with a mark of the list, which its first page tells."""
    tag = (await _first_cursor(port, FIRST_CURSOR))[0]
    return lambda id_: base64.urlsafe_b64encode(orjson.dumps([tag, id_, id_])).decode().rstrip("=")


async def _first_cursor(port: int, query: str) -> list[Any]:
    answer = orjson.loads(await load.once(port, graphql(query)))
    supplied: str = _root(answer["data"])["pageInfo"]["endCursor"]
    return orjson.loads(base64.urlsafe_b64decode(supplied + "=" * (-len(supplied) % 4)))


def postgraphile(query: str) -> str:
    """The same question in the names that it gives to tables and columns."""
    for ours, theirs in POSTGRAPHILE:
        query = query.replace(ours, theirs)
    return query


POSTGRAPHILE = (
    (" price", " priceCents"),
    ("owner {", "userByOwnerId {"),
    ("owner @", "userByOwnerId @"),
    ("username items(", "username itemsByOwnerId("),
    ("{ items(", "{ allItems("),
    ("$after: String", "$after: Cursor"),
    (
        "updateItem(id: $id, input: {description: $text}) { ... on Item {",
        "updateItem(input: {id: $id, itemPatch: {description: $text}}) { item {",
    ),
)


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    query: str
    path: str

    async def ask(self, who: Server, token: str) -> Ask:
        if who.name in {servers.REST, servers.BARE}:
            return self._rest()
        if who.name in {servers.STOCK, servers.NODE, servers.COMPILED}:
            return self._graphql(CHANGED_PLAIN if self.query == CHANGED else self.query, who, str, str)
        if who.name == servers.PLANNING:
            tag = (await _first_cursor(who.port, postgraphile(FIRST_CURSOR)))[0]
            return self._graphql(postgraphile(self.query), who, _encoded("Item"), _encoded(tag))
        signed = {"Authorization": f"Bearer {token}"} if self.query == CHANGED else {}
        return self._graphql(self.query, who, item_id, await cursors(who.port), **signed)

    def _rest(self) -> Ask:
        if self.query == CHANGED:
            return lambda id_: load.post(f"{self.path}/{id_}", orjson.dumps({"text": _text(servers.BARE, id_)}))
        return (lambda id_: load.get(f"{self.path}/{id_}")) if self._single else lambda id_: load.get(f"{self.path}?after={id_}")

    def _graphql(self, query: str, who: Server, key: Callable[[int], str], cursor: Callable[[int], str], **headers: str) -> Ask:
        if self.query == CHANGED:
            return lambda id_: graphql(query, headers, id=key(id_), text=_text(who.name, id_))
        return (lambda id_: graphql(query, id=key(id_))) if self._single else lambda id_: graphql(query, after=cursor(id_))

    @property
    def _single(self) -> bool:
        return self.query in {ITEM, NODE}

    def seen(self, body: bytes) -> list[Any]:
        """The answer in a form that is the same for all."""
        answer: Any = orjson.loads(body)
        found: Any = _answered(answer["data"]) if "data" in answer else answer
        rows = cast("list[Any]", found) if isinstance(found, list) else [found]
        return [_plain(row) for row in rows]


def _text(who: str, id_: int) -> str:
    """No two of them write the same, so that each changes what another wrote."""
    return f"{who}: changed {id_}"


def _encoded(tag: object) -> Callable[[int], str]:
    return lambda id_: base64.b64encode(orjson.dumps([tag, str(id_)])).decode()


def _root(data: dict[str, Any]) -> Any:
    [found] = data.values()
    return found


def _answered(data: dict[str, Any]) -> Any:
    found = _root(data)
    return found.get("nodes", found.get("item", found))


READS = (
    Case("W1", "an item by id, 8 fields", ITEM, "/items"),
    Case("W2", f"a page of {PAGE} × 8 fields", ITEMS, "/items"),
    Case("W3", "W2 and each item's owner", OWNED, "/owned-items"),
)
CLIENTS = (
    Case("C1", f"a page of {PAGE} × 8 fields, each item's owner by @include", INCLUDED, "/owned-items"),
    Case("C2", f"a page of {PAGE} × 8 fields, each item's owner, and the count", COUNTED, "/owned-items"),
    Case("C3", "an item by node, 8 fields and __typename", NODE, "/items"),
    Case("C4", "a page of 20, and three items of each one's owner", NESTED, "/nested-items"),
    Case("C5", "an item's description changed, 8 fields and the owner answered", CHANGED, "/changed-items"),
)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Names as the service writes them, instants to the millisecond, without ids, which differ by design, and without who changed it."""
    plain = {NAMES.get(name, name): value for name, value in row.items() if name not in {"id", "__typename"}}
    if "createdAt" in plain:
        created = datetime.fromisoformat(plain["createdAt"])
        plain["createdAt"] = int((created if created.tzinfo else created.replace(tzinfo=UTC)).timestamp() * 1000)
    if "priceCents" in plain:
        plain["price"] = f"{int(plain.pop('priceCents')) / 100:.2f}"
    if (text := plain.get("description")) and ": changed " in text:
        plain["description"] = text.partition(": ")[2]
    if owner := plain.get("owner"):
        plain["owner"] = _plain(owner)
    if "items" in plain:
        plain["items"] = [_plain(each) for each in plain["items"]["nodes"]]
    return plain


NAMES = {
    "in_stock": "inStock",
    "created_at": "createdAt",
    "full_name": "fullName",
    "userByOwnerId": "owner",
    "itemsByOwnerId": "items",
}


async def verified(case: Case, who: Sequence[Server], ids: Sequence[int], token: str = "") -> dict[str, list[bytes]]:
    """Each server's requests about these ids, once some were asked and all answered the same. Raises: Broken."""
    asks = {each.name: await case.ask(each, token) for each in who}
    for id_ in Random(7).sample(list(ids), 20):
        answers = {each.name: case.seen(await load.once(each.port, asks[each.name](id_))) for each in who}
        if differing := [name for name, answer in answers.items() if answer != answers[who[0].name]]:
            raise load.Broken(f"{case.name}: {' and '.join(differing)} answered otherwise than {who[0].name} about {id_}")
    return {name: [ask(id_) for id_ in ids] for name, ask in asks.items()}
