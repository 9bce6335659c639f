"""Answers that are kept …"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest
from graphql import GraphQLObjectType, get_named_type, is_composite_type

from graph.kit.auth import Caller, Scope
from graph.kit.global_ids import required_row_id
from graph.schema import executable
from graph.server.graphql.persisted_documents import sha256
from graph.server.graphql.requests import GraphQLRequest
from graph.server.graphql.response_cache import CachedResponse, ResponseCache
from graph.server.telemetry.telemetry import Telemetry
from persistence.items import table as items
from tests.conftest import settings_for
from tests.support.access import VIEWERS, World
from tests.support.access_ways import FRESH, ROOTS
from tests.support.clients.websocket_subscriber import listening
from tests.support.servers.databases import Redis
from tests.support.servers.processes import run
from tests.support.service import Service, running

if TYPE_CHECKING:
    from pathlib import Path

Statements = Callable[[], AbstractContextManager[list[str]]]

ITEMS = "{ items { totalCount nodes { name inventory version owner { username fullName } } } }"
ITEM = "query ($id: ID!) { item(id: $id) { name inventory owner { username items { totalCount } } } }"
ME = "{ me { username email scopes purchases { totalCount nodes { quantity item { name } } } } }"
USERS = "{ users { totalCount nodes { username isActive scopes } } }"
FILES = "{ files { totalCount nodes { filename owner { username } } } }"
CREATE = 'mutation { createItem(input: {name: "Cup", price: "1"}) { ... on Item { id } } }'
BULK = 'mutation { bulkCreateItems(inputs: [{name: "Cup", price: "1"}, {name: "Mug", price: "1"}]) { ... on BulkCreateItems { created } } }'
UPDATE = 'mutation ($id: ID!) { updateItem(id: $id, input: {name: "Pot"}) { ... on Item { name } } }'
DELETE = "mutation ($id: ID!) { deleteItem(id: $id) { ... on DeletedItem { id } } }"
PURCHASE = "mutation ($id: ID!) { purchaseItem(itemId: $id) { ... on Purchase { id } } }"
SIGNUP = 'mutation { signup(input: {username: "carol", password: "correct horse"}) { ... on User { id } } }'
GRANT = 'mutation { grantScopes(username: "bob", scopes: [AUDIT_READ]) { ... on User { id } } }'
REVOKE = 'mutation { revokeScopes(username: "bob", scopes: [ITEMS_READ]) { ... on User { id } } }'
DEACTIVATE = 'mutation { deactivateUser(username: "bob") { ... on User { id } } }'
ERASE = 'mutation { deleteFile(filename: "old.txt") { ... on DeletedFile { filename } } }'
PERSISTED = orjson.dumps({"persistedQuery": {"version": 1, "sha256Hash": sha256(ITEMS)}}).decode()


class Shop:
    """Ada, who may do everything, and her kettle and file; Bob, who may read."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.token, self.bob, self.item = "", "", ""

    async def open(self) -> None:
        self.token = await self.service.sign_in()
        self.bob = await self.service.sign_in(Scope.ITEMS_READ, username="bob")
        created = await self.service.ask(CREATE.replace("Cup", "Kettle").replace('"1"', '"1", inventory: 5'), token=self.token)
        self.item = created["createItem"]["id"]
        await self.upload("old.txt")

    async def change(self, mutation: str) -> None:
        variables = {"id": self.item} if "$id" in mutation else None
        await self.service.ask(mutation, variables, token=self.token)

    async def upload(self, name: str) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = await self.service.http.post("/api/v2/files/upload", files={"file": (name, b"text")}, headers=headers)
        assert answer.status_code == 201

    async def ask(self, query: str, token: str | None = None) -> Any:
        return await self.service.ask(query, {"id": self.item} if "$id" in query else None, token=token)


@pytest.fixture
async def shop(service: Service) -> Shop:
    shop = Shop(service)
    await shop.open()
    await service.background_done()
    return shop


def lookups(service: Service) -> dict[str, float]:
    observer = service.services.observer
    assert isinstance(observer, Telemetry)
    return {result: observer.metrics.cache.series_for(result)[0] for result in ("hit", "miss", "unknown")}


