"""Executions of events that subscribers share, while some are cancelled: each gets its own event, and nobody what is another's."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from graph.kit.auth import Caller, Principal, Scope
from graph.kit.execution import shared_execution
from graph.kit.execution.shared_execution import EventResult, SharedExecutions
from tests.proofs.simulation.loop import SimulatedLoop

MODULES = (shared_execution,)


class _Context:
    personal = False


class _Event:
    def __init__(self, number: int) -> None:
        self.number, self.personal = number, number % 3 == 0


async def scenario(loop: SimulatedLoop, *, forgets_personal: bool = False) -> list[str]:
    """`forgets_personal` plants an execution that does not say that it looked at its caller."""
    shared, faults, made = SharedExecutions(), list[str](), list[int]()
    stream = [_Event(number) for number in range(10)]

    async def follow(user: int) -> None:
        caller = _caller(user)
        for event in stream:
            await loop.pause(0.02)

            async def make(context: Any, event: _Event = event) -> EventResult:
                made.append(event.number)
                await loop.pause(0.02)
                context.personal = event.personal and not forgets_personal
                return EventResult(f"{event.number} {user if event.personal else 'all'}".encode())

            result = await shared.result(b"selection", event, lambda: cast("Any", _Context()), caller, make)
            expected = f"{event.number} {user if event.personal else 'all'}".encode()
            if result.body != expected:
                faults.append(f"user {user} got {result.body!r} instead of {expected!r}")

    following = [asyncio.create_task(follow(user)) for user in (1, 1, 2, 3, 3)]
    loop.victims, loop.cancellation = list(following), 0.004
    outcomes = await asyncio.gather(*following, return_exceptions=True)
    faults += [repr(outcome) for outcome in outcomes if isinstance(outcome, Exception)]
    return faults


def _caller(user: int) -> Caller:
    principal = object.__new__(Principal)
    for name, value in {"user_id": user, "scopes": frozenset({Scope.ITEMS_READ})}.items():
        object.__setattr__(principal, name, value)
    caller = object.__new__(Caller)
    object.__setattr__(caller, "principal", principal)
    return caller
