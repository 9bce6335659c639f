"""The size of an operation with its fragments expanded, and the limits on it: depth, selections, aliases, directives, root fields.

Measured on the syntax alone and before validation, so that nothing is taken for granted: fields may be unknown, fragments missing or circular.
Each selection set is measured once and its figures are added wherever it is spread, so the work is linear in the document though what it
counts may be exponential in it: twenty-five fragments, each spread twice in the one before, are 67 million selections and take under a millisecond.

What is counted is what is written. Selections that execution would merge count each time; @skip and @include make no difference here, since
the variables that decide them come later. Levels below `__schema` and `__type` are counted apart, as tools go deeper there than people do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    Node,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    SelectionSetNode,
)

SATURATED = 1_000_000_000  # Counts stop here: JSON has no room for 2**250.
MAX_NESTING = 100  # Levels of braces and spreads on one path. The walk takes three calls a level, and Python's stack ends at 1,000.
INTROSPECTION = frozenset(("__schema", "__type"))


@dataclass(frozen=True, slots=True)
class SizeLimits:
    depth: int = 15  # Three connections inside one another, by way of `edges` and `node`, take ten levels.
    introspection: int = 20  # The longest introspection query in use goes 14 levels below `__schema`.
    selections: int = 2_000  # Fields and fragments.
    aliases: int = 30
    directives: int = 50
    query_roots: int = 30
    mutation_roots: int = 4  # Without this, one document could try a hundred passwords.

    def of(self, figure: str, operation: OperationDefinitionNode) -> int:
        if figure == "roots":
            return self.mutation_roots if operation.operation is OperationType.MUTATION else self.query_roots
        return getattr(self, figure)


class QuerySize(NamedTuple):
    depth: int = 0
    introspection: int = 0
    selections: int = 0
    aliases: int = 0
    directives: int = 0
    roots: int = 0

    def combine(self, other: QuerySize) -> QuerySize:
        return QuerySize(
            max(self.depth, other.depth),
            max(self.introspection, other.introspection),
            min(self.selections + other.selections, SATURATED),
            min(self.aliases + other.aliases, SATURATED),
            min(self.directives + other.directives, SATURATED),
            min(self.roots + other.roots, SATURATED),
        )

    def nest(self, field: FieldNode) -> QuerySize:
        """The same selection, one level further down."""
        apart = field.name.value in INTROSPECTION
        # The sum is too much for one `__schema` inside another, but there is no such thing in a valid document.
        depth, introspection = (0, self.depth + self.introspection) if apart else (self.depth + 1, self.introspection)
        return self._replace(depth=depth, introspection=introspection, roots=0)


EMPTY = QuerySize()
FIGURES = {
    "depth": "is nested {} fields deep",
    "introspection": "goes {} levels deep into introspection",
    "selections": "has {} selections",
    "aliases": "has {} aliases",
    "directives": "has {} directives",
    "roots": "has {} root fields",
}
DEEPEST = ("depth", "introspection")  # Siblings have the greatest of these, and the sum of the others.


def violation(document: DocumentNode, limits: SizeLimits) -> list[GraphQLError]:
    """What is too big in the operations of a document: one error a limit, each with the place where the limit is passed."""
    calculator = SizeCalculator(document)
    try:
        return [
            error
            for node in document.definitions
            if isinstance(node, OperationDefinitionNode)
            for error in calculator.violations(node, limits)
        ]
    except GraphQLError as error:
        return [error]


class SizeCalculator:
    """Measures the operations of one document. Raises: GraphQLError, for fragments that form a circle or are nested too deep to follow."""

    def __init__(self, document: DocumentNode) -> None:
        self._fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
        self._sizes: dict[int, QuerySize] = {}
        self._open: list[str] = []  # The fragments that lead to where the walk is.

    def size(self, operation: OperationDefinitionNode) -> QuerySize:
        return self._of_set(operation.selection_set, 0).combine(_alone(operation))

    def violations(self, operation: OperationDefinitionNode, limits: SizeLimits) -> list[GraphQLError]:
        size = self.size(operation)
        over = [figure for figure in FIGURES if getattr(size, figure) > limits.of(figure, operation)]
        return [self._error(operation, figure, getattr(size, figure), limits.of(figure, operation)) for figure in over]

    def _of_set(self, selections: SelectionSetNode, nesting: int) -> QuerySize:
        size = self._sizes.get(id(selections))
        if size is None:
            size = EMPTY
            for selection in selections.selections:
                size = size.combine(self._of(selection, nesting))
            self._sizes[id(selections)] = size
        return size

    def _of(self, node: SelectionNode, nesting: int) -> QuerySize:
        if nesting > MAX_NESTING:
            raise _refusal(f"The operation is nested more than {MAX_NESTING} levels deep, fragments included.", node)
        if isinstance(node, FragmentSpreadNode):
            return self._of_spread(node, nesting + 1).combine(_alone(node))
        selections = self._selections(node)
        inner = self._of_set(selections, nesting + 1) if selections else EMPTY
        return (inner.nest(node) if isinstance(node, FieldNode) else inner).combine(_alone(node))

    def _of_spread(self, node: FragmentSpreadNode, nesting: int) -> QuerySize:
        name = node.name.value
        if name in self._open:
            raise _refusal(f"Cannot spread fragment '{name}' within itself.", node)
        selections = self._selections(node)
        if selections is None:
            return EMPTY  # There is no such fragment: validation will say so, here it must only not matter.
        self._open.append(name)
        size = self._of_set(selections, nesting)
        self._open.pop()
        return size

    def _selections(self, node: Node) -> SelectionSetNode | None:
        if isinstance(node, FragmentSpreadNode):
            fragment = self._fragments.get(node.name.value)
            return fragment.selection_set if fragment else None
        assert isinstance(node, OperationDefinitionNode | FieldNode | InlineFragmentNode)
        return node.selection_set

    def _error(self, operation: OperationDefinitionNode, figure: str, measured: int, limit: int) -> GraphQLError:
        count = "a billion or more" if measured >= SATURATED else str(measured)
        message = f"The operation {FIGURES[figure].format(count)}, fragments included; at most {limit} are allowed."
        return _refusal(message, self._place(operation, figure, limit), limit=figure, measured=measured, maximum=limit)

    def _place(self, operation: OperationDefinitionNode, figure: str, limit: int) -> Node:
        """The first selection, in the order of reading, with which the figure passes the limit."""
        node: Node = operation
        left = limit - getattr(_alone(node), figure)
        while left >= 0 and (selections := self._selections(node)):
            for selection in selections.selections:
                measured = getattr(self._of(selection, 0), figure)
                if measured > left:
                    node = selection
                    break
                left -= 0 if figure in DEEPEST else measured
            else:
                return node
            if figure == "introspection" and isinstance(node, FieldNode) and node.name.value in INTROSPECTION:
                figure = "depth"
            else:
                left -= getattr(_alone(node), figure)
        return node


def _alone(node: Node) -> QuerySize:
    """The size of a selection, or of an operation, without what it encloses."""
    assert isinstance(node, OperationDefinitionNode | SelectionNode)
    field = isinstance(node, FieldNode)
    return QuerySize(
        depth=int(field),
        selections=int(isinstance(node, SelectionNode)),
        aliases=int(field and node.alias is not None),
        directives=len(node.directives or ()),
        roots=int(field),
    )


def _refusal(message: str, node: Node, **figures: str | int) -> GraphQLError:
    return GraphQLError(message, [node], extensions={"code": "GRAPHQL_VALIDATION_FAILED", **figures})
