"""Parses and validates documents at a cost that a hostile text cannot raise.

Cheap refusals come first: characters, then tokens, comments and nesting while parsing, then the size of the operations, and only then the
rules of the specification. Of those, the comparison of fields under one response name is the only one that grows faster than the document
once the rest holds; it works on a budget. On the slow machine this was written on no document takes 0.2 s.
"""

from __future__ import annotations

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    NoSchemaIntrospectionCustomRule,
    SelectionSetNode,
    parse,
    specified_rules,
    validate,
)
from graphql.validation import OverlappingFieldsCanBeMergedRule, ValidationContext
from graphql.validation.validate import ValidationAbortedError

from graph.kit.errors import PARSE_FAILED, VALIDATION_FAILED
from graph.kit.limits.query_size import SizeLimits, violation

MAX_CHARACTERS = 100_000
MAX_TOKENS = 2_000  # The usual introspection query has 183.
MAX_COMMENTS = 500
MAX_ERRORS = 5  # A person mends one at a time; a program gets no list to fill the network with.
MAX_MESSAGE = 300  # Characters: messages quote the document, which may hold one name of 100,000 letters.
UNREADABLE = "The value here cannot be read."
MAX_COMPARISONS = 15_000  # About 0.04 s. Twelve fragments that overlap in every field take 2,200, forty of them 26,000.


LIMITS = SizeLimits()


class BoundedOverlapRule(OverlappingFieldsCanBeMergedRule):
    """The specification's rule, which graphql-core lets run for a second; here it gives up sooner and says where."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self.rule_context.remaining_complexity_budget = MAX_COMPARISONS

    def enter_selection_set(self, selection_set: SelectionSetNode, _key: object, parent: object, *_args: object) -> None:
        try:
            super().enter_selection_set(selection_set, _key, parent)
        except ValidationAbortedError:
            message = f"Too many fields share a name here: comparing them takes more than {MAX_COMPARISONS} steps."
            raise ValidationAbortedError(message, selection_set) from None


RULES = tuple(BoundedOverlapRule if rule is OverlappingFieldsCanBeMergedRule else rule for rule in specified_rules)


def parsed(source: str) -> DocumentNode:
    """Raises: GraphQLError, for a text that is too long, or that is no document."""
    if len(source) > MAX_CHARACTERS:
        message = f"The document has {len(source)} characters; at most {MAX_CHARACTERS} are allowed."
        figures = {"limit": "characters", "measured": len(source), "maximum": MAX_CHARACTERS}
        raise GraphQLError(message, extensions={"code": PARSE_FAILED, **figures})
    try:
        return parse(source, max_lexical_tokens=MAX_TOKENS, max_comments=MAX_COMMENTS)
    except GraphQLError as error:
        raise _coded(error, PARSE_FAILED) from None


def problems(schema: GraphQLSchema, document: DocumentNode, *, introspection: bool, suggestions: bool) -> list[GraphQLError]:
    """What is wrong with a document: that it is too big, or else the first few rules that it breaks."""
    if too_big := violation(document, LIMITS):
        return too_big[:MAX_ERRORS]
    rules = RULES if introspection else (*RULES, NoSchemaIntrospectionCustomRule)
    return [_coded(error, VALIDATION_FAILED) for error in validate(schema, document, rules, MAX_ERRORS, hide_suggestions=not suggestions)]


def _coded(error: GraphQLError, code: str) -> GraphQLError:
    # What Python says of a value, such as of a number with 5,000 digits, is not meant for clients.
    message = UNREADABLE if error.original_error and not isinstance(error.original_error, GraphQLError) else error.message
    message = message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "…"
    return GraphQLError(message, error.nodes, error.source, error.positions, extensions={"code": code})
