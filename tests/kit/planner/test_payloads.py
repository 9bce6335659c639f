"""Payloads of mutations and events of subscriptions are read by the planner, and show what their resolvers would."""

from __future__ import annotations

import re
from contextlib import aclosing
from typing import Any
from unittest.mock import ANY

import orjson
from hypothesis import given

from graph.kit.errors import Refused
from graph.server.graphql.pipeline import Pipeline
from tests.support.fuzz.invariants import fuzzed
from tests.support.planner.comparison import in_order
from tests.support.planner.documents import Document, payloads
from tests.support.planner.shop import READING, Shop


@fuzzed(0.04)
@given(made=payloads())
async def test_reads_payloads_and_events_as_their_resolvers_do(shop: Shop, made: tuple[str, Document]) -> None:
    kind, document = made
    request = shop.request("", {})
    request.query, request.variables = shop.fill(document.query), {name: shop.fill(value) for name, value in document.variables.items()}
    for viewer in shop.viewers:
        if kind.startswith("subscription"):
            planned, wanted = [await events_of(shop, way, request, viewer) for way in ("fast", "reference")]
        else:
            await shop.answer("fast", request, viewer)  # The others are replayed.
            planned, wanted = [[in_order(await shop.answer(way, request, viewer))] for way in ("fast", "reference")]
        assert planned == wanted, (request.query, request.variables, viewer)


EVENTS = 10  # There are as many before the first mutation of a test.


async def events_of(shop: Shop, way: str, request: Any, viewer: str) -> list[Any]:
    pipeline: Pipeline = getattr(shop, way)
    found = list[Any]()
    try:
        operation = await pipeline.prepare(request, shop.viewers[viewer])
        async with aclosing(pipeline.stream(operation, request, shop.viewers[viewer])) as events:
            async for event in events:
                found.append(in_order(event.body))
                if len(found) == EVENTS:
                    break
    except Refused as refused:
        found.append(str(refused))
    return found


async def test_reads_a_payload_by_one_statement_for_each_level(shop: Shop) -> None:
    rows = ", ".join(f'{{name: "Kettle {place}", price: "1"}}' for place in range(30))
    selected = "... on Item { name owner { username items(first: 1) { nodes { name } } purchases(first: 1) { totalCount } } }"
    request = shop.request(
        f"mutation {{ bulkCreateItems(inputs: [{rows}]) {{ ... on BulkCreateItems {{ results {{ {selected} }} }} }} }}", {}
    )
    sent = list[str]()
    READING.set(sent)
    body = orjson.loads(await shop.answer("fast", request, "auditor"))
    owner = {"username": "bob", "items": {"nodes": [{"name": "zebra"}]}, "purchases": {"totalCount": ANY}}
    assert body["data"]["bulkCreateItems"]["results"] == [{"name": f"Kettle {place}", "owner": owner} for place in range(30)]
    assert len([statement for statement in sent if PLANNED.search(statement)]) == 3
    assert not [statement for statement in sent if statement.startswith("SELECT users.")]


PLANNED = re.compile(r"string_agg|group_concat")
