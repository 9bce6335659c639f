"""On its way through the service a request is asked once …"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from graph.server.asgi import request_headers
from persistence.kit.query import search

if TYPE_CHECKING:
    from tests.support.service import Service

NAMES = "query ($search: String) { items(search: $search, first: 3) { nodes { name } } }"


@pytest.fixture
def calls(service: Service, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each of the parts that look at a request did so."""
    counts = Counter[str]()

    def count(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    versions: Any = service.app.state.pipeline._responses._versions
    for owner, name in ((request_headers, "read_headers"), (service.tokens, "principal"), (versions, "of"), (search, "_parted")):
        count(owner, name)
    search.query_parts.cache_clear()
    return counts


async def test_who_it_comes_from_and_what_its_tables_versions_are(service: Service, calls: Counter[str]) -> None:
    """Also when its response was cached, and is no longer true."""
    token = await service.sign_in()
    for number in range(3):
        await service.make_item(f"Kettle {number}")
        calls.clear()
        answer = await service.ask(NAMES, token=token)
        assert len(answer["items"]["nodes"]) == number + 1
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
