"""Keys of subscriptions: one for the events that a subscriber receives, one for how each event is executed.

Arguments of the root field choose events: which items, from which cursor on. They do not matter to the execution of an event, which is the
selection's alone: subscribers who resume from different cursors share it (`graph.kit.execution.shared_execution`). The argument `after` is the place to resume from, on
every subscription that has one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any, cast

import orjson
from graphql import (
    SKIP,
    ArgumentNode,
    FieldNode,
    FragmentDefinitionNode,
    NameNode,
    OperationDefinitionNode,
    StringValueNode,
    VariableNode,
    Visitor,
    print_ast,
    visit,
)

from graph.kit.execution.engine import Operation

AFTER = "after"

Arguments = tuple[ArgumentNode, ...]


def starting_after(operation: Operation, cursor: str) -> Operation:
    """The same subscription with `after: cursor` on its root field, whatever it said before; a field without `after` ignores it.

    Its source changes with it: whatever is kept by source must not mix up two places in the log.
    """
    there = ArgumentNode(name=NameNode(value=AFTER), value=StringValueNode(value=cursor))
    return _with_arguments(operation, lambda arguments: (*_without_after(arguments), there))


def from_now(operation: Operation) -> Operation:
    """The same subscription without the events that are there already."""
    return _with_arguments(operation, _without_after)


def selection_key(operation: Operation, variables: Mapping[str, Any] | None) -> bytes:
    """The same for operations that make the same of an event, whichever events they get."""
    return _key(operation, "selection", lambda _: (), variables)


def stream_key(operation: Operation, variables: Mapping[str, Any] | None) -> bytes:
    """The same for operations that make the same of the same new events, wherever they resume."""
    return _key(operation, "stream", _without_after, variables)


def _key(operation: Operation, kind: str, arguments: Callable[[Arguments], Arguments], variables: Mapping[str, Any] | None) -> bytes:
    known = operation.derived.get(kind)
    if known is None:
        known = operation.derived[kind] = _text(_with_arguments(operation, arguments))
    text, names = known
    supplied = {name: variables[name] for name in names if name in variables} if variables else {}
    return blake2b(text + orjson.dumps(supplied, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def _text(operation: Operation) -> tuple[bytes, tuple[str, ...]]:
    """A digest of what is selected, with the definitions of the variables in it, and their names. The operation's own name does not matter."""
    used = _Variables()
    selected = [operation.definition, *(each for each in operation.document.definitions if isinstance(each, FragmentDefinitionNode))]
    for node in selected:
        visit(node, used)
    definitions = [each for each in operation.definition.variable_definitions or () if each.variable.name.value in used.names]
    printed = [*definitions, operation.definition.selection_set, *selected[1:]]
    return blake2b("\n".join(map(print_ast, printed)).encode(), digest_size=16).digest(), tuple(sorted(used.names))


def _with_arguments(operation: Operation, arguments: Callable[[Arguments], Arguments]) -> Operation:
    root = operation.first_root_field
    assert root is not None, "a valid subscription has one root field"
    index = operation.document.definitions.index(operation.definition)
    document = visit(operation.document, _Rewrite(root, arguments))
    definition = cast("OperationDefinitionNode", document.definitions[index])
    return replace(operation, source=print_ast(document), document=document, definition=definition)


def _without_after(arguments: Arguments) -> Arguments:
    return tuple(each for each in arguments if each.name.value != AFTER)


class _Rewrite(Visitor):
    def __init__(self, root: FieldNode, arguments: Callable[[Arguments], Arguments]) -> None:
        super().__init__()
        self._root, self._arguments = root, arguments

    def enter_field(self, node: FieldNode, *_: object) -> FieldNode | None:
        return replace(node, arguments=self._arguments(tuple(node.arguments or ()))) if node is self._root else None


class _Variables(Visitor):
    """The names of the variables that selections use."""

    def __init__(self) -> None:
        super().__init__()
        self.names = set[str]()

    def enter_variable_definition(self, *_: object) -> Any:
        return SKIP

    def enter_variable(self, node: VariableNode, *_: object) -> None:
        self.names.add(node.name.value)
