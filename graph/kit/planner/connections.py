"""Pages as JSON: the shape of a connection, compiled from its selection, and the lists of many parents that fill the holes of a level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from graph.kit.entity.visibility import Visibility
from graph.kit.limits.cost_rules import COUNTED_ROWS_A_POINT
from graph.kit.planner.fillers import FieldArguments, Filled, Filler, Run, fill_rows, together
from graph.kit.planner.splices import Splice
from persistence.kit.query.paging import PageArguments
from persistence.kit.query.reader import ChildPages, JsonPage, RowForm

Show = Callable[[JsonPage], bytes]
"""A field's JSON on a page."""


@dataclass
class ConnectionShape:
    """What is asked of a connection: what its rows must hold, and how its fields are made of them."""

    form: RowForm
    fillers: Sequence[Filler]
    shows: dict[str, Show]
    points: int
    """What a page costs, whatever is on it."""
    points_of_row: int
    counts: int
    """How many of its fields show the number of all rows, whose counting has a price."""
    splices: Sequence[Splice] = ()
    _prefixes: Sequence[tuple[bytes, Show]] = field(init=False)

    def __post_init__(self) -> None:
        self._prefixes = [(b'"%b":' % name.encode(), show) for name, show in self.shows.items()]

    async def json(self, run: Run, pages: Sequence[JsonPage]) -> list[Filled]:
        """Of each page."""
        ends, rows = list[int](), 0
        for page in pages:
            rows += len(page)
            ends.append(rows)
        if self.fillers and rows:
            pages, costs = await self._filled(run, pages, ends)
        else:
            costs = [0] * len(pages)
        if self.splices:
            pages, costs = await self._spliced(run, pages, costs)
        return [(self._page(page), cost + self._points_of(page)) for page, cost in zip(pages, costs, strict=True)]

    async def _spliced(self, run: Run, pages: Sequence[JsonPage], costs: Sequence[int]) -> tuple[Sequence[JsonPage], Sequence[int]]:
        """With what resolvers make for each page."""
        made = [await together([splice.of(run, page) for splice in self.splices]) for page in pages]
        spliced = [replace(page, spliced=dict(enumerate([json for json, _ in each]))) for page, each in zip(pages, made, strict=True)]
        return spliced, [cost + sum([points for _, points in each]) for cost, each in zip(costs, made, strict=True)]

    def _points_of(self, page: JsonPage) -> int:
        return self.points + len(page) * self.points_of_row + self.counts * (page.total // COUNTED_ROWS_A_POINT)

    async def _filled(self, run: Run, pages: Sequence[JsonPage], ends: Sequence[int]) -> tuple[Sequence[JsonPage], Sequence[int]]:
        """With the holes of all rows of all pages filled at once, and what each page costs by them."""
        texts = len(self.form.texts)
        columns = [[text for page in pages for text in page.columns[place]] for place in range(texts)]
        filled, points = await fill_rows(run, self.fillers, columns)
        made, costs, begin = list[JsonPage](), list[int](), 0
        for page, end in zip(pages, ends, strict=True):
            made.append(replace(page, columns=[*[column[begin:end] for column in filled], *page.columns[texts:]]))
            costs.append(sum(points[begin:end]))
            begin = end
        return made, costs

    def _page(self, page: JsonPage) -> bytes:
        return b"{%b}" % b",".join([prefix + show(page) for prefix, show in self._prefixes])

    def empty(self) -> JsonPage:
        """The page of a list whose rows the viewer may not see: they are missing, not forbidden."""
        width = len(self.form.texts) + 2
        listing: Any = None  # An empty page has no cursors.
        return JsonPage([[] for _ in range(width)], listing, has_next=False, has_previous=False)


class ChildrenFiller:
    """The rows that point to each of some parents, whose ids are the contents of the holes."""

    def __init__(self, shape: ConnectionShape, arguments: FieldArguments, pages: ChildPages, visible: Visibility | None) -> None:
        self._shape, self._arguments, self._pages, self._visible = shape, arguments, pages, visible

    async def fill(self, run: Run, contents: Sequence[bytes]) -> Sequence[Filled]:
        """Raises: InvalidInput."""
        window, visible = PageArguments(**self._arguments(run)), self._visible
        ids = [int(content) for content in contents]
        seen = [id_ for id_ in ids if visible is None or visible.sees(run.context, id_)]
        pages = dict(zip(seen, await self._pages.pages(seen, window), strict=True)) if seen else {}
        empty = self._shape.empty()
        return await self._shape.json(run, [pages.get(id_, empty) for id_ in ids])
