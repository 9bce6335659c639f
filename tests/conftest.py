"""The service under test, once on SQLite with in-process parts and once on PostgreSQL with Redis: every test that asks for `service` runs on both."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from graph.kit.planner.planner import Planner
from graph.server.asgi.response_headers import REQUEST_ID
from graph.server.process.server import settle
from graph.server.settings import Settings
from persistence.kit.database.executors.statement_executor import InstrumentedExecutor
from persistence.schema import upgrade
from tests.support import dropped_coroutines
from tests.support.clients import node as nodejs
from tests.support.servers import databases
from tests.support.service import SECRET, Service, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path


Planner.strict = True  # A plan that fails is an error here, though the reference executor could hide it.


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    dropped_coroutines.expect()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers, one has all tests of each shared service, so that it starts once; other tests stay with their file."""
    for item in items:
        parameters: dict[str, Any] = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        item.add_marker(pytest.mark.xdist_group(parameters.get("shared_service", item.path.name)))


def pytest_collection_finish() -> None:
    """As a server process does once it is made: what tests are made of is no garbage, and to look for some takes a seventh of the run."""
    settle()


async def settings_for(backend: str, folder: Path, **overrides: Any) -> Settings:
    """Settings for an empty, migrated database."""
    values: dict[str, Any] = {"debug": True, "secret_key": SECRET, "files_url": (folder / "files").as_uri(), "rate_limits_enabled": False}
    if backend == "postgresql":
        values["database_url"] = await databases.create_database(databases.postgres(), folder.name)
        values["redis_url"] = databases.redis()
    else:
        values["database_url"] = f"sqlite+aiosqlite:///{folder / 'storegraph.db'}"
    settings = Settings.model_validate(values | overrides)
    await upgrade(settings.database_url)
    return settings


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
async def shared_service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Service]:
    settings = await settings_for(request.param, tmp_path_factory.mktemp(request.param))
    async with running(settings) as service:
        yield service


@pytest.fixture
async def service(shared_service: Service) -> AsyncGenerator[Service]:
    """The session's service, with empty tables."""
    yield shared_service
    await shared_service.empty()


@pytest.fixture(scope="session")
async def embedded_service(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Service]:
    settings = await settings_for("sqlite", tmp_path_factory.mktemp("embedded"))
    async with running(settings) as service:
        yield service


@pytest.fixture
async def embedded(embedded_service: Service) -> AsyncGenerator[Service]:
    """A service for tests of what happens before any database is asked: they run once, not once on each."""
    yield embedded_service
    await embedded_service.empty()


@pytest.fixture(scope="session")
async def deployed_service(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Service]:
    settings = await settings_for("sqlite", tmp_path_factory.mktemp("deployed"), debug=False)
    async with running(settings) as service:
        yield service


@pytest.fixture
async def deployed(deployed_service: Service) -> AsyncGenerator[Service]:
    """A service outside development, as strangers meet it, without budgets."""
    yield deployed_service
    await deployed_service.empty()


@pytest.fixture(scope="session", autouse=True)
async def forgotten() -> AsyncGenerator[None]:
    """What redis-py has forgotten is found while the loop is there to close it: afterwards it would fail the run."""
    yield
    gc.collect()
    await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
async def node() -> str:
    found = nodejs.program()
    await asyncio.to_thread(nodejs.install, nodejs.CLIENTS)
    return found


@pytest.fixture
def statements(service: Service) -> Callable[[], AbstractContextManager[list[str]]]:
    """Counts the SQL of requests: `with statements() as sent: …`, then `sent` holds each statement."""

    @contextmanager
    def counting() -> Generator[list[str]]:
        sent: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool) -> None:
            # The feed looks at its log by the clock, and so does a request at its token's standing.
            if REQUEST_ID.get(None) and not context.execution_options.get("token_status"):
                sent.append(statement)

        def note_read(statement: str) -> Callable[[], None]:
            if REQUEST_ID.get(None):
                sent.append(statement)
            return lambda: None

        reads = service.database._executor  # pyright: ignore[reportPrivateUsage] -- as hot reads pass no engine
        service.database._executor = InstrumentedExecutor(reads, note_read)  # pyright: ignore[reportPrivateUsage]
        writes: Any = service.database.write_executor
        written = writes and writes._statements
        if writes:
            writes._statements = InstrumentedExecutor(written, note_read)
        engines = [engine.sync_engine for engine in service.database.engines]
        for engine in engines:
            event.listen(engine, "before_cursor_execute", note)
        try:
            yield sent
        finally:
            service.database._executor = reads  # pyright: ignore[reportPrivateUsage]
            if writes:
                writes._statements = written
            for engine in engines:
                event.remove(engine, "before_cursor_execute", note)

    return counting
