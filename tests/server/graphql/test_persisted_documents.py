"""Documents that are known by an identifier: automatic persisted queries and trusted documents."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from graph.kit.auth import Caller
from graph.kit.errors import Refused
from graph.kit.execution import engine
from graph.kit.planner import planner
from graph.server.graphql import persisted_documents
from graph.server.graphql.persisted_documents import BadManifest, DocumentMode, PersistedDocuments, TrustedDocuments, read_manifest, sha256
from graph.server.graphql.requests import GraphQLRequest
from graph.server.settings import BadSettings, load
from persistence.kit.json_rows import statements
from persistence.kit.json_rows.statements import Statements
from tests.conftest import settings_for
from tests.support.service import running

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    import httpx

    from tests.support.service import Service

QUERY = "query Start { __typename }"
HASH = hashlib.sha256(QUERY.encode()).hexdigest()
ANSWER = {"data": {"__typename": "Query"}}
MODERN = {"Accept": "application/graphql-response+json"}
CREATE = 'mutation { createItem(input: { name: "Kettle", price: "1.00" }) { __typename } }'


@pytest.fixture
def service(embedded: Service) -> Service:
    return embedded


def persisted(hash_: str) -> dict[str, Any]:
    return {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": hash_}}}


def code(response: httpx.Response) -> str:
    body = response.json()
    assert list(body) == ["errors"], body
    assert len(body["errors"]) == 1, body
    return body["errors"][0]["extensions"]["code"]


async def test_asks_for_a_document_once_and_then_knows_it(service: Service) -> None:
    """Persisting a Document: "the client issues a follow-up request containing the full GraphQL Document to be persisted"."""
    query = "query Once { __typename }"
    hash_ = sha256(query)
    unknown = await service.http.post("/graphql", json=persisted(hash_), headers=MODERN)
    # "If the server fails to retrieve the document, it MUST respond with a well-formed GraphQL response consisting of a single error."
    assert (unknown.status_code, code(unknown)) == (400, "PERSISTED_QUERY_NOT_FOUND")
    assert unknown.json()["errors"][0]["message"] == "PersistedQueryNotFound"
    assert (await service.http.post("/graphql", json=persisted(hash_))).status_code == 200  # to a client of application/json alone
    assert (await service.http.post("/graphql", json={"query": query, **persisted(hash_)})).json() == ANSWER
    assert (await service.http.post("/graphql", json=persisted(hash_))).json() == ANSWER
    by_get = await service.http.get("/graphql", params={"extensions": json.dumps(persisted(hash_)["extensions"])})
    assert by_get.json() == ANSWER


async def test_takes_a_document_id(service: Service) -> None:
    """SHA256 Hex Document Identifier: "{prefix} is sha256 and {payload} is 64 hexadecimal characters (in lower case)"."""
    await service.http.post("/graphql", json={"query": QUERY, "documentId": f"sha256:{HASH}"})
    assert (await service.http.post("/graphql", json={"documentId": f"sha256:{HASH}"})).json() == ANSWER
    assert (await service.http.get("/graphql", params={"documentId": f"sha256:{HASH}"})).json() == ANSWER


async def test_hashes_as_the_text_does() -> None:
    """SHA256 Hex Document Identifier, Example."""
    expected = "71f7dc5758652baac68e4a10c50be732b741c892ade2883a99358f52b555286b"
    assert sha256("query($id:ID!){user(id:$id){name}}") == expected


async def test_runs_no_mutation_by_get(service: Service) -> None:
    """GET: "the server MUST respond with error status code 405 (Method Not Allowed) and halt execution"."""
    token = await service.sign_in()
    headers = {"Authorization": f"Bearer {token}"}
    hash_ = sha256(CREATE)
    await service.http.post("/graphql", json={"query": CREATE, "operationName": "Other", **persisted(hash_)}, headers=headers)
    response = await service.http.get("/graphql", params={"documentId": f"sha256:{hash_}"}, headers=headers)
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert (await service.ask("{ items { edges { node { id } } } }"))["items"]["edges"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"query": QUERY, **persisted("0" * 64)},
        {"query": QUERY, "documentId": f"sha256:{'0' * 64}"},
        {"documentId": f"sha256:{HASH.upper()}"},
        {"documentId": "sha256:abc"},
        {"documentId": "md5:abc"},
        {"documentId": ""},
        {"documentId": "a b"},
        {"documentId": "x" * 300},
        {"documentId": f"sha256:{HASH}", **persisted("0" * 64)},
        persisted("abc"),
        {"extensions": {"persistedQuery": {"version": 2, "sha256Hash": HASH}}},
        {"extensions": {"persistedQuery": {"sha256Hash": HASH}}},
        {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": 7}}},
        {"extensions": {"persistedQuery": [HASH]}},
    ],
)
async def test_refuses_identifiers_that_are_none(service: Service, body: dict[str, Any]) -> None:
    response = await service.http.post("/graphql", json=body, headers=MODERN)
    assert (response.status_code, code(response)) == (400, "BAD_USER_INPUT")


class Memory:
    """What processes share."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[bytes, float]] = {}

    async def get(self, key: str) -> bytes | None:
        return self.kept[key][0] if key in self.kept else None

    async def put(self, key: str, value: bytes, ttl_seconds: float) -> None:
        self.kept[key] = value, ttl_seconds


