"""An empty selection, which the September 2026 edition allows anywhere, selects nothing: on every transport, of every field."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from graph.kit.auth import Scope
from tests.support.clients.websocket_subscriber import listening

if TYPE_CHECKING:
    from tests.support.service import Service

NOTHING = [
    "{}",
    "{ }",
    "{,,#nothing\n}",
    "query{}",
    "query Named {}",
    '"described" query {}',
    '"""described""" query Named {}',
    "{ ... {} }",
    "{ ... on Query {} }",
    "{ ... @include(if: true) {} }",
    "{ ...F } fragment F on Query {}",
    "{ ...F ...F } fragment F on Query { ...G ...G ... { ...G } } fragment G on Query {}",
]
SOMETHING: dict[str, Any] = {
    "{ items {} }": {"items": {}},
    "{ items { nodes {} edges {} pageInfo {} } }": {"items": {"nodes": [{}], "edges": [{}], "pageInfo": {}}},
    "{ items { edges { node {} } totalCount } }": {"items": {"edges": [{"node": {}}], "totalCount": 1}},
    '{ item(id: "SXRlbTox") { owner {} } }': {"item": None},
    "{ ... {} me {} }": {"me": {}},
    "{ ...F me { ...U username } } fragment F on Query {} fragment U on User {}": {"me": {"username": "ada"}},
    "{ users { nodes { items {} purchases { nodes {} } } } }": {"users": {"nodes": [{"items": {}, "purchases": {"nodes": []}}]}},
    "{ node(id: $me) {} nodes(ids: [$me]) { ... on User {} } }": {"node": {}, "nodes": [{}]},
    "{ health {} rateLimit {} parkedJobs {} auditLog { nodes {} } files { nodes {} } }": {
        "health": {},
        "rateLimit": {},
        "parkedJobs": [],
        "auditLog": {"nodes": []},
        "files": {"nodes": []},
    },
    "{ __schema { queryType {} } }": {"__schema": {"queryType": {}}},
    "{ items @skip(if: true) {} }": {},
    "mutation {}": {},
    "mutation { ... {} }": {},
    'mutation { sendEcho(channel: "a", message: "b") {} }': {"sendEcho": {}},
    'mutation { signup(input: {username: "a", password: "b"}) {} }': {"signup": {}},
}


@pytest.mark.parametrize(("document", "data"), [*((document, {}) for document in NOTHING), *SOMETHING.items()])
async def test_select_nothing_on_every_transport(service: Service, document: str, data: dict[str, Any]) -> None:
    token = await service.sign_in(*Scope)
    await service.make_item()
    headers = {"Authorization": f"Bearer {token}"}
    if "$me" in document:
        me = (await service.ask("{ me { id } }", token=token))["me"]["id"]
        document = document.replace("$me", json.dumps(me))
    for accepted in ("application/json", "application/graphql-response+json"):
        answer = await service.http.post("/graphql", json={"query": document}, headers=headers | {"Accept": accepted})
        assert (answer.status_code, answer.json()) == (200, {"data": data})
        if not document.startswith("mutation"):
            answer = await service.http.get("/graphql", params={"query": document}, headers=headers | {"Accept": accepted})
            assert (answer.status_code, answer.json()) == (200, {"data": data})
    answer = await service.http.post("/graphql", json={"query": document}, headers=headers | {"Accept": "text/event-stream"})
    assert [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")] == [{"data": data}]
    async with listening(service, document, token=token) as listener:
        assert await listener.payload() == {"data": data}
        await listener.completed()


async def test_of_an_event_select_nothing(service: Service) -> None:
    document = 'subscription { ... {} ... on Subscription { echo(channel: "a", message: "b") {} } }'
    async with listening(service, document) as listener:
        assert await listener.payload() == {"data": {"echo": {}}}
    async with service.http.stream("POST", "/graphql", json={"query": document}, headers={"Accept": "text/event-stream"}) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                assert json.loads(line.removeprefix("data: ")) == {"data": {"echo": {}}}
                break


@pytest.mark.parametrize("document", ["subscription {}", "subscription { ...F } fragment F on Subscription {}"])
async def test_are_refused_where_one_field_is_demanded(embedded: Service, document: str) -> None:
    answer = await embedded.http.post("/graphql", json={"query": document}, headers={"Accept": "application/graphql-response+json"})
    assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (400, "GRAPHQL_VALIDATION_FAILED")
    async with listening(embedded, document) as listener:
        assert await listener.refusal() == "GRAPHQL_VALIDATION_FAILED"


async def test_are_named_so_in_metrics(embedded: Service) -> None:
    await embedded.ask("{}")
    assert 'graphql_operation_name="{}",graphql_operation_type="query"' in (await embedded.http.get("/metrics")).text
