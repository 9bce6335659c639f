"""The size of an operation…"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pytest
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    get_introspection_query,
    parse,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.kit.limits.query_size import MAX_NESTING, QuerySize, SizeCalculator, SizeLimits, violation


def size(document: str) -> QuerySize:
    parsed = parse(document)
    return SizeCalculator(parsed).size(operation_of(parsed))


def operation_of(document: DocumentNode) -> OperationDefinitionNode:
    return next(node for node in document.definitions if isinstance(node, OperationDefinitionNode))


def refusals(document: str, limits: SizeLimits | None = None) -> list[tuple[str, list[tuple[int, int]]]]:
    errors = violation(parse(document), limits or SizeLimits())
    assert all(told(error)["code"] == "GRAPHQL_VALIDATION_FAILED" for error in errors)
    return [(error.message, [(place.line, place.column) for place in error.locations or ()]) for error in errors]


def told(error: GraphQLError) -> dict[str, Any]:
    assert error.extensions
    return error.extensions


def bomb(levels: int, leaf: str = "id") -> str:
    spreads = "\n".join(f"fragment F{n} on User {{ ...F{n + 1} ...F{n + 1} }}" for n in range(levels))
    return f"{{ me {{ ...F0 }} }}\n{spreads}\nfragment F{levels} on User {{ {leaf} }}"


def test_counts_what_is_written():
    assert size("{ me { id name: username @skip(if: $x) } __typename }") == QuerySize(
        depth=2, introspection=0, selections=4, aliases=1, directives=1, roots=2
    )


def test_counts_a_fragment_wherever_it_is_spread():
    document = "{ a: me { ...F } me { ...F @include(if: $x) ... on User @skip(if: $x) { id } } } fragment F on User { x: id y: id }"
    assert size(document) == QuerySize(depth=2, introspection=0, selections=10, aliases=5, directives=2, roots=2)


def test_counts_roots_in_fragments():
    assert size("mutation { a ...F ... { b } } fragment F on Mutation { c { d } e }").roots == 4


def test_counts_levels_below_introspection_apart():
    assert size("{ me { id } __schema { types { fields { name } } } }")[:2] == (2, 3)
    assert size("{ ...F } fragment F on Query { me { id } __type(name: 1) { name } }")[:2] == (2, 1)
    assert size(get_introspection_query())[:2] == (1, 14)


def test_does_not_mind_unknown_fragments_and_empty_selections():
    assert size("{ me { ...Nobody id } ... on Nothing { } }") == QuerySize(depth=2, introspection=0, selections=4, roots=1)


def test_is_within_the_limits_for_the_usual_introspection_query():
    assert refusals(get_introspection_query(descriptions=True, input_value_deprecation=True)) == []


@pytest.mark.parametrize(
    ("document", "message", "place"),
    [
        (
            "{" + "a {" * 15 + "b" + "}" * 16,
            "The operation is nested 16 fields deep, fragments included; at most 15 are allowed.",
            (1, 47),
        ),
        (
            "{\n" + "\n".join(f"x{n}: me" for n in range(31)) + "}",
            "The operation has 31 aliases, fragments included; at most 30 are allowed.",
            (32, 1),
        ),
        (
            "mutation { a b ... { c ...F } }\nfragment F on Mutation { d\n e }",
            "The operation has 5 root fields, fragments included; at most 4 are allowed.",
            (3, 2),
        ),
        (
            "{ me { ...F ...F } }\nfragment F on User { id" + " @a" * 26 + " }",
            "The operation has 52 directives, fragments included; at most 50 are allowed.",
            (2, 22),
        ),
        (
            "{ me { id } __type(name: 1) { " + "ofType {" * 20 + "name" + "}" * 22,
            "The operation goes 21 levels deep into introspection, fragments included; at most 20 are allowed.",
            (1, 191),
        ),
        (
            "{ me {" + " id" * 2_000 + "} }",
            "The operation has 2001 selections, fragments included; at most 2000 are allowed.",
            (1, 6_005),
        ),
    ],
)
def test_is_refused_with_what_was_measured_the_limit_and_the_place_where_it_is_passed(document: str, message: str, place: tuple[int, int]):
    assert (message, [place]) in refusals(document)


def test_is_told_to_programs_too():
    [error] = violation(parse("{ a { b { c } } }"), SizeLimits(depth=2))
    assert error.extensions == {"code": "GRAPHQL_VALIDATION_FAILED", "limit": "depth", "measured": 3, "maximum": 2}


def test_is_refused_in_every_operation_of_a_document():
    deep = "a {" * 20 + "b" + "}" * 20
    assert len(refusals(f"query A {{ a }} query B {{ {deep} }} query C {{ {deep} }}")) == 2


def test_is_measured_in_a_bomb_of_fragments():
    began = time.thread_time()
    [(message, places)] = refusals(bomb(25))
    assert time.thread_time() - began < 0.2
    assert message == "The operation has 100663296 selections, fragments included; at most 2000 are allowed."
    assert places == [(24, 31)]


def test_stops_counting_at_a_billion():
    assert (
        refusals(bomb(60, leaf="x: id"))[1][0] == "The operation has a billion or more aliases, fragments included; at most 30 are allowed."
    )


def test_is_refused_for_a_circle_of_fragments_where_it_closes():
    circle = "{ me { ...A } }\nfragment A on User { items { ...B } }\nfragment B on X { owner { ...A } }"
    assert refusals(circle) == [("Cannot spread fragment 'A' within itself.", [(3, 27)])]
    assert refusals("{ ...A }\nfragment A on Query { ...A }") == [("Cannot spread fragment 'A' within itself.", [(2, 23)])]


def test_is_refused_for_a_chain_of_fragments_longer_than_the_stack():
    chain = "{ ...F0 }" + "".join(f" fragment F{n} on Query {{ ...F{n + 1} }}" for n in range(240)) + " fragment F240 on Query { a }"
    [(message, _)] = refusals(chain)
    assert message == f"The operation is nested more than {MAX_NESTING} levels deep, fragments included."


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Operations over a handful of fragments that spread only later ones, with introspection, aliases and directives strewn in."""
    fragments = draw(st.integers(0, 4))

    def selection(later: int, depth: int, kinds: tuple[str, ...]) -> str:
        kind = draw(st.sampled_from(kinds if depth else ("leaf", "spread")))
        mark = draw(st.sampled_from(("", " @skip(if: true)", " @a @b")))
        if kind == "spread" and later < fragments:
            return f"...F{draw(st.integers(later, fragments - 1))}{mark}"
        if kind == "schema":
            return f"__schema{mark} {{ {selections(fragments, depth - 1, ('leaf', 'field'))} }}"
        if kind in {"field", "inline"}:
            return f"{'x: me' if kind == 'field' else '... on User'}{mark} {{ {selections(later, depth - 1, kinds)} }}"
        return f"{draw(st.sampled_from(('', 'x: ', 'y: ')))}id{mark}"

    def selections(later: int, depth: int, kinds: tuple[str, ...]) -> str:
        return "\n".join(selection(later, depth, kinds) for _ in range(draw(st.integers(1, 3))))

    plain = ("leaf", "field", "inline", "spread")
    definitions = [f"fragment F{n} on User {{ {selections(n + 1, 2, plain)} }}" for n in range(fragments)]
    return "\n".join([f"query {{ {selections(0, 3, (*plain, 'schema'))} }}", *definitions])


