"""Serializes results as plain JSON and back, for answers that must be repeated word for word after the rows have changed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar

from sqlalchemy import inspect

from persistence.kit.database.database import Base

T = TypeVar("T")
R = TypeVar("R", bound=Base)


@dataclass(frozen=True)
class Serializer(Generic[T]):
    """How one kind of answer is kept."""

    dump: Callable[[T], Any]
    load: Callable[[Any], T]


NO_RESULT: Serializer[None] = Serializer(lambda _: None, lambda _: None)
NUMBER: Serializer[int] = Serializer(lambda number: number, lambda number: number)


def row_of(entity: type[R], *, without: Collection[str] = ()) -> Serializer[R]:
    """A row, without columns that no answer shows: they come back as None."""
    columns = inspect(entity).columns
    names = [name for name, column in columns.items() if column.computed is None and name not in without]

    def dump(row: R) -> dict[str, Any]:
        return {name: _plain(getattr(row, name)) for name in names}

    def load(stored: dict[str, Any]) -> R:
        return entity(**{name: _typed(value, columns[name].type.python_type) for name, value in stored.items()})

    return Serializer(dump, load)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value) if isinstance(value, Decimal) else value


def _typed(value: Any, python_type: type[Any]) -> Any:
    if value is None:
        return None
    return datetime.fromisoformat(value) if python_type is datetime else Decimal(value) if python_type is Decimal else value
