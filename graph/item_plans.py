"""The fast path of the catalogue's two hot fields, `item` and `items`: see `graph.kit.plans`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphql import FieldNode

from graph.items import listing_of
from graph.kit.context import Context
from graph.kit.nodes import global_id, row_id
from graph.kit.plans import NotPlannable, Plannable, Run, Selection
from persistence.item_rows import ItemRows, RowPage

Part = Callable[[RowPage], Any]


def _item_id(id_: int) -> str:
    return global_id("Item", id_)


def _user_id(id_: int) -> str:
    return global_id("User", id_)


OWNER = Plannable(
    "User",
    {"id": "owner.id", "username": "owner.username", "fullName": "owner.full_name", "createdAt": "owner.created_at"},
    shown={"id": _user_id},
)
ITEM = Plannable(
    "Item",
    {
        "id": "id",
        "name": "name",
        "description": "description",
        "price": "price",
        "tags": "tags",
        "inventory": "inventory",
        "inStock": "in_stock",
        "version": "version",
        "createdAt": "created_at",
        "updatedAt": "updated_at",
    },
    objects={"owner": ("owner.id", OWNER)},
    shown={"id": _item_id},
)


def item(selection: Selection, nodes: Sequence[FieldNode]) -> Run:
    rows = selection.services.port(ItemRows)
    columns: list[str] = []
    shape = selection.shape(ITEM, nodes, columns, rows.show)
    wanted = tuple(columns)

    async def run(_context: Context, arguments: Mapping[str, Any]) -> Any:
        key = row_id("Item", arguments["id"])
        row = None if key is None else await rows.by_id(wanted, key)
        return None if row is None else shape(row)

    return run


def items(selection: Selection, nodes: Sequence[FieldNode]) -> Run:
    rows = selection.services.port(ItemRows)
    columns: list[str] = []
    parts = {name: _part(selection, below, columns, rows) for name, below in selection.fields("ItemConnection", nodes).items()}
    wanted = tuple(columns)

    async def run(_context: Context, arguments: Mapping[str, Any]) -> Any:
        page = await rows.page(wanted, *listing_of(**arguments))
        return {name: part(page) for name, part in parts.items()}

    return run


def _part(selection: Selection, nodes: Sequence[FieldNode], columns: list[str], rows: ItemRows) -> Part:
    match nodes[0].name.value:
        case "nodes":
            shape = selection.shape(ITEM, nodes, columns, rows.show)
            return lambda page: [shape(row) for row in page.rows]
        case "edges":
            edges = {name: _edge(selection, below, columns, rows) for name, below in selection.fields("ItemEdge", nodes).items()}
            return lambda page: [{name: edge(page, row) for name, edge in edges.items()} for row in page.rows]
        case "pageInfo":
            infos = {name: _page_info(below[0].name.value) for name, below in selection.fields("PageInfo", nodes).items()}
            return lambda page: {name: info(page) for name, info in infos.items()}
        case "__typename":
            return lambda _: "ItemConnection"
        case _:
            raise NotPlannable


def _edge(selection: Selection, nodes: Sequence[FieldNode], columns: list[str], rows: ItemRows) -> Callable[[RowPage, Any], Any]:
    match nodes[0].name.value:
        case "node":
            shape = selection.shape(ITEM, nodes, columns, rows.show)
            return lambda _, row: shape(row)
        case "cursor":
            return lambda page, row: page.cursor(row)
        case "__typename":
            return lambda _, __: "ItemEdge"
        case _:
            raise NotPlannable


def _page_info(name: str) -> Part:
    match name:
        case "hasNextPage":
            return lambda page: page.has_next
        case "hasPreviousPage":
            return lambda page: page.has_previous
        case "startCursor":
            return lambda page: page.cursor(page.rows[0]) if page.rows else None
        case "endCursor":
            return lambda page: page.cursor(page.rows[-1]) if page.rows else None
        case "__typename":
            return lambda _: "PageInfo"
        case _:
            raise NotPlannable