@dataclass
class Met:
    """A selection, as somebody meets it who reads the operation with every fragment written out."""

    node: SelectionNode
    depth: int
    introspection: int

    def of(self, figure: str) -> int:
        field = isinstance(self.node, FieldNode)
        counts = {
            "selections": 1,
            "aliases": int(isinstance(self.node, FieldNode) and self.node.alias is not None),
            "directives": len(self.node.directives or ()),
            "roots": int(field and self.depth == 1 and not self.introspection),
        }
        return counts[figure]


def written_out(document: str) -> list[Met]:
    parsed = parse(document)
    fragments = {node.name.value: node for node in parsed.definitions if isinstance(node, FragmentDefinitionNode)}

    def walk(selections: SelectionSetNode | None, depth: int, introspection: int, *, inside: bool) -> Iterator[Met]:
        for node in selections.selections if selections else ():
            field = isinstance(node, FieldNode)
            met = Met(node, depth + (field and not inside), introspection + (field and inside))
            yield met
            inner = fragments[node.name.value] if isinstance(node, FragmentSpreadNode) else node
            assert isinstance(inner, FieldNode | InlineFragmentNode | FragmentDefinitionNode)
            opens = field and node.name.value == "__schema"
            yield from walk(inner.selection_set, met.depth, met.introspection, inside=inside or opens)

    return list(walk(operation_of(parsed).selection_set, 0, 0, inside=False))


@settings(deadline=None)
@given(documents())
def test_is_the_same_as_counted_with_every_fragment_written_out(document: str):
    met = written_out(document)
    sums = {figure: sum(each.of(figure) for each in met) for figure in ("selections", "aliases", "directives", "roots")}
    assert size(document) == QuerySize(max(each.depth for each in met), max(each.introspection for each in met), **sums)


@settings(deadline=None)
@given(documents(), st.integers(0, 4))
def test_passes_a_limit_where_a_reader_would_pass_it(document: str, limit: int):
    names = ("depth", "introspection", "selections", "aliases", "directives", "query_roots")
    places = {told(error)["limit"]: error.locations for error in violation(parse(document), SizeLimits(**dict.fromkeys(names, limit)))}
    met = written_out(document)
    for figure in QuerySize._fields:
        deep = figure in {"depth", "introspection"}
        totals = [getattr(each, figure) for each in met] if deep else list(accumulate(each.of(figure) for each in met))
        passed = next((each.node for each, total in zip(met, totals, strict=True) if total > limit), None)
        assert places.get(figure) == (passed and GraphQLError("", [passed]).locations)