async def found(service: Service, asked: Awaitable[Any]) -> tuple[Any, list[str]]:
    """The answer, and what look-ups it took."""
    before = lookups(service)
    answer = await asked
    return answer, [result for result, count in lookups(service).items() if count != before[result]]


@pytest.mark.parametrize("query", [ITEMS, ITEM, "{ items { edges { cursor node { id } } pageInfo { hasNextPage } } }", "{ __typename }"])
async def test_are_the_same_for_everybody_if_public_and_take_no_statement(shop: Shop, statements: Statements, query: str) -> None:
    first, look = await found(shop.service, shop.ask(query))
    assert look == ["miss"]
    with statements() as sent:
        for token in (None, shop.token, shop.bob):
            assert await found(shop.service, shop.ask(query, token)) == (first, ["hit"])
    assert sent == []


@pytest.mark.parametrize("query", [ME, USERS, FILES])
async def test_are_each_viewers_own_if_not(shop: Shop, query: str) -> None:
    first, look = await found(shop.service, shop.ask(query, shop.token))
    assert look == ["miss"]
    assert await found(shop.service, shop.ask(query, shop.token)) == (first, ["hit"])
    bobs = (await shop.service.send(query, token=shop.bob)).json()
    assert bobs != {"data": first}
    assert (await shop.service.send(query, token=shop.bob)).json() == bobs
    assert await shop.service.refused(query) == "UNAUTHENTICATED"


async def test_are_not_for_a_token_that_carries_less(shop: Shop) -> None:
    ada = (await shop.ask("{ me { id } }", shop.token))["me"]["id"]
    weaker = shop.service.tokens.issue(required_row_id("User", ada), [Scope.ITEMS_READ])
    await shop.ask(USERS, shop.token)
    assert await shop.service.refused(USERS, token=weaker) == "FORBIDDEN"
    await shop.ask(USERS, shop.token)


async def create_elsewhere(shop: Shop) -> None:
    await shop.service.make_item("Pan")


async def upload(shop: Shop) -> None:
    await shop.upload("new.txt")


# What is asked, as whom (Ada or nobody), and what changes the answer.
WRITES: dict[str, tuple[str, bool, str | Callable[[Shop], Awaitable[None]]]] = {
    "a new item": (ITEMS, False, CREATE),
    "a new item of a program": (ITEMS, False, create_elsewhere),
    "items in bulk": (ITEMS, False, BULK),
    "an update": (ITEM, False, UPDATE),
    "an update of a listed item": (ITEMS, False, UPDATE),
    "a deletion": (ITEM, False, DELETE),
    "a purchase, to the stock": (ITEM, False, PURCHASE),
    "a purchase, to the buyer": (ME, True, PURCHASE),
    "the owner's other items": (ITEM, False, CREATE),
    "a sign-up": (USERS, True, SIGNUP),
    "a scope granted": (USERS, True, GRANT),
    "a scope revoked": (USERS, True, REVOKE),
    "a user shut out": (USERS, True, DEACTIVATE),
    "an upload": (FILES, True, upload),
    "a file's deletion": (FILES, True, ERASE),
}


@pytest.mark.parametrize("name", WRITES)
async def test_are_gone_after(shop: Shop, name: str) -> None:
    query, signed_in, write = WRITES[name]
    token = shop.token if signed_in else None
    before = await shop.ask(query, token)
    assert await found(shop.service, shop.ask(query, token)) == (before, ["hit"])
    await (shop.change(write) if isinstance(write, str) else write(shop))
    after, look = await found(shop.service, shop.ask(query, token))
    assert look == ["miss"]
    assert after != before


async def test_stay_after_a_change_to_something_else(shop: Shop) -> None:
    """On SQLite without Redis every commit makes everything new: the file tells no more."""
    before = await shop.ask(ITEMS)
    await shop.upload("new.txt")
    per_table = shop.service.settings.redis_url is not None
    assert await found(shop.service, shop.ask(ITEMS)) == (before, ["hit" if per_table else "miss"])


async def change_and_fail(shop: Shop) -> None:
    async with shop.service.database.transaction() as work:
        await items.change(work, required_row_id("Item", shop.item), {"name": "Pot"})
        await work.session.flush()
        raise ZeroDivisionError


