"""Items: their table, look-ups and commands. Lists are in `listing`.

A deleted item leaves every list and look-up, but its row stays, since purchases point to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import CheckConstraint, Computed, ForeignKey, Index, Text, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from persistence.items import external_ids
from persistence.kit.column_types import CENT, Document, Money, RowId, SortableText, UtcDateTime, utc_now
from persistence.kit.database import bulk_insert
from persistence.kit.database.database import Base, UnitOfWork
from persistence.kit.errors import DomainError, InvalidInput, NotFound
from persistence.kit.events.log import record, record_all
from persistence.kit.finding.near_words import spellings_table
from persistence.kit.parsing.validation import Checks
from persistence.kit.query.conditions import among
from persistence.kit.query.entity import Entity
from persistence.kit.rows import assign, locked, refuse_null
from persistence.kit.search import tokenizer
from persistence.kit.serialization import Serializer

NAME_LENGTH = 200
DESCRIPTION_LENGTH = 10_000
TAGS = 20
TAG_LENGTH = 50

_LIVE = text("deleted_at IS NULL")


class OutOfStock(DomainError):
    def __init__(self, item_id: int, available: int) -> None:
        super().__init__(f"Only {available} left: ask for fewer." if available else "Sold out.")
        self.item_id, self.available = item_id, available


class Item(Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name: Mapped[str] = mapped_column(SortableText)
    description: Mapped[str | None] = mapped_column(Text)
    price: Mapped[Decimal] = mapped_column("price_cents", Money)
    tags: Mapped[list[str]] = mapped_column(Document)
    inventory: Mapped[int]
    in_stock: Mapped[bool] = mapped_column(Computed("inventory > 0", persisted=True))
    version: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    owner_id: Mapped[int | None] = mapped_column(RowId, ForeignKey("users.id"))
    search_words: Mapped[str] = mapped_column(Text)
    external_id: Mapped[str | None] = mapped_column(SortableText)

    __table_args__ = (
        CheckConstraint("inventory >= 0", name="inventory_not_negative"),
        CheckConstraint("price_cents >= 0", name="price_not_negative"),
        *(
            Index(f"ix_items_{name}", *columns, sqlite_where=_LIVE, postgresql_where=_LIVE)
            for name, columns in {
                "name": ("name", "id"),
                "price": ("price_cents", "id"),
                "created_at": ("created_at", "id"),
                "inventory": ("inventory", "id"),
                "in_stock": ("in_stock", "id"),
                "owner_id": ("owner_id", "id"),
            }.items()
        ),
        Index("ix_items_external_id", "external_id", unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE),
        {"sqlite_autoincrement": True},  # The id of an erased item is never given to another: clients keep ids.
    )


ENTITY = Entity(Item, gone="deleted_at", words="search_words", spellings=spellings_table(Item.__tablename__))
by_id = ENTITY.by_id
PATHS = {"external_id": external_ids.PATH}
"""The fields that have another name in the API than in the table."""


class InventoryConflict(DomainError):
    def __init__(self, current_inventory: int) -> None:
        super().__init__(f"There are {current_inventory} units in stock by now: read the item again, then repeat the change.")
        self.current_inventory = current_inventory


@dataclass(frozen=True)
class ItemValues:
    """The values that a user gives an item, by whatever way. Blanks around a tag do not count: nobody sees them, and no filter would find them."""

    name: str
    price: Decimal
    description: str | None = None
    tags: Sequence[str] = field(default_factory=tuple[str, ...])
    inventory: int = 0
    external_id: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tags", [tag.strip() for tag in self.tags])

    def check(self) -> None:
        """Raises: InvalidInput."""
        check(asdict(self))

    def columns(self) -> dict[str, Any]:
        return asdict(self) | {
            "price": abs(self.price).quantize(CENT),  # Checked, it is negative only as minus zero.
            **words_of(self.name, self.description),
        }


def words_of(name: str, description: str | None) -> dict[str, Any]:
    """The columns by which an item is found."""
    return {"search_words": tokenizer.marked(tokenizer.indexed(name, description), tokenizer.indexed(name))}


def check(values: Mapping[str, Any]) -> None:
    """Of some of an item's fields. Raises: InvalidInput, with a problem for each that is out of its bounds."""
    checks = Checks()
    for name, check_field in _CHECKS.items():
        if name in values:
            check_field(checks, values[name])
    checks.finish()


def _check_tags(checks: Checks, tags: Sequence[str]) -> None:
    if len(tags) > TAGS:
        checks.report("tags", f"must be at most {TAGS} tags, not {len(tags)}")
        return
    for place, tag in enumerate(tags):
        checks.text("tags", tag, least=1, most=TAG_LENGTH, deeper=(str(place),))
        if ";" in tag:
            checks.report("tags", "must not contain a semicolon: it separates tags in CSV files", str(place))
        if tag in tags[:place]:
            checks.report("tags", f"must not hold {tag[:TAG_LENGTH]!r} twice", str(place))


