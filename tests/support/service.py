"""A running service, as a client meets it: a real uvicorn on a real port, in this process so that tests can look behind it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from sqlalchemy import CompoundSelect, Table, exists, func, literal, select, union_all, update
from starlette.applications import Starlette

from graph.kit.auth import Scope
from graph.kit.context import Services
from graph.kit.global_ids import global_id
from graph.server.app import create_app
from graph.server.asgi.protocols.http_protocol import HttpProtocol
from graph.server.auth.tokens import Tokens
from graph.server.cli.serve import KEEP_ALIVE_SECONDS
from graph.server.settings import Settings
from persistence import passwords, users
from persistence.items import table as items
from persistence.kit.database.database import Base, Database
from persistence.kit.events.log import EventLog
from persistence.kit.jobs import queue as jobs

SECRET = "a-key-that-only-the-tests-know-0123456789"
PASSWORD = "correct horse battery"


@dataclass
class Service:
    url: str
    settings: Settings
    services: Services
    tokens: Tokens
    http: httpx.AsyncClient = field(repr=False)
    app: Starlette = field(repr=False)
    requests: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]], repr=False)
    """Those under way, WebSockets among them: a client that has gone may leave one behind for a moment."""

    @property
    def database(self) -> Database:
        return self.services.database

    @property
    def socket_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "/graphql"

    async def send(self, query: str, variables: dict[str, Any] | None = None, *, token: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return await self.http.post("/graphql", json={"query": query, "variables": variables}, headers=headers)

    async def ask(self, query: str, variables: dict[str, Any] | None = None, *, token: str | None = None) -> Any:
        """The `data` of an operation that must succeed."""
        answer = (await self.send(query, variables, token=token)).json()
        assert "errors" not in answer, answer
        return answer["data"]

    async def refused(self, query: str, variables: dict[str, Any] | None = None, *, token: str | None = None) -> str:
        """The code of the one error of an operation that must fail."""
        answer = (await self.send(query, variables, token=token)).json()
        assert len(answer["errors"]) == 1, answer
        return answer["errors"][0]["extensions"]["code"]

    async def make_user(self, username: str = "ada", scopes: tuple[Scope, ...] = tuple(Scope), **values: Any) -> users.User:
        """A user whose password is `PASSWORD`, who holds every scope unless told otherwise."""
        application = users.SignUpValues(username, PASSWORD, **values)
        held = [scope.value for scope in scopes]
        async with self.database.transaction() as work:
            return await users.sign_up(work, application, password_hash=await password_hash(), scopes=held)

    async def sign_in(self, *scopes: Scope, username: str = "ada") -> str:
        """The token of a new user who holds these scopes, or every scope."""
        user = await self.make_user(username, scopes or tuple(Scope))
        return self.tokens.issue(user.id, scopes or tuple(Scope))

    @property
    def folder(self) -> Path:
        """Where uploaded files are kept."""
        return Path(self.settings.files_url.removeprefix("file://"))

    async def make_item(self, name: str = "Kettle", *, price: str = "1.00", inventory: int = 0) -> str:
        """The global id of a new item, with its event."""
        async with self.database.transaction() as work:
            item = await items.create(work, items.ItemValues(name, Decimal(price), inventory=inventory), owner_id=None)
        return global_id("Item", item.id)

    async def count(self, *tables: str) -> list[int]:
        """How many rows each table has."""
        async with self.database.reading() as session:
            selects = (select(func.count()).select_from(Base.metadata.tables[table]) for table in tables)
            return [(await session.execute(statement)).scalar_one() for statement in selects]

    async def park(self, kind: str, key: str, data: Mapping[str, Any] | None = None) -> int:
        """The number of a new job that has failed too often."""
        async with self.database.transaction() as work:
            await jobs.enqueue(work, kind, key, data or {})
            job = (await work.session.scalars(select(jobs.Job).where(jobs.Job.key == key))).one()
            await jobs.reschedule(work, job, delay=None, error="TimeoutError()")
            return job.id

    async def background_done(self) -> None:
        """Wait for the background work that is queued."""
        async with asyncio.timeout(60):
            while await self._jobs() != [0]:  # noqa: ASYNC110 -- the work may be done in another process, whose events are not heard here
                await asyncio.sleep(0.01)

    async def _jobs(self) -> list[int]:
        """How many are queued; nothing, where a busy machine takes longer than a read may."""
        with suppress(TimeoutError):
            return await self.count("jobs")
        return []

    async def empty(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        first, *others = _in_order_of_deletion()
        async with self.database.transaction() as work:
            # What background work has under way is done with its job.
            await work.session.execute(first.delete())
            filled = set(await work.session.scalars(_filled()))
            for table in others:
                if table.name in filled:
                    await work.session.execute(table.delete())
            await work.session.execute(update(EventLog).values(pruned_through=0))
        await self._set_back()

    async def _set_back(self) -> None:
        """Wait until the feed knows that the log is empty, so that no later subscriber is told of it."""
        async with asyncio.timeout(30):
            while await self.services.feed.position() != 0:
                self.services.feed._look.set()  # pyright: ignore[reportPrivateUsage] -- nobody else has to wait for it
                await asyncio.sleep(0.001)


def _in_order_of_deletion() -> list[Table]:
    """Jobs first, as the background work locks them first: neither waits for the other in a circle."""
    first, kept = jobs.Job.__tablename__, EventLog.__tablename__  # The log's identity, which stands in every cursor.
    others = [table for table in reversed(Base.metadata.sorted_tables) if table.name not in {first, kept}]
    return [Base.metadata.tables[first], *others]


@cache
def _filled() -> CompoundSelect[str]:
    """The names of the tables with rows: to ask for them takes less time than to empty the others."""
    return union_all(*(select(literal(table.name)).where(exists(select(table))) for table in _in_order_of_deletion()[1:]))


_hashes: dict[str, str] = {}


async def password_hash() -> str:
    """Of PASSWORD; made once, since a hash is slow on purpose."""
    if PASSWORD not in _hashes:
        _hashes[PASSWORD] = await passwords.hash_password(PASSWORD)
    return _hashes[PASSWORD]


class Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals are for the test runner."""
        yield


@asynccontextmanager
async def running(settings: Settings, replaced: Mapping[type[Any], Any] | None = None) -> AsyncGenerator[Service]:
    """`replaced` puts other ports in the place of the service's own."""
    app = create_app(settings, replaced)
    server = Server(
        uvicorn.Config(
            app,
            port=0,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            http=HttpProtocol,
            ws="graph.server.asgi.protocols.websocket_protocol:WebSocketProtocol",
            timeout_graceful_shutdown=5,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
    )
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
        if task.done():
            task.result()
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=120) as http:
            yield Service(url, settings, app.state.services, app.state.tokens, http, app, server.server_state.tasks)
    finally:
        server.should_exit = True
        await task
