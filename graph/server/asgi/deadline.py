"""Operation deadlines: every query, mutation and plain request is answered in time, whatever part of the service hangs.

At its deadline an operation is cancelled: before a commit, so that nothing is changed, or between commits, and never in the middle of one. The refusal
says which it was (`extensions.outcome`). A query is cancelled with its client, too; a mutation goes on to its end, unheard.
"""

from __future__ import annotations

import asyncio
import math
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
    """A block that ends in time. Raises: Refused SERVICE_UNAVAILABLE; ClientGone, if it watches the client.

    It does what `asyncio.timeout` does, with one timer for both: several of them would take as long as a twentieth of a small query.
    """

    __slots__ = (
        "_cancelling",
        "_commits",
        "_ends_at",
        "_expired",
        "_gone",
        "_looked",
        "_loop",
        "_receive",
        "_seconds",
        "_task",
        "_timer",
        "_token",
        "_watching",
    )

    def __init__(self, seconds: float) -> None:
        self._seconds, self._commits = seconds, Commits()
        self._receive: Receive | None = None
        self._watching: asyncio.Task[None] | None = None
        self._expired = self._gone = self._looked = False

    def __enter__(self) -> Self:
        self._loop, self._task = asyncio.get_running_loop(), _running_task()
        self._cancelling = self._task.cancelling()
        self._ends_at = self._loop.time() + self._seconds
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(min(WATCH_SECONDS, self._seconds), self._look)
        self._commits.__enter__()
        self._token: Token[Deadline | None] = _current.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None) -> None:
        _current.reset(self._token)
        self._commits.__exit__()
        if self._timer is not None:
            self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()
        if not (self._expired or self._gone):
            return
        others = self._task.uncancel() > self._cancelling
        if kind is asyncio.CancelledError and not others:
            raise (self.refusal() if self._expired else ClientGone) from error

    @property
    def expired(self) -> bool:
        return self._expired

    @property
    def outcome(self) -> Outcome:
        """What has become of the operation's changes."""
        return self._commits.outcome

    def suspend(self) -> None:
        """The client is waited for, by somebody who bounds that."""
        self._ends_at = math.inf

    def extend(self) -> None:
        """All its seconds from now: the client was waited for, not the service."""
        self._ends_at = self._loop.time() + self._seconds
        if self._timer is None and not self._expired:
            self._timer = self._loop.call_at(self._ends_at, self._look)

    def watch(self, receive: Receive) -> None:
        """Cancel the block when the client goes away: not for what changes something. Nothing else may receive meanwhile."""
        self._receive = receive
        if self._looked:
            self._watching = self._loop.create_task(self._await_disconnect(receive))

    def refusal(self) -> Refused:
        outcome = self._commits.outcome
        log.warning("an operation was cancelled at its deadline", seconds=self._seconds, outcome=outcome.value)
        message = f"The service could not answer within {self._seconds:g} s. {SENTENCES[outcome]}"
        return refusal(UNAVAILABLE, message, headers={"Retry-After": "1"}, outcome=outcome.value)

    def _look(self) -> None:
        self._timer, self._looked = None, True
        if self._gone:
            return
        if self._receive is not None and self._watching is None:
            self._watching = self._loop.create_task(self._await_disconnect(self._receive))
        if self._loop.time() >= self._ends_at:
            self._expired = True
            self._task.cancel()
        elif self._ends_at != math.inf:
            self._timer = self._loop.call_at(self._ends_at, self._look)

    async def _await_disconnect(self, receive: Receive) -> None:
        if (await receive())["type"] == "http.disconnect" and not self._expired:  # The body is whole, so nothing else can come.
            self._gone = True
            self._task.cancel()


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def current() -> Deadline | None:
    """The deadline of the operation that runs."""
    return _current.get()


def _running_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task
