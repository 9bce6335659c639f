"""A service whose clock jumps by an hour, forth and back, and runs at half its speed …"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.conftest import settings_for
from tests.support.servers.processes import serving

if TYPE_CHECKING:
    from collections.abc import Callable

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("**/libfaketime.so.1"))), None)
HOUR = 3_600
SIGNUP = 'mutation { signup(input: {username: "ada", password: "correct horse battery"}) { __typename } }'
TOKEN = """mutation { token(username: "ada", password: "correct horse battery") { ... on Token { accessToken refreshToken expiresIn } } }"""
REFRESH = "mutation ($token: String!) { refreshToken(refreshToken: $token) { __typename ... on Token { accessToken refreshToken } } }"
CREATE = """mutation ($key: String!) { createItem(input: {name: "Pan", price: "1", inventory: 100}, idempotencyKey: $key) { ... on Item { id } } }"""
BUY = "mutation ($id: ID!, $key: String!) { purchaseItem(itemId: $id, idempotencyKey: $key) { ... on Purchase { id } } }"
STATUS = "query ($id: ID!) { node(id: $id) { ... on Purchase { status } } }"
CHART = "/api/v2/reports/sales.svg"
PAGE = "{ itemsPage { page } }"

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime (Debian package faketime)")


@dataclass
class Clocked:
    """A process of the service, and the file that says how its clock differs from ours."""

    http: httpx.AsyncClient
    file: Path
    token: str = ""
    refresh: str = ""
    keys: list[str] = field(default_factory=list[str])

    def set(self, offset: str) -> None:
        self.file.write_text(f"{offset}\n")

    async def send(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return (await self.http.post("/graphql", json={"query": query, "variables": variables}, headers=headers)).json()

    async def ask(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = await self.send(query, variables)
        assert "errors" not in answer, answer
        return answer["data"]

    async def code(self, query: str, variables: dict[str, Any] | None = None) -> str:
        (error,) = (await self.send(query, variables))["errors"]
        return error["extensions"]["code"]

    async def sign_in(self) -> None:
        self.token = ""
        found = (await self.ask(TOKEN))["token"]
        self.token, self.refresh = found["accessToken"], found["refreshToken"]

    async def until(self, found: Callable[[dict[str, Any]], bool], query: str, variables: dict[str, Any]) -> None:
        async with asyncio.timeout(30):
            while not found(await self.ask(query, variables)):  # noqa: ASYNC110 -- the work is another process's
                await asyncio.sleep(0.05)


@asynccontextmanager
async def clocked(backend: str, folder: Path, **overrides: Any) -> AsyncGenerator[Clocked]:
    settings, file = await settings_for(backend, folder, **overrides), folder / "clock"
    file.write_text("+0\n")
    variables: dict[str, Any] = {"LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}
    with serving(
        settings, folder, LOG_LEVEL="ERROR", FAKETIME_DONT_FAKE_MONOTONIC="1", FAKETIME_FORCE_MONOTONIC_FIX="0", **variables
    ) as process:
        async with httpx.AsyncClient(base_url=process.url, timeout=30) as http:
            service = Clocked(http, file)
            await service.ask(SIGNUP)
            await service.sign_in()
            yield service


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_lets_no_token_live_longer(backend: str, tmp_path: Path) -> None:
    async with clocked(backend, tmp_path) as service:
        before = service.token
        assert (await service.ask("{ me { username } }"))["me"]["username"] == "ada"
        service.set(f"+{HOUR}")
        assert await service.code("{ me { username } }") == "UNAUTHENTICATED"
        service.token = ""
        renewed = (await service.ask(REFRESH, {"token": service.refresh}))["refreshToken"]
        assert renewed["__typename"] == "Token"
        service.set("+0")  # It would be valid for an hour and a half from now.
        service.token = renewed["accessToken"]
        assert await service.code("{ me { username } }") == "UNAUTHENTICATED"
        service.token = before
        assert (await service.ask("{ me { username } }"))["me"]["username"] == "ada"
        await service.sign_in()  # Nobody is locked out.
        assert (await service.ask("{ me { username } }"))["me"]["username"] == "ada"


@pytest.mark.parametrize(("backend", "jump"), [("sqlite", f"+{HOUR}"), ("postgresql", f"-{HOUR}")])
async def test_keeps_idempotency_keys_and_does_each_job_once(backend: str, jump: str, tmp_path: Path) -> None:
    async with clocked(backend, tmp_path) as service:
        item = (await service.ask(CREATE, {"key": "item"}))["createItem"]["id"]
        bought = await service.ask(BUY, {"id": item, "key": "once"})
        service.set(jump)
        await service.sign_in()
        assert await service.ask(BUY, {"id": item, "key": "once"}) == bought
        assert (await service.ask(CREATE, {"key": "item"}))["createItem"]["id"] == item
        later = (await service.ask(BUY, {"id": item, "key": "later"}))["purchaseItem"]["id"]
        service.set("+0")
        await service.sign_in()
        last = (await service.ask(BUY, {"id": item, "key": "last"}))["purchaseItem"]["id"]
        for purchase in (bought["purchaseItem"]["id"], later, last):
            await service.until(lambda data: data["node"]["status"] == "COMPLETED", STATUS, {"id": purchase})
        stock = await service.ask("query ($id: ID!) { item(id: $id) { inventory } }", {"id": item})
        assert stock == {"item": {"inventory": 97}}


@pytest.mark.parametrize(("backend", "jump"), [("postgresql", f"+{HOUR}")])
async def test_locks_no_caller_out_of_a_limit(backend: str, jump: str, tmp_path: Path) -> None:
    """Uses of an hour to come would count until then."""
    async with clocked(backend, tmp_path, rate_limits_enabled=True) as service:
        service.set(jump)
        await service.sign_in()
        assert 0 < await refused(service) <= 60
        service.set("+0")
        await service.sign_in()
        assert 0 < await refused(service) <= 60


async def refused(service: Clocked) -> int:
    """Asks until it is refused, which may be later than the fourth time: the limit is shared by the tests. After how many seconds to come again."""
    for _ in range(10):
        told = await service.send(PAGE)
        if "errors" in told:
            return told["errors"][0]["extensions"]["retryAfter"]
    return 0


@pytest.mark.parametrize("backend", ["sqlite"])
async def test_locks_no_caller_out_of_a_route(backend: str, tmp_path: Path) -> None:
    async with clocked(backend, tmp_path, rate_limits_enabled=True) as service:
        service.set(f"+{HOUR}")
        await service.sign_in()
        for _ in range(60):
            assert await chart(service) == (200, None)
        status, wait = await chart(service)
        assert (status, 0 < int(wait or 0) <= 60) == (429, True)
        service.set("+0")
        await service.sign_in()
        assert await chart(service) == (200, None)


async def chart(service: Clocked) -> tuple[int, str | None]:
    answer = await service.http.get(CHART, headers={"Authorization": f"Bearer {service.token}"})
    return answer.status_code, answer.headers.get("Retry-After")


@pytest.mark.parametrize("backend", ["postgresql"])
async def test_runs_at_half_its_speed_and_does_what_is_due(backend: str, tmp_path: Path) -> None:
    async with clocked(backend, tmp_path) as service:
        service.set("+0 x0.5")
        await service.sign_in()  # So far it ran at its full speed, and has some seconds to spare.
        item = (await service.ask(CREATE, {"key": "item"}))["createItem"]["id"]
        for number in range(5):
            purchase = (await service.ask(BUY, {"id": item, "key": f"{number}"}))["purchaseItem"]["id"]
            await service.until(lambda data: data["node"]["status"] == "COMPLETED", STATUS, {"id": purchase})
        assert (await service.ask("{ me { username } }"))["me"]["username"] == "ada"