STRANGER = Caller(None, "203.0.113.7", "r")


async def test_shares_registered_documents_between_processes() -> None:
    shared = Memory()
    here, there = PersistedDocuments(shared=shared), PersistedDocuments(shared=shared)
    await here.source(GraphQLRequest(query=QUERY, document_id=f"sha256:{HASH}"), STRANGER)
    assert shared.kept == {f"document:{HASH[:3]}": (QUERY.encode(), 7 * 24 * 3600)}
    assert await there.source(GraphQLRequest(document_id=f"sha256:{HASH}"), STRANGER) == QUERY
    shared.kept.clear()
    assert await there.source(GraphQLRequest(document_id=f"sha256:{HASH}"), STRANGER) == QUERY


async def test_takes_nothing_for_a_document_that_has_another_hash() -> None:
    """Its place in what is shared is one of 4,096: others come to it too."""
    shared = Memory()
    there = PersistedDocuments(shared=shared)
    await shared.put(f"document:{HASH[:3]}", b"query Other { __typename }", 60)
    assert not await found(there, QUERY)


async def test_keeps_a_bounded_number_of_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persisted_documents, "TEXTS_BYTES", 1_000)
    kept = PersistedDocuments()
    texts = ["{ a }", "{ b }", "{ c }"]
    for text in texts:
        await kept.source(GraphQLRequest(query=text, document_id=f"sha256:{sha256(text)}"), STRANGER)
        await kept.source(GraphQLRequest(document_id=f"sha256:{sha256('{ a }')}"), STRANGER)
    assert [await found(kept, text) for text in texts] == [True, False, True]
    long = "#" + "é" * 16_384
    await kept.source(GraphQLRequest(query=long, document_id=f"sha256:{sha256(long)}"), STRANGER)
    assert not await found(kept, long)


async def found(kept: PersistedDocuments, text: str) -> bool:
    try:
        return await kept.source(GraphQLRequest(document_id=f"sha256:{sha256(text)}"), STRANGER) == text
    except Refused as refused:
        assert refused.code == "PERSISTED_QUERY_NOT_FOUND"  # noqa: PT017 -- both outcomes are results here
        return False


APOLLO = {
    "format": "apollo-persisted-query-manifest",
    "version": 1,
    "operations": [{"id": HASH, "name": "Start", "type": "query", "body": QUERY}],
}
RELAY = {"2f3b4c": QUERY}


