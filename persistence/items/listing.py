"""Lists of items: the catalogue, and what is in it of one owner."""

from __future__ import annotations

from persistence.items.table import ENTITY, Item
from persistence.kit.finding.searched_list import SearchedList
from persistence.kit.query.entity import Facet
from persistence.kit.query.entity_list import children

ALL = SearchedList(
    ENTITY,
    facets={
        "tags": Facet(Item.tags, ("tags_any", "tags_all")),
        "price": Facet(Item.price, ("price_min", "price_max")),
        "stock": Facet(Item.in_stock, ("in_stock",)),
    },
)
BY_OWNER = children(ALL, "owner_id")