_CHECKS: Mapping[str, Callable[[Checks, Any], None]] = {
    "name": lambda checks, name: checks.text("name", name, least=1, most=NAME_LENGTH),
    "description": lambda checks, description: checks.text("description", description, most=DESCRIPTION_LENGTH, lines=True),
    "price": lambda checks, price: checks.price("price", price),
    "inventory": lambda checks, inventory: checks.whole_number("inventory", inventory),
    "tags": _check_tags,
    "external_id": external_ids.check,
}


async def by_external_id(session: AsyncSession, keys: Sequence[str]) -> Mapping[str, Item]:
    requested = {external_id for external_id in keys if external_ids.key(external_id) is not None}
    rows = await session.scalars(select(Item).where(Item.external_id.in_(requested), Item.deleted_at.is_(None)))
    return {item.external_id: item for item in rows if item.external_id is not None}


async def create(work: UnitOfWork, draft: ItemValues, *, owner_id: int | None) -> Item:
    """Raises: InvalidInput."""
    draft.check()
    await claim_external_id(work, draft.external_id)
    item = Item(**draft.columns(), **_new(owner_id))
    work.session.add(item)
    await work.session.flush()
    await record(work, "item.created", item.id)
    return item


async def claim_external_id(work: UnitOfWork, external_id: str | None) -> None:
    """Before an item gets this external id, and before any row is locked. Raises: InvalidInput, if another has it."""
    if external_id is not None and await claim_external_ids(work, [external_id]):
        raise InvalidInput.at(external_ids.PATH, external_ids.TAKEN)


async def claim_external_ids(work: UnitOfWork, names: Collection[str]) -> Mapping[str, int]:
    """Before items get these external ids, and before any row is locked: which of them are taken, and by which items."""
    if not names:
        return {}
    await external_ids.lock(work)
    return await with_external_ids(work.session, names)


async def with_external_ids(session: AsyncSession, names: Collection[str]) -> Mapping[str, int]:
    """The items that have these external ids."""
    having = select(Item.external_id, Item.id).where(among(Item.external_id, names), Item.deleted_at.is_(None))
    rows: Sequence[Any] = (await session.execute(having)).all()
    return dict(rows)


def external_ids_of(drafts: Sequence[ItemValues]) -> set[str]:
    return {draft.external_id for draft in drafts if draft.external_id is not None}


def refusals(drafts: Sequence[ItemValues], taken: Collection[str]) -> Mapping[int, InvalidInput]:
    """Which drafts cannot be created, by their places: another item, or an earlier draft, has their external id."""
    refused, earlier = dict[int, InvalidInput](), set[str]()
    for place, draft in enumerate(drafts):
        if draft.external_id is None:
            continue
        if draft.external_id in taken or draft.external_id in earlier:
            message = external_ids.TAKEN if draft.external_id in taken else external_ids.REPEATED
            refused[place] = InvalidInput.at(external_ids.PATH, message)
        earlier.add(draft.external_id)
    return refused


async def create_all(work: UnitOfWork, drafts: Sequence[ItemValues], *, owner_id: int | None) -> list[Item]:
    """Create checked drafts, of which none is among `refusals`, in one statement for many rows; the items come back in the drafts' order."""
    if not drafts:
        return []
    ids = await bulk_insert.reserve_ids(work, Item, len(drafts))
    new = _new(owner_id)
    rows = [draft.columns() | new | {"id": item_id} for item_id, draft in zip(ids, drafts, strict=True)]
    await bulk_insert.add(work.session, Item, rows)
    await record_all(work, "item.created", {item_id: {} for item_id in ids})
    return [Item(**row) for row in rows]


@dataclass(frozen=True)
class BulkCreation:
    """The new items, in the drafts' order, and why the other drafts were refused, by their places."""

    created: Sequence[Item]
    refused: Mapping[int, InvalidInput] = field(default_factory=dict[int, InvalidInput])


def bulk_answer(drafts: Sequence[ItemValues], *, owner_id: int | None) -> Serializer[BulkCreation]:
    """Whoever asks again brings the drafts again, so ids and the instant are enough to keep: 30 bytes for most calls."""

    def dump(made: BulkCreation) -> dict[str, Any]:
        at = made.created[0].created_at.isoformat() if made.created else None
        refused = [(place, error.problems[0].message) for place, error in made.refused.items()]
        return {"ids": _runs([item.id for item in made.created]), "at": at, "refused": refused}

    def load(frozen: dict[str, Any]) -> BulkCreation:
        refused = {place: InvalidInput.at(external_ids.PATH, message) for place, message in frozen.get("refused", ())}
        ids = [first + place for first, count in frozen["ids"] for place in range(count)]
        new = _new(owner_id, datetime.fromisoformat(frozen["at"])) if ids else {}
        good = [draft for place, draft in enumerate(drafts) if place not in refused]
        return BulkCreation([Item(**draft.columns(), **new, id=item_id) for item_id, draft in zip(ids, good, strict=True)], refused)

    return Serializer(dump, load)


