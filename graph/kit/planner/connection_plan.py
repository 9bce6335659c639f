"""The plan of a connection: what its rows hold, how a page is made of them, and the step that reads the pages of many parents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from graph.kit.entity.declaration import ToMany
from graph.kit.execution.concurrency import gather
from graph.kit.limits.cost_rules import COUNTED_ROWS_A_POINT
from graph.kit.planner.plan_execution import FieldArguments, PlanExecution
from graph.kit.planner.splices import Splice
from graph.kit.planner.steps import JsonAndCost, PlanStep, fill_placeholders, prepare_all
from persistence.kit.json_rows.child_pages import ChildPages
from persistence.kit.json_rows.json_page import JsonPage, RowForm
from persistence.kit.query.paging import PageArguments

Show = Callable[[Sequence[JsonPage]], Sequence[bytes]]
"""A field's JSON on each of some pages: of all pages of a level at once, as many have a row or two, and calls would take longer than their work."""


def show_object(shows: Mapping[str, Show]) -> Show:
    """An object of each page with these fields."""
    form, fields = b"{%b}" % b",".join([b'"%b":%%b' % name.encode() for name in shows]), list(shows.values())
    if not fields:  # All of them are skipped.
        return lambda pages: [form] * len(pages)
    return lambda pages: [form % row for row in zip(*[show(pages) for show in fields], strict=True)]


@dataclass
class ConnectionPlan:
    """What is asked of a connection: what its rows must hold, and how its fields are made of them."""

    form: RowForm
    steps: Sequence[PlanStep]
    shows: dict[str, Show]
    points: int
    """What a page costs, whatever is on it."""
    points_of_row: int
    counts: int
    """How many of its fields show the number of all rows, whose counting has a price."""
    splices: Sequence[Splice] = ()
    _page: Show = field(init=False)

    def __post_init__(self) -> None:
        self._page = show_object(self.shows)

    def prepare(self, run: PlanExecution) -> None:
        prepare_all(self.steps, run)

    async def json(self, run: PlanExecution, pages: Sequence[JsonPage]) -> list[JsonAndCost]:
        """Of each page."""
        costs: Sequence[int] = [0] * len(pages)
        if self.steps and any(map(len, pages)):
            pages, costs = await self._filled(run, pages)
        if self.splices:
            pages, costs = await self._spliced(run, pages, costs)
        return list(zip(self._page(pages), self._points(pages, costs), strict=True))

    async def _spliced(
        self, run: PlanExecution, pages: Sequence[JsonPage], costs: Sequence[int]
    ) -> tuple[Sequence[JsonPage], Sequence[int]]:
        """With what resolvers make for each page."""
        made = [await gather([splice.of(run, page) for splice in self.splices]) for page in pages]
        for page, each in zip(pages, made, strict=True):
            page.spliced = [json for json, _ in each]
        return pages, [cost + sum([points for _, points in each]) for cost, each in zip(costs, made, strict=True)]

    def _points(self, pages: Sequence[JsonPage], costs: Sequence[int]) -> Sequence[int]:
        of_page, of_row, counts = self.points, self.points_of_row, self.counts
        return [
            cost + of_page + len(page) * of_row + (counts * (page.total // COUNTED_ROWS_A_POINT) if counts else 0)
            for page, cost in zip(pages, costs, strict=True)
        ]

    async def _filled(self, run: PlanExecution, pages: Sequence[JsonPage]) -> tuple[Sequence[JsonPage], Sequence[int]]:
        """With the placeholders of all rows of all pages filled at once, and what each page costs by them."""
        texts = len(self.form.texts)
        columns = [[text for page in pages for text in page.columns[place]] for place in range(texts)]
        filled, points = await fill_placeholders(run, self.steps, columns)
        costs, begin = list[int](), 0
        for page in pages:
            end = begin + len(page)
            page.columns = [*[column[begin:end] for column in filled], *page.columns[texts:]]
            costs.append(sum(points[begin:end]))
            begin = end
        return pages, costs

    def empty(self) -> JsonPage:
        """The page of a list whose rows the viewer may not see: they are missing, not forbidden."""
        width = len(self.form.texts) + 2
        listing: Any = None  # An empty page has no cursors.
        return JsonPage([[] for _ in range(width)], listing, has_next=False, has_previous=False)


class ChildConnectionStep(PlanStep):
    """The rows that point to each of some parents, whose ids are the keys."""

    def __init__(self, shape: ConnectionPlan, arguments: FieldArguments, pages: ChildPages, source: ToMany) -> None:
        self._shape, self._arguments, self._pages, self._visible = shape, arguments, pages, source.visible
        self._query_of = source.children.query_of if shape.splices else None

    def prepare(self, run: PlanExecution) -> None:
        self._pages.prepare(PageArguments(**self._arguments(run)))
        self._shape.prepare(run)

    async def execute(self, run: PlanExecution, keys: Sequence[bytes]) -> Sequence[JsonAndCost]:
        """Raises: InvalidInput."""
        window, visible = PageArguments(**self._arguments(run)), self._visible
        ids = [int(key) for key in keys]
        seen = ids if visible is None else list(filter(visible.rule(run.context), ids))
        pages = await self._pages.pages(seen, window) if seen else ()
        found = pages if len(seen) == len(ids) else self._with_empty(ids, dict(zip(seen, pages, strict=True)))
        if (query_of := self._query_of) is not None:
            found = [replace(page, query=query_of(id_)) for id_, page in zip(ids, found, strict=True)]
        return await self._shape.json(run, found)

    def _with_empty(self, ids: Sequence[int], pages: Mapping[int, JsonPage]) -> Sequence[JsonPage]:
        empty = self._shape.empty()
        return [pages.get(id_, empty) for id_ in ids]
