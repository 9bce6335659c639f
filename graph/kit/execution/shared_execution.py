"""One execution and one encoding of an event for all subscribers who ask the same.

A source that gives the same object to several subscribers (as `item_events` does) is executed once for each question: document and variables.
Whether an answer may be shared is not declared but seen: an execution that looks at who asks (`Context.personal`), such as for a buyer's own
purchase, or that ends in an error, which names its request, is one viewer's. Those with other rights have their own.

Only executions are shared. Each subscriber has its own stream: its authorization, its place in the log, its charge, its pace and its end.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import orjson
from graphql import GraphQLError

from graph.kit.auth import Caller, Scope
from graph.kit.context import Context
from graph.kit.errors import Refused
from graph.kit.execution.engine import Operation

KEPT = 2_000  # Answers: of a burst as long as subscribers lag behind each other.
FRESH_SECONDS = 1.0  # An answer has things as they are now: for whoever takes up an old event later, it is made anew.
SEVERAL = 4  # Subscribers for whom a scout is worth its own stream.
AHEAD = 8  # Events that a scout is ahead: so many leave in one write, and other requests do not wait for more between two subscribers.

Rights = tuple[int, frozenset[Scope]] | None


@dataclass(frozen=True, slots=True)
class Told:
    """What one event gives one question."""

    body: bytes
    errors: Sequence[GraphQLError] = ()
    personal: bool = False


Question = tuple[Operation, str]  # The variables, in one form for the same values.
Make = Callable[[Context], Awaitable[Told]]


def asked(operation: Operation, variables: Mapping[str, Any] | None) -> Question:
    return operation, orjson.dumps(variables or {}, option=orjson.OPT_SORT_KEYS).decode()


class _Answer:
    """An execution, and who waits for it."""

    def __init__(self, event: object, rights: Rights, making: asyncio.Task[Told], since: float) -> None:
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

    async def told(self) -> Told:
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


class Sharing:
    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[Any, ...], _Answer] = OrderedDict()
        self._subscribers: Counter[Question] = Counter()
        self._scouts: dict[Question, asyncio.Task[None]] = {}

    async def told(self, question: Question, event: object, fresh: Callable[[], Context], caller: Caller, make: Make) -> Told:
        """`make` executes the event in a fresh context and encodes what comes of it."""
        rights = rights_of(caller)
        answer = self._answer((*question, id(event)), event, rights, fresh, make)
        told = await answer.told()
        if not told.personal or answer.rights == rights:
            return told
        return await self._answer((*question, id(event), rights), event, rights, fresh, make).told()

    @contextmanager
    def subscriber(
        self, question: Question, scout: Callable[[], AsyncGenerator[tuple[object, Make]]], fresh: Callable[[], Context]
    ) -> Generator[None]:
        """Count a subscriber. Before several of them goes one scout, as a stranger, who has executed the next events by the time they come for them."""
        self._subscribers[question] += 1
        if self._subscribers[question] == SEVERAL:
            self._scouts[question] = asyncio.create_task(self._go_ahead(question, scout(), fresh))
        try:
            yield
        finally:
            self._subscribers[question] -= 1
            if self._subscribers[question] == SEVERAL - 1:
                self._scouts.pop(question).cancel()
            if not self._subscribers[question]:
                del self._subscribers[question]

    async def _go_ahead(self, question: Question, events: AsyncGenerator[tuple[object, Make]], fresh: Callable[[], Context]) -> None:
        ahead = asyncio.Semaphore(AHEAD)
        with suppress(Refused):  # It is not for strangers: each subscriber goes alone.
            async with aclosing(events):
                async for event, make in events:
                    await ahead.acquire()
                    answer = self._answer((*question, id(event)), event, None, fresh, make)
                    answer.unused = ahead

    def _answer(self, key: tuple[Any, ...], event: object, rights: Rights, fresh: Callable[[], Context], make: Make) -> _Answer:
        answer, now = self._answers.get(key), time.monotonic()
        if answer is None or now - answer.since > FRESH_SECONDS:
            self._forget(now)
            # In a task of its own: whoever asked first may leave before it is done.
            answer = self._answers[key] = _Answer(event, rights, asyncio.create_task(_made(fresh(), make)), now)
        return answer

    def _forget(self, now: float) -> None:
        while self._answers:
            oldest = next(iter(self._answers.values()))
            if len(self._answers) < KEPT and now - oldest.since <= FRESH_SECONDS:
                return
            oldest.use()
            self._answers.popitem(last=False)


async def _made(context: Context, make: Make) -> Told:
    told = await make(context)
    body = bytes(memoryview(told.body))  # orjson leaves room behind what it wrote: 4 kB, which would be kept.
    return Told(body, told.errors, personal=context.personal or bool(told.errors))


def rights_of(caller: Caller) -> Rights:
    """What an answer may depend on of who asks."""
    return None if caller.principal is None else (caller.principal.user_id, caller.principal.scopes)
