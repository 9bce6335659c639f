"""What no client should ask: values, documents, cursors and frames that are right in part, so that they get far in."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from random import Random
from typing import Any, cast

import schemathesis
from graphql import GraphQLInputObjectType, GraphQLNamedType, GraphQLObjectType, get_named_type, is_composite_type
from hypothesis import strategies as st
from hypothesis_graphql import nodes

from graph.schema import executable, schema
from tests.support.access_ways import ROOTS
from tests.support.fuzz.schema_documents import generated

SAMPLES: dict[str, list[Any]] = json.loads((Path(__file__).parents[2] / "fuzz_samples.json").read_text())
GLOBAL_IDS = [base64.b64encode(text.encode()).decode() for text in SAMPLES["global_ids"]]
JUNK = [*SAMPLES["junk"], "9" * 5_000, "{a:" * 100, "[" * 500, "{ node(id: 1) " * 60]

texts = st.sampled_from([*SAMPLES["words"], "a" * 10_000, "9" * 4_400]) | st.text(max_size=30)
numbers = st.sampled_from(SAMPLES["numbers"]) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
plain: st.SearchStrategy[Any] = st.none() | st.booleans() | numbers | texts | st.sampled_from(GLOBAL_IDS)
anything = st.recursive(plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=8)

_generator: Any = schemathesis.graphql  # Typed in part only.
for scalar in ("Decimal", "DateTime", "BigInt", "ByteCount", "JSON"):
    _generator.scalar(scalar, texts.map(nodes.String))
_by_schema: list[Any] = [each.ok().as_strategy() for each in _generator.from_file(io.StringIO(schema.as_str())).get_all_operations()]
documents: st.SearchStrategy[str] = st.one_of(_by_schema).map(lambda case: case.body)
"""Valid ones."""


def _asked(root: GraphQLObjectType, name: str) -> tuple[str, dict[str, Any]]:
    """An operation for one field of a root, with its arguments as variables; and their types."""
    field = root.fields[name]
    arguments = {argument: definition.type for argument, definition in field.args.items()}
    declared, given = (
        ", ".join(f"{each}" for each in parts)
        for parts in ([f"${a}: {t}" for a, t in arguments.items()], [f"{a}: ${a}" for a in arguments])
    )
    named = cast("GraphQLNamedType", get_named_type(field.type))
    inner = (
        "{ totalCount nodes { __typename } }" if str(named).endswith("Connection") else "{ __typename }" if is_composite_type(named) else ""
    )
    return f"{root.name.lower()} {f'({declared})' if declared else ''} {{ {name}{f'({given})' if given else ''} {inner} }}", arguments


# Streams of all events never end.
ASKED = [
    _asked(root, name)
    for root in (cast("GraphQLObjectType", executable.type_map[kind]) for kind in ROOTS)
    for name in root.fields
    if not name.endswith("Events")
]


def _shaped(type_: Any) -> st.SearchStrategy[Any]:
    """Values of about the right shape."""
    named = cast("GraphQLNamedType", get_named_type(type_))
    if isinstance(named, GraphQLInputObjectType):
        fields = {name: _shaped(field.type) for name, field in named.fields.items()}
        shape: st.SearchStrategy[Any] = st.fixed_dictionaries({}, optional=fields)
    else:
        shape = plain
    return st.lists(shape, max_size=3) if "[" in str(type_) else shape


@st.composite
def with_variables(draw: st.DrawFn) -> dict[str, Any]:
    query, arguments = draw(st.sampled_from(ASKED))
    return {"query": query, "variables": {name: draw(_shaped(type_)) for name, type_ in arguments.items()}}


@st.composite
def damaged(draw: st.DrawFn) -> str:
    tokens = re.findall(
        r'"(?:[^"\\]|\\.)*"|\w+|\s+|.', draw(st.sampled_from([*SAMPLES["documents"], *(query for query, _ in ASKED)]) | documents)
    )
    for _ in range(draw(st.integers(1, 6))):
        at, what = draw(st.integers(0, len(tokens))), draw(st.sampled_from(("drop", "double", "insert", "swap")))
        if what == "insert" or at == len(tokens):
            tokens.insert(at, draw(st.sampled_from(JUNK) | texts))
        elif what == "drop":
            del tokens[at]
        elif what == "double":
            tokens[at:at] = tokens[at : at + draw(st.integers(1, 30))]
        else:
            tokens[at] = draw(st.sampled_from(JUNK))
    return "".join(tokens)


requests = (
    with_variables()
    | st.integers(0, 2**60).map(lambda seed: generated(Random(seed)).request)
    | st.fixed_dictionaries(
        {"query": damaged() | anything},
        optional={"variables": anything, "operationName": plain, "extensions": anything, "documentId": plain},
    )
)

_extremes = st.sampled_from(SAMPLES["keys"])
positions = st.tuples(_extremes | plain, st.sampled_from([1, 2, 2**63 - 1]) | plain).map(list) | anything


def cursor(mark: str, position: Any) -> str:
    """The mark of a real list, and any position in it."""
    content = [mark, *cast("list[Any]", position)] if isinstance(position, list) else position
    return base64.urlsafe_b64encode(json.dumps(content, ensure_ascii=False).encode()).decode().rstrip("=")


frames = (
    st.fixed_dictionaries(
        {"type": st.sampled_from(SAMPLES["frame_types"]) | plain},
        optional={"id": st.sampled_from(["1", "2"]) | plain, "payload": requests | anything},
    ).map(json.dumps)
    | st.sampled_from([*SAMPLES["frames"], "[" * 3_000])
    | st.binary(max_size=20)
)
