"""The catalogue as a file."""

from __future__ import annotations

import asyncio
import csv
import gc
import io
import json
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, AsyncExitStack
from datetime import datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url, update

from graph.kit.auth import Scope
from graph.server.asgi.protocols import http_protocol
from graph.server.representations import streaming
from graph.server.representations.streaming import AbortableStream, StreamLimits
from graph.server.rest import exports
from persistence.items import csv_export
from persistence.items import table as items
from persistence.items.table import ItemValues
from persistence.kit.database.database import STREAMS
from persistence.kit.query import entity
from tests.support.endpoints import stop_reading
from tests.support.load.slow_clients import Target
from tests.support.servers.short_deadlines import LIMITS
from tests.support.service import Service


async def fetch(service: Service, kind: str, query: str = "", *, token: str | None = None) -> tuple[int, str, str]:
    token = token or await service.sign_in(Scope.ITEMS_READ)
    answer = await service.http.get(f"/api/v2/stream/items.{kind}{query}", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code, answer.headers["content-type"], answer.text


async def fill(service: Service, *drafts: ItemValues) -> None:
    async with service.database.transaction() as work:
        await items.create_all(work, drafts, owner_id=None)


async def test_gives_every_row_as_csv_that_reads_back_the_same(service: Service) -> None:
    drafts = [ItemValues(f"Item {n}", Decimal(n), 'a "quoted", text\nof two lines', ("x", "y"), n) for n in range(2_500)]
    await fill(service, *drafts)
    status, media_type, text = await fetch(service, "csv")
    assert (status, media_type) == (200, "text/csv; charset=utf-8; header=present")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [(row["name"], row["price"], row["tags"], row["inventory"]) for row in rows] == [
        (draft.name, f"{draft.price}.00", "x;y", str(draft.inventory)) for draft in drafts
    ]
    assert {row["description"] for row in rows} == {drafts[0].description}


async def test_makes_cells_harmless_that_a_spreadsheet_would_run(service: Service) -> None:
    await fill(
        service,
        ItemValues("=1+1", Decimal(1), "@x\n=2", ("-a", "b", '"+c', "d,\uff1d1")),
        ItemValues("a;=1+1", Decimal(1), "\n\u3000\u22121"),
    )
    _, _, text = await fetch(service, "csv")
    first, second = csv.DictReader(io.StringIO(text, newline=""))
    assert (first["name"], first["description"], first["tags"]) == ("'=1+1", "'@x\n'=2", "'-a;b;'\"+c;d,'＝1")  # noqa: RUF001
    assert (second["name"], second["description"]) == ("a;'=1+1", "'\n'\u3000\u22121")
    _, _, raw = await fetch(service, "csv", "?raw=1", token=await service.sign_in(Scope.ITEMS_READ, username="bob"))
    assert next(csv.DictReader(io.StringIO(raw)))["name"] == "=1+1"


async def test_gives_json_and_text(service: Service) -> None:
    await fill(service, *(ItemValues(f"Item {n}", Decimal("1.5"), tags=("x",)) for n in range(1_200)))
    token = await service.sign_in(Scope.ITEMS_READ)
    answer = await service.http.get("/api/v2/stream/items.json", headers={"Authorization": f"Bearer {token}"})
    assert [row["name"] for row in answer.json()] == [f"Item {n}" for n in range(1_200)]
    assert answer.json()[0]["price"] == "1.50"
    _, media_type, text = await fetch(service, "txt", token=token)
    assert media_type == "text/plain; charset=utf-8"
    assert len(text.splitlines()) == 1_200


@pytest.mark.parametrize("kind", ["csv", "txt", "json"])
async def test_gives_a_whole_file_of_nothing(service: Service, kind: str) -> None:
    status, _, text = await fetch(service, kind)
    assert (status, text.strip()) == (
        200,
        {"csv": "name,description,price,tags,inventory,externalId,id,createdAt", "txt": "", "json": "[]"}[kind],
    )


async def test_finds_and_limits(service: Service) -> None:
    await fill(service, ItemValues("Red pan", Decimal(1)), ItemValues("Red pot", Decimal(1)), ItemValues("Blue pot", Decimal(1)))
    token = await service.sign_in(Scope.ITEMS_READ)
    _, _, text = await fetch(service, "txt", "?search=red&limit=1", token=token)
    assert [line.split("  ")[1].split(":")[0] for line in text.splitlines()] == ["Red pan"]


@pytest.mark.parametrize(
    "query",
    ["?limit=0", "?limit=-1", "?limit=x", "?limit=99999999999999999999", f"?search={'x' * 201}", "?bom=yes", "?raw=2", "?limit=1&limit=2"]
    + [f"?limit={text}" for text in ("1_0", "%2B1", "%EF%BC%91", "1%20", "1e0", "1.5")],
)
async def test_refuses_a_bad_argument_with_a_status(service: Service, query: str) -> None:
    status, _, text = await fetch(service, "csv", query)
    assert status == 400
    assert '"BAD_USER_INPUT"' in text


@pytest.mark.parametrize(
    ("query", "rows"), [("limit=0000000002", 2), ("limit=2.0", 2), ("limit=&search=&raw=&bom=", 3), ("limit=2147483647", 3)]
)
async def test_takes_plain_numbers_and_empty_parameters_for_none(service: Service, query: str, rows: int) -> None:
    await fill(service, *(ItemValues(f"Item {n}", Decimal(1)) for n in range(3)))
    status, _, text = await fetch(service, "csv", f"?{query}")
    assert (status, text.count("\r\n")) == (200, 1 + rows)


async def test_begins_with_a_byte_order_mark_where_asked(service: Service) -> None:
    token = await service.sign_in(Scope.ITEMS_READ)
    marked, plain = [(await fetch(service, "csv", query, token=token))[2] for query in ("?bom=1", "?bom=0")]
    assert marked == "\ufeff" + plain
    assert plain.startswith("name,")


async def test_needs_the_scope(service: Service) -> None:
    assert (await service.http.get("/api/v2/stream/items.csv")).status_code == 401
    token = await service.sign_in(Scope.FILES_READ)
    assert (await fetch(service, "csv", token=token))[0] == 403


async def test_gives_the_same_bytes_on_every_database(service: Service) -> None:
    """RFC 4180, and an empty text told from none."""
    await fill(
        service,
        ItemValues("Plain", Decimal(1), None, (), 7, "P-1"),
        ItemValues('Say "hi", all', Decimal("0.05"), "", ("a b",), 0),
        ItemValues("Naïve 🙂", Decimal("1234567890.5"), "two\nlines\r\nthree", ("x, y", 'q"q', "z", "4", "5", "6"), 1),
        ItemValues("'=quoted", Decimal(2), "''+x", ("'@t", "u")),
        ItemValues("'plain quote", Decimal(2), "-1", ("=t", "u")),
    )
    _, _, text = await fetch(service, "csv")
    rows = [re.sub(r",SXRlb[^,]*,2[^,]*$", "", line) for line in text.split("\r\n")]
    assert re.search(r",20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00\r\n$", text)
    assert rows[1] == "Plain,,1.00,,7,P-1"
    assert rows[2] == '"Say ""hi"", all","",0.05,a b,0,'
    assert rows[3:5] == ['Naïve 🙂,"two\nlines', 'three",1234567890.50,"x, y;q""q;z;4;5;6",1,']
    assert rows[5] == "''=quoted,'''+x,2.00,''@t;u,0,"
    assert rows[6] == "'plain quote,'-1,2.00,'=t;u,0,"
    raw = (await fetch(service, "csv", "?raw=1", token=await service.sign_in(Scope.ITEMS_READ, username="bob")))[2].split("\r\n")
    assert raw[5].startswith("'=quoted,''+x,2.00,'@t;u,0,")


async def test_writes_instants_as_graphql_does_through_every_door(service: Service) -> None:
    """RFC 3339: six digits behind the second, or none."""
    fractions = {
        ".000000": "",
        ".500000": ".500000",
        ".000001": ".000001",
        ".123450": ".123450",
        ".999999": ".999999",
        ".010000": ".010000",
    }
    await fill(service, *[ItemValues(fraction, Decimal(1)) for fraction in fractions])
    async with service.database.transaction() as work:
        for fraction in fractions:
            moment = datetime.fromisoformat(f"2027-02-28T23:50:00{fraction}+00:00")
            await work.session.execute(update(items.Item).where(items.Item.name == fraction).values(created_at=moment))
    expected = {name: f"2027-02-28T23:50:00{fraction}+00:00" for name, fraction in fractions.items()}
    page = await service.ask("{ items(first: 10) { nodes { name createdAt } } }")
    table = (await fetch(service, "csv"))[2]
    listed = (await fetch(service, "json", token=await service.sign_in(Scope.ITEMS_READ, username="bob")))[2]
    for rows in (page["items"]["nodes"], csv.DictReader(io.StringIO(table, newline="")), json.loads(listed)):
        assert {row["name"]: row["createdAt"] for row in rows} == expected


async def test_shows_one_instant(service: Service) -> None:
    """What is written while a reader is slow is not in its file, nor half of it."""
    await fill(service, *(ItemValues(f"Item {n}", Decimal(1), "x" * 500) for n in range(5_000)))
    headers = {"Authorization": f"Bearer {await service.sign_in(Scope.ITEMS_READ)}", "Accept-Encoding": "identity"}
    async with service.http.stream("GET", "/api/v2/stream/items.csv", headers=headers) as answer:
        parts = answer.aiter_bytes(1_000)
        text = await anext(parts)
        async with service.database.transaction() as work:
            await work.session.execute(update(items.Item).values(name="Changed"))
        async for part in parts:
            text += part
    assert [line.split(b",", 1)[0] for line in text.splitlines()[1:]] == [b"Item %d" % n for n in range(5_000)]


@pytest.mark.parametrize("kind", ["csv", "txt", "json"])
async def test_breaks_off_rather_than_end_short(service: Service, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(service, ItemValues("Kettle", Decimal(1)))

    async def failing(*_: object, **__: object) -> AsyncGenerator[bytes | list[object]]:
        yield b"whole,row\r\n" if kind == "csv" else []
        raise RuntimeError("the database went away")

    monkeypatch.setattr(*((csv_export, "lines") if kind == "csv" else (entity, "stream")), failing)
    with pytest.raises(httpx.RemoteProtocolError):
        await fetch(service, kind)


async def test_says_so_when_it_fails_at_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(*_: object, **__: object) -> AsyncGenerator[bytes]:
        raise RuntimeError("the database went away")
        yield b""

    monkeypatch.setattr(csv_export, "lines", failing)
    status, _, text = await fetch(service, "csv")
    assert status == 500
    assert "database" not in text


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("leaves", [True, False])
async def test_gives_its_connection_back_when_its_reader_leaves_or_stalls(
    service: Service, kind: str, leaves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol.HttpProtocol, "limits", LIMITS)
    await fill(service, *(ItemValues(f"Item {n}", Decimal(1), "x" * 9_000) for n in range(1_000)))
    request = Target(int(service.url.rpartition(":")[2]), await service.sign_in(Scope.ITEMS_READ), "").get(f"/api/v2/stream/items.{kind}")
    async with AsyncExitStack() as readers:
        for _ in range(STREAMS):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
            readers.callback(writer.close)
            writer.write(request)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
            if leaves:
                writer.transport.abort()
            else:
                stop_reading(writer)
        async with asyncio.timeout(30), AsyncExitStack() as snapshots:
            for _ in range(STREAMS):
                await snapshots.enter_async_context(service.database.snapshot())


async def test_leaves_pages_their_connections(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.database.engines[-1].pool, "_timeout", 0.1)
    await fill(service, ItemValues("Kettle", Decimal(1)), ItemValues("Pan", Decimal(1)))
    token = await service.sign_in(Scope.ITEMS_READ)
    async with AsyncExitStack() as stack:
        for _ in range(STREAMS):
            await stack.enter_async_context(service.database.snapshot())
        status, _, text = await fetch(service, "csv", token=token)
        assert (status, "UNAVAILABLE" in text) == (503, True)
        assert len((await service.ask("{ items(first: 2) { nodes { name } } }"))["items"]["nodes"]) == 2
    assert (await fetch(service, "csv", "?limit=1", token=token))[0] == 200


async def test_answers_head_without_reading(service: Service, statements: Callable[[], AbstractContextManager[list[str]]]) -> None:
    headers = {"Authorization": f"Bearer {await service.sign_in(Scope.ITEMS_READ)}"}
    with statements() as sent:
        answer = await service.http.head("/api/v2/stream/items.csv", headers=headers)
    assert (answer.status_code, answer.content) == (200, b"")
    assert not [statement for statement in sent if "items" in statement]


@pytest.mark.parametrize("kind", ["csv", "json"])
async def test_ends_in_order_when_its_reader_stalls(
    service: Service, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its connection goes back, nothing is left to the garbage collector, and it is no internal error."""
    monkeypatch.setattr(streaming, "STALLED_SECONDS", 0.2)
    await fill(service, *(ItemValues(f"Item {n}", Decimal(1), "x" * 9_000) for n in range(2_000)))
    token = await service.sign_in(Scope.ITEMS_READ)
    url = make_url(service.url)
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=1_024)
    head = f"GET /api/v2/stream/items.{kind} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: identity\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(head.encode())
    assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    async with asyncio.timeout(20):
        while service.database.pools()["stream"].busy:  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.02)
    gc.collect()
    await asyncio.sleep(0)
    writer.transport.abort()
    assert [record for record in caplog.records if record.name == "asyncio"] == []
    said = capsys.readouterr().out
    assert "reads too slowly" in said
    assert "Traceback" not in said
    monkeypatch.setattr(streaming, "STALLED_SECONDS", 60.0)
    assert (await fetch(service, kind, token=token))[0] == 200


async def test_gives_way_when_its_reader_is_slower_than_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes now and then are no reason to hold a snapshot for hours; nor is a reader that is quick, after its time."""
    clock = 0.0
    monkeypatch.setattr(streaming, "time", SimpleNamespace(monotonic=lambda: clock))  # Not the module's own: the loop's timers are by it.
    left = list[bool]()

    async def parts() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield b"x" * 65_536
        finally:
            left.append(True)

    def reading_at(rate: int) -> tuple[Callable[[Any], Any], list[int]]:
        sent = list[int]()

        async def send(message: Any) -> None:
            nonlocal clock
            await asyncio.sleep(0)
            sent.append(len(message.get("body", b"")))
            clock += sent[-1] / rate
            if sum(sent) >= 100 * 65_536:
                raise OSError("enough")

        return send, sent

    async def receive() -> Any:
        await asyncio.Event().wait()

    for rate, slow in ((60_000, True), (70_000, False)):
        send, sent = reading_at(rate)
        stream = AbortableStream(parts(), media_type="text/csv", headers={}, limits=exports.STREAM_LIMITS)
        await stream({"type": "http", "method": "GET"}, receive, send)
        assert (sum(sent) < 20 * 65_536) is slow
    assert left == [True, True]


async def test_has_an_end_however_quick_its_reader_is() -> None:
    left = asyncio.Event()

    async def parts() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0)
        finally:
            left.set()

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        pass

    stream = AbortableStream(parts(), media_type="text/csv", headers={}, limits=StreamLimits(most_seconds=0.05))
    await stream({"type": "http", "method": "GET"}, receive, send)
    assert left.is_set()
