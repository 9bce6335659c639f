"""Input values are made into what strawberry makes of them."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
import strawberry
from graphql import parse
from graphql.execution import get_argument_values
from strawberry.types.arguments import convert_arguments
from strawberry.types.field import StrawberryField

from graph.kit.execution.coercion import Converters


@strawberry.enum
class Colour(Enum):
    RED = "red"
    DARK_BLUE = strawberry.enum_value("dark blue", name="BLUE")


@strawberry.input
class Wish:
    most_price: Decimal | None
    colours: list[Colour | None] | None = None
    size: int = 7
    note: strawberry.Maybe[str | None] = None
    left_out: str | None = strawberry.UNSET
    renamed: bool | None = strawberry.field(default=None, name="other")
    all_of: list[Wish] | None = None


@strawberry.type
class Query:
    @strawberry.field
    def wish(self, wish: Wish | None = None, some_words: list[str] | None = None, colour: Colour = Colour.RED) -> str:
        return repr((wish, some_words, colour))


SCHEMA = strawberry.Schema(Query)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "(wish: null, someWords: null)",
        "(wish: {}, someWords: [])",
        '(wish: {mostPrice: "1.50", colours: [BLUE, null, RED], size: 1, note: "n", leftOut: "l", other: true}, colour: BLUE)',
        "(wish: {mostPrice: null, colours: null, note: null, leftOut: null, other: null})",
        '(wish: {allOf: [{size: 2}, {allOf: [{mostPrice: "2"}]}]}, someWords: ["a", "b"])',
    ],
)
def test_are_what_strawberry_makes_of_them(given: str) -> None:
    core: Any = SCHEMA._schema  # pyright: ignore[reportPrivateUsage] -- as in graph/schema.py
    definition = core.query_type.fields["wish"]
    field: StrawberryField = definition.extensions["strawberry-definition"]
    document: Any = parse(f"{{ wish{given} }}")
    coerced = get_argument_values(definition, document.definitions[0].selection_set.selections[0], None)
    expected = convert_arguments(coerced, field.arguments, SCHEMA.schema_converter.scalar_registry, SCHEMA.config)
    assert repr(Converters(SCHEMA).of_arguments(field.arguments)(coerced)) == repr(expected)
