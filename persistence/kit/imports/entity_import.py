"""Imports that an entity declares: each row of a file is created or changed by the entity's own commands, so that their rules and refusals are those of the API.

    IMPORT = EntityImport(ENTITY, ReviewValues, create, change, key=("item_id", "author_id"), owner="author_id")

`create(work, values, actor_id=…)` returns the row; `change(work, row_id, changes, actor_id=…, owner=…, version=None)` is given what differs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.kit.database.database import Base, UnitOfWork
from persistence.kit.errors import DomainError, InvalidInput, Problem
from persistence.kit.imports.file_rows import FileForm, Match
from persistence.kit.imports.file_sync import SyncOptions
from persistence.kit.imports.outcomes import ImportResult, RowPatch, Upserted, UpsertOutcome
from persistence.kit.query.conditions import among
from persistence.kit.query.entity import Entity

FIXED = "must stay as it is: it tells this row from others"


@dataclass(frozen=True)
class EntityImport:
    """`values` is the dataclass of what clients give. `key` are the attributes that tell a row from others, of which that of the `owner` is the importer's id."""

    entity: Entity[Any]
    values: type[Any]
    create: Callable[..., Awaitable[Any]]
    change: Callable[..., Awaitable[Any]]
    key: tuple[str, ...]
    owner: str | None = None
    form: FileForm = field(init=False)

    def __post_init__(self) -> None:
        attributes = {each.name for each in fields(self.values)}
        if strange := [name for name in self.key if name not in attributes and name != self.owner]:
            raise TypeError(f"{strange[0]} is part of the key: {self.values.__name__} must have it")
        key = tuple(name for name in self.key if name in attributes)
        needs_owner = self.owner is not None and not self.entity.is_nullable(self.owner)
        object.__setattr__(self, "form", FileForm(self.entity, self.entity.model.__name__, self.values, key, needs_owner=needs_owner))

    def named(self, type_name: str, name_of: Callable[[type[Base]], str]) -> EntityImport:
        """The same with the names of the API's types, for global ids."""
        columns = {name: self.entity.target(name) for name in self.form.attributes.values()}
        references = {name: name_of(target) for name, target in columns.items() if target is not None}
        named = replace(self)
        object.__setattr__(named, "form", replace(self.form, type_name=type_name, references=references))
        return named

    async def compare(self, session: AsyncSession, contents: Sequence[RowPatch], options: SyncOptions) -> Sequence[ImportResult | None]:
        """Of rows that change nothing alone: whether others can be done, their commands say."""
        found = await self._rows(session, contents, options)
        same = [
            row is not None and self._may_change(row, options) and not self._changes(patch, row)
            for patch, row in zip(contents, found, strict=True)
        ]
        return [Upserted(UpsertOutcome.UNCHANGED, row.id) if is_same else None for row, is_same in zip(found, same, strict=True)]

    async def apply(self, work: UnitOfWork, contents: Sequence[RowPatch], options: SyncOptions) -> Sequence[ImportResult]:
        found = await self._rows(work.session, contents, options)
        return [await self._done(work, patch, row, options) for patch, row in zip(contents, found, strict=True)]

    async def _done(self, work: UnitOfWork, patch: RowPatch, row: Any, options: SyncOptions) -> ImportResult:
        """One row, in a savepoint: what its command did before it refused the row is undone."""
        events = len(work.changes)
        try:
            async with work.session.begin_nested():
                return await (self._create(work, patch, options) if row is None else self._change(work, patch, row, options))
        except DomainError as error:
            del work.changes[events:]
            return error

    async def _create(self, work: UnitOfWork, patch: RowPatch, options: SyncOptions) -> Upserted:
        if patch.row_id is not None:
            raise InvalidInput.at("id", f"there is no such {self.form.type_name.lower()}")
        if missing := [self.form.name(name) for name in self.form.required if name not in patch.values]:
            raise InvalidInput(*(Problem((name,), "must be given: there is no row of this key yet") for name in missing))
        row = await self.create(work, self.values(**patch.values), actor_id=options.owner_id)
        return Upserted(UpsertOutcome.CREATED, row.id)

    async def _change(self, work: UnitOfWork, patch: RowPatch, row: Any, options: SyncOptions) -> Upserted:
        changes = self._changes(patch, row)
        if fixed := [self.form.name(name) for name in self.form.key if name in changes]:
            raise InvalidInput.at(fixed[0], FIXED)
        owner = None if self.owner is None or options.of_others else (self.owner, options.owner_id)
        await self.change(work, row.id, changes, actor_id=options.actor_id, owner=owner, version=None)
        return Upserted(UpsertOutcome.UPDATED, row.id, [self.form.name(name) for name in changes])

    def _changes(self, patch: RowPatch, row: Any) -> Mapping[str, Any]:
        return {name: value for name, value in patch.values.items() if getattr(row, name) != value}

    def _may_change(self, row: Any, options: SyncOptions) -> bool:
        return self.owner is None or options.of_others or getattr(row, self.owner) == options.owner_id

    async def _rows(self, session: AsyncSession, contents: Sequence[RowPatch], options: SyncOptions) -> Sequence[Any]:
        """What each is about, if it is there."""
        if options.match is Match.NONE:
            return [None] * len(contents)
        model, first = self.entity.model, self.form.key[0]
        ids = [patch.row_id for patch in contents if patch.row_id is not None]
        keys = [patch.values[first] for patch in contents if patch.row_id is None]
        by_first: ColumnElement[bool] = among(getattr(model, first), keys)
        if self.owner in self.key:  # Of many rows that others have for the same, one is the importer's.
            by_first = and_(by_first, getattr(model, self.owner) == options.owner_id)
        statement = select(model).where(or_(among(model.id, ids), by_first), *self.entity.present)
        rows: Sequence[Any] = (await session.scalars(statement.execution_options(populate_existing=True))).all()
        by_id, by_key = {row.id: row for row in rows}, {self._key_of(row): row for row in rows}
        return [
            by_key.get(self._key(patch, options)) if patch.row_id is None else _of_instant(patch, by_id.get(patch.row_id))
            for patch in contents
        ]

    def _key(self, patch: RowPatch, options: SyncOptions) -> tuple[Any, ...]:
        return tuple(options.owner_id if name == self.owner else patch.values[name] for name in self.key)

    def _key_of(self, row: Any) -> tuple[Any, ...]:
        return tuple(getattr(row, name) for name in self.key)


def _of_instant(patch: RowPatch, row: Any) -> Any:
    """The row, unless another database gave its id to another one."""
    return row if row is None or patch.created_at in {None, row.created_at} else None