@pytest.mark.parametrize(("content", "identifier"), [(APOLLO, HASH), (RELAY, "2f3b4c")])
async def test_reads_the_manifests_of_apollo_and_relay(tmp_path: Path, content: object, identifier: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(content))
    assert read_manifest(path) == {identifier: QUERY}
    trusting = PersistedDocuments(TrustedDocuments.read(path), mode=DocumentMode.ENFORCE)
    for known in (identifier, f"sha256:{HASH}"):
        assert await trusting.source(GraphQLRequest(document_id=known), STRANGER) == QUERY


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", '{"a": 1}'),
        *(
            f'{{"format": "apollo-persisted-query-manifest", "operations": {operations}}}'
            for operations in ("null", "5", "[null]", '[{"id": "a"}]')
        ),
    ],
)
async def test_does_not_start_with_a_manifest_it_cannot_read(tmp_path: Path, content: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(BadManifest):
        read_manifest(path)
    with pytest.raises(BadSettings, match="DOCUMENTS_MANIFEST"):
        load(debug=True, documents_manifest=path)


@pytest.fixture(scope="module")
async def trusting(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Service]:
    folder = tmp_path_factory.mktemp("trusting")
    (folder / "manifest.json").write_text(json.dumps(APOLLO))
    settings = await settings_for(
        "sqlite",
        folder,
        documents_manifest=folder / "manifest.json",
        documents_mode="enforce",
        documents_mode_by_client="new=shadow,old=off",
    )
    async with running(settings) as service:
        yield service


def by(client: str | None) -> dict[str, str]:
    return MODERN | ({"apollographql-client-name": client} if client else {})


@pytest.mark.parametrize("client", [None, "web", "new", "old"])
async def test_runs_the_manifests_documents_for_everybody(trusting: Service, client: str | None) -> None:
    for body in (
        {"query": QUERY},
        {"documentId": HASH},
        {"documentId": f"sha256:{HASH}"},
        persisted(HASH),
        {"query": QUERY, **persisted(HASH)},
    ):
        assert (await trusting.http.post("/graphql", json=body, headers=by(client))).json() == ANSWER


@pytest.mark.parametrize("client", [None, "web"])
async def test_runs_nothing_else_where_the_list_is_enforced(trusting: Service, client: str | None) -> None:
    strange = "{ __typename }"
    response = await trusting.http.post("/graphql", json={"query": strange}, headers=by(client))
    assert (response.status_code, code(response)) == (403, "FORBIDDEN")
    registering = await trusting.http.post("/graphql", json={"query": strange, **persisted(sha256(strange))}, headers=by(client))
    assert (registering.status_code, code(registering)) == (403, "FORBIDDEN")
    asking = await trusting.http.post("/graphql", json=persisted(sha256(strange)), headers=by(client))
    assert (asking.status_code, code(asking)) == (400, "PERSISTED_QUERY_NOT_FOUND")


async def test_does_not_let_one_client_register_for_another(trusting: Service) -> None:
    """A list that anybody can add to is no list."""
    query = "query Registered { __typename }"
    assert (await trusting.http.post("/graphql", json={"query": query, **persisted(sha256(query))}, headers=by("old"))).json() == ANSWER
    assert (await trusting.http.post("/graphql", json=persisted(sha256(query)), headers=by("old"))).json() == ANSWER
    refused = await trusting.http.post("/graphql", json=persisted(sha256(query)), headers=by("web"))
    assert code(refused) == "PERSISTED_QUERY_NOT_FOUND"


async def test_logs_a_strange_document_once_in_shadow_mode(trusting: Service) -> None:
    query = "query Shadowed { __typename }"
    with capture_logs() as logs:
        for _ in range(2):
            assert (await trusting.http.post("/graphql", json={"query": query}, headers=by("new"))).json() == ANSWER
        assert (await trusting.http.post("/graphql", json={"query": QUERY}, headers=by("new"))).json() == ANSWER
    told = [entry for entry in logs if entry["event"] == "unknown document"]
    assert [(entry["sha256"], entry["client"], entry["mode"]) for entry in told] == [(sha256(query), "new", "shadow")]


LISTED = """query Sellers($first: Int!, $cursor: String, $search: String, $id: ID!, $mine: Boolean!) {
  items(first: $first, after: $cursor, search: $search) { totalCount nodes { name owner @include(if: $mine) { items(first: 2) { totalCount nodes { name } } } } }
  node(id: $id) { id ... on Item { price } ... on User { username } }
}"""


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_compiles_nothing_for_the_first_request_of_a_document_of_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"a": LISTED}))
    async with running(await settings_for(backend, tmp_path, documents_manifest=tmp_path / "manifest.json")) as service:
        created = await service.ask(CREATE.replace("__typename", "... on Item { id }"), token=await service.sign_in())
        compiled = list[str]()
        for place, name in ((engine, "parsed"), (planner, "PlanBuilder"), (statements, "prepare"), (Statements, "aggregated")):
            monkeypatch.setattr(place, name, counting(compiled, name, getattr(place, name)))
        variables = {"first": 5, "search": None, "cursor": None, "id": created["createItem"]["id"], "mine": True}
        answer = await service.ask(LISTED, variables)
        [shown] = answer["items"]["nodes"]
        assert (shown["owner"]["items"], answer["node"]["price"]) == ({"totalCount": 1, "nodes": [{"name": "Kettle"}]}, "1.00")
        assert compiled == []
        await service.ask(LISTED.replace("{ name }", "{ tags }"), variables)
        assert {"parsed", "PlanBuilder", "aggregated"} <= set(compiled)


def counting(calls: list[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        return function(*arguments, **named)

    return counted


async def test_plans_the_documents_of_the_manifest_at_start(tmp_path: Path) -> None:
    known, strange = "query ($yes: Boolean!) { items { nodes { name @include(if: $yes) } } }", "{ nothing }"
    (tmp_path / "manifest.json").write_text(json.dumps({"a": known, "b": strange}))
    async with running(await settings_for("sqlite", tmp_path, documents_manifest=tmp_path / "manifest.json")) as service:
        kept = service.app.state.pipeline._engine
        assert (kept.knows(known, None), kept.knows(strange, None)) == (True, False)
        [plans] = kept.prepare(known, None).plans
        assert {key.conditions for key in plans.by_key} == {(True,), (False,)}
