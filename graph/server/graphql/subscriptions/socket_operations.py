"""The operations that run on one WebSocket, each in its own task, by the ids that the client chose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import structlog
from graphql import OperationType

from graph.kit.auth import Caller
from graph.kit.errors import RATE_LIMITED, Refused, internal, refusal
from graph.kit.execution.engine import Operation
from graph.server.asgi.deadline import Deadline
from graph.server.graphql.pipeline import EncodedResponse, Pipeline
from graph.server.graphql.requests import GraphQLRequest
from graph.server.graphql.subscriptions import messages
from graph.server.graphql.subscriptions.connection_registry import FLUSH_SECONDS, ConnectionRegistry
from graph.server.graphql.subscriptions.messages import Closed

log = structlog.get_logger(__name__)


class Disconnected(Exception):
    """The client has left, or our own close is on its way: there is nobody to write to."""


@dataclass(slots=True, eq=False)
class _Running:
    """One operation, until its task has ended. A client's `complete` takes away its id, and so the right to speak, before that."""

    id: str
    opening: str
    kind: OperationType | None = None
    task: asyncio.Task[None] | None = None


class SocketOperations:
    """Starts operations and sends what they give, through `write`, which raises Disconnected or OSError when nobody listens."""

    def __init__(
        self, pipeline: Pipeline, write: Callable[[str], Awaitable[None]], connections: ConnectionRegistry, *, limit: int, seconds: float
    ) -> None:
        self._seconds = seconds
        self._pipeline, self._write, self._connections, self._limit = pipeline, write, connections, limit
        self._speaking: dict[str, _Running] = {}
        self._running: set[_Running] = set()
        self._ended = False  # Whether a subscription did, while draining.

    async def start(self, id_: str, request: GraphQLRequest, caller: Caller) -> None:
        """Raises: Closed 4409."""
        if id_ in self._speaking:
            raise Closed(4409, f"Subscriber for {id_} already exists")
        if len(self._running) >= self._limit:
            refused = refusal(RATE_LIMITED, f"A socket runs {self._limit} operations at most; complete one first.", retryAfter=1)
            await self._write(messages.error(id_, refused))
            return
        running = self._speaking[id_] = _Running(id_, messages.opening(id_))
        self._running.add(running)
        running.task = asyncio.create_task(self._run(running, request, caller))

    def complete(self, id_: str) -> None:
        """Source: PROTOCOL.md, "It is permissable to simply ignore all unknown IDs": the operation may have ended meanwhile."""
        if running := self._speaking.pop(id_, None):
            _cancel(running)

    async def drain(self) -> bool:
        """Let subscriptions end, or cut them off, and wait for single results to be sent. Whether there were subscriptions that ended by themselves, and no others."""
        subscriptions = {running.task for running in self._running if running.kind is OperationType.SUBSCRIPTION and running.task}
        late = (await asyncio.wait(subscriptions, timeout=FLUSH_SECONDS))[1] if subscriptions else set[asyncio.Task[None]]()
        for task in late:
            task.cancel()
        await self._finished()
        return self._ended and not late

    async def stop(self) -> None:
        """Nobody listens any longer."""
        self._speaking.clear()
        self._write = _discard  # The socket's own method held it as long as this did the socket: both would wait for a garbage collection.
        for running in self._running:
            _cancel(running)
        await self._finished()

    async def _finished(self) -> None:
        if tasks := [running.task for running in self._running if running.task]:
            await asyncio.wait(tasks)

    async def _run(self, running: _Running, request: GraphQLRequest, caller: Caller) -> None:
        try:
            last = await self._results(running, request, caller)
            if last and self._release(running):
                # Released before the last word is sent: the client may use the id again as soon as it has read it.
                await self._write(last)
        except (Disconnected, OSError):
            pass  # whoever listens on the socket sees the same, and stops the rest
        finally:
            self._release(running)
            self._running.discard(running)
            running.task = None  # Cancelled, it holds what ran in it, and that holds it.

    def _may_speak(self, running: _Running) -> bool:
        return self._speaking.get(running.id) is running

    def _release(self, running: _Running) -> bool:
        may_speak = self._may_speak(running)
        if may_speak:
            del self._speaking[running.id]
        return may_speak

    async def _results(self, running: _Running, request: GraphQLRequest, caller: Caller) -> str | None:
        """Send each result; give back the last message."""
        try:
            with Deadline(self._seconds):
                operation = await self._pipeline.prepare(request, caller)
            running.kind = operation.kind
            if self._connections.draining and running.kind is OperationType.SUBSCRIPTION:
                return None
            async with aclosing(self._answers(operation, request, caller)) as answers:
                async for answer in answers:
                    if self._may_speak(running):
                        await self._write(f"{running.opening}{answer.body.decode()}}}")
        except Refused as refused:
            return messages.error(running.id, refused)
        except (Disconnected, OSError):
            raise
        except Exception:
            log.exception("operation failed", request_id=caller.request_id)
            return messages.error(running.id, Refused([internal(caller.request_id)]))
        if self._connections.draining and running.kind is OperationType.SUBSCRIPTION:
            self._ended = True
            return None  # A client takes a `complete` for the end: without one it subscribes again elsewhere.
        return messages.complete(running.id)

    async def _answers(self, operation: Operation, request: GraphQLRequest, caller: Caller) -> AsyncGenerator[EncodedResponse, None]:
        if operation.kind is not OperationType.SUBSCRIPTION:
            with Deadline(self._seconds):
                answer = await self._pipeline.run(operation, request, caller)
            yield answer
            return
        async with aclosing(self._pipeline.stream(operation, request, caller)) as answers:
            async for answer in answers:
                yield answer


async def _discard(_text: str) -> None:
    raise Disconnected


def _cancel(running: _Running) -> None:
    # A mutation goes on to its end, unheard: cut off in the middle, nobody would know whether it took effect.
    if running.task and running.kind is not OperationType.MUTATION:
        running.task.cancel()
