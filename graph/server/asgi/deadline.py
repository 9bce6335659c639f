"""Operation deadlines: every query, mutation and plain request is answered in time, whatever part of the service hangs.

At its deadline an operation is cancelled: before a commit, so that nothing is changed, or between commits, and never in the middle of one. The refusal
says which it was (`extensions.outcome`). A query is cancelled with its client, too; a mutation goes on to its end, unheard.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Self

import structlog

from graph.kit.errors import UNAVAILABLE, Refused, refusal
from graph.server.asgi.request_body import ClientGone
from persistence.kit.database.commits import Commits, Outcome

if TYPE_CHECKING:
    from starlette.types import Receive

log = structlog.get_logger(__name__)

OPERATION_SECONDS = 10.0
WATCH_SECONDS = 0.1  # Most operations have ended by then, and need nobody who looks after their client.

SENTENCES = {
    Outcome.NOT_COMMITTED: "Nothing was changed: repeat the request in a moment.",
    Outcome.UNKNOWN: "Whether it changed something is not known yet: with the same idempotency key it is safe to repeat.",
    Outcome.COMMITTED: "It has changed something, and could not tell what in time: with the same idempotency key it is safe to repeat.",
}


class Deadline:
    """A block that ends in time. Raises: Refused SERVICE_UNAVAILABLE; ClientGone, if it watches the client."""

    __slots__ = ("_commits", "_gone", "_seconds", "_task", "_timeout", "_token", "_watch", "_watching")

    def __init__(self, seconds: float) -> None:
        self._seconds, self._timeout, self._commits = seconds, asyncio.timeout(seconds), Commits()
        self._watch: asyncio.TimerHandle | None = None
        self._watching: asyncio.Task[None] | None = None
        self._gone = False

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._commits.__enter__()
        self._token: Token[Deadline | None] = _current.set(self)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        _current.reset(self._token)
        self._commits.__exit__()
        await self._unwatch()
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise self.refusal() from error
        if self._gone and kind is asyncio.CancelledError and self._task.uncancel() == 0:
            raise ClientGone from error

    def extend(self) -> None:
        """All its seconds from now: the client was waited for, not the service."""
        if not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._seconds)

    def suspend(self) -> None:
        """The client is waited for, by somebody who bounds that."""
        if not self._timeout.expired():
            self._timeout.reschedule(None)

    def watch(self, receive: Receive) -> None:
        """Cancel the block when the client goes away: not for what changes something. Nothing else may receive meanwhile."""
        loop, self._task = asyncio.get_running_loop(), _running_task()
        self._watch = loop.call_later(WATCH_SECONDS, self._begin_watching, receive)

    def refusal(self) -> Refused:
        outcome = self._commits.outcome
        log.warning("an operation was cancelled at its deadline", seconds=self._seconds, outcome=outcome.value)
        message = f"The service could not answer within {self._seconds:g} s. {SENTENCES[outcome]}"
        return refusal(UNAVAILABLE, message, headers={"Retry-After": "1"}, outcome=outcome.value)

    @property
    def outcome(self) -> Outcome:
        """What has become of the operation's changes."""
        return self._commits.outcome

    @property
    def expired(self) -> bool:
        return self._timeout.expired()

    def _begin_watching(self, receive: Receive) -> None:
        self._watching = asyncio.get_running_loop().create_task(self._await_disconnect(receive))

    async def _await_disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()

    async def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if self._watching is not None and not self._watching.done():
            self._watching.cancel()
            await asyncio.wait([self._watching])


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def current() -> Deadline | None:
    """The deadline of the operation that runs."""
    return _current.get()


def _running_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task
