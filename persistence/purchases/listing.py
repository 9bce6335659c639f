"""Lists of purchases, in order of time: everybody's, or what one viewer bought and sold."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, bindparam, literal_column, or_, select

from persistence.kit.query.entity_list import EntityList
from persistence.kit.query.paging import OrderedQuery
from persistence.purchases.table import BY_TIME, COMPLETED, ENTITY, Purchase

OPEN = Purchase.status != literal_column(f"'{COMPLETED}'")  # Written out: an index of some rows is not used for a value that is bound.


@dataclass(frozen=True)
class PurchaseList(EntityList):
    """Without a viewer it is everybody's. Each of its conditions has an index in its order, so none is ever read along the whole table."""

    viewer_id: int | None = None

    @property
    def values(self) -> Mapping[str, Any]:
        return super().values if self.viewer_id is None else {**super().values, "viewer_id": self.viewer_id}

    @property
    def form(self) -> Hashable:
        return super().form, self._is_open

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint} {self.viewer_id}"

    def listing(self) -> OrderedQuery[Any]:
        rows = select(Purchase).where(*self._conditions(indexed=True), *((OPEN,) if self._is_open else ()))
        branches = [rows.where(own) for own in self._own()]
        statement = rows.where(or_(*self._own())) if branches else rows
        return OrderedQuery(statement, Purchase.created_at, Purchase.id, self.order.descending, self.fingerprint, branches=branches)

    def _own(self) -> Sequence[ColumnElement[bool]]:
        if self.viewer_id is None:
            return ()
        viewer = bindparam("viewer_id", self.viewer_id, Purchase.buyer_id.type)
        return (Purchase.buyer_id == viewer, Purchase.seller_id == viewer)

    @property
    def _is_open(self) -> bool:
        """Whether only purchases are asked for that are not completed."""
        return any(condition.attribute == "status" and condition.value != COMPLETED for condition in self.conditions)


EVERYBODYS = PurchaseList(ENTITY, BY_TIME)
