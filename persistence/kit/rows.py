"""A row as plain JSON and back, for answers that must be given again word for word after the row has changed."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from sqlalchemy import inspect

from persistence.kit.database import Base

R = TypeVar("R", bound=Base)


def freeze(row: Base) -> dict[str, Any]:
    return {key: _plain(getattr(row, key)) for key in inspect(type(row)).column_attrs.keys()}  # noqa: SIM118 — not a dict


def thaw(entity: type[R], frozen: dict[str, Any]) -> R:
    columns = inspect(entity).columns
    return entity(**{key: _typed(value, columns[key].type.python_type) for key, value in frozen.items() if columns[key].computed is None})


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value) if isinstance(value, Decimal) else value


def _typed(value: Any, python_type: type[Any]) -> Any:
    if value is None:
        return None
    return datetime.fromisoformat(value) if python_type is datetime else Decimal(value) if python_type is Decimal else value
