"""A caller's limits…"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed

from graph.budget import BudgetMeter
from graph.kit.auth import Scope
from graph.server.graphql import http
from graph.server.graphql.budget import HELD_SECONDS
from graph.server.settings import BadSettings, load
from persistence.kit.column_types import utc_now
from tests.support.budgets import (
    ADDRESS,
    COUNT,
    CREATE,
    ITEMS,
    SPAN,
    cost,
    keep,
    known,
    left,
    policy,
    remaining,
    restored,
    with_redis,
)
from tests.support.service import SECRET, Service, running

# The budget


async def test_are_told_in_the_headers_of_each_response(limited: Service):
    await known(limited, COUNT)
    response = await limited.send(COUNT)
    # 10 for the root field and 20 for the count, which found nothing.
    assert policy(response.headers) == (f'"points";q=1000;w={SPAN}', '"points";r=950;t=50000')
    assert "retry-after" not in response.headers


async def test_charge_for_what_is_asked_and_give_back_what_was_not_there(limited: Service):
    owner = await limited.sign_in()
    await limited.ask(CREATE, token=owner)
    await known(limited, ITEMS)
    response = await limited.http.post("/graphql", json={"query": ITEMS, "variables": {"first": 50}, "extensions": {"cost": True}})
    answer = response.json()
    assert cost(answer) == (10 + 50 * 2, 50)  # What was there comes to 12; no operation costs less than 50.
    assert answer["extensions"]["cost"]["budget"] == {
        "limit": 1_000,
        "remaining": 950,
        "restoreRate": 0.001,
        "resetAt": answer["extensions"]["cost"]["budget"]["resetAt"],
    }
    assert policy(response.headers)[1] == '"points";r=950;t=50000'


async def test_agree_in_the_header_the_extension_and_the_query(limited: Service):
    document = "{ rateLimit { limit remaining restoreRate resetAt maxCost enabled cost } }"
    await known(limited, document)
    response = await limited.http.post("/graphql", json={"query": document, "extensions": {"cost": True}})
    answer = response.json()
    figures, budget = answer["data"]["rateLimit"], answer["extensions"]["cost"]["budget"]
    assert figures["remaining"] == budget["remaining"] == 950
    assert figures["limit"] == budget["limit"] == 1_000
    assert figures["restoreRate"] == budget["restoreRate"] == 0.001
    assert (figures["maxCost"], figures["enabled"], figures["cost"]) == (400, True, None)
    assert policy(response.headers)[1] == '"points";r=950;t=50000'
    for told in (figures["resetAt"], budget["resetAt"]):
        assert abs(datetime.fromisoformat(told) - utc_now() - timedelta(seconds=50_000)) < timedelta(seconds=5)


async def test_refuse_what_the_budget_does_not_hold_and_change_nothing(limited: Service):
    user = await limited.make_user()
    token = limited.tokens.issue(user.id, tuple(Scope))
    await known(limited, CREATE, COUNT, token=token)
    await limited.services.ports[BudgetMeter]._quota.charge(f"user:{user.id}", 995)
    response = await limited.send(CREATE, token=token)
    [error] = response.json()["errors"]
    assert response.status_code == 429
    assert error["message"] == "This takes 50 points of your budget, which holds 5 now: try again in 45000 s."
    assert error["extensions"]["code"] == "RATE_LIMITED"
    assert (error["extensions"]["retryAfter"], error["extensions"]["requested"]) == (45_000, 50)
    assert error["extensions"]["budget"]["remaining"] == 5
    assert response.headers["retry-after"] == "45000"
    assert policy(response.headers)[1] == '"points";r=5;t=45000'
    assert "data" not in response.json()
    # Only the one that `known` made.
    assert (await limited.ask(COUNT))["items"]["totalCount"] == 1


async def test_are_each_users_own_and_else_the_addresss(limited: Service):
    ada, bob = await limited.sign_in(), await limited.sign_in(username="bob")
    await known(limited, COUNT, "{ rateLimit { remaining } }")
    await limited.ask(COUNT, token=ada)
    assert await remaining(limited, token=ada) == 1_000 - 50 - 50
    assert await remaining(limited, token=bob) == 950
    assert await remaining(limited) == 950


async def test_cannot_be_overdrawn_by_requests_at_the_same_time(limited: Service):
    await known(limited, ITEMS)
    responses = await asyncio.gather(*(limited.send(ITEMS, {"first": 100}) for _ in range(8)))
    # 210 points each: at most four of them fit side by side, and each gives 200 back when it is done.
    assert {response.status_code for response in responses} <= {200, 429}
    assert await remaining(limited) <= 1_000 - sum(response.status_code == 200 for response in responses)


async def test_give_back_all_but_the_least_when_the_variables_do_not_fit(limited: Service):
    await known(limited, ITEMS)
    response = await limited.send(ITEMS, {"first": "many"})
    assert response.json()["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert policy(response.headers)[1] == '"points";r=950;t=50000'


async def test_charge_the_least_for_whatever_is_asked(limited: Service):
    await known(limited, "{ __typename }")
    assert policy((await limited.send("{ __typename }")).headers)[1] == '"points";r=950;t=50000'


async def test_charge_for_reading_a_document_that_is_new_also_when_it_is_refused(limited: Service):
    document = "{ nothing" + " " * 191 + "}"
    for spent in (401, 802):
        response = await limited.send(document)
        assert response.json()["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
        meter = limited.services.ports[BudgetMeter]
        level = await meter._quota.charge("ip:127.0.0.1", 0)
        assert level.remaining == 1_000 - spent


@pytest.mark.parametrize(
    "refused",
    [
        {"method": "DELETE"},
        {"method": "POST", "content": "{}", "headers": {"Content-Type": "text/plain"}},
        {"method": "POST", "content": "{}", "headers": {"Content-Type": "application/json", "Content-Encoding": "gzip"}},
        {"method": "POST", "content": "{", "headers": {"Content-Type": "application/json"}},
        {"method": "POST", "json": {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}}},
        {"method": "GET", "params": {"query": "{ __typename }", "variables": "{"}},
        {"method": "GET", "headers": {"Accept": "text/csv"}, "params": {"query": "{ __typename }"}},
        {"method": "GET", "params": {"query": "mutation { __typename }"}},
    ],
)
async def test_charge_for_what_becomes_no_operation(limited: Service, monkeypatch: pytest.MonkeyPatch, refused: dict[str, Any]):
    held = list[float]()

    async def hold(seconds: float) -> None:
        held.append(seconds)

    monkeypatch.setattr(http, "asyncio", SimpleNamespace(sleep=hold))
    await known(limited, "mutation { __typename }")
    answers = [await limited.http.request(url="/graphql", **refused) for _ in range(51)]
    assert [answer.status_code == 429 for answer in answers] == [False] * 50 + [True]
    assert answers[-1].json()["errors"][0]["extensions"]["code"] == "RATE_LIMITED"
    assert held == ([] if "json" in refused else [HELD_SECONDS])  # GraphQL's own refusals come at once, as those of operations do.


@with_redis
async def test_are_shared_by_processes_that_share_a_redis(limited: Service):
    await known(limited, "{ __typename }")
    async with running(limited.settings) as other:
        await known(other, "{ __typename }")
        assert policy((await limited.send("{ __typename }")).headers)[1] == '"points";r=950;t=50000'
        assert left(await other.send("{ __typename }")) == "r=900"


@with_redis
async def test_are_local_while_redis_is_away(limited: Service):
    nowhere = limited.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    async with running(nowhere) as service:
        # 112 for reading 24 characters for the first time.
        assert left(await service.send(COUNT)) == "r=726"
        assert left(await service.send(COUNT)) == "r=676"
        assert service.services.ports[BudgetMeter]._quota.breaker.failures == 1


async def test_pay_for_rest_routes_from_the_same_budget(limited: Service):
    user = await limited.make_user()
    bearer = {"Authorization": f"Bearer {limited.tokens.issue(user.id, tuple(Scope))}"}
    response = await limited.http.get("/api/v2/files/list", headers=bearer)
    assert (response.status_code, left(response)) == (200, "r=980")
    await limited.services.ports[BudgetMeter]._quota.charge(f"user:{user.id}", 975)
    response = await limited.http.get("/api/v2/files/list", headers=bearer)
    assert (response.status_code, left(response), response.headers["retry-after"]) == (429, "r=5", "15000")
    assert response.json()["error"]["code"] == "RATE_LIMITED"


# The price of one operation


async def test_refuse_an_operation_that_costs_too_much_whatever_the_budget_holds(limited: Service):
    document = (
        "query ($n: Int) { node(id: 1) { id }\n items(first: $n) { nodes { owner { username } } edges { node { owner { username } } } } }"
    )
    await known(limited, document)
    response = await limited.send(document, {"n": 100})
    [error] = response.json()["errors"]
    requested = 20 + 10 + 100 * (1 + 1) + 100 * (1 + 1)
    assert response.status_code == 400
    assert error["message"] == f"The operation costs {requested} points, most of them here; at most 400 are allowed."
    assert error["extensions"] == {"code": "COST_EXCEEDED", "requested": requested, "maximum": 400}
    assert error["locations"] == [{"line": 2, "column": 2}]
    assert await remaining(limited) > 900
    assert "errors" not in (await limited.send(document, {"n": 2})).json()


async def test_price_a_document_without_running_it(limited: Service):
    token = await limited.sign_in()
    ask = "query ($d: String!, $v: JSON, $o: String) { rateLimit(document: $d, variables: $v, operationName: $o) { cost } }"

    async def price(document: str, variables: dict[str, Any] | None = None, name: str | None = None) -> Any:
        await restored(limited)
        answer = (await limited.send(ask, {"d": document, "v": variables, "o": name}, token=token)).json()
        return answer["errors"][0]["extensions"]["code"] if "errors" in answer else answer["data"]["rateLimit"]["cost"]

    assert await price(ITEMS) == 10 + 20 * 2
    assert await price(ITEMS, {"first": 100}) == 10 + 100 * 2
    assert await price(CREATE) == 50
    assert await price("query A { __typename } query B { items(first: 3) { nodes { id } } }", name="B") == 50
    searched = "query ($s: String, $f: ItemFilter) { items(search: $s, filter: $f, first: 1) { nodes { id } } }"
    in_part = "query ($min: Decimal) { items(filter: {priceMin: $min, inStock: true}, first: 1) { nodes { id } } }"
    for words, points in {"kettle": 700, "kettle 3 l": 3_700, "tv": 950, "日": 2_200, "a" * 300: 700, "": 700, None: 0}.items():
        assert await price(searched, {"s": words}) == max(50, 10 + 1 + points), words
    for conditions, points in (
        ({}, 0),
        ({"inStock": True}, 400),
        ({"priceMin": "1", "priceMax": None}, 400),
        ({"tagsAny": ["a"] * 20}, 1_350),
    ):
        assert await price(searched, {"f": conditions}) == max(50, 10 + 1 + points), conditions
    assert await price(in_part, {"min": "1"}) == 10 + 1 + 800
    assert (
        await price('{ items(search: "a b", filter: {tagsAll: ["x", "y"]}, orderBy: {field: NAME}) { nodes { id } } }')
        == 30 + 3_700 + 450 + 20
    )
    assert await price("{ me { logins { id } } }") == 10 + 400 + 20
    await restored(limited)
    assert await price("query A { __typename } query B { __typename }") == "BAD_USER_INPUT"
    assert await price("{ nothing }") == "GRAPHQL_VALIDATION_FAILED"
    assert await price("{") == "GRAPHQL_PARSE_FAILED"
    await restored(limited)
    assert (await limited.ask(COUNT))["items"]["totalCount"] == 0


async def test_let_a_bulk_of_10_000_rows_through_by_default():
    settings = load(debug=False, secret_key=SECRET)
    assert settings.budget.capacity >= settings.max_cost >= 50 + 10_000


# Documents, on every transport


DEEP = "{ items { nodes { owner { " + "items { nodes { owner { " * 5 + "id" + " } } }" * 5 + " } } } }"
TOO_DEEP = "The operation is nested 19 fields deep, fragments included; at most 15 are allowed."


async def test_hold_for_documents_over_http(limited: Service):
    for response in (await limited.send(DEEP), await limited.http.get("/graphql", params={"query": DEEP})):
        assert response.json()["errors"][0]["message"] == TOO_DEEP
        assert response.json()["errors"][0]["locations"] == [{"line": 1, "column": 3 + 5 * len("items { nodes { owner { ")}]


async def test_hold_for_documents_over_sockets_which_stay_open(limited: Service):
    async with open_socket(limited.socket_url, subprotocols=["graphql-transport-ws"]) as socket:  # pyright: ignore[reportArgumentType]
        await socket.send(json.dumps({"type": "connection_init"}))
        await socket.recv()
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": DEEP}}))
        refused = json.loads(await socket.recv())
        assert (refused["type"], refused["payload"][0]["message"]) == ("error", TOO_DEEP)
        await socket.send(json.dumps({"id": "2", "type": "subscribe", "payload": {"query": COUNT, "extensions": {"cost": True}}}))
        answered = json.loads(await socket.recv())
        assert cost(answered["payload"]) == (130, 50)
    # One budget for all transports: what the socket spent is gone here too.
    assert answered["payload"]["extensions"]["cost"]["budget"]["remaining"] > await remaining(limited)


async def test_hold_for_documents_over_event_streams(limited: Service):
    response = await limited.http.post("/graphql", json={"query": DEEP}, headers={"Accept": "text/event-stream"})
    assert TOO_DEEP in response.text


async def test_hold_for_documents_where_budgets_are_switched_off(service: Service):
    assert (await service.send(DEEP)).json()["errors"][0]["message"] == TOO_DEEP
    response = await service.send(COUNT)
    assert "ratelimit" not in response.headers
    asked = await service.http.post("/graphql", json={"query": COUNT, "extensions": {"cost": True}})
    assert asked.json()["extensions"]["cost"] == {"requested": 130, "actual": 50, "budget": None}
    assert (await service.ask("{ rateLimit { enabled } }")) == {"rateLimit": {"enabled": False}}


async def test_charge_an_address_for_tokens_that_are_refused_and_let_good_ones_in(limited: Service):
    token = await limited.sign_in()
    await known(limited, COUNT)
    assert (await limited.send(COUNT, token="nonsense")).status_code == 401
    assert (await limited.services.ports[BudgetMeter]._quota.charge(ADDRESS, 0)).remaining == 1_000 - 20
    await keep(limited, 19)
    assert (await limited.send(COUNT, token="nonsense")).status_code == 429
    assert (await limited.send(COUNT, token=token)).status_code == 200


async def test_charge_for_messages_and_bound_pings_on_sockets(limited: Service):
    async def closed(*messages: dict[str, Any]) -> int:
        async with open_socket(limited.socket_url, subprotocols=["graphql-transport-ws"], max_size=None) as socket:  # pyright: ignore[reportArgumentType]
            for message in messages:
                await socket.send(json.dumps(message))
            with suppress(ConnectionClosed):
                async for _ in socket:
                    pass
        assert socket.close_code is not None
        return socket.close_code

    init = {"type": "connection_init"}
    assert await closed(init, {"type": "ping", "payload": {"x": "x" * 8_192}}) == 1009
    assert await closed(init, {"type": "pong", "payload": {"x": "x" * 65_536}}) == 1009
    await keep(limited, 9)
    assert await closed(init, {"type": "pong", "payload": {"x": "x" * 8_000}}) == 1013


# Where a caller is


async def test_count_by_the_clients_address_behind_a_trusted_proxy(limited: Service):
    behind = limited.settings.model_copy(update={"trusted_proxies": ("127.0.0.0/8",)})
    async with running(behind) as service:
        await known(service, "{ __typename }")

        async def seen(headers: dict[str, str]) -> str:
            return left(await service.http.post("/graphql", json={"query": "{ __typename }"}, headers=headers))

        assert await seen({"X-Forwarded-For": "203.0.113.1"}) == "r=950"
        assert await seen({"X-Forwarded-For": "203.0.113.1, 203.0.113.2"}) == "r=950"
        assert await seen({"X-Forwarded-For": "198.51.100.7, 203.0.113.1"}) == "r=900"
        assert await seen({"Forwarded": 'for="[2001:db8::1]:4711"'}) == "r=950"
        assert await seen({"Forwarded": 'for="[2001:db8::2]"'}) == "r=900"


async def test_do_not_believe_an_untrusted_client_about_its_address(limited: Service):
    await known(limited, "{ __typename }")
    for number, figure in ((1, "r=950"), (2, "r=900")):
        response = await limited.http.post("/graphql", json={"query": "{ __typename }"}, headers={"X-Forwarded-For": f"203.0.113.{number}"})
        assert left(response) == figure


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("trusted_proxies", "proxy.internal", "TRUSTED_PROXIES"),
        ("budget_points", 100, "MAX_COST is above BUDGET_POINTS"),
        ("max_cost", 0, "MAX_COST"),
        *(("drain_seconds", text, "DRAIN_SECONDS: Input should be a finite number") for text in ("inf", "nan", "Infinity")),
    ],
)
def test_stop_the_start_when_they_make_no_sense(setting: str, value: Any, message: str):
    with pytest.raises(BadSettings, match=message):
        load(debug=True, secret_key=SECRET, **{setting: value})
