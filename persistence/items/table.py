"""Items: their table, look-ups and commands. Lists are in `listing`.

A deleted item leaves every list and look-up, but its row stays, since purchases point to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import CheckConstraint, Computed, ForeignKey, Index, Text, exists, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from persistence.kit.column_types import CENT, Document, Money, RowId, SortableText, UtcDateTime, utc_now
from persistence.kit.database import bulk_insert
from persistence.kit.database.database import Base, UnitOfWork
from persistence.kit.database.row_ids import reserve
from persistence.kit.errors import InvalidInput, NotFound, Problem, VersionConflict
from persistence.kit.events.log import record, record_all
from persistence.kit.parsing.validation import Checks
from persistence.kit.query import search
from persistence.kit.query.entity import Entity
from persistence.kit.serialization import Serializer, row_of
from persistence.users import User

NAME_LENGTH = 200
DESCRIPTION_LENGTH = 10_000
TAGS = 20
TAG_LENGTH = 50

_LIVE = text("deleted_at IS NULL")


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
        {"sqlite_autoincrement": True},  # The id of an erased item is never given to another: clients keep ids.
    )


ENTITY = Entity(Item, gone="deleted_at", words="search_words")
by_id = ENTITY.by_id
REPLAY_FORMAT = row_of(Item, without=("search_words",))


@dataclass(frozen=True)
class ItemValues:
    """The values that a user gives an item, by whatever way. Blanks around a tag do not count: nobody sees them, and no filter would find them."""

    name: str
    price: Decimal
    description: str | None = None
    tags: Sequence[str] = field(default_factory=tuple[str, ...])
    inventory: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "tags", [tag.strip() for tag in self.tags])

    def check(self) -> None:
        """Raises: InvalidInput, with a problem for each field that is out of its bounds."""
        checks = Checks()
        checks.text("name", self.name, least=1, most=NAME_LENGTH)
        checks.text("description", self.description, most=DESCRIPTION_LENGTH, lines=True)
        checks.price("price", self.price)
        checks.whole("inventory", self.inventory)
        _check_tags(checks, self.tags)
        checks.finish()

    def columns(self) -> dict[str, Any]:
        return asdict(self) | {
            "price": abs(self.price).quantize(CENT),  # Checked, it is negative only as minus zero.
            "search_words": search.indexed(self.name, self.description),
        }


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


async def are_owners(session: AsyncSession, user_ids: Sequence[int]) -> Mapping[int, bool]:
    """Which of these users own something in the catalogue."""
    owned = exists().where(Item.owner_id == User.id, Item.deleted_at.is_(None))
    return dict.fromkeys(await session.scalars(select(User.id).where(User.id.in_(user_ids), owned)), True)


async def create(work: UnitOfWork, draft: ItemValues, *, owner_id: int | None) -> Item:
    """Raises: InvalidInput."""
    draft.check()
    item = Item(**draft.columns(), **_new(owner_id))
    work.session.add(item)
    await work.session.flush()
    await record(work, "item.created", item.id)
    return item


async def create_all(work: UnitOfWork, drafts: Sequence[ItemValues], *, owner_id: int | None) -> list[Item]:
    """Create checked drafts in one statement for many rows; the items come back in the drafts' order."""
    if not drafts:
        return []
    ids = await reserve(work, Item, len(drafts))
    new = _new(owner_id)
    rows = [draft.columns() | new | {"id": item_id} for item_id, draft in zip(ids, drafts, strict=True)]
    await bulk_insert.add(work.session, Item, rows)
    await record_all(work, "item.created", {item_id: {} for item_id in ids})
    return [Item(**row) for row in rows]


def bulk_answer(drafts: Sequence[ItemValues], *, owner_id: int | None) -> Serializer[Sequence[Item]]:
    """What `create_all` returned. Whoever asks again brings the drafts again, so ids and the instant are enough to keep: 30 bytes for most calls."""

    def freeze(created: Sequence[Item]) -> dict[str, Any]:
        return {"ids": _runs([item.id for item in created]), "at": created[0].created_at.isoformat() if created else None}

    def thaw(frozen: dict[str, Any]) -> Sequence[Item]:
        ids = [first + place for first, count in frozen["ids"] for place in range(count)]
        new = _new(owner_id, datetime.fromisoformat(frozen["at"])) if ids else {}
        return [Item(**draft.columns(), **new, id=item_id) for item_id, draft in zip(ids, drafts, strict=True)]

    return Serializer(freeze, thaw)


def _runs(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Ids as runs of neighbours: first id and length."""
    runs: list[tuple[int, int]] = []
    for item_id in ids:
        if runs and sum(runs[-1]) == item_id:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((item_id, 1))
    return runs


async def change(work: UnitOfWork, item_id: int, changes: Mapping[str, Any], *, expected_version: int | None = None) -> Item:
    """Set the given values only. Locks the row. Raises: InvalidInput, NotFound, VersionConflict."""
    item = await _locked(work, item_id, expected_version)
    draft = ItemValues(item.name, item.price, item.description, item.tags, item.inventory)
    values = _with(draft, changes)
    values.check()
    changed = [name for name, value in asdict(values).items() if value != getattr(item, name)]
    if not changed:
        return item
    for name, value in (values.columns() | {"version": item.version + 1, "updated_at": utc_now()}).items():
        setattr(item, name, value)
    await record(work, "item.updated", item_id, {"fields": changed})
    return item


async def delete(work: UnitOfWork, item_id: int, *, expected_version: int | None = None) -> None:
    """Take the item out of the catalogue. Locks the row. Raises: NotFound, VersionConflict."""
    item = await _locked(work, item_id, expected_version)
    item.deleted_at = utc_now()
    item.version += 1
    await record(work, "item.deleted", item_id)


async def _locked(work: UnitOfWork, item_id: int, expected_version: int | None) -> Item:
    item = await work.session.get(Item, item_id, with_for_update=True)
    if item is None or item.deleted_at is not None:
        raise NotFound("item")
    if expected_version not in {None, item.version}:
        raise VersionConflict(item.version)
    return item


def _with(draft: ItemValues, changes: Mapping[str, Any]) -> ItemValues:
    emptied = [name for name in ("name", "price", "inventory", "tags") if name in changes and changes[name] is None]
    if emptied:
        raise InvalidInput(*(Problem((name,), "must not be null: leave it out to keep the present value") for name in emptied))
    return replace(draft, **changes)


def _new(owner_id: int | None, at: datetime | None = None) -> dict[str, Any]:
    now = at or utc_now()
    return {"version": 1, "created_at": now, "updated_at": now, "owner_id": owner_id}


async def count(session: AsyncSession) -> int:
    return await session.scalar(select(func.count()).select_from(Item).where(Item.deleted_at.is_(None))) or 0