async def test_stay_after_a_change_that_was_rolled_back(shop: Shop) -> None:
    before = await shop.ask(ITEMS)
    with pytest.raises(ZeroDivisionError):
        await change_and_fail(shop)
    assert await found(shop.service, shop.ask(ITEMS)) == (before, ["hit"])


def _responses(service: Service) -> ResponseCache:
    responses = service.app.state.pipeline._responses
    assert isinstance(responses, ResponseCache)
    return responses


async def test_do_not_survive_a_change_that_came_between_the_read_and_the_keeping(shop: Shop) -> None:
    """The place is asked for before the data is read, so what is kept late goes where nobody looks."""
    service, pipeline = shop.service, shop.service.app.state.pipeline
    stranger, request = Caller(None, "127.0.0.1", "test"), GraphQLRequest(query=ITEMS)
    operation = await pipeline.prepare(request, stranger)
    responses = _responses(service)
    place = await responses.key(operation, None, stranger)
    assert place is not None
    old = await pipeline.run(operation, request, stranger)
    async with service.database.transaction() as work:
        await items.change(work, required_row_id("Item", shop.item), {"name": "Pot"})
        await work.session.flush()
        # Not committed yet: whoever reads now keeps what was before, under versions that end with the commit.
        assert (await service.send(ITEMS)).content == old.body
    await responses.store(place, CachedResponse(old.body, 1))
    assert (await shop.ask(ITEMS))["items"]["nodes"][0]["name"] == "Pot"


async def test_are_whole(shop: Shop) -> None:
    """Neither an error nor a partial answer is kept, nor a mutation, nor what the service does not know all about."""
    for query in ('{ a: items(first: 1) { totalCount } b: items(after: "x") { totalCount } }', "{ items(first: -1) { totalCount } }"):
        assert [(await found(shop.service, shop.service.send(query)))[1] for _ in range(2)] == [["miss"]] * 2
    for query in ("{ health { status } }", f'{{ node(id: "{shop.item}") {{ id }} }}', "{ rateLimit { limit } }", "{ compute(n: 3) }"):
        assert [(await found(shop.service, shop.ask(query)))[1] for _ in range(2)] == [[], []]
    assert (await found(shop.service, shop.change(UPDATE)))[1] == []


async def test_differ_by_what_the_document_means_and_not_by_what_it_ignores(shop: Shop) -> None:
    query = "query A($first: Int) { items(first: $first) { nodes { name } } } query B { items { totalCount } }"

    async def ask(**request: Any) -> list[str]:
        return (await found(shop.service, shop.service.http.post("/graphql", json={"query": query, **request})))[1]

    assert await ask(operationName="A", variables={"first": 1}) == ["miss"]
    assert await ask(operationName="A", variables={"unknown": "x" * 100, "first": 1}) == ["hit"]
    assert await ask(operationName="A", variables={"first": 2}) == ["miss"]
    assert await ask(operationName="A", variables={}) == ["miss"]
    assert await ask(operationName="B") == ["miss"]
    assert await ask(operationName="B", variables={"first": 7}) == ["hit"]


async def test_cost_what_making_them_cost(shop: Shop) -> None:
    twice = ITEMS.rstrip().removesuffix("}") + " again: items { totalCount nodes { id } } }"
    request = {"query": twice, "extensions": {"cost": True}}
    first, again = [(await shop.service.http.post("/graphql", json=request)).json() for _ in range(2)]
    plain = await shop.ask(twice)
    assert first == again
    assert list(first) == ["data", "extensions"]
    assert first["data"] == plain
    assert first["extensions"]["cost"]["actual"] == 10 + 2 + 20 + 10 + 1 + 20


async def test_are_found_through_a_socket_too(shop: Shop) -> None:
    query = "{ items { totalCount nodes { name } } }"
    before = await shop.ask(query)
    async with listening(shop.service, query) as listener:
        assert await found(shop.service, listener.next()) == (before["items"], ["hit"])


