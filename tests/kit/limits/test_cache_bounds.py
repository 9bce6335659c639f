"""What a caller can make the service keep stays within the bytes that each cache states, and what was used least recently goes first."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import orjson
import pytest

from graph import echo
from graph.items.events import ITEM_EVENTS, ItemUpdated
from graph.kit.auth import Caller, Scope
from graph.kit.context import Context
from graph.kit.execution import engine as execution
from graph.kit.execution import shared_execution
from graph.kit.execution.engine import Engine
from graph.kit.execution.shared_execution import EventResult, SharedExecutions
from graph.kit.instrumentation import ObservedOperation, Phase, PlanOutcome
from graph.kit.operations import events
from graph.schema import executable
from graph.server.auth import tokens
from graph.server.auth.tokens import Tokens
from graph.server.graphql import persisted_documents, requests, response_replay
from graph.server.graphql.http import ReplayHint
from graph.server.graphql.persisted_documents import PersistedDocuments, sha256
from graph.server.graphql.requests import GraphQLRequest, RecentRequests
from graph.server.graphql.response_cache import CachedResponse
from graph.server.graphql.response_replay import ReplayEntry, ResponseReplay
from graph.server.telemetry import metric_values
from graph.server.telemetry.metrics import Metrics
from persistence.kit.cache.store import MemoryCache
from persistence.kit.column_types import utc_now
from persistence.kit.limits import moving_window, token_bucket
from persistence.kit.limits.moving_window import LocalMovingWindow
from persistence.kit.limits.token_bucket import Budget, LocalTokenBucket
from persistence.kit.lru_cache import LruCache, retained_bytes

heard: Any = echo  # So that tests may look at what is private there.
told: Any = ITEM_EVENTS

ANONYMOUS = Caller(None, client_ip="", request_id="")
WIDE = "\U0001f600"  # Takes four bytes in every string that has one.


class Untold:
    """An observer that nobody asks."""

    def phase(self, phase: Phase, operation: ObservedOperation | None = None) -> AbstractContextManager[object]:
        return nullcontext()

    def batch(self, loader: str, keys: int) -> AbstractContextManager[object]:
        return nullcontext()

    def plan(self, outcome: PlanOutcome) -> None:
        pass


class Silent:
    """A database of which tokens hear nothing."""

    def listen(self, listener: object) -> None:
        pass


def engine() -> Any:
    return Engine(executable, Untold(), suggestions=False, introspection=True, fast=True)


def growth(fill: Callable[[], object]) -> tuple[int, Any]:
    """How many bytes of memory are held after it, and what holds them."""
    gc.collect()
    tracemalloc.start()
    try:
        held = fill()
        gc.collect()
        return tracemalloc.get_traced_memory()[0], held
    finally:
        tracemalloc.stop()


def heaviest_documents() -> Iterator[str]:
    """Documents of each kind that takes much memory for what it says: wide characters, comments, tokens, selections with prices, sizes."""
    for number in range(1_000):
        yield f'{{ item(id: "{WIDE * 49_000}{number}") {{ id }} }}'
        yield f'{{ item(id: "{number}") {{ id }} }} #{WIDE * 99_000}'
        yield f'{{ item(id: "{number}") {{ id }} }}' + "#\n" * 500
        yield f'{{ nodes(ids: ["{number}" {"0 " * 1_900}]) {{ id }} }}'
        yield (
            "{ "
            + " ".join(
                f'a{n}: node(id: "{number}") {{ ... on Item {{ owner {{ items {{ totalCount nodes {{ name }} }} }} }} }}' for n in range(28)
            )
            + " }"
        )
        yield (
            "{ "
            + " ".join(f'a{n}: items(first: {n}, filter: {{priceMin: 1, tagsAny: ["{number}"]}}) {{ nodes {{ id }} }}' for n in range(28))
            + " }"
        )


def test_documents_stay_within_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = 6 * 2**20
    monkeypatch.setattr(execution, "DOCUMENT_BYTES", bound)
    warm = engine()
    for document, _ in zip(heaviest_documents(), range(6), strict=False):
        warm.prepare(document, None)

    def fill() -> Any:
        kept = engine()
        kept._tariff, kept._deprecations, kept._reader = warm._tariff, warm._deprecations, warm._reader
        for document, _ in zip(heaviest_documents(), range(24), strict=False):
            kept.prepare(document, None).cost.requested({})
        return kept

    grown, kept = growth(fill)
    assert len(kept._operations) > 3
    assert grown <= bound


def test_documents_that_are_asked_for_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "DOCUMENT_BYTES", 2**21)
    kept = engine()
    mine = kept.prepare("{ __typename }", None)
    for document, _ in zip(heaviest_documents(), range(30), strict=False):
        kept.prepare(document, None)
        assert kept.prepare("{ __typename }", None) is mine


def dense(size: int, number: int) -> Any:
    """JSON that is small as text and large as objects."""
    return orjson.loads(b'{"%d":[' % number + b'{"a":0},' * (size // 8) + b"0]}")


def compact(value: object) -> bytes:
    """As bytes come from the network; orjson leaves room behind what it wrote."""
    return bytes(memoryview(orjson.dumps(value)))


def test_requests_stay_within_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = 2**20
    monkeypatch.setattr(requests, "RECENT_BYTES", bound)

    def fill() -> RecentRequests:
        kept = RecentRequests()
        for number in range(60):
            variables = dense(3_900, number)
            kept.store(GraphQLRequest(query="{ a }", variables=variables, body=compact(variables)))
            kept.store(GraphQLRequest(query=WIDE * 1_000, body=b"%d" % number + WIDE.encode() * 1_000))
        return kept

    grown, _ = growth(fill)
    assert bound / 2 < grown <= bound


def test_replays_stay_within_their_bytes_with_the_documents_that_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = 6 * 2**20
    monkeypatch.setattr(response_replay, "REPLAY_BYTES", bound)
    nothing: Any = None
    made = engine()

    def fill() -> Any:
        kept: Any = ResponseReplay(nothing, "/graphql", nothing, nothing)
        for number, document in zip(range(24), heaviest_documents(), strict=False):
            operation = made._prepared(document, None)
            request = GraphQLRequest(query=document, variables=dense(2_000, number))
            repeat: Any = ReplayEntry(ReplayHint("asked", operation, request, "application/json"), gzip_from=200)
            repeat._cached, repeat._body, repeat._encoding = (
                CachedResponse(b"%d" % number * 8_000, 1),
                b"%d" % number * 8_000,
                response_replay.GZIP,
            )
            kept._entries.put((b"%d" % number * 1_000, b"*/*"), repeat)
        return kept

    grown, _ = growth(fill)
    assert bound / 4 < grown <= bound


async def test_replays_count_an_answer_that_was_found_later(monkeypatch: pytest.MonkeyPatch) -> None:
    repeat = ReplayEntry(ReplayHint("asked", engine().prepare("{ __typename }", None), GraphQLRequest(), "application/json"), gzip_from=200)
    before = repeat.size_bytes

    async def send(_message: object) -> None:
        pass

    kept = CachedResponse(bytes(range(256)) * 100, 1)
    assert await repeat.write(send, kept, {})
    assert repeat.size_bytes >= before + len(kept.body)
    assert not await repeat.write(send, kept, {})


def test_registered_documents_stay_within_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = 2**20
    monkeypatch.setattr(persisted_documents, "TEXTS_BYTES", bound)

    def fill() -> PersistedDocuments:
        kept = PersistedDocuments()
        for number in range(100):
            text = f"{number}{WIDE * 8_000}"
            asyncio.run(kept.source(GraphQLRequest(query=text, document_id=f"sha256:{sha256(text)}"), ANONYMOUS))
        return kept

    grown, _ = growth(fill)
    assert bound / 2 < grown <= bound + 20_000  # The loop's own.


async def test_tokens_stay_within_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = 2**18
    monkeypatch.setattr(tokens, "KNOWN_BYTES", bound)
    database: Any = Silent()
    issuer: Any = Tokens(database, b"k" * 32)
    issued = [issuer.issue(number, tuple(Scope), family="f" * 22) for number in range(1, 400)]

    def fill() -> Any:
        kept: Any = Tokens(database, b"k" * 32)
        for token in issued:
            kept._meet(token)
        return kept

    fill()
    grown, held = growth(fill)
    assert 50 < len(held._known) < 399
    assert grown <= bound


def test_budgets_stay_within_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = 2**20
    monkeypatch.setattr(token_bucket, "BUCKETS_BYTES", bound)

    async def fill() -> LocalTokenBucket:
        kept = LocalTokenBucket(Budget(100, 1))
        for number in range(10_000):
            await kept.charge(f"ip:2001:db8:{number:x}::/64", 1)
        return kept

    grown, _ = growth(lambda: asyncio.run(fill()))
    assert bound / 2 < grown <= bound + 20_000


def test_windows_stay_within_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = 2**20
    monkeypatch.setattr(moving_window, "WINDOWS_BYTES", bound)

    async def fill() -> LocalMovingWindow:
        kept = LocalMovingWindow()
        for number in range(3_000):
            for _ in range(100 if number % 10 == 0 else 1):
                await kept.hit("1000/hour; 2000/day", "signup", str(number))
        return kept

    grown, _ = growth(lambda: asyncio.run(fill()))
    assert bound / 2 < grown <= bound + 20_000


async def test_cached_responses_stay_within_their_bytes() -> None:
    bound = 2**20

    def fill() -> Any:
        memory: Any = MemoryCache[CachedResponse](most_bytes=bound)
        for number in range(20_000):
            memory._backend._entries.put(f"{number:064}", (CachedResponse(b"%d" % number, 1), 1e9))
        return memory

    grown, held = growth(fill)
    assert len(held._backend._entries) > 1_000
    assert grown <= bound


async def test_answers_to_events_stay_within_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = 2**20
    monkeypatch.setattr(shared_execution, "RESULT_BYTES", bound)
    kept: Any = SharedExecutions()
    nothing: Any = None

    def fresh() -> Context:
        return Context(nothing, ANONYMOUS, nothing)

    for number in range(40):
        body = bytes([number]) * 100_000

        async def make(_context: Context, body: bytes = body) -> EventResult:
            return EventResult(body)

        assert (await kept.result(b"question", object(), fresh, ANONYMOUS, make)).body == body
        await asyncio.sleep(0)
        assert sum(len(answer._making.result().body) for answer in kept._answers.values()) <= bound
    assert len(kept._answers) == 10


def test_events_and_echoes_stay_within_their_bytes() -> None:
    def fill() -> LruCache[Any, Any]:
        for number in range(3_000):
            echo.received(f"{number:0100}", echo.EchoMessage.of("a", "x" * 999 + WIDE).to_bytes())
        return heard._received

    heard._received.clear()
    grown, _ = growth(fill)
    heard._received.clear()
    assert echo.RECEIVED_BYTES / 2 < grown <= echo.RECEIVED_BYTES
    event = ItemUpdated(cursor="c" * 30, occurred_at=utc_now(), item_id=cast("Any", "i" * 30), key=2**40, data={"fields": ["name"] * 6})
    assert retained_bytes(vars(event)) < events.EVENT_OBJECT_BYTES
    assert told._objects.most_bytes == events.EVENT_CACHE_BYTES


def test_metrics_take_so_many_labels_from_clients_and_no_more() -> None:
    def fill() -> Metrics:
        kept = Metrics()
        for number in range(50_000):
            name = f"{number:05}{WIDE * 59}"
            kept.deprecated.add(1, "Query.item", name, name)
            kept.request.observe(0.1, name, "query", "ok")
        return kept

    grown, held = growth(fill)
    assert len(held.deprecated.series) == 201
    assert len(held.request.series) == metric_values.SERIES + 1
    assert grown <= 4 * 2**20


def test_what_is_larger_than_the_bound_is_not_kept_and_takes_nothing_else_with_it() -> None:
    gone: list[str] = []
    kept = LruCache[str, str](1_000, lambda _, value: len(value), evicted=gone.append)
    kept.put("a", "small")
    kept.put("b", "x" * 1_000)
    assert (list(kept.items()), gone) == ([("a", "small")], ["x" * 1_000])
    kept.put("a", "x" * 1_000)
    assert (len(kept), kept.bytes) == (0, 0)


def test_json_is_counted_with_all_that_it_holds() -> None:
    assert retained_bytes([]) == sys.getsizeof([])
    assert retained_bytes({"a": [1, WIDE]}) == sum(map(sys.getsizeof, ({"a": 1}, "a", [1, WIDE], 1, WIDE)))
