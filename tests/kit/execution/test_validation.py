"""A hostile document…"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from graphql import GraphQLError

from graph.kit.execution.validation import MAX_CHARACTERS, MAX_COMMENTS, MAX_ERRORS, MAX_MESSAGE, MAX_TOKENS, parsed, problems
from graph.schema import executable

HANGING_SECONDS = 5.0  # Each takes below 0.2 s where nothing else measures or runs; this only tells a bound from none.


def refused(document: str, *, introspection: bool = True, suggestions: bool = False) -> list[GraphQLError]:
    try:
        return problems(executable, parsed(document), introspection=introspection, suggestions=suggestions)
    except GraphQLError as error:
        return [error]


def told(error: GraphQLError) -> dict[str, Any]:
    assert error.extensions
    return error.extensions


def fragments(count: int, body: Callable[[int], str], on: str = "Item") -> str:
    return "".join(f" fragment F{n} on {on} {{ {body(n)} }}" for n in range(count))


def items(selection: str) -> str:
    return f"{{ items {{ nodes {{ {selection} }} }} }}"


def timed(document: str, *, suggestions: bool) -> tuple[float, list[GraphQLError]]:
    began = time.process_time()
    errors = refused(document, suggestions=suggestions)
    return time.process_time() - began, errors


# Each as large as the limit of 2,000 tokens lets it be, and most of them written to make one rule of validation slow.
HOSTILE = {
    "one field, many times": items("id " * 1_980),
    "one object, many times": items("owner { id } " * 490),
    "one alias for two fields": items("x: id x: name " * 320),
    "one field with many arguments": "{" + " ".join(f'item(id: "{n}") {{ id }}' for n in range(200)) + "}",
    "objects inside one another, many times": "{" + "items { nodes { owner { items { nodes { id } } } } } " * 120 + "}",
    "inline fragments on two types": '{ node(id: "1") {' + " ... on Item { owner { id } } ... on User { id }" * 130 + "} }",
    "inline fragments in one another": items("... on Item { owner { username } } " * 200),
    "unknown fields": "{" + " ".join(f"itms{n}" for n in range(1_990)) + "}",
    "unknown arguments": "{ item(" + " ".join(f"a{n}: 1" for n in range(660)) + ") { id } }",
    "unknown directives": "{ items { totalCount " + " ".join(f"@a{n}" for n in range(990)) + "} }",
    "one directive, many times": "{ items { totalCount " + "@skip(if: true) " * 330 + "} }",
    "variables nobody uses": "query (" + " ".join(f"$v{n}: Int" for n in range(490)) + ") { items { totalCount } }",
    "one variable, many times": "query (" + "$v: Int " * 490 + ") { items(first: $v) { totalCount } }",
    "25 levels of doubled spreads": items("...F0") + fragments(25, lambda n: f"...F{n + 1} ...F{n + 1}") + " fragment F25 on Item { id }",
    "doubled spreads in doubled objects": items("...F0")
    + fragments(25, lambda n: f"a: owner {{ ...F{n + 1} }} b: owner {{ ...F{n + 1} }}", on="User"),
    "fragments that spread all later ones": items("...F0")
    + fragments(42, lambda n: " ".join(f"...F{m}" for m in range(n + 1, 42)) + " id"),
    "fragments that spread one another": items("...F0") + fragments(30, lambda _: " ".join(f"...F{m}" for m in range(30))),
    "fragments side by side": items(" ".join(f"...F{n}" for n in range(130))) + fragments(130, lambda _: "id owner { id }"),
    "a chain of fragments": items("...F0") + fragments(245, lambda n: f"...F{n + 1}") + " fragment F245 on Item { id }",
    "fragments nobody spreads": "{ items { totalCount } }" + fragments(280, lambda _: "id"),
    "operations over one chain": "".join(f" query Q{n} {{ ...F0 }}" for n in range(100))
    + fragments(150, lambda n: f"...F{n + 1}", on="Query"),
    "operations without a name": "{ items { totalCount } } " * 280,
    "a long list": "{ nodes(ids: [" + "1 " * 1_980 + "]) { id } }",
    "an object of unknown fields": "{ items(filter: {" + " ".join(f"z{n}: 1" for n in range(650)) + "}) { totalCount } }",
    "an object of one field": "{ items(filter: {" + "inStock: true " * 650 + "}) { totalCount } }",
    "long arguments that differ at the end": "{" + " ".join(f"nodes(ids: [{'1 ' * 40}{n}]) {{ id }}" for n in range(40)) + "}",
    "introspection side by side": "{ __schema {" + "types { name fields { name type { name } } } " * 160 + "} }",
    "introspection in depth": "{ __schema { types {" + "fields { type {" * 80 + "name" + "} }" * 80 + "} } }",
    "braces": "{" * 1_990,
    "nested fields": "{" + "items { nodes {" * 330 + "id" + "}" * 661,
    "nested lists": "{ nodes(ids: " + "[" * 990 + "]" * 990 + ") { id } }",
    "nested types": "query ($a: " + "[" * 990 + "Int" + "]" * 990 + ") { items { totalCount } }",
    "nested inline fragments": "{" + "... {" * 660 + "items { totalCount }" + "}" * 661,
    "a schema": "".join(f"type A{n} {{ a: Int }} " for n in range(280)),
    "a name of 90,000 letters": "{" + "x" * 90_000 + "}",
    "a string of 90,000 letters": '{ item(id: "' + "x" * 90_000 + '") { id } }',
    "a block string of 30,000 lines": '{ item(id: """' + "\n x" * 30_000 + '""") { id } }',
    "a string that does not end": '{ item(id: "' + "x" * 90_000,
    "escapes": '{ item(id: "' + r"\u00e9" * 16_000 + '") { id } }',
    "comments": "{ items { totalCount } }" + "#\n" * 49_000,
    "commas": "{ items { totalCount } }" + "," * 99_000,
    "200,000 tokens": "{" + "id " * 200_000 + "}",
    "2,000,000 characters": "#" * 2_000_000,
}


@pytest.mark.parametrize("document", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("suggestions", [False, True], ids=["quietly", "with suggestions"])
def test_ends_with_few_short_errors_whatever_the_document(document: str, suggestions: bool):
    seconds, errors = timed(document, suggestions=suggestions)
    assert seconds < HANGING_SECONDS
    assert len(errors) <= MAX_ERRORS + 1
    assert all(len(error.message) <= MAX_MESSAGE + 1 for error in errors)
    assert {told(error)["code"] for error in errors} <= {"GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED"}


def test_is_refused_by_its_length_before_it_is_read():
    [error] = refused("{" + " " * MAX_CHARACTERS)
    assert error.message == "The document has 100001 characters; at most 100000 are allowed."
    assert told(error) == {"code": "GRAPHQL_PARSE_FAILED", "limit": "characters", "measured": 100_001, "maximum": 100_000}


def test_is_refused_at_the_token_that_is_one_too_many():
    assert told(refused("{" + " id" * (MAX_TOKENS - 2) + "}")[0])["limit"] == "roots"
    [error] = refused("{\n" + " id" * (MAX_TOKENS - 1) + "}")
    assert error.message == "Syntax Error: Document contains more than 2000 tokens. Parsing aborted."
    assert [(place.line, place.column) for place in error.locations or ()] == [(2, 5_998)]


def test_is_refused_for_more_comments_than_anybody_writes():
    document = "{ items { totalCount } }"
    assert refused("# why\n" * MAX_COMMENTS + document) == []
    [error] = refused("# why\n" * (MAX_COMMENTS + 1) + document)
    assert told(error)["code"] == "GRAPHQL_PARSE_FAILED"


def test_is_refused_where_too_many_fields_share_a_name():
    [error] = refused(items("\nowner { id }" * 490))
    assert error.message == "Too many fields share a name here: comparing them takes more than 15000 steps."
    assert [(place.line, place.column) for place in error.locations or ()] == [(1, 17)]
    assert told(error) == {"code": "GRAPHQL_VALIDATION_FAILED"}


def test_is_told_the_first_five_errors_and_that_there_are_more():
    errors = refused("{ a b c d e f g }")
    assert [error.message for error in errors] == [
        *(f"Cannot query field '{name}' on type 'Query'." for name in "abcde"),
        "Too many validation errors, error limit reached. Validation aborted.",
    ]


def test_learns_no_names_where_suggestions_are_off():
    assert refused("{ itms { totalCount } }")[0].message == "Cannot query field 'itms' on type 'Query'."
    assert "Did you mean 'items'" in refused("{ itms { totalCount } }", suggestions=True)[0].message


def test_learns_no_schema_where_introspection_is_off():
    assert "introspection" in refused("{ __schema { types { name } } }", introspection=False)[0].message
    assert refused("{ __typename }", introspection=False) == []


def test_that_is_merely_long_is_accepted():
    names = " ".join(f"x{n}: item(id: {n}) {{ ...All }}" for n in range(30))
    assert (
        refused(f"{{ {names} }} fragment All on Item {{ id name description price tags inventory version owner {{ username fullName }} }}")
        == []
    )


def test_says_nothing_of_python_when_a_number_is_too_long_for_it():
    assert [error.message for error in refused(f"{{ compute(n: {'9' * 5_000}) }}")] == ["The value here cannot be read."]
