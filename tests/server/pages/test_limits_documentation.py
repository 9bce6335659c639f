"""The pages on limits and cost say what the service does."""

from __future__ import annotations

import re
from pathlib import Path

from graph import health, jobs, sales
from graph.items import summary
from graph.items.types import numbered_search_points
from graph.kit.execution.engine import Engine
from graph.kit.limits import cost_rules
from graph.kit.operations import events, facets
from graph.purchases import mutations
from graph.schema import executable
from graph.server.asgi import request_body
from graph.server.auth import callers
from graph.server.auth.tokens import ACCESS_SECONDS
from graph.server.graphql import budget
from graph.server.graphql.http import HttpLimits
from graph.server.graphql.subscriptions.websocket import SocketLimits
from graph.server.rest import exports, files, routes
from graph.users import types as users
from persistence.kit.events.feed import PAGE_EVENTS
from persistence.kit.finding.facets import FACET_ROWS
from persistence.kit.query.paging import COUNT_ROWS, PAGE_SIZE
from tests.kit.limits.test_cache_bounds import Untold

ROOT = Path(__file__).parents[3]


def page(name: str) -> str:
    return " ".join((ROOT / name).read_text().split())


def price(document: str) -> int:
    engine = Engine(executable, Untold(), suggestions=False, introspection=True, fast=True)
    return engine.prepare(document, None).cost.requested({})


def test_prices_are_those_of_the_page():
    text = page("docs/limits-and-cost.md")
    for words in (
        f"| an operation, at least | {cost_rules.LEAST_POINTS} |",
        f"| a field of `Query`, `Mutation` or `Subscription` | {cost_rules.ROOT_WEIGHT} |",
        f"({PAGE_SIZE} without `first` or `last`)",
        f"| `totalCount` | {cost_rules.COUNT_POINTS}, and 1 for each {cost_rules.COUNTED_ROWS_A_POINT} that are counted; counting ends at {COUNT_ROWS:,},",
        f"| {facets.FACET_POINTS}, and 1 for each tag; and 1 for each {facets.SCANNED_ROWS_A_POINT} items that are counted, at most {FACET_ROWS:,} |",
        f"| `search` of a list | {cost_rules.SEARCH_POINTS}, and for each word of one letter {cost_rules.SHORT_WORD_POINTS[1]:,} more,",
        f"of two letters {cost_rules.SHORT_WORD_POINTS[2]} |",
        f"| twice as much, and {numbered_search_points('kettle') - 2 * cost_rules.search_points('kettle'):,} |",
        f"| `filter` of a list | {cost_rules.FILTER_POINTS} for each condition, and {cost_rules.LISTED_POINTS} for each further value",
        f"| `orderBy` of a list | {cost_rules.ORDER_POINTS} |",
        f"| `refreshToken` and `revokeToken` | {cost_rules.TOKEN_WRITE_POINTS} |",
        f"| each line of `purchaseItems` | {mutations.LINE_POINTS} |",
        f"| `token` and `signup`, which hash a password | {cost_rules.PASSWORD_POINTS:,} |",
        f"| {summary.SUMMARY_POINTS}, {health.HEALTH_POINTS}, {price('{ itemsPage { total } }')}, {jobs.JOBS_POINTS}, {users.LOGINS_POINTS},",
        f", {price('{ compute(n: 1) }'):,}, {sales.SALES_POINTS:,} |",
        f"| `node`, and each of `nodes` | {price('{ node(id: 1) { id } }')}, {price('{ nodes(ids: [1]) { id } }')} |",
        f"{cost_rules.INTROSPECTION_WEIGHTS['__schema']} for `__schema`, {cost_rules.INTROSPECTION_WEIGHTS['__type']} for `__type`",
        f"costs {events.HISTORY_PAGE_POINTS} for each {PAGE_EVENTS} events",
        f"1 for each {budget.ANSWER_BYTES_A_POINT:,} bytes",
        f"| the bytes of a request beyond {budget.BODY_BYTES_INCLUDED:,} | 1 for each {budget.BODY_BYTES_A_POINT},",
        f"or for each {budget.CONTAINERS_A_POINT} objects and lists in them, before they are parsed |",
        f"each counts for {request_body.PIECE_BYTES} bytes at least, in GraphQL and on the REST routes |",
        f"| a file that is sent | 1 for each {routes.RECEIVED_BYTES_A_POINT:,} bytes,",
        f"of a document that is not known | {budget.MALFORMED_POINTS} |",
        f"| {budget.NEW_DOCUMENT_POINTS}, and 1 for each character |",
        f"An export costs {exports.EXPORT_POINTS:,} points",
        f"or 1 for each {budget.ANSWER_BYTES_A_POINT:,} bytes of the response ({files.DOWNLOADED_BYTES_A_POINT:,} of a download)",
        f"| a token that is refused | {callers.TOKEN_POINTS},",
        f"| bytes of a request | {HttpLimits().bytes:,}; {HttpLimits().bytes_signed_in // 2**20} MiB",
    ):
        assert words in text, words


def test_examples_cost_what_the_pages_say():
    text = page("docs/limits-and-cost.md")
    example = "{ items(first: 50) { nodes { name owner { username } } } }"
    assert f"In `{example}`".lower() in text.lower()
    assert f'"cost":{price(example)},' in text
    found = re.search(r"An example: `(.*?)` costs .* = ([\d,]+)\.", " ".join((cost_rules.__doc__ or "").split()))
    assert found is not None
    assert price(found[1]) == int(found[2].replace(",", ""))


def test_subscriptions_and_sockets_are_limited_as_the_page_says():
    text, sockets = page("docs/subscriptions.md"), SocketLimits()
    assert f"costs {events.HISTORY_PAGE_POINTS} for each {PAGE_EVENTS} events" in text
    assert (
        f"longer than {sockets.message_characters:,} characters ({sockets.message_characters_signed_in:,} for a signed-in caller), "
        f"or one that is no `subscribe` than {sockets.control_characters:,}" in text
    )


def test_old_keys_are_kept_as_long_as_a_token_lives_and_every_page_says_so():
    minutes = f"{ACCESS_SECONDS // 60} minutes"
    assert f"`SECRET_KEYS_OLD` for {minutes}" in page("SECURITY.md")
    assert f"after {minutes}, as long as an access token lives, remove the old" in page("docs/operations.md")
