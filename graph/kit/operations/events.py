"""Event streams: what happens to an entity's rows, live and resumable from any cursor of the kept history.

    REVIEW_EVENTS = EntityEvents({"review.created": ReviewCreated, "review.deleted": ReviewDeleted})

    @subscription(scope=None, description="Everything that happens to reviews, in order, each event once.")
    async def review_events(self, info: Info, after: AfterEvent = None) -> AsyncGenerator[ReviewEvent]:
        async with aclosing(REVIEW_EVENTS.follow(info, after)) as events:
            async for event in events:
                yield event

The types are interfaces and objects over `Event`, and their union has `Gap` as a member.
"""

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from dataclasses import field
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Annotated, Any, Self

import strawberry

from graph.kit.context import Context, Info
from persistence.kit.column_types import utc_now
from persistence.kit.events.feed import EventGap, EventGapReason, Feed
from persistence.kit.events.log import Event as Row
from persistence.kit.lru_cache import LruCache

HISTORY_PAGE_POINTS = (
    50  # To read a page of 200 events from the table: some 4 ms, whether the subscriber's filter lets them through or not.
)
EVENT_CACHE_BYTES = 8 * 2**20  # Of the events that several subscribers may be told.
EVENT_OBJECT_BYTES = 1_500


@strawberry.interface(description="Something in the event log.")
class Event:
    cursor: str = strawberry.field(description="Its place in the log: give it as `after` to go on from here.")
    occurred_at: datetime = strawberry.field(
        description="When it happened. The order of events is that of their cursors, not of their times."
    )
    key: strawberry.Private[int] = 0
    """The id of the row that it happened to."""
    data: strawberry.Private[Mapping[str, Any]] = field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, row: Row, cursor: str) -> Self:
        return cls(**cls.values_of(row), cursor=cursor, occurred_at=row.occurred_at, key=row.subject_id, data=row.data)

    @classmethod
    def values_of(cls, row: Row) -> dict[str, Any]:
        """What a type's own plain fields are."""
        return {}


@strawberry.enum(description="Why events cannot be delivered.")
class GapReason(Enum):
    EXPIRED = strawberry.enum_value(EventGapReason.EXPIRED, description="They are older than the history that is kept.")
    OVERFLOW = strawberry.enum_value(EventGapReason.OVERFLOW, description="You read so slowly that they left the history meanwhile.")
    UNKNOWN = strawberry.enum_value(
        EventGapReason.UNKNOWN,
        description="The cursor is of another database, or of a time that a restored backup took back: `resumeFrom` is now.",
    )


@strawberry.type(
    description="Events are missing here: read again what you need from the catalogue. The stream goes on after `resumeFrom`, and so does a new one."
)
class Gap(Event):
    resume_from: str = strawberry.field(description="The cursor of the first place from which nothing is missing. The same as `cursor`.")
    reason: GapReason = strawberry.field(description="Why.")

    @classmethod
    def because(cls, missed: EventGap, cursor: str) -> Self:
        return cls(cursor=cursor, occurred_at=utc_now(), resume_from=cursor, reason=GapReason(missed.reason))


AfterEvent = Annotated[str | None, strawberry.argument(description="The cursor of the last event you have.")]


async def _pay(context: Context) -> None:
    if context.pay:
        await context.pay(HISTORY_PAGE_POINTS)


class EntityEvents:
    """The types of an entity's events, by their kinds in the log."""

    def __init__(self, types: Mapping[str, type[Event]]) -> None:
        self._types = types
        self._objects = LruCache[tuple[str, datetime], Event](EVENT_CACHE_BYTES, lambda _key, _event: EVENT_OBJECT_BYTES)

    async def follow(self, info: Info, after: str | None, *, keys: Collection[int | None] | None = None) -> AsyncGenerator[Any]:
        """Events after a cursor, or from now on; with `keys`, of these rows only. Where some cannot be delivered, a `Gap` stands for them.

        Raises: InvalidInput, if the cursor is none.
        """
        feed = info.context.services.feed
        async with aclosing(feed.resume(after, reading=partial(_pay, info.context))) as events:
            async for event in events:
                if isinstance(event, EventGap):
                    yield Gap.because(event, feed.cursor(event.resume_from))
                elif event.kind in self._types and (keys is None or event.subject_id in keys):
                    yield self._object(feed, event)

    def _object(self, feed: Feed, event: Row) -> Event:
        """One object for all subscribers, so that its execution can be shared: see `graph.kit.execution.shared_execution`. Each may have read a row of its own."""
        key = feed.cursor(event.id), event.occurred_at
        made = self._objects.get(key)
        if made is None:
            made = self._types[event.kind].of(event, key[0])
            self._objects.put(key, made)
        return made
