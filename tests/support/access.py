"""A small shop and the people who look at it, and what each of them gets to see of it: for the table in docs/access.md."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from graph.kit.auth import Scope
from graph.kit.global_ids import global_id, row_id
from persistence import logins, users
from persistence.items import table as items
from persistence.kit.events import log as events
from persistence.kit.jobs import queue as jobs
from persistence.purchases.table import PLACED
from tests.support.service import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from persistence.users import User
    from tests.support.service import Service

READ = (Scope.ITEMS_READ, Scope.FILES_READ)
WRITE = (*READ, Scope.ITEMS_WRITE, Scope.FILES_WRITE)
# In the order of the columns. All but the first two look at what is somebody else's.
VIEWERS: dict[str, tuple[Scope, ...]] = {"anonymous": (), "owner": READ, "reader": READ, "writer": WRITE, "admin": tuple(Scope)}
MARK = "mark: __typename"


@dataclass(frozen=True)
class Way:
    """How to come to an object of a type: an operation with `*` where the type's fields go. `own` is whose row it is.

    `before` is a mutation that the owner sends first; `$now` is the cursor of the event log before it.
    """

    operation: str
    heading: str | None = None
    own: str = "owner"
    before: str | None = None


class World:
    def __init__(self, service: Service, fresh: Mapping[str, str]) -> None:
        """`fresh` has mutations of the owner, each of which makes an object and selects its id as `mark`."""
        self.service, self._fresh = service, fresh
        self.people: dict[str, User] = {}
        self._ids: dict[str, str] = {}
        self._headers: dict[str, dict[str, str]] = {}
        self._numbers = itertools.count()

    async def settle(self) -> None:
        for name, scopes in {**VIEWERS, "hermit": READ}.items():
            if name != "anonymous":
                # Every scope for the owner as a user: what is sold and uploaded here needs them, the owner's token below does not carry them.
                held = tuple(Scope) if name == "owner" else scopes
                self.people[name] = await self.service.make_user(name, held, full_name=name.title(), email=f"{name}@shop.test")
        owner = self._all_scopes()
        draft = 'name: "Kettle", description: "Sings.", price: "9.50", tags: ["kitchen"], inventory: 1000, externalId: "K-1"'
        made = await self.service.ask(f"mutation {{ createItem(input: {{{draft}}}) {{ ... on Item {{ id }} }} }}", token=owner)
        item = made["createItem"]["id"]
        await self.service.ask(f'mutation {{ updateItem(id: "{item}", input: {{inventory: 999}}) {{ __typename }} }}', token=owner)
        sold = await self.service.ask(
            f'mutation {{ purchaseItem(itemId: "{item}") {{ ... on Purchase {{ id createdAt }} }} }}', token=owner
        )
        adjustment = f'{{itemId: "{item}", delta: -1}}'
        await self.service.ask(f"mutation {{ adjustInventory(adjustments: [{adjustment}]) {{ __typename }} }}", token=owner)
        await self.service.background_done()
        await self.cancel(await self.buy(item))
        await self.service.park("letter", "letter:1")
        gone = await self.service.make_item()
        await self.service.ask(f'mutation {{ deleteItem(id: "{gone}") {{ __typename }} }}', token=owner)
        await self.service.ask(f'mutation {{ restoreItem(id: "{gone}") {{ __typename }} }}', token=owner)
        await self.service.ask(f'mutation {{ deleteItem(id: "{gone}") {{ __typename }} }}', token=owner)
        entry = await self.service.ask("{ auditLog(last: 1) { nodes { id } } }", token=owner)
        self._ids = {
            "item": item,
            "purchase": sold["purchaseItem"]["id"],
            "file": await self.upload("plan.txt"),
            "entry": entry["auditLog"]["nodes"][0]["id"],
            "owner": await self._user_id("owner", owner),
            "hermit": await self._user_id("hermit", owner),
            "foreign": events.cursor("00000000", 1),
            # From the sale on, so that it is in the first period, also where midnight is near.
            "opened": sold["purchaseItem"]["createdAt"],
            "closed": (datetime.fromisoformat(sold["purchaseItem"]["createdAt"]) + timedelta(hours=1)).isoformat(),
            **await self._cursors(),
            **{f"no_{name}": global_id(kind, 10**9) for name, kind in (("purchase", "Purchase"), ("entry", "Audit"), ("hermit", "User"))},
        }
        async with self.service.database.transaction() as work:  # From now on there is one administrator.
            await users.change_scopes(work, "owner", take=[Scope.USERS_WRITE.value])

    async def buy(self, item: str) -> str:
        """The id of a new purchase of the owner's, which is completed."""
        owner = self._all_scopes()
        bought = await self.service.ask(f'mutation {{ purchaseItem(itemId: "{item}") {{ ... on Purchase {{ id }} }} }}', token=owner)
        asked = f'{{ node(id: "{bought["purchaseItem"]["id"]}") {{ ... on Purchase {{ status }} }} }}'
        async with asyncio.timeout(30):  # Other background work is parked, and stays.
            while (await self.service.ask(asked, token=owner))["node"]["status"] != "COMPLETED":  # noqa: ASYNC110 -- what is done needs no ear
                await asyncio.sleep(0.01)
        return bought["purchaseItem"]["id"]

    async def cancel(self, purchase: str) -> None:
        await self.service.ask(f'mutation {{ cancelPurchase(id: "{purchase}") {{ __typename }} }}', token=self._all_scopes())

    def _all_scopes(self) -> str:
        return self.service.tokens.issue(self.people["owner"].id, tuple(Scope))

    async def _user_id(self, name: str, token: str) -> str:
        return (await self.service.ask(f'{{ user(username: "{name}") {{ id }} }}', token=token))["user"]["id"]

    async def _cursors(self) -> dict[str, str]:
        """For each kind of event the cursor before the first one: `created`, `purchased` …"""
        feed = self.service.services.feed
        async with self.service.database.reading() as session:
            log = await events.between(session, 0, 2**31, most=100)
        return {event.kind.removeprefix("item."): feed.cursor(event.id - 1) for event in reversed(log) if event.kind.startswith("item.")}

    async def _deleted_item(self, number: int) -> str:
        item = await self.service.make_item(f"Pot {number}")
        async with self.service.database.transaction() as work:
            await items.delete(work, row_id("Item", item) or 0)
        return item

    async def _login(self) -> str:
        async with self.service.database.transaction() as work:
            owner_id = self.people["owner"].id
            owner = (await users.by_id(work.session, [owner_id]))[owner_id]
            return (await logins.begin(work, owner, scopes=None, client="shop/1.0")).login_id

    async def upload(self, name: str) -> str:
        token = self._all_scopes()
        sent = await self.service.http.post("/api/v2/files/upload", headers=_bearer(token), files={"file": (name, b"text")})
        return sent.json()["id"]

    def headers(self, viewer: str) -> dict[str, str]:
        if viewer == "anonymous":
            return {}
        if viewer not in self._headers:
            self._headers[viewer] = _bearer(self.service.tokens.issue(self.people[viewer].id, VIEWERS.get(viewer, READ)))
        return self._headers[viewer]

    async def idle(self) -> None:
        """Wait for the jobs that were retried; one stays parked."""
        async with asyncio.timeout(30), self.service.database.reading() as session:
            while (await jobs.backlog(session)).waiting:  # noqa: ASYNC110 -- the runner tells nobody
                await asyncio.sleep(0.01)

    async def _newcomer(self, viewer: str) -> dict[str, str]:
        scopes = VIEWERS.get(viewer, READ)
        user = await self.service.make_user(f"newcomer{next(self._numbers)}", scopes)
        return _bearer(self.service.tokens.issue(user.id, scopes))

    async def sees(self, operation: str, viewer: str, *, before: str | None = None) -> dict[str, Any]:
        """The response: for a subscription its first result."""
        if before is not None:
            await self._send(before)
        query = await self.filled(operation)
        # Nobody of the shop is to lose the account: somebody new does, who may do as much; but an administrator, being the last, is refused.
        newcomer = "$fresh_password" in operation or ("$own_password" in operation and viewer != "admin")
        headers = await self._newcomer(viewer) if newcomer and viewer != "anonymous" else self.headers(viewer)
        if not query.startswith("subscription"):
            return (await self.service.http.post("/graphql", json={"query": query}, headers=headers)).json()
        accept = {"Accept": "text/event-stream"}
        async with self.service.http.stream("POST", "/graphql", json={"query": query}, headers=headers | accept) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    return json.loads(line.removeprefix("data: "))
        raise AssertionError("the stream ended without a result")

    async def _send(self, mutation: str) -> Any:
        """As the owner, with every scope."""
        query = await self.filled(mutation)
        async with self.service.database.reading_latest() as session:
            self._ids["now"] = self.service.services.feed.cursor(await events.newest(session))
        return await self.service.ask(query, token=self.service.tokens.issue(self.people["owner"].id, tuple(Scope)))

    async def filled(self, operation: str) -> str:
        """Put ids in for their names; `$fresh_item` and the like are made for this operation alone."""
        number = next(self._numbers)
        if "$fresh_item" in operation:
            self._ids["fresh_item"] = await self.service.make_item(f"Cup {number}", inventory=5)
        if "$fresh_gone" in operation:
            self._ids["fresh_gone"] = await self._deleted_item(number)
        if "$fresh_job" in operation:
            self._ids["fresh_job"] = global_id("ParkedJob", await self.service.park(PLACED, f"purchase:of {number}", {"purchase_id": 0}))
        if "$fresh_login" in operation or "$owner_signed_in" in operation:
            self._ids["fresh_login"], self._ids["owner_signed_in"] = await self._login(), self._ids["owner"]
        if "$fresh_user" in operation:
            self._ids["fresh_user"] = (await self.service.make_user(f"guest{number}", READ)).username
        if "$fresh_purchase" in operation:
            self._ids["fresh_purchase"] = await self.buy(self._ids["item"])
        if "$fresh_file" in operation:
            self._ids["fresh_file"] = f"{number}.txt"
            await self.upload(f"{number}.txt")
        for name, mutation in self._fresh.items():
            if f"$fresh_{name}" in operation:
                made = marked(await self._send(mutation))
                assert made is not None, f'FRESH["{name}"] makes nothing'
                self._ids[f"fresh_{name}"] = made["mark"]
        self._ids["new_name"] = f"new{number}"
        self._ids["fresh_password"] = self._ids["own_password"] = PASSWORD
        return re.sub(r"\$(\w+)", lambda name: json.dumps(self._ids[name[1]]), operation)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def marked(value: Any) -> dict[str, Any] | None:
    """The first object in a response that carries the mark."""
    if isinstance(value, dict):
        found = cast("dict[str, Any]", value)
        return found if "mark" in found else next(filter(None, map(marked, found.values())), None)
    return next(filter(None, map(marked, cast("list[Any]", value))), None) if isinstance(value, list) else None


def code(answer: dict[str, Any]) -> str:
    """Of the answer's one error, which every error must have."""
    (error,) = answer["errors"]
    return error["extensions"]["code"]
