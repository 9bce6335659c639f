"""The bounded run of the fuzz finds a fault that is planted, and takes no wrong answer for a right one."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from graphql import GraphQLError, InlineFragmentNode, TypeInfo, TypeInfoVisitor, Visitor, parse, visit

from graph.kit.execution import coercion, engine
from graph.kit.execution.validation import problems
from graph.kit.limits.cost import CostEstimator
from graph.kit.limits.query_size import SizeCalculator
from graph.kit.planner.arguments import Plain
from graph.kit.planner.collect_fields import FieldCollector
from graph.schema import executable
from tests.conftest import settings_for
from tests.support.fuzz.grammar import Free
from tests.support.fuzz.invariants import judge_response, listening_to_complaints
from tests.support.fuzz.schema_documents import generated
from tests.support.fuzz.target import SUITE_DOCUMENTS, Target, hunted, seeds
from tests.support.service import running

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    Plant = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture
async def target(tmp_path: Path) -> AsyncGenerator[Target]:
    """A service of its own for each fault: one that has seen a document prepares it no more."""
    settings = await settings_for("sqlite", tmp_path, debug=False)
    async with hunted(settings) as target, running(settings.model_copy(update={"fast_path_enabled": False})) as reference:
        target.reference = reference
        yield target


def empty_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first root field is looked for where there is none."""

    def first_field(selections: Any, fragments: Any) -> Any:
        first = selections.selections[0]
        if first.kind == "field":
            return first
        return first_field((fragments[first.name.value] if first.kind == "fragment_spread" else first).selection_set, fragments)

    monkeypatch.setattr(engine, "_first_field", first_field)


def null_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coercion of arguments takes each value for one that is not null."""
    members: Any = coercion._Members  # pyright: ignore[reportPrivateUsage] -- a fault is put in where no public name reaches
    convert: Any = members.__call__

    def without_null(self: Any, given: Any) -> Any:
        assert None not in given.values()
        return convert(self, given)

    monkeypatch.setattr(members, "__call__", without_null)


def variable_of_another_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coercion of arguments takes variables as they come: absent ones without their default."""

    def plain(_self: Any, _variables: Any) -> bool:
        return True

    monkeypatch.setattr(Plain, "__call__", plain)


def unknown_fragment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spread names a fragment that there is not."""

    def selections(ruler: Any, node: Any) -> Any:
        return ruler._fragments[node.name.value].selection_set if node.kind == "fragment_spread" else node.selection_set

    monkeypatch.setattr(SizeCalculator, "_selections", selections)


def fragment_without_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """An inline fragment says no type."""
    collect: Any = CostEstimator._collect  # pyright: ignore[reportPrivateUsage] -- as above

    def demanding(biller: Any, type_: Any, selections: Any, fields: Any, seen: Any) -> None:
        assert all(node.type_condition for node in selections.selections if isinstance(node, InlineFragmentNode))
        collect(biller, type_, selections, fields, seen)

    monkeypatch.setattr(CostEstimator, "_collect", demanding)


def fragment_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast path answers without the fields of inline fragments: nothing fails, and the answer is wrong."""
    collect: Any = FieldCollector._collect  # pyright: ignore[reportPrivateUsage] -- as above

    def leaving_out(selection: Any, type_: Any, selection_set: Any, found: Any, seen: Any) -> None:
        left = [node for node in selection_set.selections if not isinstance(node, InlineFragmentNode)]
        collect(selection, type_, type(selection_set)(selections=tuple(left)), found, seen)

    monkeypatch.setattr(FieldCollector, "_collect", leaving_out)


def error_without_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def uncoded(error: Any, _code: str) -> Any:
        return error

    monkeypatch.setattr(engine, "_coded", uncoded)


PLANTED = [
    empty_selection,
    null_argument,
    variable_of_another_type,
    unknown_fragment,
    fragment_without_type,
    fragment_left_out,
    error_without_code,
]


@pytest.mark.parametrize("plant", PLANTED)
async def test_is_found_by_the_bounded_run(target: Target, monkeypatch: pytest.MonkeyPatch, plant: Plant) -> None:
    plant(monkeypatch)
    with listening_to_complaints() as complaints, pytest.raises(AssertionError):
        await target.hunt(seeds(SUITE_DOCUMENTS), complaints)


BROKEN: dict[str, dict[str, Any]] = {
    "empty": {},
    "no data and no error": {"extensions": {}},
    "null without an error": {"data": None},
    "data that is a list": {"data": []},
    "an empty list of errors": {"data": {}, "errors": []},
    "another key": {"data": {}, "status": 200},
    "an error without a code": {"errors": [{"message": "No.", "extensions": {}}]},
    "an error without extensions": {"errors": [{"message": "No."}]},
    "an error of the inside": {"errors": [{"message": "No.", "extensions": {"code": "INTERNAL_SERVER_ERROR"}}]},
    "an unknown code": {"errors": [{"message": "No.", "extensions": {"code": "OOPS"}}]},
    "an empty message": {"errors": [{"message": "", "extensions": {"code": "BAD_USER_INPUT"}}]},
    "a location at line 0": {
        "errors": [{"message": "No.", "locations": [{"line": 0, "column": 1}], "extensions": {"code": "BAD_USER_INPUT"}}]
    },
    "no location": {"errors": [{"message": "No.", "locations": [], "extensions": {"code": "BAD_USER_INPUT"}}]},
    "a path before execution": {"errors": [{"message": "No.", "path": ["a"], "extensions": {"code": "BAD_USER_INPUT"}}]},
    "a path to what is there": {"data": {"a": 1}, "errors": [{"message": "No.", "path": ["a"], "extensions": {"code": "BAD_USER_INPUT"}}]},
    "a path of another kind": {
        "data": {"a": [None]},
        "errors": [{"message": "No.", "path": ["a", "0"], "extensions": {"code": "FORBIDDEN"}}],
    },
}
RIGHT: list[dict[str, Any]] = [
    {"data": {}},
    {"data": {"a": [1]}, "extensions": {"cost": 1}},
    {"errors": [{"message": "No.", "locations": [{"line": 1, "column": 1}], "extensions": {"code": "GRAPHQL_VALIDATION_FAILED"}}]},
    {"data": None, "errors": [{"message": "No.", "path": ["a", 0, "b"], "extensions": {"code": "FORBIDDEN"}}]},
    {"data": {"a": [None]}, "errors": [{"message": "No.", "path": ["a", 0, "b"], "extensions": {"code": "FORBIDDEN"}}]},
]


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_answers_that_break_the_response_format_are_refused(answer: dict[str, Any]) -> None:
    with pytest.raises((AssertionError, KeyError)):
        judge_response(answer)


