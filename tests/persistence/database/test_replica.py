"""A streaming replica of PostgreSQL …"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine

from persistence.kit.database import replica as replicas
from persistence.kit.database.database import Database
from persistence.kit.redis.client import connect
from tests.conftest import settings_for
from tests.support.servers import databases
from tests.support.servers.databases import Postgres, Standby
from tests.support.service import Service, running

ITEM = "query ($id: ID!) { item(id: $id) { name } }"
SEARCH = "query ($words: String!) { items(search: $words) { nodes { name } } }"
CREATE = 'mutation ($name: String!) { createItem(input: {name: $name, price: "1.00"}) { ... on Item { id name owner { username } } } }'
RENAME = "mutation ($id: ID!, $name: String!) { updateItem(id: $id, input: {name: $name}) { ... on Item { name } } }"
AWAY_SECONDS = 12  # A read takes 2 at most; the machine may be busy.
addresses = (f"203.0.113.{number}" for number in count(1))


@pytest.fixture(scope="module")
def primary() -> Generator[Postgres]:
    with Postgres.own() as server:
        yield server


@pytest.fixture(scope="module")
async def processes(primary: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[tuple[Service, Service, Standby]]:
    """Two of one service, which read from a replica."""
    database_url = await databases.create_database(primary.url, "shop")
    with Standby.of(primary) as replica:
        replica_url = replica.url.set(database="shop").render_as_string()
        folder = tmp_path_factory.mktemp("replica")
        urls = {"database_url": database_url, "database_replica_url": replica_url, "redis_url": databases.redis()}
        settings = await settings_for("sqlite", folder, **urls, trusted_proxies=("127.0.0.1",))
        async with running(settings) as here, running(settings) as there:
            yield here, there, replica


class Client:
    """One caller, from an address of their own."""

    def __init__(self, token: str | None) -> None:
        self.headers = {"X-Forwarded-For": next(addresses)} | ({"Authorization": f"Bearer {token}"} if token else {})

    async def ask(self, service: Service, query: str, **variables: Any) -> Any:
        answer = await service.http.post("/graphql", json={"query": query, "variables": variables}, headers=self.headers)
        body = answer.json()
        assert "errors" not in body, body
        (value,) = body["data"].values()
        return value

    async def get(self, service: Service, path: str) -> httpx.Response:
        return await service.http.get(path, headers=self.headers)


@asynccontextmanager
async def behind(replica: Standby) -> AsyncGenerator[None]:
    """The replica takes nothing new over while the block runs."""
    engine = create_async_engine(replica.url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text("SELECT pg_wal_replay_pause()"))
        while await connection.scalar(text("SELECT pg_get_wal_replay_pause_state()")) != "paused":  # noqa: ASYNC110 -- the same
            await asyncio.sleep(0.01)
        yield
        await connection.execute(text("SELECT pg_wal_replay_resume()"))
    await engine.dispose()


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await holds():  # noqa: ASYNC110 -- a replica tells nobody
            await asyncio.sleep(0.02)


async def test_answers_strangers_and_is_not_asked_for_what_the_caller_has_just_changed(
    processes: tuple[Service, Service, Standby], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A replica that was slow to answer is left alone for a while, and this machine may be busy.
    monkeypatch.setattr(replicas, "ANSWER_SECONDS", 30)
    monkeypatch.setattr(replicas, "LOOK_SECONDS", 0)
    here, there, replica = processes
    writer, stranger = Client(await here.sign_in()), Client(None)
    id_ = (await writer.ask(here, CREATE, name="Kettle"))["id"]
    await eventually(lambda: knows(there, id_, "Kettle"))

    async with behind(replica):
        assert await writer.ask(here, RENAME, id=id_, name="Samovar") == {"name": "Samovar"}
        made = await writer.ask(here, CREATE, name="Teapot")
        assert made["owner"] == {"username": "ada"}
        for service in (here, there):
            assert await writer.ask(service, ITEM, id=id_) == {"name": "Samovar"}
            assert await writer.ask(service, SEARCH, words="teapot") == {"nodes": [{"name": "Teapot"}]}
            assert "Teapot" in (await writer.get(service, "/api/v2/stream/items.csv")).text
            assert await stranger.ask(service, ITEM, id=id_) == {"name": "Kettle"}
            assert await stranger.ask(service, SEARCH, words="teapot") == {"nodes": []}
        both = await asyncio.gather(*(client.ask(there, ITEM, id=id_) for client in (stranger, writer) * 5))
        assert [item["name"] for item in both] == ["Kettle", "Samovar"] * 5

    await eventually(lambda: knows(there, id_, "Samovar"))
    assert await writer.ask(there, ITEM, id=id_) == {"name": "Samovar"}
    await here.empty()


async def knows(service: Service, id_: str, name: str) -> bool:
    """Whether the replica, from which strangers are answered, has an item by this name."""
    return await Client(None).ask(service, ITEM, id=id_) == {"name": name}


async def test_shows_new_users_themselves_at_once(processes: tuple[Service, Service, Standby]) -> None:
    here, there, replica = processes
    somebody = Client(None)
    async with behind(replica):
        signup = 'mutation { signup(input: {username: "eve", password: "correct horse battery"}) { ... on User { username } } }'
        assert await somebody.ask(here, signup) == {"username": "eve"}
        token = 'mutation { token(username: "eve", password: "correct horse battery") { ... on Token { accessToken } } }'
        somebody.headers["Authorization"] = f"Bearer {(await somebody.ask(here, token))['accessToken']}"
        assert await somebody.ask(there, "{ me { username } }") == {"username": "eve"}
    await here.empty()


@pytest.mark.parametrize("away", [Standby.stop, Standby.pause], ids=["stopped", "frozen"])
async def test_is_done_without_while_it_is_away(processes: tuple[Service, Service, Standby], away: Callable[[Standby], None]) -> None:
    here, _, replica = processes
    id_ = await here.make_item("Kettle")
    await eventually(lambda: knows(here, id_, "Kettle"))
    away(replica)

    async def answered() -> bool:
        answer = await here.send(ITEM, {"id": id_})
        return answer.json().get("data") == {"item": {"name": "Kettle"}}

    async with asyncio.timeout(AWAY_SECONDS):  # What was under way there is given up, and nobody asks there again.
        await asyncio.gather(*(eventually(answered) for _ in range(20)))
        assert all(await asyncio.gather(*(answered() for _ in range(20))))
    replica.resume() if replica.pid else replica.start()
    async with behind(replica):
        later = await here.make_item("Teapot")

        async def unknown() -> bool:
            return await Client(None).ask(here, ITEM, id=later) is None

        await eventually(unknown)  # From the primary, it would be known.
    await here.empty()


async def test_shows_nothing_older_when_another_replica_takes_its_place(primary: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """The position of the former one, looked at a moment ago, says nothing about the other."""
    with Standby.of(primary) as former, Standby.of(primary) as late:
        hosts = "&".join(f"host=127.0.0.1:{server.port}" for server in (former, late, primary))
        replica_url = f"postgresql+asyncpg://postgres@/postgres?{hosts}&target_session_attrs=prefer-standby"
        async with AsyncExitStack() as stack:
            database = Database.connect(primary.url.render_as_string(), replica_url=replica_url)
            stack.push_async_callback(database.close)
            stack.enter_context(replicas.reading_as("ada"))
            async with behind(late):
                async with database.transaction() as work:
                    await work.session.execute(text("CREATE TABLE notes AS SELECT 1"))
                await eventually(lambda: reads_from(database, former))
                monkeypatch.setattr(replicas, "LOOK_SECONDS", 60)
                former.stop()
                async with asyncio.timeout(60):
                    while not await reads_from(database, primary):
                        pass
            monkeypatch.setattr(replicas, "LOOK_SECONDS", 0)
            await eventually(lambda: reads_from(database, late))


async def reads_from(database: Database, server: Postgres) -> bool:
    """Whether that one shows what was written; none may show it to be missing, and a connection that is lost shows nothing."""
    try:
        async with database.reading() as session:
            return (await session.execute(text("SELECT inet_server_port() FROM notes"))).scalar_one() == server.port
    except ProgrammingError:
        raise
    except (DBAPIError, OSError):
        return False


async def test_reads_the_primary_for_a_change_of_unknown_place_until_a_later_one_is_known() -> None:
    """What is known of a later change takes its place; and all of it has an end."""
    now = 0.0
    positions = replicas.LocalPositions(clock=lambda: now)
    await positions.note(["ada", "ip"], replicas.UNKNOWN_POSITION)
    assert await positions.of(["ada"]) == replicas.UNKNOWN_POSITION
    await positions.note(["ada"], 7)
    assert [await positions.of([name]) for name in ("ada", "ip", "bob")] == [7, replicas.UNKNOWN_POSITION, 0]
    await positions.note(["ada"], 5)  # Noted late: the change before it.
    assert await positions.of(["ada"]) == 7
    now = replicas.REMEMBERED_SECONDS
    assert await positions.of(["ada", "ip"]) == 0


async def test_forgets_an_unknown_place_in_redis_too() -> None:
    redis = connect(databases.redis())
    here, there = replicas.SharedPositions(redis), replicas.SharedPositions(redis)
    name = f"forgotten {time.monotonic_ns()}"
    try:
        await here.note([name], replicas.UNKNOWN_POSITION)
        assert await there.of([name]) == replicas.UNKNOWN_POSITION
        for position, kept in ((7, 7), (5, 7), (9, 9)):
            await here.note([name], position)
            assert await there.of([name]) == kept
    finally:
        await redis.aclose()
