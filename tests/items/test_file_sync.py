"""A catalogue in step with a file …"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from persistence.items import file_import
from persistence.items import table as items
from persistence.items.table import Item, ItemValues
from persistence.kit.events.log import Event
from persistence.kit.imports import import_journal
from persistence.kit.imports.file_rows import ImportRow, Match
from persistence.kit.imports.file_sync import FileSync, SyncOptions
from persistence.kit.imports.import_journal import ImportJournal
from tests.items.test_item_import import AWKWARD, export

if TYPE_CHECKING:
    from tests.support.service import Service

HEADER = b"externalId,name,price,description,tags,inventory\n"


async def sync(
    service: Service, content: bytes, match: Match = Match.KEY, *, kind: str = "csv", raw: bool = False, **options: Any
) -> tuple[FileSync, list[tuple[str, int | None, str | None]]]:
    """The run, and of each row that changed something or was refused: what it did, its line and the reason."""
    run = FileSync(service.database, file_import.IMPORT, SyncOptions(match, **options))
    file = io.BytesIO(content)
    rows = file_import.from_csv(file, raw=raw, match=match) if kind == "csv" else file_import.from_json_lines(file, match=match)
    return run, [(row.outcome, row.line, row.message) async for batch in run.run(rows) for row in batch.rows]


def numbers(run: FileSync) -> tuple[int, ...]:
    """Created, updated, unchanged, deleted, refused."""
    return tuple(vars(run.counts).values())


async def stored(service: Service) -> list[tuple[Any, ...]]:
    async with service.database.reading() as session:
        rows = await session.scalars(select(Item).where(Item.deleted_at.is_(None)).order_by(Item.id))
        return [(row.external_id, row.name, str(row.price), row.description, row.tags, row.inventory, row.version) for row in rows]


async def test_creates_changes_and_leaves_alone(service: Service) -> None:
    content = HEADER + b'A,Kettle,1.00,Sings.,x;y,3\nB,Pan,2,,,\nC,Pot,3,"",,0\n'
    assert numbers((await sync(service, content))[0]) == (3, 0, 0, 0, 0)
    first = await stored(service)
    assert first == [
        ("A", "Kettle", "1.00", "Sings.", ["x", "y"], 3, 1),
        ("B", "Pan", "2.00", None, [], 0, 1),
        ("C", "Pot", "3.00", "", [], 0, 1),
    ]
    assert numbers((await sync(service, content))[0]) == (0, 0, 3, 0, 0)
    run, rows = await sync(service, b"externalId;inventory;description\nA;9;\nC;;\n")
    assert (numbers(run), rows) == ((0, 2, 0, 0, 0), [("updated", 2, None), ("updated", 3, None)])
    assert [(row[3], row[5], row[6]) for row in await stored(service)] == [(None, 9, 2), (None, 0, 1), (None, 0, 2)]
    lines = b'{"externalId": "A", "price": "5"}\n{"externalId": "D", "name": "Cup", "price": 1, "tags": "x"}\n{"externalId": "B", "inventory": 0}\n'
    assert numbers((await sync(service, lines, kind="jsonl"))[0]) == (1, 1, 1, 0, 0)
    assert [row[:3] for row in await stored(service)][::3] == [("A", "Kettle", "5.00"), ("D", "Cup", "1.00")]


async def test_refuses_rows_by_their_lines(service: Service) -> None:
    await sync(service, HEADER + b"A,Kettle,1,,,3\n")
    content = HEADER + b'A,Kettle,2,,,3\nA,Pot,2,,,\nB,,1,,,\nC,Pot,,,,\n,Cup,1,,,\nD,Mug,x,,,\nE,Ca"n,1,,,\n F,Jug,1,,,\n'
    run, rows = await sync(service, content)
    assert rows == [
        ("updated", 2, None),
        ("refused", 3, "externalId: is that of an earlier row, too"),
        ("refused", 4, "name: must not be blank"),
        ("refused", 5, "price: must be given: no item has this external id yet"),
        ("refused", 6, "externalId: must be given to match by it: a row without is found by an export's id and createdAt only"),
        ("refused", 7, "price: must be a decimal number such as 9.99"),
        (
            "refused",
            8,
            "a quotation mark stands in a cell that does not begin with one: put the whole cell in quotation marks, and double those in it",
        ),
        ("refused", 9, "externalId: must have no blanks at its ends and no invisible characters"),
    ]
    assert numbers(run) == (0, 1, 0, 0, 7)
    assert [row[:3] for row in await stored(service)] == [("A", "Kettle", "2.00")]


@pytest.mark.parametrize("kind", ["csv", "csv?raw=1", "jsonl"])
@pytest.mark.parametrize("match", [Match.KEY, Match.ID])
async def test_says_nothing_new_where_the_file_is_our_own_export(service: Service, kind: str, match: Match) -> None:
    async with service.database.transaction() as work:
        await items.create_all(work, AWKWARD, owner_id=None)
    before, events = await stored(service), await service.count("events", "audit_entries")
    if kind == "jsonl":
        rows = (await export(service, "json")).decode()[1:-2].split(",\n")
        content = "\n".join(rows).encode()
    else:
        content = await export(service, "csv", kind.removeprefix("csv"))
    run, told = await sync(service, content, match, kind=kind[:3] if kind != "jsonl" else kind, raw="raw" in kind, delete_missing=True)
    assert (numbers(run), told, run.notes) == ((0, 0, len(AWKWARD), 0, 0), [], [])
    assert await stored(service) == before
    assert await service.count("events", "audit_entries") == events


async def test_matches_an_export_of_another_catalogue_to_none_of_its_items(service: Service) -> None:
    """Ids are numbers: another catalogue has the same."""
    async with service.database.transaction() as work:
        await items.create_all(work, [ItemValues("Kettle", Decimal(1))], owner_id=None)
    content = (await export(service)).replace(b"Kettle", b"Other").replace(b",20", b",19")
    run, rows = await sync(service, content)
    assert (numbers(run), rows) == ((0, 0, 0, 0, 1), [("refused", 2, "id: there is no such item")])
    assert [row[1] for row in await stored(service)] == ["Kettle"]
    renamed = (await export(service)).replace(b"Kettle", b"Pan")
    assert numbers((await sync(service, renamed, Match.ID))[0]) == (0, 1, 0, 0, 0)
    assert [row[1] for row in await stored(service)] == ["Pan"]


async def test_refuses_by_id_what_is_no_item_or_gives_a_taken_external_id(service: Service) -> None:
    await sync(service, HEADER + b"A,Kettle,1,,,\nB,Pan,1,,,\nC,Pot,1,,,\n")
    exported = (await export(service)).decode().split("\r\n")
    ids = [line.split(",")[6] for line in exported[1:4]]
    async with service.database.transaction() as work:
        await items.delete_all(work, [await last_id(service)])
    content = f"id,externalId,price\n{ids[0]},B,2\n{ids[2]},,2\nnonsense,,2\n,,2\n{ids[1]},B,3\n{ids[1]},,4\n".encode()
    _run, rows = await sync(service, content, Match.ID)
    assert rows == [
        ("refused", 2, "externalId: is another item's"),
        ("refused", 3, "id: there is no such item"),
        ("refused", 4, "id: must be an item's id, as exports have it"),
        ("refused", 5, "id: must be an item's id, as exports have it"),
        ("updated", 6, None),
        ("refused", 7, "id: is that of an earlier row, too"),
    ]
    assert [row[:3] for row in await stored(service)] == [("A", "Kettle", "1.00"), ("B", "Pan", "3.00")]


async def last_id(service: Service) -> int:
    async with service.database.reading() as session:
        return (await session.scalars(select(Item.id).order_by(Item.id.desc()).limit(1))).one()


async def test_deletes_what_is_missing_and_spares_the_rest(service: Service) -> None:
    await sync(service, HEADER + b"".join(b"%c,Item,1,,,\n" % letter for letter in b"ABCDE"))
    await service.make_item("By hand")
    content = b"externalId,price\nA,1\nB,bad\nD,1\n"
    run, rows = await sync(service, content, delete_missing=True, dry_run=True)
    assert (numbers(run), len(await stored(service))) == ((0, 0, 2, 2, 1), 6)
    run, rows = await sync(service, content, delete_missing=True)
    assert [row[0] for row in rows] == ["refused", "deleted", "deleted"]
    assert numbers(run) == (0, 0, 2, 2, 1)
    assert [row[0] for row in await stored(service)] == ["A", "B", "D", None]
    assert numbers((await sync(service, content, delete_missing=True))[0]) == (0, 0, 2, 0, 1)


@pytest.mark.parametrize("content", [b"externalId,price\n", b"externalId,price\nA,1\n,2\n", b'externalId,price\nA,1\nB"x,2\n'])
async def test_deletes_nothing_where_it_cannot_tell_what_is_missing(service: Service, content: bytes) -> None:
    await sync(service, HEADER + b"A,Item,1,,,\nB,Item,1,,,\n")
    run, _ = await sync(service, content, delete_missing=True)
    assert (run.counts.deleted, len(run.notes), len(await stored(service))) == (0, 1, 2)


async def test_deletes_nothing_after_a_line_from_which_on_it_cannot_read(service: Service) -> None:
    await sync(service, HEADER + b"A,Item,1,,,\nB,Item,1,,,\n")
    run, rows = await sync(service, b'externalId,price\nA,1\nB,"1\n', delete_missing=True)
    assert (run.counts.deleted, [row[0] for row in rows], len(await stored(service))) == (0, ["refused"], 2)


async def test_is_done_once_however_often_it_is_stopped(service: Service) -> None:
    """Killed between any two batches, and begun again: each row once, whether rows are matched or new."""
    matched = HEADER + b"".join(b"%d,Item %d,1,,,\n" % (n, n) for n in range(1_700))
    for stop in (1, 2, 3, 9):
        run = FileSync(service.database, file_import.IMPORT, SyncOptions(Match.KEY))
        batches = run.run(file_import.from_csv(io.BytesIO(matched), match=Match.KEY))
        await taken(batches, stop)
    assert await service.count("items", "events") == [1_700, 1_700]
    new = b"name,price\n" + b"".join(b"New %d,1\n" % n for n in range(2_600))
    for stop in (1, 2, 9):
        journal = await ImportJournal.begin(service.database, import_journal.attempt(io.BytesIO(new)))
        run = FileSync(service.database, file_import.IMPORT, SyncOptions(Match.NONE), journal)
        await taken(run.run(file_import.from_csv(io.BytesIO(new))), stop)
    assert run.counts.created == 2_600
    assert await service.count("items", "events") == [4_300, 4_300]
    await journal.forget(service.database)
    assert await service.count("idempotency_keys") == [0]


async def taken(batches: Any, stop: int) -> None:
    """Some of them: then it is left, as when its process ends."""
    for _ in range(stop):
        if await anext(batches, None) is None:
            break
    await batches.aclose()


async def test_reads_no_more_than_it_needs_at_a_time(service: Service) -> None:
    """A file of any length takes the memory of a batch."""
    read = 0

    def endless() -> Iterator[ImportRow]:
        nonlocal read
        for number in range(1_000_000):
            read += 1
            yield ImportRow(number, None, "bad", key=f"{number}")

    run = FileSync(service.database, file_import.IMPORT, SyncOptions(Match.KEY))
    batches = run.run(endless())
    await anext(batches)
    await batches.aclose()
    assert read == 500


async def test_tells_nobody_of_what_did_not_change(service: Service) -> None:
    rows = [b"%d,Item %d,1,,,\n" % (number, number) for number in range(600)]
    await sync(service, HEADER + b"".join(rows))
    async with service.database.reading() as session:
        last = max((await session.scalars(select(Event.id))).all())
    rows[7] = rows[7].replace(b",1,", b",2,")
    assert numbers((await sync(service, HEADER + b"".join(rows)))[0]) == (0, 1, 599, 0, 0)
    async with service.database.reading() as session:
        told = (await session.scalars(select(Event).where(Event.id > last))).all()
    assert [(event.kind, event.data) for event in told] == [("item.updated", {"fields": ["price"]})]


async def test_ends_as_it_should_beside_another_run(service: Service) -> None:
    contents = [
        HEADER + b"".join(b"%d,Item,%d,,,\n" % (number, price) for number in range(900)[::step])
        for price, step in ((1, 1), (2, -1), (3, 1))
    ]
    runs = await asyncio.gather(*(sync(service, content) for content in contents))
    assert sum(run.counts.created for run, _ in runs) == 900
    assert {sum(numbers(run)[:3]) for run, _ in runs} == {900}
    assert sorted(int(row[0]) for row in await stored(service)) == list(range(900))
