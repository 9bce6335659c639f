"""Upserts: rows of another system's list, matched with the items that they are about, in a handful of statements however many rows there are.

What a row does not give stays as it is, and a row that changes nothing writes nothing: its item is read without a lock, and gets no version, event or
index entry. The other items are locked in order of their ids and looked at again, so that two lists at once do not wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.items import external_ids
from persistence.items import table as items
from persistence.items.table import Item, ItemValues
from persistence.kit.column_types import CENT, utc_now
from persistence.kit.database import bulk_insert
from persistence.kit.database.database import UnitOfWork
from persistence.kit.errors import InvalidInput, Problem
from persistence.kit.events.log import record_all
from persistence.kit.imports.outcomes import RowPatch, Upserted, UpsertOutcome
from persistence.kit.query.conditions import among
from persistence.kit.rows import refuse_null

REQUIRED = ("name", "price")
DELETED_MEANWHILE = "its item was deleted meanwhile: send the row again"
_READ = ("id", *ItemValues.__dataclass_fields__, "version", "created_at", "updated_at", "owner_id")
_ALWAYS = ("name", "description", "price", "inventory", "external_id")  # The others have indexes that triggers keep.
_WORDS = ("name", "description")


class ItemPatch(RowPatch):
    """What a row gives an item, as it is kept."""

    @classmethod
    def checked(cls, values: Mapping[str, Any], row_id: int | None = None, created_at: datetime | None = None) -> ItemPatch:
        """Raises: InvalidInput."""
        refuse_null(items.ENTITY, values)
        new = dict(values)
        if "tags" in new:
            new["tags"] = [tag.strip() for tag in new["tags"]]
        items.check(new)
        if "price" in new:
            new["price"] = abs(new["price"]).quantize(CENT)
        return cls(new, row_id, created_at)


UpsertResult: TypeAlias = Upserted | InvalidInput


@dataclass(frozen=True)
class _Step:
    """What is to be done for a row. `row` has an item's attributes as they are now, if there is an item."""

    outcome: UpsertOutcome
    row: Any
    fields: Sequence[str] = ()

    def done(self) -> Upserted:
        return Upserted(self.outcome, None if self.row is None else self.row.id, self.fields)


_StepResult: TypeAlias = _Step | InvalidInput


async def plan(session: AsyncSession, patches: Sequence[ItemPatch]) -> list[UpsertResult]:
    """What `upsert` would do, without a lock. External ids are looked at once, so that one which is given meanwhile is not taken for another item's."""
    named = await _named(session, patches)
    return _results(_refuse_taken(patches, _steps(patches, await _rows(session, patches, named)), named))


async def upsert(work: UnitOfWork, patches: Sequence[ItemPatch], *, owner_id: int | None) -> list[UpsertResult]:
    """Create and change items; a row that is refused changes nothing."""
    steps = _steps(patches, await _rows(work.session, patches, await _named(work.session, patches)))
    places = [place for place, step in enumerate(steps) if isinstance(step, _Step) and step.outcome is not UpsertOutcome.UNCHANGED]
    if not places:
        return _results(steps)
    changing = [patches[place] for place in places]
    names = _new_ids(changing, [steps[place] for place in places])
    taken = await items.claim_external_ids(work, names)
    rows = await _rows(work.session, changing, await _named(work.session, changing), lock=True)
    locked = _refuse_taken(changing, _steps(changing, rows), taken)
    locked = [_refuse_late(patch, step, names) for patch, step in zip(changing, locked, strict=True)]
    await _update(work, changing, locked)
    await _create(work, changing, locked, owner_id)
    for place, step in zip(places, locked, strict=True):
        steps[place] = step
    return _results(steps)


def _results(steps: Sequence[_StepResult]) -> list[UpsertResult]:
    return [step.done() if isinstance(step, _Step) else step for step in steps]


def _new_ids(patches: Sequence[ItemPatch], steps: Sequence[_StepResult]) -> set[str]:
    """The external ids that items get."""
    return {name for patch, step in zip(patches, steps, strict=True) if (name := _new_id(patch, step)) is not None}


async def _named(session: AsyncSession, patches: Sequence[ItemPatch]) -> Mapping[str, int]:
    """The items that have external ids which the patches give."""
    names = {name for patch in patches if (name := patch.values.get("external_id")) is not None}
    return await items.with_external_ids(session, names) if names else {}


async def _rows(
    session: AsyncSession, patches: Sequence[ItemPatch], named: Mapping[str, int], *, lock: bool = False
) -> Mapping[int | str, Any]:
    """The items that the patches are about, by id and external id; `lock` locks them in order of their ids."""
    found = (named.get(patch.values["external_id"]) if patch.row_id is None else patch.row_id for patch in patches)
    ids = {each for each in found if each is not None}
    statement = select(*(getattr(Item, name) for name in _READ)).where(among(Item.id, ids), Item.deleted_at.is_(None)).order_by(Item.id)
    rows = (await session.execute(statement.with_for_update(key_share=True) if lock else statement)).all() if ids else ()
    return {row.id: row for row in rows} | {row.external_id: row for row in rows if row.external_id is not None}