@pytest.fixture(scope="module")
async def worlds(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[tuple[World, Service]]:
    """A shop with people, and the same shop seen by a process that keeps nothing."""
    settings = await settings_for("postgresql", tmp_path_factory.mktemp("kept"))
    async with running(settings) as service, running(settings.model_copy(update={"response_cache_enabled": False})) as keeping_nothing:
        world = World(service, FRESH)
        await world.settle()
        yield world, keeping_nothing


# Which login is the present one depends on the token, and not only on the user and the scopes: what shows them is run each time.
NEVER_KEPT = {"logins"}


def whole(type_: Any, depth: int = 4) -> str:
    """Everything that can be asked of a type without arguments; of lists inside lists the count alone."""
    named = cast("Any", get_named_type(type_))
    if not is_composite_type(named):
        return ""
    if depth == 0 or not isinstance(named, GraphQLObjectType):
        return " { __typename }"
    if named.name.endswith("Connection") and depth < 3:
        return " { totalCount }"
    fields = {name: field for name, field in named.fields.items() if name not in NEVER_KEPT}
    return f" {{ {' '.join(f'{name}{whole(field.type, depth - 1)}' for name, field in fields.items())} }}"


async def test_show_nobody_what_is_another_viewers(worlds: tuple[World, Service]) -> None:
    """Every query, everything below it, each viewer in turn and again: as a process answers that keeps nothing."""
    world, keeping_nothing = worlds
    query_type = executable.query_type
    assert query_type is not None
    kept = set[str]()
    for name in ROOTS["Query"].keys() - {"rateLimit", "health"}:
        query = await world.filled(f"{{ value: {ROOTS['Query'][name]}{whole(query_type.fields[name].type)} }}")
        asked: dict[str, Any] = {viewer: {"json": {"query": query}, "headers": world.headers(viewer)} for viewer in VIEWERS}
        expected = {viewer: (await keeping_nothing.http.post("/graphql", **given)).json() for viewer, given in asked.items()}
        hits = lookups(world.service)["hit"]
        for viewer in (*VIEWERS, *reversed(VIEWERS)):
            answer = (await world.service.http.post("/graphql", **asked[viewer])).json()
            assert answer == expected[viewer], (name, viewer)
        if lookups(world.service)["hit"] > hits:
            kept.add(name)
    assert kept == {name for name, field in query_type.fields.items() if field.extensions["strawberry-definition"].metadata.get("cache")}


async def test_are_not_kept_where_that_is_switched_off(worlds: tuple[World, Service]) -> None:
    _, keeping_nothing = worlds
    assert [(await found(keeping_nothing, keeping_nothing.ask(ITEMS)))[1] for _ in range(2)] == [[], []]


async def test_can_be_kept_by_a_browser_that_asks_whether_they_are_still_true(shop: Shop) -> None:
    """GraphQL over HTTP, section "GET"; RFC 9111, section 5.2.2.4: no-cache, as a change is visible to the next who asks."""
    http, url = shop.service.http, {"query": ITEMS, "extensions": PERSISTED}
    first = await http.get("/graphql", params=url)
    assert first.headers["Cache-Control"] == "public, no-cache"
    assert {"Accept", "Authorization"} <= set(first.headers["Vary"].split(", "))
    known = {"If-None-Match": first.headers["ETag"]}
    for params in (url, {"extensions": PERSISTED}):
        again = await http.get("/graphql", params=params, headers=known)
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
        assert again.headers["Cache-Control"] == "public, no-cache"
    await shop.change(UPDATE)
    changed = await http.get("/graphql", params=url, headers=known)
    assert changed.status_code == 200
    assert changed.headers["ETag"] != first.headers["ETag"]


@pytest.mark.parametrize("query", [ME, "{ health { status } }", "{ items(first: -1) { totalCount } }"])
async def test_are_for_no_browser_to_keep_if_personal_unknown_or_refused(shop: Shop, query: str) -> None:
    headers = {"Authorization": f"Bearer {shop.token}"}
    for _ in range(2):
        answer = await shop.service.http.get("/graphql", params={"query": query}, headers=headers)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "private, no-store")
        assert "ETag" not in answer.headers


