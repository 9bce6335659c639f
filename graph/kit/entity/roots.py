"""Where the objects of a root field come from, for `@query(plan=…)`: the plan's way to what the field's resolver finds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from graph.kit.context import Context
from persistence.kit.query.entity import ListQuery
from persistence.kit.query.paging import PageArguments


@dataclass(frozen=True)
class FindByGlobalId:
    """The object with the global id in the argument `id`, if it is of the field's type; or, for an interface, of any entity."""


@dataclass(frozen=True)
class FindAllByGlobalId:
    """The same for each of the ids in the argument `ids`, of which there may be `most`."""

    most: int


@dataclass(frozen=True)
class FindViewer:
    """The user who asks."""


@dataclass(frozen=True)
class FindByKey:
    """The object that has in a unique attribute what `key` makes of the field's arguments; None if nothing can have it."""

    attribute: str
    key: Callable[..., Any]


@dataclass(frozen=True)
class ReadList:
    """A page of the list that `query_of` makes of the field's arguments; `of_viewer` leaves of it what the viewer may see."""

    query_of: Callable[..., tuple[ListQuery, PageArguments]]
    of_viewer: Callable[[Context, Any], ListQuery] | None = None


@dataclass(frozen=True)
class ReadNumberedPage:
    """An object with a page of a list by its number, in the field `rows`, and `page`, `pageSize`, `total` and `pages`.

    `query_of` makes of the field's arguments the list, the page's number from 1, and how many rows a page has.
    """

    rows: str
    query_of: Callable[..., tuple[ListQuery, int, int]]


@dataclass(frozen=True)
class ReadObject:
    """An object put together from a row, found by the global id in the argument `id`, and of what other sources know of it by the row's id.

    `row` names the field that shows the row; `values` are asked at the same time. Null if one of them knows nothing.
    """

    row: str
    values: Mapping[str, Callable[[Context, int], Awaitable[Any]]]


@dataclass(frozen=True)
class RunResolver:
    """What the field's own resolver finds, where no argument is given; it looks at nothing of its `info` but the context.

    For one that may run again: where the plan meets an error, the reference executor runs it once more, to say which.
    """


RootOfRows: TypeAlias = "FindByGlobalId | FindAllByGlobalId | FindViewer | FindByKey | ReadList | ReadNumberedPage | ReadObject"
Root: TypeAlias = "RootOfRows | RunResolver"