def _steps(patches: Sequence[ItemPatch], rows: Mapping[int | str, Any]) -> list[_StepResult]:
    results, found = list[_StepResult](), set[int]()
    for patch in patches:
        row = rows.get(patch.values["external_id"] if patch.row_id is None else patch.row_id)
        if row is not None and patch.created_at not in {None, row.created_at}:
            row = None
        if row is not None and row.id in found:
            results.append(InvalidInput.at("id" if patch.row_id else external_ids.PATH, external_ids.REPEATED))
            continue
        results.append(_compared(patch, row))
        found |= {row.id} if row is not None else set()
    return results


def _compared(patch: ItemPatch, row: Any) -> _StepResult:
    if row is None:
        return _new(patch)
    changed = [name for name, value in patch.values.items() if getattr(row, name) != value]
    outcome = UpsertOutcome.UPDATED if changed else UpsertOutcome.UNCHANGED
    return _Step(outcome, row, [items.PATHS.get(name, name) for name in changed])


def _new(patch: ItemPatch) -> _StepResult:
    if patch.row_id is not None:
        return InvalidInput.at("id", "there is no such item")
    missing = [name for name in REQUIRED if name not in patch.values]
    if missing:
        return InvalidInput(*(Problem((name,), "must be given: no item has this external id yet") for name in missing))
    return _Step(UpsertOutcome.CREATED, None)


def _new_id(patch: ItemPatch, result: _StepResult) -> str | None:
    """The external id that a row gives to an item that does not have it yet."""
    if isinstance(result, InvalidInput) or result.outcome is UpsertOutcome.UNCHANGED:
        return None
    is_new = result.row is None or external_ids.PATH in result.fields
    return patch.values.get("external_id") if is_new else None


def _refuse_taken(patches: Sequence[ItemPatch], results: Sequence[_StepResult], taken: Mapping[str, int]) -> list[_StepResult]:
    """`taken` has the items that have external ids which the rows give."""
    found, earlier = list[_StepResult](), set[str]()
    for patch, result in zip(patches, results, strict=True):
        name = _new_id(patch, result)
        if name is not None and (name in taken or name in earlier):
            found.append(InvalidInput.at(external_ids.PATH, external_ids.TAKEN if name in taken else external_ids.REPEATED))
            continue
        found.append(result)
        earlier |= {name} if name is not None else set()
    return found


def _refuse_late(patch: ItemPatch, result: _StepResult, claimed: set[str]) -> _StepResult:
    """A row whose item has gone since it was first looked at would create one without the right to its external id."""
    name = _new_id(patch, result)
    return InvalidInput.at(external_ids.PATH, DELETED_MEANWHILE) if name is not None and name not in claimed else result


async def _update(work: UnitOfWork, patches: Sequence[ItemPatch], steps: Sequence[_StepResult]) -> None:
    changed: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    events: dict[int, Mapping[str, Any]] = {}
    now = utc_now()
    for patch, step in zip(patches, steps, strict=True):
        if isinstance(step, _Step) and step.outcome is UpsertOutcome.UPDATED:
            indexed = _with_triggers(step.fields)
            changed.setdefault(indexed, []).append(_new_values(patch, step.row, indexed) | {"updated_at": now})
            events[step.row.id] = {"fields": list(step.fields)}
    for rows in changed.values():
        await bulk_insert.change(work.session, Item, rows)
    await record_all(work, "item.updated", events)


def _new_values(patch: ItemPatch, row: Any, indexed: Sequence[str]) -> dict[str, Any]:
    values = {name: patch.values.get(name, getattr(row, name)) for name in (*_ALWAYS, "tags")}
    if "search_words" in indexed:
        values |= items.words_of(values["name"], values["description"])
    return {"id": row.id, "version": row.version + 1, **{name: values[name] for name in (*_ALWAYS, *indexed)}}


def _with_triggers(fields: Sequence[str]) -> tuple[str, ...]:
    """The columns with an index that triggers keep, which are written only where they change."""
    words = ("search_words",) if any(name in fields for name in _WORDS) else ()
    return (*words, "tags") if "tags" in fields else words


async def _create(work: UnitOfWork, patches: Sequence[ItemPatch], steps: list[_StepResult], owner_id: int | None) -> None:
    places = [place for place, step in enumerate(steps) if isinstance(step, _Step) and step.outcome is UpsertOutcome.CREATED]
    rows = await items.create_all(work, [ItemValues(**patches[place].values) for place in places], owner_id=owner_id)
    for place, row in zip(places, rows, strict=True):
        steps[place] = _Step(UpsertOutcome.CREATED, row)
