"""A running service, as a client meets it: a real uvicorn on a real port, in this process so that tests can look behind it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette

from graph.kit.access import Scope
from graph.kit.context import Services
from graph.server.app import create_app
from graph.server.settings import Settings
from graph.server.tokens import Tokens
from persistence import passwords, users
from persistence.kit.database import Base, Database

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
        application = users.Application(username, PASSWORD, **values)
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

    async def empty(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        async with self.database.transaction() as work:
            for table in reversed(Base.metadata.sorted_tables):
                await work.session.execute(table.delete())


_hashes: dict[str, str] = {}


async def password_hash() -> str:
    """Of PASSWORD; made once, since a hash is slow on purpose."""
    if PASSWORD not in _hashes:
        _hashes[PASSWORD] = await passwords.hashed(PASSWORD)
    return _hashes[PASSWORD]


class Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals are for the test runner."""
        yield


@asynccontextmanager
async def running(settings: Settings) -> AsyncGenerator[Service]:
    app = create_app(settings)
    server = Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, ws="websockets-sansio", timeout_graceful_shutdown=5))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
        if task.done():
            task.result()
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        yield Service(url, settings, app.state.services, app.state.tokens, http, app)
    server.should_exit = True
    await task