def _runs(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Ids as runs of neighbours: first id and length."""
    runs: list[tuple[int, int]] = []
    for item_id in ids:
        if runs and sum(runs[-1]) == item_id:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((item_id, 1))
    return runs


async def change(
    work: UnitOfWork,
    item_id: int,
    changes: Mapping[str, Any],
    *,
    expected_version: int | None = None,
    expected_inventory: int | None = None,
) -> Item:
    """Set the given values only. Locks the row. Raises: InvalidInput, NotFound, VersionConflict, InventoryConflict."""
    external_id = external_ids.key(changes.get("external_id") or "")
    taken = await claim_external_ids(work, [external_id] if external_id else [])
    item = await locked(work, ENTITY, item_id, version=expected_version)
    if expected_inventory not in {None, item.inventory}:
        raise InventoryConflict(item.inventory)
    changed = changed_columns(item, changes)
    if external_id and taken.get(external_id, item_id) != item_id:
        raise InvalidInput.at(external_ids.PATH, external_ids.TAKEN)
    if assign(item, changed):
        await record(work, "item.updated", item_id, {"fields": field_names(changed)})
    return item


def changed_columns(item: Item, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The columns in which the item differs from one with the given values. Raises: InvalidInput."""
    refuse_null(ENTITY, changes)
    values = ItemValues(**{name: getattr(item, name) for name in ItemValues.__dataclass_fields__} | dict(changes))
    values.check()
    changed = {name: value for name, value in values.columns().items() if value != getattr(item, name)}
    return changed if field_names(changed) else {}  # Words alone differ where an earlier version has made them.


def field_names(changed: Collection[str]) -> list[str]:
    """The changed fields, as subscribers know them."""
    return [PATHS.get(name, name) for name in changed if name != ENTITY.words]


async def delete(work: UnitOfWork, item_id: int, *, expected_version: int | None = None) -> None:
    """Take the item out of the catalogue. Locks the row. Raises: NotFound, VersionConflict."""
    item = await locked(work, ENTITY, item_id, version=expected_version)
    item.deleted_at = utc_now()
    item.version += 1
    await record(work, "item.deleted", item_id)


async def delete_all(work: UnitOfWork, item_ids: Collection[int]) -> Sequence[int]:
    """Take items out of the catalogue, in one statement; the ids of those that were in it."""
    live = select(Item.id).where(among(Item.id, item_ids), Item.deleted_at.is_(None))
    ids = (await work.session.scalars(live.order_by(Item.id).with_for_update(key_share=True))).all()
    gone = {"deleted_at": utc_now(), "version": Item.version + 1}
    await work.session.execute(update(Item).where(among(Item.id, ids)).values(gone), execution_options={"synchronize_session": False})
    await record_all(work, "item.deleted", {item_id: {} for item_id in ids})
    return ids


async def restore(work: UnitOfWork, item_id: int) -> Item:
    """Bring a deleted item back into the catalogue, as it was. Locks the row.

    Raises: NotFound, also if it has not left; InvalidInput, if another item has its external id by now.
    """
    external_id = await work.session.scalar(select(Item.external_id).where(Item.id == item_id, Item.deleted_at.is_not(None)))
    taken = await claim_external_ids(work, [external_id] if external_id else [])
    item = await work.session.get(Item, item_id, with_for_update=True)
    if item is None or item.deleted_at is None:
        raise NotFound("deleted item")
    if taken:
        raise InvalidInput.at("id", f"must not be that of an item whose external id another has by now: {external_id}")
    item.deleted_at, item.updated_at = None, utc_now()
    item.version += 1
    await record(work, "item.restored", item_id)
    return item


async def disown(work: UnitOfWork, owner_id: int) -> None:
    """Leave a user's items to nobody, deleted ones too. That is no edit: nothing that subscribers look at changes."""
    statement = update(Item).where(Item.owner_id == owner_id).values(owner_id=None)
    await work.session.execute(statement, execution_options={"synchronize_session": False})


def _new(owner_id: int | None, at: datetime | None = None) -> dict[str, Any]:
    now = at or utc_now()
    return {"version": 1, "created_at": now, "updated_at": now, "owner_id": owner_id}


async def count(session: AsyncSession) -> int:
    return await session.scalar(select(func.count()).select_from(Item).where(Item.deleted_at.is_(None))) or 0
