"""What the objects of a plan cost, by the operation's estimate: the same that is counted on an answer of the reference executor.

A planned field's cost does not depend on variables: what they change is the number of objects. The estimate has the costs of all types that an
interface's object may have; where two of them differ under one response name, the more expensive counts for both, which no plan follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graph.kit.limits.cost import FieldCost, Named, Size
from graph.kit.planner.unplannable import Unplannable


@dataclass(frozen=True)
class PlanCost:
    """Of one field: `weight` for each of its values, or of its elements if it is a list, beside what stands below."""

    weight: int
    below: PlanCosts
    supplied: int | Size = 0
    """For arguments that are given, by the variables; only of root fields."""
    counted: bool = False
    """Whether its value is a number of rows that were counted, which are priced too."""
    charges: Sequence[FieldCost] = ()
    """For a field whose value is priced as the reference executor's is: by what it holds."""


class PlanCosts:
    """Of the fields of one object."""

    def __init__(self, named: Named, *, of_roots: bool = False) -> None:
        self._named, self._of_roots = dict(named), of_roots

    def of(self, response_name: str) -> PlanCost:
        """Raises: Unplannable."""
        charges = self._named.get(response_name)
        if not charges:
            return NO_COST
        first = charges[0]
        if first.rule.each or (first.supplied and not self._of_roots) or any(not _equal(first, other) for other in charges[1:]):
            raise Unplannable("a price that depends on more than the number of objects")
        return PlanCost(first.rule.weight, PlanCosts(first.named), first.supplied, bool(first.rule.counted_rows), charges)

    def charges(self, response_name: str) -> Sequence[FieldCost]:
        """For a field whose value is priced as the reference executor's is: by what it holds."""
        return self._named.get(response_name, ())


def _equal(one: FieldCost, other: FieldCost) -> bool:
    return one.rule == other.rule and one.supplied == other.supplied and _equal_below(one.named, other.named)


def _equal_below(one: Named, other: Named) -> bool:
    return [name for name, _ in one] == [name for name, _ in other] and all(
        _equal_all(charges, others) for (_, charges), (_, others) in zip(one, other, strict=True)
    )


def _equal_all(charges: Sequence[FieldCost], others: Sequence[FieldCost]) -> bool:
    return len(charges) == len(others) and all(map(_equal, charges, others))


NO_COST = PlanCost(0, PlanCosts(()))
