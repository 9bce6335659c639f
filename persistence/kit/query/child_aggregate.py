"""Numbers about the rows that point to a parent: how many there are, and the average of one of their columns. One statement serves many parents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

from sqlalchemy import BigInteger, Select, cast, func, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.kit.column_types import CENT
from persistence.kit.query.entity import ChildList


class AggregateFunction(Enum):
    COUNT = "count"
    AVERAGE = "average"


@dataclass(frozen=True, eq=False)
class ChildAggregate:
    """`attribute` holds whole numbers, or money; only an average looks at it. Rows without a value there count for nothing."""

    children: ChildList
    function: AggregateFunction
    attribute: str = "id"

    def statement(self, parents: Any) -> Select[Any]:
        """The parent, the number of values and their sum, in cents where they are money, for parents of which there are rows.

        `parents` is a list of ids, or SQL for one. The sum is of whole numbers, so that both databases have the same.
        """
        model: Any = self.children.entity.model
        parent, value = getattr(model, self.children.foreign_key), getattr(model, self.attribute)
        total = cast(func.sum(type_coerce(value, BigInteger)), BigInteger)
        found: Any = select(parent, func.count(value), total).where(parent.in_(parents), *self.children.entity.present).group_by(parent)
        return found

    def value(self, count: int, total: int | None) -> int | float | Decimal | None:
        """What the statement's numbers come to; without any row both are 0."""
        if self.function is AggregateFunction.COUNT:
            return count
        if not count or total is None:
            return None
        is_money = self.children.entity.kind(self.attribute) == "Decimal"
        return (Decimal(total) / count).scaleb(-2).quantize(CENT) if is_money else total / count

    async def by_parent(self, session: AsyncSession, parents: Sequence[int]) -> Mapping[int, Any]:
        rows: Sequence[Any] = (await session.execute(self.statement(parents))).all()
        found = {parent: self.value(count, total) for parent, count, total in rows}
        return {parent: found.get(parent, self.value(0, 0)) for parent in parents}
