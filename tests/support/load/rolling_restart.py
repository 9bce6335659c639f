"""A deploy under load: each process is restarted while clients buy, ask and listen through the proxy, and what they noticed of it is counted.

tests/server/asgi/test_nginx.py runs it with 20 subscribers, `scripts/soak --rolling` with 200.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from graph.kit.global_ids import row_id
from persistence.kit.events import log as events
from persistence.kit.events.log import Event
from tests.support.load.resuming_subscribers import Subscriber
from tests.support.load.retrying_clients import STOCK, Shopping

if TYPE_CHECKING:
    from tests.support.servers.nginx import Deployment
    from tests.support.service import Service

QUIET_SECONDS = 60


@dataclass
class Outcome:
    acknowledged: int
    reconnects: int
    """More sockets than subscribers."""
    lost: int = 0
    repeated: int = 0
    refused_subscriptions: list[Any] = field(default_factory=list[Any])
    refused_requests: dict[tuple[int, str], int] = field(default_factory=dict[tuple[int, str], int])
    broken_requests: int = 0


async def rolled(deployment: Deployment, *, subscribers: int, name: str = "roller") -> Outcome:
    """Raises: AssertionError, if a purchase was lost or made twice."""
    service = deployment.service
    token, item = await service.sign_in(username=name), await service.make_item(inventory=STOCK)
    start = await _now(service)
    shopping = Shopping(service.url, token, item)
    crowd = [Subscriber(service.socket_url, start, None if number % 2 else [item]) for number in range(subscribers)]
    listening = [asyncio.create_task(subscriber.listen()) for subscriber in crowd]

    async def restart(_: Shopping) -> None:
        for number in range(len(deployment.processes)):
            await deployment.restart(number)

    await shopping.meanwhile(restart)
    expected = Counter(await _cursors(service, item))
    await _heard(crowd, expected.total())
    for task in listening:
        task.cancel()
    await asyncio.gather(*listening, return_exceptions=True)
    await shopping.is_kept_by(service)
    heard = [Counter(event["cursor"] for event in subscriber.heard) for subscriber in crowd]
    return Outcome(
        acknowledged=len(shopping.acknowledged),
        reconnects=sum(subscriber.connections - 1 for subscriber in crowd),
        lost=sum((expected - each).total() for each in heard),
        repeated=sum((each - expected).total() for each in heard),
        refused_subscriptions=[refusal for subscriber in crowd for refusal in subscriber.refusals][:3],
        refused_requests=dict(shopping.refusals),
        broken_requests=shopping.broken,
    )


async def _now(service: Service) -> str:
    async with service.database.reading() as session:
        return events.cursor(await events.identity(session), await events.newest(session))


async def _cursors(service: Service, item: str) -> list[str]:
    async with service.database.reading() as session:
        found = await session.scalars(select(Event.id).where(Event.subject_id == row_id("Item", item), Event.kind == "item.purchased"))
        identity = await events.identity(session)
        return [events.cursor(identity, id_) for id_ in found]


async def _heard(crowd: list[Subscriber], expected: int) -> None:
    """Until everybody has heard as much as there is, or long enough."""
    for _ in range(QUIET_SECONDS * 20):
        if all(len(subscriber.heard) >= expected for subscriber in crowd):
            return
        await asyncio.sleep(0.05)
