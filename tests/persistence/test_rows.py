"""A change of a row is refused before anything is set, and sets what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from graph.kit.global_ids import row_id
from persistence.items.table import ENTITY, delete
from persistence.kit.errors import InvalidInput, NotFound, NotOwner, VersionConflict
from persistence.kit.rows import assign, locked, refuse_null

if TYPE_CHECKING:
    from tests.support.service import Service


async def test_finds_the_row_that_may_be_changed(service: Service) -> None:
    ada = await service.make_user()
    item = row_id("Item", await service.make_item()) or 0
    async with service.database.transaction() as work:
        row = await locked(work, ENTITY, item, version=1)
        row.owner_id = ada.id
        assert assign(row, {"name": row.name, "inventory": row.inventory}) == []
        assert (row.version, assign(row, {"name": "Pot", "inventory": row.inventory}), row.version) == (1, ["name"], 2)
    async with service.database.transaction() as work:
        assert (await locked(work, ENTITY, item, version=2, owner=("owner_id", ada.id))).name == "Pot"
        with pytest.raises(NotOwner, match="This item belongs to another user"):
            await locked(work, ENTITY, item, owner=("owner_id", ada.id + 1))
        with pytest.raises(VersionConflict, match="The row is at version 2 by now"):
            await locked(work, ENTITY, item, version=1)
        await delete(work, item)
        for missing in (item, item + 1):
            with pytest.raises(NotFound, match="There is no such item"):
                await locked(work, ENTITY, missing)


def test_refuses_null_where_the_column_must_have_a_value() -> None:
    refuse_null(ENTITY, {"description": None, "name": "Pot"})
    with pytest.raises(InvalidInput, match="name: must not be null: leave it out to keep the present value"):
        refuse_null(ENTITY, {"description": None, "name": None})
