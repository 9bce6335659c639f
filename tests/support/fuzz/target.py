"""A service that is sent what no client should send, and judged by what it answers."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any

from graph.kit.auth import Scope
from tests.support.fuzz import invariants
from tests.support.fuzz.grammar import Generated
from tests.support.fuzz.invariants import Complaints, answered, judge, judge_response
from tests.support.fuzz.schema_documents import generated
from tests.support.service import Service, running

if TYPE_CHECKING:
    import httpx

    from graph.server.settings import Settings

AT_ONCE = 8
SUITE_DOCUMENTS = 600  # Generated ones, on SQLite, in ./scripts/test.
MODERN, LEGACY = "application/graphql-response+json", "application/json"
# What differs from one moment to the next, or between two processes.
VOLATILE = ("health", "rateLimit", "mutation", "subscription", "auditLog")


def seeds(count: int) -> Iterable[int]:
    """Of generated documents: always the same ones in the suite, in a long run others each time."""
    if not invariants.EXAMPLES:
        return range(count)
    first = secrets.randbelow(2**60)
    return range(first, first + count * invariants.EXAMPLES // invariants.SUITE_EXAMPLES // 4)


@dataclass
class Target(Service):
    token: str = ""
    marks: dict[str, str] = field(default_factory=dict[str, str])
    complaints: Complaints = field(default_factory=Complaints)
    reference: Service | None = None
    """The same data without the fast path."""

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    async def asked(self, body: Any, *, signed_in: bool = True, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        all_headers = {"Content-Type": "application/json", **(self.authorization if signed_in else {}), **headers}
        response: httpx.Response = await answered(self.http.post("/graphql", content=content, headers=all_headers))
        judge(response.status_code, response.content, content if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False))
        judge_response(response.json())
        return response

    async def hunt(self, of: Iterable[int], complaints: Complaints) -> None:
        """Ask documents made of these seeds.

        Raises: AssertionError, with the first one that is answered as it must not be, or after which the service complains of itself.
        """
        left = iter(of)
        while batch := list(islice(left, AT_ONCE)):
            outcomes = await asyncio.gather(*map(self._asked_of, batch), return_exceptions=True)
            for failure in filter(None, outcomes):
                raise failure
            assert complaints.seen == [], [generated(Random(seed)).request for seed in batch]

    async def _asked_of(self, seed: int) -> None:
        made = generated(Random(seed))
        try:
            response = await self.asked(made.request, Accept=LEGACY if seed % 2 else MODERN)
            if self.reference and "data" in response.json() and not any(word in made.query for word in VOLATILE):
                await self._compare(self.reference, made, response)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {json.dumps(made.request, ensure_ascii=False)}\n{error}") from error

    async def _compare(self, reference: Service, made: Generated, response: httpx.Response) -> None:
        headers = {**self.authorization, "Accept": str(response.request.headers["accept"])}
        right = _compared(response.json())
        for _ in range(3):  # A mutation may have come between the two.
            right = _compared((await answered(reference.http.post("/graphql", json=made.request, headers=headers))).json())
            if right == _compared(response.json()):
                return
            response = await self.asked(made.request, Accept=headers["Accept"])
        assert _compared(response.json()) == right

    async def raw(self, request: bytes, *, seconds: float) -> bytes:
        host, port = self.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        got = b""
        try:
            writer.write(request)
            async with asyncio.timeout(seconds):
                while piece := await reader.read(65_536):
                    got += piece
                    if b"text/event-stream" in got:  # Answered, and open until somebody sends an echo.
                        break
                return got
        except (ConnectionError, TimeoutError) as error:
            if isinstance(error, TimeoutError) and seconds > 1:
                raise
            return got  # A server that closes with bytes unread resets the connection behind its answer.
        finally:
            writer.close()


def _compared(answer: dict[str, Any]) -> tuple[Any, bool]:
    """Which of several errors is told, where each of them makes the whole null, is a matter of time."""
    return answer.get("data"), "errors" in answer


@asynccontextmanager
async def hunted(settings: Settings) -> AsyncGenerator[Target]:
    """A running service with one of each thing, and a token for all of it."""
    async with running(settings) as service:
        target = Target(**{name: getattr(service, name) for name in Service.__dataclass_fields__})
        user = await target.make_user()
        target.token = target.tokens.issue(user.id, tuple(Scope))
        await target.make_item("Apple")
        await target.ask('mutation { grantScopes(username: "ada", scopes: [ITEMS_READ]) { __typename } }', token=target.token)
        await target.http.post("/api/v2/files/upload", files={"file": ("a.txt", b"a")}, headers=target.authorization)
        yield target
