"""What an import of a file does to items: rows are matched by external ids, and written by upserts, many in a few statements."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from persistence import audit
from persistence.audit import NewAuditEntry
from persistence.items import table as items
from persistence.items import upserts
from persistence.items.table import Item, ItemValues
from persistence.items.upserts import ItemPatch
from persistence.kit.database.database import UnitOfWork
from persistence.kit.errors import InvalidInput
from persistence.kit.imports.file_rows import FileForm, Match
from persistence.kit.imports.file_sync import SyncOptions
from persistence.kit.imports.outcomes import ImportResult, Upserted, UpsertOutcome


def _new(values: Mapping[str, Any]) -> ItemValues:
    """Raises: InvalidInput."""
    draft = ItemValues(**values)
    draft.check()
    return draft


FORM = FileForm(items.ENTITY, "Item", ItemValues, ("external_id",), _new, ItemPatch.checked, match_by_key="external-id")
from_csv, from_json_lines = FORM.from_csv, FORM.from_json_lines


class ItemImport:
    form = FORM

    async def compare(self, session: AsyncSession, contents: Sequence[Any], options: SyncOptions) -> Sequence[ImportResult | None]:
        if options.match is not Match.NONE:
            return await upserts.plan(session, contents)
        if not options.dry_run:
            return [None] * len(contents)
        refused = items.refusals(contents, await items.with_external_ids(session, items.external_ids_of(contents)))
        return _creations(refused, [None] * (len(contents) - len(refused)))

    async def apply(self, work: UnitOfWork, contents: Sequence[Any], options: SyncOptions) -> Sequence[ImportResult]:
        results = (
            await self._create(work, contents, options) if options.match is Match.NONE else await self._upsert(work, contents, options)
        )
        changed = sum(isinstance(result, Upserted) and result.is_change for result in results)
        await audit.write(work, "items.imported", actor_id=options.actor_id, detail={"rows": changed})
        return results

    async def _upsert(self, work: UnitOfWork, contents: Sequence[ItemPatch], options: SyncOptions) -> Sequence[ImportResult]:
        return await upserts.upsert(work, contents, owner_id=options.owner_id)

    async def _create(self, work: UnitOfWork, contents: Sequence[ItemValues], options: SyncOptions) -> Sequence[ImportResult]:
        refused = items.refusals(contents, await items.claim_external_ids(work, items.external_ids_of(contents)))
        new = [draft for place, draft in enumerate(contents) if place not in refused]
        made = await items.create_all(work, new, owner_id=options.owner_id)
        return _creations(refused, [item.id for item in made])

    async def keyed(self, session: AsyncSession, after: int, most: int) -> Mapping[int, str]:
        having = (Item.id > after, Item.external_id.is_not(None), *items.ENTITY.present)
        rows: Sequence[Any] = (await session.execute(select(Item.id, Item.external_id).where(*having).order_by(Item.id).limit(most))).all()
        return dict(rows)

    async def delete(self, work: UnitOfWork, row_ids: Collection[int], options: SyncOptions) -> Sequence[int]:
        ids = await items.delete_all(work, row_ids)
        await audit.write_all(work, "item.deleted", [NewAuditEntry(options.actor_id, ("Item", id_)) for id_ in ids])
        return ids


def _creations(refused: Mapping[int, InvalidInput], ids: Sequence[int | None]) -> Sequence[ImportResult]:
    """The results in the drafts' order; `refused` has places among these."""
    made = iter(ids)
    return [refused.get(place) or Upserted(UpsertOutcome.CREATED, next(made)) for place in range(len(refused) + len(ids))]


IMPORT = ItemImport()