@pytest.mark.parametrize("answer", RIGHT)
def test_answers_in_the_response_format_are_taken(answer: dict[str, Any]) -> None:
    judge_response(answer)


class _Forms(Visitor):
    """Which forms of the grammar a document has."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = Counter[str]()

    def enter(self, node: Any, _key: Any, parent: Any, *_: Any) -> None:
        self.seen[node.kind] += 1
        if node.kind == "selection_set" and not node.selections:
            self.seen[f"empty selection of {parent.kind}"] += 1
        if node.kind == "string_value":
            self.seen["block string" if node.block else "string"] += 1
        if getattr(node, "description", None):
            self.seen[f"described {node.kind}"] += 1
        if getattr(node, "directives", None):
            self.seen[f"directive on {node.kind}"] += 1
        if node.kind == "inline_fragment":
            self.seen["fragment without type" if node.type_condition is None else "fragment with type"] += 1
        if node.kind == "variable_definition" and node.default_value:
            self.seen["default"] += 1


EXPECTED = {
    *(
        "int_value",
        "float_value",
        "boolean_value",
        "null_value",
        "enum_value",
        "list_value",
        "object_value",
        "variable",
        "string",
        "block string",
    ),
    *("empty selection of operation_definition", "empty selection of field", "empty selection of inline_fragment"),
    *(
        "empty selection of fragment_definition",
        "described operation_definition",
        "described fragment_definition",
        "described variable_definition",
    ),
    *("directive on field", "directive on fragment_spread", "directive on inline_fragment", "directive on variable_definition"),
    *("directive on operation_definition", "directive on fragment_definition", "default", "fragment without type", "fragment with type"),
    *("list_type", "non_null_type", "object_type_definition", "directive_definition", "schema_definition", "enum_type_definition"),
}


def test_the_bounded_run_has_every_form_of_the_grammar_and_mostly_valid_documents() -> None:
    forms, valid, invalid, ignored, roots = _Forms(), 0, 0, set[str](), set[str]()
    for seed in seeds(SUITE_DOCUMENTS):
        made = generated(Random(seed))
        ignored.update(each for each in ("#", ",", "\ufeff", "\t", "\r", "\n") if each in made.query)
        try:
            document = parse(made.query)
        except GraphQLError:
            assert not made.valid
            continue
        visit(document, forms)
        if made.valid and not problems(executable, document, introspection=True, suggestions=False):
            valid += 1
            roots.update(_root_fields(document))
        else:
            invalid += 1
    assert set(forms.seen) >= EXPECTED
    assert ignored == {"#", ",", "\ufeff", "\t", "\r", "\n"}
    assert valid > SUITE_DOCUMENTS * 0.4
    assert invalid > SUITE_DOCUMENTS * 0.2
    every = [
        name for type_ in (executable.query_type, executable.mutation_type, executable.subscription_type) if type_ for name in type_.fields
    ]
    assert len({*every} - {*roots}) <= len(every) // 8


DEFINED = ("scalar_type", "object_type", "interface_type", "union_type", "enum_type", "input_object_type", "directive")
DEFINITIONS = {"schema_definition", "schema_extension", "field_definition", "input_value_definition", "enum_value_definition"} | {
    *(f"{kind}_{form}" for kind in DEFINED for form in ("definition", "extension")),
    *(f"directive on {kind}_{form}" for kind in (*DEFINED, "schema") for form in ("definition", "extension")),
    *(f"directive on {kind}_definition" for kind in ("field", "input_value", "enum_value")),
    *(f"described {kind}_definition" for kind in (*DEFINED, "schema", "field", "input_value", "enum_value")),
}


def test_makes_every_form_of_a_type_system_too() -> None:
    """Which no service executes, and each parses."""
    forms, unreadable = _Forms(), 0
    for seed in range(900):
        made = Free(Random(seed)).document()
        try:
            visit(parse(made.query), forms)
        except GraphQLError:
            unreadable += 1  # Where an empty selection stands behind a type that has no fields, it is taken for these.
    assert DEFINITIONS - set(forms.seen) == set()
    assert unreadable < 9


def _root_fields(document: Any) -> set[str]:
    """Names of all fields on a root, inside fragments or not."""
    types, found = TypeInfo(executable), set[str]()

    class Roots(Visitor):
        def enter_field(self, node: Any, *_: Any) -> None:
            parent = types.get_parent_type()
            if parent in {executable.query_type, executable.mutation_type, executable.subscription_type}:
                found.add(node.name.value)

    visit(document, TypeInfoVisitor(types, Roots()))
    return found
