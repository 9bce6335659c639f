"""On its way through the service a request is asked once …"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from graph.server.asgi import request_headers
from persistence.items.table import Item
from persistence.kit.idempotency import Attempt
from persistence.kit.query.entity_list import EntityList
from persistence.kit.query.paging import PageArguments
from persistence.kit.search import tokenizer

if TYPE_CHECKING:
    from tests.support.service import Service

FACETED = """query ($search: String, $tag: String!) {
  items(search: $search, filter: { tagsAny: [$tag], inStock: true }, first: 3) {
    totalCount didYouMean matching edges { highlights { field start } node { name } }
    facets { tags { tag count } price { min } stock { inStock } precision }
  }
}"""
CREATE = 'mutation ($key: String) { createItem(input: { name: "Pot", price: "1.00" }, idempotencyKey: $key) { ... on Item { name } } }'
NAMES = "query ($search: String) { items(search: $search, first: 3) { nodes { name } } }"


@pytest.fixture
def calls(service: Service, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each of the parts that look at a request did so."""
    counts = Counter[str]()

    def count(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            counts[f"{owner.__name__}.{name}" if isinstance(owner, type) else name] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    versions: Any = service.app.state.pipeline._responses._versions
    count(request_headers, "read_headers")
    count(service.tokens, "principal")
    count(versions, "of")
    count(tokenizer, "_parted")
    count(EntityList, "_check")
    count(PageArguments, "_check")
    count(Attempt, "earlier")
    tokenizer.query_parts.cache_clear()
    return counts


async def test_who_it_comes_from_and_what_its_tables_versions_are(service: Service, calls: Counter[str]) -> None:
    """Also when its response was cached, and is no longer true."""
    token = await service.sign_in()
    for number in range(3):
        await service.make_item(f"Kettle {number}")
        calls.clear()
        answer = await service.ask(NAMES, token=token)
        assert len(answer["items"]["nodes"]) == number + 1
        assert calls.pop("PageArguments._check", 0) <= 1, "a plan keeps the page of its constants"
        assert calls == {"read_headers": 1, "principal": 1, "of": 1}
    calls.clear()
    await service.ask(NAMES, token=token)
    assert calls == {"read_headers": 1, "principal": 1, "of": 1}, "a hit"


@pytest.mark.parametrize("headers", [{"Origin": "http://localhost"}, {"X-Request-ID": "1"}, {"Accept-Encoding": "gzip"}])
async def test_what_its_header_says(service: Service, calls: Counter[str], headers: dict[str, str]) -> None:
    for method, path in (("POST", "/graphql"), ("GET", "/graphql"), ("GET", "/"), ("GET", "/nowhere"), ("GET", "/api/v2/files/list")):
        calls.clear()
        await service.http.request(method, path, headers=headers)
        assert calls["read_headers"] == 1, (method, path)


async def test_what_words_it_searches(service: Service, calls: Counter[str]) -> None:
    await service.make_item("Grüner Wasserkessel")
    calls.clear()
    for number, words in enumerate(("wasser gruner", "grün"), start=1):
        answer = await service.ask(NAMES, {"search": words})
        assert answer["items"]["nodes"] == [{"name": "Grüner Wasserkessel"}]
        assert calls["_parted"] == number, "near words, which are other texts, are tried only when nothing is found"


@pytest.mark.parametrize("planned", [True, False])
async def test_what_a_search_with_facets_filters_by(
    service: Service, calls: Counter[str], monkeypatch: pytest.MonkeyPatch, planned: bool
) -> None:
    """Each facet is counted by a filter of its own, made of the one that was checked."""
    await service.make_item("Grüner Wasserkessel", inventory=1)
    async with service.database.transaction() as work:
        await work.session.execute(update(Item).values(tags=["blue"]))
    if not planned:
        monkeypatch.setattr(service.app.state.pipeline, "_planner", None)
    calls.clear()
    answer = (await service.ask(FACETED, {"search": "wasser gruner", "tag": "blue"}))["items"]
    assert (answer["totalCount"], answer["facets"]["tags"]) == (1, [{"tag": "blue", "count": 1}])
    # Each facet is cached by itself, under the versions that it asks for; through Redis, those of one turn share a look.
    assert calls == {"read_headers": 1, "of": 1 + 4, "EntityList._check": 1, "PageArguments._check": 1, "_parted": 1}


async def test_whether_a_mutation_was_made_before(service: Service, calls: Counter[str]) -> None:
    """And a repeat as often as the first attempt."""
    token = await service.sign_in()
    for _ in range(2):
        calls.clear()
        assert await service.ask(CREATE, {"key": "a"}, token=token) == {"createItem": {"name": "Pot"}}
        del calls["_parted"]  # Of the texts that are indexed.
        assert calls == {"read_headers": 1, "principal": 1, "Attempt.earlier": 1}
    assert await service.count("items") == [1]
