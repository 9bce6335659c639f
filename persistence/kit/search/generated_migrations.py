"""Generated migrations for what Alembic does not compare, such as search indexes and triggers: `scripts/migrate new` writes calls of the functions that make them.

Migrations that were written run these functions for ever: what changes in them takes another migration, for the tables that are there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alembic.autogenerate import comparators, renderers
from alembic.operations import MigrateOperation
from alembic.util import DispatchPriority


@dataclass(frozen=True)
class TablePart:
    """A part of tables, made by the functions `create_NAME` and `drop_NAME` of a module, which take a table's name."""

    name: str
    module: str
    belongs_to: Callable[[Any], bool]
    """A table of the metadata."""
    is_there: Callable[[Any, str], bool]
    """Of a connection and a table's name."""


class CreatePart(MigrateOperation):
    def __init__(self, part: TablePart, table: str) -> None:
        self.part, self.table = part, table

    def reverse(self) -> DropPart:
        return DropPart(self.part, self.table)

    def to_diff_tuple(self) -> tuple[str, str]:
        """As `scripts/check` names what is missing."""
        return (f"add_{self.part.name}", self.table)


class DropPart(MigrateOperation):
    def __init__(self, part: TablePart, table: str) -> None:
        self.part, self.table = part, table


def generate(part: TablePart) -> None:
    """Have migrations written for tables that lack the part."""

    @comparators.dispatch_for("schema", priority=DispatchPriority.LAST)  # After the tables.
    def add_missing(context: Any, operations: Any, _schemas: object) -> None:
        for table in context.metadata.sorted_tables:
            if part.belongs_to(table) and not part.is_there(context.connection, table.name):
                operations.ops.append(CreatePart(part, table.name))


@renderers.dispatch_for(CreatePart)
def _create(context: Any, operation: CreatePart) -> str:
    return _call(context, "create", operation.part, operation.table)


@renderers.dispatch_for(DropPart)
def _drop(context: Any, operation: DropPart) -> str:
    return _call(context, "drop", operation.part, operation.table)


def _call(context: Any, verb: str, part: TablePart, table: str) -> str:
    context.imports.add(f"from {part.module} import {verb}_{part.name}")
    return f'{verb}_{part.name}("{table}")'
