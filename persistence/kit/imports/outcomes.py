"""What became of a row that another system gave: of an upsert, and of an import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, TypeAlias

from persistence.kit.errors import DomainError


@dataclass(frozen=True)
class RowPatch:
    """What a row gives: values by attributes, and the id of the row that it is about where it is not found by its key.

    With `created_at`, only a row of that instant is the one: an id alone may be that of another database.
    """

    values: Mapping[str, Any]
    row_id: int | None = None
    created_at: datetime | None = None


class UpsertOutcome(Enum):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Upserted:
    """What a row did, to which row of the table, and the fields that changed, by the API's names. One that is yet to be created has no id."""

    outcome: UpsertOutcome
    row_id: int | None
    fields: Sequence[str] = ()

    @property
    def is_change(self) -> bool:
        return self.outcome is not UpsertOutcome.UNCHANGED


ImportResult: TypeAlias = Upserted | DomainError
