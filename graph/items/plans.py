"""The fast path of the catalogue's two hot fields, `item` and `items`: see `graph.kit.planner.plans`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphql import FieldNode

from graph.items.types import listing_of
from graph.kit.context import Context
from graph.kit.global_ids import row_id
from graph.kit.planner.plans import NULL, NotPlannable, Part, Plannable, Run, Selection, joined, outline
from persistence.items.json_pages import Asked, RowPage
from persistence.items.json_reader import ItemRows
from persistence.kit.query.json_object import Written

Show = Callable[[RowPage], Part]

OWNER = Plannable(
    "User",
    {"id": "owner.id", "username": "owner.username", "fullName": "owner.full_name", "createdAt": "owner.created_at"},
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
)


def item(selection: Selection, nodes: Sequence[FieldNode]) -> Run:
    written = selection.written(ITEM, nodes)
    lookup, one = selection.services.port(ItemRows).lookup(written), outline(written)

    async def run(_context: Context, arguments: Mapping[str, Any]) -> Part:
        key = row_id("Item", arguments["id"])
        json = None if key is None else await lookup.by_id(key)
        return NULL if json is None else Part(json, one)

    return run


def items(selection: Selection, nodes: Sequence[FieldNode]) -> Run:
    wanted = _Wanted(selection)
    shows = {name: _connection(wanted, below) for name, below in selection.fields("ItemConnection", nodes).items()}
    pages = selection.services.port(ItemRows).pages(Asked(tuple(wanted.objects), wanted.cursors))

    async def run(_context: Context, arguments: Mapping[str, Any]) -> Part:
        page = await pages.page(*listing_of(**arguments))
        return joined({name: show(page) for name, show in shows.items()})

    return run


class _Wanted:
    """What the parts of a connection turn out to need of its rows."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.objects: list[Written] = []
        self.cursors = False

    def place(self, written: Written) -> int:
        if written not in self.objects:
            self.objects.append(written)
        return self.objects.index(written)


def _connection(wanted: _Wanted, nodes: Sequence[FieldNode]) -> Show:
    match nodes[0].name.value:
        case "nodes":
            return _nodes(wanted, nodes)
        case "edges":
            return _edges(wanted, nodes)
        case "pageInfo":
            infos = {name: _page_info(wanted, below[0].name.value) for name, below in wanted.selection.fields("PageInfo", nodes).items()}
            return lambda page: joined({name: info(page) for name, info in infos.items()})
        case "__typename":
            return _always("ItemConnection")
        case _:
            raise NotPlannable


def _nodes(wanted: _Wanted, nodes: Sequence[FieldNode]) -> Show:
    written = wanted.selection.written(ITEM, nodes)
    place, one = wanted.place(written), outline(written)
    return lambda page: Part(b"[%b]" % b",".join(page.columns[place]), [one] * len(page))


def _edges(wanted: _Wanted, nodes: Sequence[FieldNode]) -> Show:
    fields = {name: _edge(wanted, below) for name, below in wanted.selection.fields("ItemEdge", nodes).items()}
    shape = b"{%b}" % b",".join([b'"%b":%%b' % name.encode() for name in fields])
    one = {name: about for name, (_, about) in fields.items()}

    def edges(page: RowPage) -> Part:
        columns = [column(page) for column, _ in fields.values()]
        rows = zip(*columns, strict=True) if columns else [()] * len(page)
        return Part(b"[%b]" % b",".join([shape % row for row in rows]), [one] * len(page))

    return edges


def _edge(wanted: _Wanted, nodes: Sequence[FieldNode]) -> tuple[Callable[[RowPage], Sequence[bytes]], Any]:
    """What a field of an edge is in each row, and its outline."""
    match nodes[0].name.value:
        case "node":
            written = wanted.selection.written(ITEM, nodes)
            place = wanted.place(written)
            return lambda page: page.columns[place], outline(written)
        case "cursor":
            wanted.cursors = True
            return lambda page: [b'"%b"' % page.cursor(place) for place in range(len(page))], None
        case "__typename":
            return lambda page: [b'"ItemEdge"'] * len(page), None
        case _:
            raise NotPlannable


def _page_info(wanted: _Wanted, name: str) -> Show:
    match name:
        case "hasNextPage":
            return lambda page: Part(b"true" if page.has_next else b"false", None)
        case "hasPreviousPage":
            return lambda page: Part(b"true" if page.has_previous else b"false", None)
        case "startCursor" | "endCursor":
            wanted.cursors = True
            return _cursor_of(0 if name == "startCursor" else -1)
        case "__typename":
            return _always("PageInfo")
        case _:
            raise NotPlannable


def _cursor_of(place: int) -> Show:
    return lambda page: Part(b'"%b"' % page.cursor(place), None) if len(page) else NULL


def _always(name: str) -> Show:
    part = Part(f'"{name}"'.encode(), None)
    return lambda _: part