async def test_may_be_asked_for_by_query_from_the_pages_of_allowed_sites(tmp_path: Path) -> None:
    """RFC 10008: QUERY is no method that a browser sends without asking first."""
    settings = await settings_for("sqlite", tmp_path, allowed_origins="https://shop.example")
    async with running(settings) as service:
        asked = {
            "Origin": "https://shop.example",
            "Access-Control-Request-Method": "QUERY",
            "Access-Control-Request-Headers": "content-type",
        }
        preflight = await service.http.options("/graphql", headers=asked)
        assert (preflight.status_code, preflight.headers["Access-Control-Allow-Methods"]) == (200, "GET, HEAD, POST, QUERY")
        headers = {"Origin": "https://shop.example", "Content-Type": "application/json"}
        answer = await service.http.request("QUERY", "/graphql", json={"query": "{ __typename }"}, headers=headers)
        assert answer.json() == {"data": {"__typename": "Query"}}
        assert answer.headers["Cache-Control"] == "public, no-cache"


async def test_made_by_one_process_are_found_by_another_and_never_outlive_a_change_in_either(tmp_path: Path) -> None:
    settings = await settings_for("postgresql", tmp_path)
    async with running(settings) as here, running(settings) as there:
        shop, elsewhere = Shop(here), Shop(there)
        await shop.open()
        elsewhere.token, elsewhere.item = shop.token, shop.item
        await here.background_done()
        await elsewhere.ask("{ __typename }")  # A process that starts makes everything new.
        first = await shop.ask(ITEM)
        assert await found(there, elsewhere.ask(ITEM)) == (first, ["hit"])
        for number in range(20):
            writer, reader = (shop, elsewhere) if number % 2 else (elsewhere, shop)
            await writer.change(UPDATE.replace("Pot", f"Pot {number}"))
            for each in (reader, writer):
                assert (await each.ask(ITEM))["item"]["name"] == f"Pot {number}"


async def test_do_not_outlive_a_change_whose_process_died_before_it_could_say_so_once_the_change_is_repeated(tmp_path: Path) -> None:
    settings = await settings_for("postgresql", tmp_path)
    update = """mutation ($id: ID!) { updateItem(id: $id, input: {name: "Cup"}, idempotencyKey: "once") { ... on Item { name } } }"""
    name = "query ($id: ID!) { item(id: $id) { name } }"
    async with running(settings) as dying, running(settings) as other:
        token, item = await dying.sign_in(), {"id": await dying.make_item("Pot")}
        assert await other.ask(name, item) == {"item": {"name": "Pot"}}
        dying.database._table_listeners.clear()  # pyright: ignore[reportPrivateUsage] -- as if it died after the commit
        committed = await dying.ask(update, item, token=token)
        assert await other.ask(name, item) == {"item": {"name": "Pot"}}  # Nobody was told of the change yet.
        assert await other.ask(update, item, token=token) == committed
        assert await other.ask(name, item) == {"item": {"name": "Cup"}}


async def test_do_not_outlive_an_import_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("name,price\nCup,1\n")
    settings = await settings_for("postgresql", tmp_path)
    async with running(settings) as service:
        assert (await service.ask(ITEMS))["items"]["totalCount"] == 0
        assert (await found(service, service.ask(ITEMS)))[1] == ["hit"]
        done = await asyncio.to_thread(run, settings, tmp_path, "import", "new.csv")
        assert done.returncode == 0, done.stderr
        assert (await service.ask(ITEMS))["items"]["totalCount"] == 1


async def test_are_not_kept_while_redis_is_away_and_are_true_when_it_is_back(tmp_path: Path) -> None:
    with Redis.own() as server:
        settings = await settings_for("sqlite", tmp_path, redis_url=server.url)
        async with running(settings) as service:
            shop = Shop(service)
            await shop.open()
            await service.background_done()
            await shop.ask(ITEM)
            for cut_off, mend in ((server.pause, server.resume), (server.stop, server.start)):
                cut_off()
                await shop.change(UPDATE.replace("Pot", cut_off.__name__))
                answer, look = await found(service, shop.ask(ITEM))
                assert (answer["item"]["name"], look) == (cut_off.__name__, ["unknown"])
                mend()
                async with asyncio.timeout(30):
                    while (await found(service, shop.ask(ITEM)))[1] != ["hit"]:  # noqa: ASYNC110 -- only asking tells
                        await asyncio.sleep(0.05)
                assert (await shop.ask(ITEM))["item"]["name"] == cut_off.__name__
