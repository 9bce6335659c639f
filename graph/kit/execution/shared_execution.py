"""Shares subscription executions: each event is executed and encoded once for all subscribers with the same selection.

A source that gives the same object to several subscribers (as `item_events` does) is executed once for each selection, wherever they
resume and whichever events they filter (`graph.kit.execution.subscription_keys`).
Whether a result may be shared is not declared but observed: the result of an execution that looked at the viewer (`Context.personal`), as for a buyer's
own purchase, or that ended in an error, which names its request, is for one viewer. Viewers with other scopes have executions of their own.

Only executions are shared. Each subscriber has a stream of its own, with its authorization, position in the log, charges and end.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from graphql import GraphQLError

from graph.kit.auth import Caller, Scope
from graph.kit.context import Context
from graph.kit.errors import Refused
from persistence.kit.lru_cache import LruCache

RESULTS = 2_000  # Answers: of a burst as long as subscribers lag behind each other.
RESULT_BYTES = 64 * 2**20
ANSWER_BYTES = 2_000  # A task, an event and what else an answer takes beside its bytes.
FRESH_SECONDS = 1.0  # An answer has things as they are now: for whoever takes up an old event later, it is made anew.
PREFETCH_SUBSCRIBERS = 4  # Subscribers for whom a scout is worth its own stream.
PREFETCH_EVENTS = (
    8  # Events that a scout is ahead: so many leave in one write, and other requests do not wait for more between two subscribers.
)

ViewerKey = tuple[int, frozenset[Scope]] | None


@dataclass(frozen=True, slots=True)
class EventResult:
    """What one event gives one question."""

    body: bytes
    errors: Sequence[GraphQLError] = ()
    personal: bool = False
    points: int = 1
    """What each subscriber pays for it."""


ExecutionKey = bytes  # What is made of an event: `resuming.selection_key`.
Make = Callable[[Context], Awaitable[EventResult]]


class _Answer:
    """An execution, and who waits for it."""

    def __init__(self, event: object, rights: ViewerKey, making: asyncio.Task[EventResult], since: float) -> None:
        self.event = event  # Kept beside its answer, so that its id is not given to another.
        self.rights, self.since = rights, since
        self.unused: asyncio.Semaphore | None = None  # The scout's, while nobody has come for what it found.
        self._making, self._waiting = making, list[asyncio.Future[None]]()
        making.add_done_callback(self._done)

    def _done(self, _making: object) -> None:
        for each in self._waiting:
            if not each.done():
                each.set_result(None)
        self._waiting.clear()

    @property
    def size_bytes(self) -> int:
        made = self._making.done() and not self._making.cancelled() and self._making.exception() is None
        return ANSWER_BYTES + (len(self._making.result().body) if made else 0)

    async def event_result(self) -> EventResult:
        """`asyncio.shield` does the same in three times the time, once for each subscriber and event."""
        self.use()
        if not self._making.done():
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting
        return self._making.result()

    def use(self) -> None:
        if self.unused is not None:
            self.unused.release()
            self.unused = None


class SharedExecutions:
    """Keeps answers for FRESH_SECONDS, at most KEPT_BYTES of them."""

    def __init__(self) -> None:
        self._answers = LruCache[tuple[Any, ...], _Answer](
            RESULT_BYTES, lambda _, answer: answer.size_bytes, most_entries=RESULTS, evicted=_Answer.use
        )
        self._subscribers: Counter[bytes] = Counter()
        self._scouts: dict[bytes, asyncio.Task[None]] = {}

    async def result(self, question: ExecutionKey, event: object, fresh: Callable[[], Context], caller: Caller, make: Make) -> EventResult:
        """`make` executes the event in a fresh context and encodes what comes of it."""
        rights = viewer_key(caller)
        answer = self._answer((question, id(event)), event, rights, fresh, make)
        event_result = await answer.event_result()
        if not event_result.personal or answer.rights == rights:
            return event_result
        return await self._answer((question, id(event), rights), event, rights, fresh, make).event_result()

    @contextmanager
    def subscriber(
        self,
        stream: bytes,
        question: ExecutionKey,
        prefetcher: Callable[[], AsyncGenerator[tuple[object, Make]]],
        fresh: Callable[[], Context],
    ) -> Generator[None]:
        """Count a subscriber to a stream of new events (`resuming.stream_key`).

        With several subscribers, one prefetcher executes the next events anonymously, so that results are ready when they are asked for.
        """
        self._subscribers[stream] += 1
        if self._subscribers[stream] == PREFETCH_SUBSCRIBERS:
            self._scouts[stream] = asyncio.create_task(self._prefetch(question, prefetcher(), fresh))
        try:
            yield
        finally:
            self._subscribers[stream] -= 1
            if self._subscribers[stream] == PREFETCH_SUBSCRIBERS - 1:
                self._scouts.pop(stream).cancel()
            if not self._subscribers[stream]:
                del self._subscribers[stream]

    async def _prefetch(self, question: ExecutionKey, events: AsyncGenerator[tuple[object, Make]], fresh: Callable[[], Context]) -> None:
        ahead = asyncio.Semaphore(PREFETCH_EVENTS)
        with suppress(Refused):  # It is not for strangers: each subscriber goes alone.
            async with aclosing(events):
                async for event, make in events:
                    await ahead.acquire()
                    answer = self._answer((question, id(event)), event, None, fresh, make)
                    answer.unused = ahead

    def _answer(self, key: tuple[Any, ...], event: object, rights: ViewerKey, fresh: Callable[[], Context], make: Make) -> _Answer:
        answer, now = self._answers.get(key), time.monotonic()
        if answer is None or now - answer.since > FRESH_SECONDS:
            # In a task of its own: whoever asked first may leave before it is done.
            making = asyncio.create_task(_made(fresh(), make))
            answer = _Answer(event, rights, making, now)
            self._answers.put(key, answer)
            making.add_done_callback(partial(self._made, key, answer))
            self._forget(now)
        return answer

    def _made(self, key: tuple[Any, ...], answer: _Answer, _making: object) -> None:
        if key in self._answers and self._answers[key] is answer:
            self._answers.put(key, answer)  # Now that its length is known.

    def _forget(self, now: float) -> None:
        while (oldest := next(self._answers.items(), None)) and now - oldest[1].since > FRESH_SECONDS:
            oldest[1].use()
            self._answers.pop(oldest[0])


async def _made(context: Context, make: Make) -> EventResult:
    event_result = await make(context)
    body = bytes(memoryview(event_result.body))  # orjson leaves room behind what it wrote: 4 kB, which would be kept.
    return EventResult(body, event_result.errors, personal=context.personal or bool(event_result.errors), points=event_result.points)


def viewer_key(caller: Caller) -> ViewerKey:
    """What an answer may depend on of who asks."""
    return None if caller.principal is None else (caller.principal.user_id, caller.principal.scopes)
