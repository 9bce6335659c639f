"""An operation's bill…"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import strawberry
from graphql import ExecutionResult, OperationDefinitionNode, execution, parse, validate
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.kit.limits.cost import REMEMBERED, CostEstimate, CostEstimator
from graph.kit.limits.cost_rules import Cost, CostRules
from persistence.kit.query.paging import MAX_PAGE_SIZE, PAGE_SIZE

# A shop that counts what it hands out: each resolver adds the price of what it returns to the ledger.


@dataclass
class Ledger:
    found: str = "Thing"
    points: int = 0


Info = strawberry.Info[Ledger, None]


@strawberry.type
class PageInfo:
    size: int


@strawberry.type
class ThingEdge:
    @strawberry.field
    def node(self) -> Thing:
        return Thing()


@strawberry.type
class ThingConnection:
    size: strawberry.Private[int]

    @strawberry.field
    def nodes(self, info: Info) -> list[Thing]:
        info.context.points += self.size
        return [Thing() for _ in range(self.size)]

    @strawberry.field
    def edges(self, info: Info) -> list[ThingEdge]:
        info.context.points += self.size
        return [ThingEdge() for _ in range(self.size)]

    @strawberry.field
    def page_info(self) -> PageInfo:
        return PageInfo(size=self.size)

    @strawberry.field(metadata={"cost": 5})
    def total_count(self, info: Info) -> int:
        info.context.points += 5
        return self.size


def price(info: Info) -> int:
    """A root field costs 10, any other object 1."""
    return 10 if info.path.prev is None else 1


def things(info: Info, first: int | None = None, last: int | None = None) -> ThingConnection:
    info.context.points += price(info)
    size = max([size for size in (first, last) if size is not None], default=PAGE_SIZE)
    return ThingConnection(size=min(size, MAX_PAGE_SIZE))


def owner(info: Info) -> Owner:
    info.context.points += price(info)
    return Owner()


@strawberry.interface
class Named:
    name: str = "x"


@strawberry.type
class Thing(Named):
    owner: Owner = strawberry.field(resolver=owner)


@strawberry.interface
class Buyer:
    """What an owner is, and a thing is not."""

    things: ThingConnection = strawberry.field(resolver=things)


@strawberry.type
class Owner(Named, Buyer):
    @strawberry.field(metadata={"cost": Cost(weight=7, supplied={"words": 100})})
    def looked(self, words: str | None = None) -> int:
        return 1


@strawberry.input
class Wanted:
    size: int


@strawberry.type
class Batch:
    size: strawberry.Private[int]

    @strawberry.field(metadata={"cost": Cost(weight=0, of_parent=True)})
    def results(self) -> list[Thing]:
        return [Thing() for _ in range(self.size)]


Found = Annotated[Thing | Owner, strawberry.union("Found")]


@strawberry.type
class Query:
    owner: Owner = strawberry.field(resolver=owner)
    things: ThingConnection = strawberry.field(resolver=things)

    @strawberry.field(metadata={"cost": Cost(size="ids")})
    def found(self, info: Info, ids: list[int]) -> list[Found | None]:
        info.context.points += len(ids)
        return [Thing() if info.context.found == "Thing" else Owner() for _ in ids]

    @strawberry.field
    def named(self, info: Info) -> Named | None:
        info.context.points += 10
        return Thing() if info.context.found == "Thing" else Owner()

    @strawberry.field(metadata={"cost": Cost(size="size")})
    def batch(self, info: Info, size: int = 7) -> Batch:
        info.context.points += 10
        return Batch(size=size)

    @strawberry.field(metadata={"cost": Cost(weight=7, supplied={"words": 100, "limit": 30})})
    def looked(self, words: str | None = None, limit: int | None = None, other: str | None = None) -> int:
        return 1

    @strawberry.field(
        metadata={"cost": Cost(weight=7, supplied={"many": lambda given: 10 * len(given), "wanted": lambda given: given["size"]})}
    )
    def weighed(self, many: list[int] | None = None, wanted: Wanted | None = None) -> int:
        return 1

    @strawberry.field(metadata={"cost": Cost(weight=20, counted_rows=10_050)})
    def counted(self) -> int | None:
        return 1

    @strawberry.field(metadata={"cost": Cost(weight=2, scanned=500)})
    def scanned(self) -> int:
        return 1

    @strawberry.field(metadata={"cost": Cost(weight=0, scanned=500, size="ids")})
    def scanned_list(self, ids: list[int]) -> list[int]:
        return ids

    @strawberry.field(metadata={"cost": Cost(weight=0, size="ids", each=3)})
    def taken(self, ids: list[int]) -> int:
        return len(ids)

    @strawberry.field
    def some(self, info: Info) -> list[Thing]:
        info.context.points += PAGE_SIZE
        return [Thing() for _ in range(PAGE_SIZE)]


@strawberry.type
class Mutation:
    @strawberry.mutation
    def make(self, info: Info) -> Thing:
        info.context.points += 10
        return Thing()

    @strawberry.mutation(metadata={"cost": Cost(weight=50, size="names", each=1)})
    def load(self, info: Info, names: list[str]) -> Batch | None:
        info.context.points += 50 + len(names)
        return Batch(size=len(names)) if names else None


schema = strawberry.Schema(Query, Mutation, types=[Thing, Owner])._schema  # pyright: ignore[reportPrivateUsage]


def bill(document: str) -> CostEstimate:
    parsed = parse(document)
    assert validate(schema, parsed) == []
    operation = next(node for node in parsed.definitions if isinstance(node, OperationDefinitionNode))
    return CostEstimator(CostRules(schema), parsed, operation).estimate()


def requested(document: str, **variables: Any) -> int:
    return bill(document).requested(variables)


def carried_out(document: str, variables: dict[str, Any], found: str = "Thing") -> tuple[int, dict[str, Any]]:
    """What the shop handed out, in points, and its answer."""
    ledger = Ledger(found)
    core: Any = execution  # Partly untyped there.
    result: ExecutionResult = core.execute_sync(schema, parse(document), context_value=ledger, variable_values=variables)
    assert result.errors is None
    return ledger.points, result.data or {}


def test_is_what_the_tariffs_own_example_says():
    document = "{ things(first: 50) { pageInfo { size } nodes { name owner { name things { nodes { name } } } } } }"
    assert requested(document) == 10 + 50 * (1 + 1 + 1 + 20 * 1) == 1_160


@pytest.mark.parametrize(
    ("document", "points"),
    [
        ("{ __typename }", 0),
        ("{ owner { name __typename } }", 10),
        ("{ things { pageInfo { size } } }", 10),
        ("{ things { nodes { name } } }", 10 + 20),
        ("{ things { edges { node { name owner { name } } } } }", 10 + 20 * (1 + 0 + 1)),
        ("{ things(first: 3) { nodes { name } edges { node { name } } totalCount } }", 10 + 3 + 3 + 5),
        ("{ things(last: 3) { nodes { name } } }", 10 + 3),
        ("{ things(first: null) { nodes { name } } }", 10 + 20),
        ("{ things(first: 0) { nodes { name } } }", 10),
        ("{ things(first: -5) { nodes { name } } }", 10),
        ("{ things(first: 2000000000) { nodes { name } } }", 10 + 100),
        ("{ some { owner { name } } }", 20 * (1 + 1)),
        ("{ found(ids: [1, 2, 3]) { __typename } }", 3),
        ("{ found(ids: 1) { __typename } }", 1),
        ("{ batch { results { owner { name } } } }", 10 + 7 * (0 + 1)),
        ("{ batch(size: 3) { results { owner { name } } } }", 10 + 3 * (0 + 1)),
        ("mutation { make { name } }", 10),
        ("mutation { a: make { owner { name } } b: make { name } }", 11 + 10),
        ('mutation { load(names: ["a", "b"]) { results { name owner { name } } } }', 50 + 2 + 2 * 1),
        ("{ scanned }", 2 + 500),
        ("{ scannedList(ids: [1, 2]) }", 500),
        ("{ taken(ids: [1, 2]) }", 2 * 3),
        ("{ found(ids: 1) { ... on Buyer { things(first: 3) { nodes { name } } } } }", 1 + 1 + 3),
        ("{ __schema { types { fields { type { name } } } } }", 200),
        ('{ __type(name: "Thing") { name } }', 20),
    ],
)
def test_is_made_up_of_what_each_field_costs(document: str, points: int):
    assert requested(document) == points


def test_reads_sizes_from_variables_and_their_defaults():
    document = "query ($first: Int = 4, $last: Int) { things(first: $first, last: $last) { nodes { name } } }"
    assert requested(document) == 10 + 4
    assert requested(document, first=7) == 10 + 7
    assert requested(document, first=None) == 10 + 20
    assert requested(document, first=None, last=9) == 10 + 9
    assert requested(document, first=1_000) == 10 + 100


def test_reads_lengths_of_lists_from_variables():
    document = "query ($ids: [Int!]!) { found(ids: $ids) { __typename } }"
    assert requested(document, ids=[1, 2, 3]) == 3
    assert requested(document, ids=[]) == 0
    assert requested(document, ids=5) == 1
    assert requested(document, ids=None) == 20
    assert requested("query ($a: Int!, $b: Int!) { found(ids: [$a, $b]) { __typename } }", a=1, b=2) == 2


@pytest.mark.parametrize(("nonsense", "size"), [("many", 20), ({"a": 1}, 20), (True, 1), (1e300, 100), (-(10**30), 0), ([1], 20), (2.5, 2)])
def test_is_drawn_up_whatever_the_variables_hold(nonsense: Any, size: int):
    assert requested("query ($n: Int) { things(first: $n) { nodes { name } } }", n=nonsense) == 10 + size


def test_counts_a_field_once_however_often_it_is_written():
    document = "{ owner { name ...A ... on Owner { ...A } } owner { things(first: 2) { nodes { owner { name } } } } }"
    assert requested(f"{document} fragment A on Owner {{ things(first: 2) {{ nodes {{ name }} totalCount }} }}") == 10 + 1 + 5 + 2 * (1 + 1)


def test_has_the_dearest_type_of_a_union_or_interface_and_not_their_sum():
    document = "{ found(ids: [1, 2]) { ... on Thing { owner { name } } ... on Owner { things(first: 3) { nodes { name } } } } }"
    assert requested(document) == 2 * (1 + 4)
    assert requested("{ named { name ... on Thing { owner { name } } ... on Owner { things(first: 3) { nodes { name } } } } }") == 10 + 4
    assert requested("{ named { ... on Named { ... on Thing { owner { name } } } } }") == 10 + 1


def test_counts_skipped_fields_before_and_not_after():
    document = "query ($no: Boolean!) { things(first: 3) { nodes { owner @include(if: $no) { name } } } }"
    drawn = bill(document)
    points, data = carried_out(document, {"no": False})
    assert (drawn.requested({"no": False}), drawn.actual({"no": False}, data), points) == (10 + 3 * 2, 10 + 3, 10 + 3)


def test_is_less_afterwards_for_short_pages_and_nulls():
    drawn = bill("{ things(first: 50) { edges { node { owner { name } } } } found(ids: [1, 2]) { ... on Thing { owner { name } } } }")
    answer = {"things": {"edges": [{"node": {"owner": {"name": "x"}}}, {"node": {"owner": None}}]}, "found": [None, None]}
    assert drawn.requested({}) == 10 + 50 * 2 + 2 * 2
    assert drawn.actual({}, answer) == 10 + 2 * (1 + 1) + 2
    assert drawn.actual({}, {"things": None, "found": []}) == 10
    assert drawn.actual({}, None) == 0


def test_keeps_what_a_bulk_change_took_in_whatever_it_answers():
    drawn = bill("mutation ($names: [String!]!) { load(names: $names) { results { name } } }")
    assert drawn.requested({"names": ["a"] * 1_000}) == drawn.actual({"names": ["a"] * 1_000}, {"load": None}) == 50 + 1_000


def test_has_points_for_arguments_that_are_given_and_not_null():
    document = "query ($words: String, $size: Int = 3, $other: String) { looked(words: $words, limit: $size, other: $other) }"
    assert [requested(document), requested(document, words="a"), requested(document, words=None)] == [7 + 30, 7 + 30 + 100, 7 + 30]
    assert requested(document, words="a", size=None, other="b") == 7 + 100
    assert requested('{ looked(words: "a") }') == 7 + 100
    assert requested('{ looked(words: "a", limit: 3) }') == 7 + 100 + 30
    assert requested("{ looked(words: null, limit: null) }") == 7
    assert bill('{ looked(words: "a") }').actual({}, {"looked": 1}) == 7 + 100


def test_has_points_by_the_value_of_an_argument_also_with_variables_inside():
    document = (
        "query ($one: Int = 1) { a: weighed(many: [1, $one]) b: weighed(wanted: {size: $one}) c: weighed(many: [1], wanted: {size: 5}) }"
    )
    assert requested(document) == 7 + 20 + 7 + 1 + 7 + 15
    assert requested(document, one=4) == 7 + 20 + 7 + 4 + 7 + 15


def test_has_points_for_what_variables_ask_of_each_object():
    drawn = bill("query ($words: String) { owner { looked(words: $words) } }")
    answer = {"owner": {"looked": 1}}
    for words, points in (({}, 7), ({"words": "a"}, 107)):
        assert [drawn.requested(words), drawn.actual(words, answer), drawn.event(words, answer)] == [10 + points, 10 + points, points]


def test_of_an_event_has_what_its_selection_loaded_and_not_the_stream():
    drawn = bill("{ x: things(first: 9) { nodes { owner { name } } totalCount } owner { things { nodes { name } } } }")
    answer = {"x": {"nodes": [{"owner": {"name": "x"}}, {"owner": None}], "totalCount": 2}, "owner": None}
    assert drawn.event(None, answer) == 2 + 2 + 5
    assert [drawn.event({}, {}), drawn.event(None, None)] == [0, 0]


def test_has_what_introspection_costs_afterwards_too():
    drawn = bill("{ owner { name } __schema { types { name } } }")
    assert drawn.actual({}, {"owner": None, "__schema": {"types": []}}) == 10 + 200
    assert drawn.most_expensive({}).name.value == "__schema"


def test_remembers_its_sums_and_not_more_than_so_many():
    drawn = bill("query ($n: Int) { things(first: $n) { nodes { name } } }")
    sums = drawn._requested  # pyright: ignore[reportPrivateUsage]
    for first in range(MAX_PAGE_SIZE):
        assert drawn.requested({"n": first}) == 10 + first
    assert len(sums) == REMEMBERED == MAX_PAGE_SIZE
    sums[7,] = 99
    assert drawn.requested({"n": 7}) == 99
    drawn.requested({"n": MAX_PAGE_SIZE})
    assert sums == {(MAX_PAGE_SIZE,): 10 + MAX_PAGE_SIZE}


def test_is_drawn_up_in_linear_time_however_fragments_are_nested():
    spreads = " ".join(f"fragment F{depth} on Owner {{ ...F{depth + 1} ...F{depth + 1} }}" for depth in range(40))
    assert requested(f"{{ owner {{ ...F0 }} }} {spreads} fragment F40 on Owner {{ looked }}") == 10 + 7


def test_has_points_for_rows_that_are_counted_before_for_the_most_and_after_for_those_that_were():
    drawn = bill("{ a: counted b: counted }")
    assert drawn.requested({}) == 2 * (20 + 10_050 // 100)
    assert drawn.actual({}, {"a": 10_000, "b": 149}) == 20 + 100 + 20 + 1
    assert drawn.actual({}, {"a": None, "b": 0}) == 2 * 20


def test_names_the_dearest_root_field():
    node = bill("{ owner { name } x: things(first: 90) { nodes { name } } things { nodes { name } } }").most_expensive({})
    assert node.alias is not None
    assert node.alias.value == "x"


def test_names_the_dearest_root_field_by_what_variables_ask():
    drawn = bill("query ($n: Int) { things(first: $n) { nodes { name } } owner { things(first: 7) { nodes { name } } } }")
    found = [drawn.most_expensive(variables).name.value for variables in ({"n": 9}, {"n": 3}, {}, None)]
    assert found == ["things", "owner", "things", "things"]


ARGUMENTS = {"": "none", "(first: 0)": "zero", "(last: 3)": "three", "(first: $n)": "n", "(first: $n, last: $m)": "both"}


@st.composite
def operations(draw: st.DrawFn) -> str:
    """Valid operations on the shop; an alias for each way of asking keeps fields of one name alike."""
    fragments: list[str] = []

    def things(depth: int) -> str:
        argument = draw(st.sampled_from(list(ARGUMENTS)))
        return f"{ARGUMENTS[argument]}: things{argument}{mark()} {{ {several('ThingConnection', depth)} }}"

    def mark() -> str:
        return draw(st.sampled_from(("", "", "", " @include(if: $yes)", " @skip(if: $yes)")))

    def field(type_: str, depth: int) -> str:
        match type_:
            case "ThingConnection":
                one = draw(st.sampled_from(("nodes", "edges", "totalCount", "pageInfo { size }")))
                inner = several("Thing", depth - 1)
                return {"nodes": f"nodes {{ {inner} }}", "edges": f"edges {{ node {{ {inner} }} }}"}.get(one, one)
            case "Thing":
                return f"owner{mark()} {{ {several('Owner', depth - 1)} }}" if depth and draw(st.booleans()) else "name"
            case "Owner":
                return things(depth - 1) if depth and draw(st.booleans()) else "name"
            case "Found":
                member = draw(st.sampled_from(("Thing", "Owner")))
                return f"... on {member} {{ {several(member, depth - 1)} }}"
            case _:
                return draw(
                    st.sampled_from(
                        (things(depth), f"owner {{ {several('Owner', depth)} }}", f"found(ids: [1, 2]) {{ {several('Found', depth)} }}")
                    )
                )

    def several(type_: str, depth: int) -> str:
        depth = max(0, depth)
        written = " ".join(field(type_, depth) for _ in range(draw(st.integers(1, 2))))
        way = draw(st.sampled_from(("plain", "plain", "inline", "spread")))
        if way == "spread" and type_ != "Query":
            fragments.append(f"fragment F{len(fragments)} on {type_} {{ {written} }}")
            return f"...F{len(fragments) - 1} ...F{len(fragments) - 1}"
        return f"... on {type_} {{ {written} }}" if way == "inline" else written

    body = several("Query", 3)
    return "\n".join([f"query ($n: Int, $m: Int = 2, $yes: Boolean = true) {{ {body} }}", *fragments])


@settings(deadline=None)
@given(operations(), st.fixed_dictionaries({}, optional={"n": st.none() | st.integers(0, 4), "m": st.integers(0, 4), "yes": st.booleans()}))
def test_agrees_with_what_a_shop_hands_out_that_keeps_books(document: str, variables: dict[str, Any]):
    parsed = parse(document)
    operation = next(node for node in parsed.definitions if isinstance(node, OperationDefinitionNode))
    drawn = CostEstimator(CostRules(schema), parsed, operation).estimate()
    handed_out: list[int] = []
    for found in ("Thing", "Owner"):
        points, data = carried_out(document, variables, found)
        assert drawn.actual(variables, data) == points
        handed_out.append(points)
    before = drawn.requested(variables)
    assert before >= max(handed_out)
    if "@" not in document and document.count("found") < 2:
        assert before == max(handed_out)
