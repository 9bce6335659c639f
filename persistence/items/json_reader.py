"""Items as a plan asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import orjson
from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger, Text

from persistence.items.json_columns import ID, ItemJson
from persistence.items.json_pages import Asked, Known, Pages
from persistence.items.table import Item
from persistence.kit.database.database import Database
from persistence.kit.database.statement_executor import RawReads
from persistence.kit.query.batching import Gatherings
from persistence.kit.query.json_object import Written, lines

FORMS = 1_000  # Of each kind, whoever asks: anybody may think of new ones. Plans, of which there are as many, hold those that they use.
ITEMS_AT_ONCE = 500  # By one statement: 5 MB, if all are of the longest.


class ItemRows:
    """Its readers are kept: what is asked for in the same form shares statements, whatever documents ask."""

    def __init__(self, database: Database) -> None:
        items, known = ItemJson(database), Known(FORMS)
        self.lookup: Callable[[Written], Lookup] = lru_cache(FORMS)(partial(Lookup, items))
        self.pages: Callable[[Asked], Pages] = lru_cache(FORMS)(partial(Pages, items, known))


class Lookup:
    """Items by their id."""

    def __init__(self, items: ItemJson, written: Written) -> None:
        self._raw, self._as_json = items.raw, items.sqlite
        if items.sqlite:
            among: Any = Item.id.in_(select(func.json_each(bindparam("ids", type_=Text)).table_valued("value").c.value))
        else:
            among = Item.id == func.any(bindparam("ids", type_=ARRAY(BigInteger)))
        self._prepared = items.prepared(items.gathered(select(Item).where(Item.deleted_at.is_(None), among), (written, ID)))
        self._gatherings = Gatherings(self._fetch, most=ITEMS_AT_ONCE)

    async def by_id(self, id_: int) -> bytes | None:
        return await self._gatherings.one(await self._raw(), id_)

    async def _fetch(self, raw: RawReads, ids: Sequence[int]) -> Mapping[int, bytes]:
        [(found, own_ids)] = await raw.fetch(self._prepared, {"ids": orjson.dumps(ids).decode() if self._as_json else ids})
        return dict(zip(map(int, lines(own_ids)), lines(found), strict=True))
