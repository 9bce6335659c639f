"""Items from a file and into one."""

from __future__ import annotations

import csv
import io
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from sqlalchemy import select

from graph.kit.auth import Scope
from graph.server.rest.export_formats import FORMATS, ExportRequest
from persistence.items import file_import
from persistence.items import table as items
from persistence.items.table import ItemValues
from persistence.kit.imports.file_rows import AMBIGUOUS, ImportRow, Match, UnreadableFile
from persistence.kit.imports.file_sync import REFUSED, FileSync, RowReport, SyncOptions
from persistence.kit.parsing import csv_formulas as formulas
from persistence.kit.parsing import csv_reader

if TYPE_CHECKING:
    from tests.support.service import Service

HEADER = b"name,description,price,tags,inventory\n"
CHINOOK = Path(__file__).parents[3] / "shared" / "data" / "chinook_tracks.csv"


def read(content: bytes, *, raw: bool = False) -> list[ImportRow]:
    return list(file_import.from_csv(io.BytesIO(content), raw=raw))


def read_json(content: bytes) -> list[ImportRow]:
    return list(file_import.from_json_lines(io.BytesIO(content)))


async def load(service: Service, content: bytes, *, raw: bool = False) -> tuple[int, list[RowReport]]:
    run = FileSync(service.database, file_import.IMPORT, SyncOptions(Match.NONE))
    batches = [batch async for batch in run.run(file_import.from_csv(io.BytesIO(content), raw=raw))]
    return run.counts.created, [row for batch in batches for row in batch.rows if row.outcome == REFUSED]


async def export(service: Service, kind: str = "csv", query: str = "") -> bytes:
    token = await service.sign_in(Scope.ITEMS_READ, username=f"reader{os.urandom(4).hex()}")
    answer = await service.http.get(f"/api/v2/stream/items.{kind}{query}", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    return answer.content


async def stored(service: Service) -> list[tuple[Any, ...]]:
    async with service.database.reading() as session:
        rows = await session.scalars(select(items.Item).order_by(items.Item.id))
        return [(row.name, row.description, row.price, row.tags, row.inventory, row.external_id) for row in rows]


@pytest.mark.parametrize(
    "content",
    [
        HEADER + b'Kettle,"A, b",9.99,x;y z,3\n',
        b"\xef\xbb\xbf" + HEADER + b'Kettle,"A, b",9.99,x;y z,3\r\n',
        b'inventory,price,colour,tags,description,name\n3,9.99,red,x;y z,"A, b",Kettle',
        b'Name; Description ;PRICE;Tags;Inventory\nKettle;A, b;9,99;"x;y z";3\n\n',
        b"name\tdescription\tprice\ttags\tinventory\nKettle\tA, b\t9.99\tx;y z\t3\n",
    ],
)
def test_are_read_in_any_order_and_dialect(content: bytes) -> None:
    assert read(content) == [ImportRow(2, ItemValues("Kettle", Decimal("9.99"), "A, b", ["x", "y z"], 3))]


@pytest.mark.parametrize("header", [b"external_id", b"External ID", b"EXTERNAL-ID", b" external\tid ", b"externalid"])
def test_may_write_a_column_in_words(header: bytes) -> None:
    [row] = read(b'name,price,"' + header + b'"\nKettle,1,A-1\n')
    assert row.content == ItemValues("Kettle", Decimal(1), external_id="A-1")


def test_need_a_name_and_a_price_only() -> None:
    assert read(b"price,name\n1,Kettle\n") == [ImportRow(2, ItemValues("Kettle", Decimal(1), None, [], 0))]


DOUBLED = [b"name,price,externalId,external_id\n", b"id,name,price,ID\n", b"name,price,created_at,createdAt\n"]


@pytest.mark.parametrize("content", [b"", b"\n", b"name,cost\na,1\n", b"\x89PNG\r\n", b"name,price,name\na,1,b\n", *DOUBLED])
def test_are_refused_without_a_header(content: bytes) -> None:
    with pytest.raises(UnreadableFile, match="The first line must name the columns"):
        read(content)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (b"Kettle,,-1,,1", "price: must be between 0 and 9999999999.99"),
        (b"Kettle,,1.005,,1", "price: must have at most two decimal places"),
        (b"Kettle,,NaN,,1", "price: must be a decimal number such as 9.99"),
        (b"Kettle,,cheap,,1", "price: must be a decimal number such as 9.99"),
        (b"Kettle,,1,,many", "inventory: must be a whole number"),
        (b"Kettle,,1,,-1", "inventory: must be between 0 and 2147483647"),
        (b",,1,,1", "name: must not be blank"),
        (b"Kettle,,1,a;a,1", "tags.1: must not hold 'a' twice"),
        (b"Kettle,,1,,1,,more", "has 7 cells where the header has 5"),
        (b"Kettle", "price: must be a decimal number such as 9.99"),
        (b"Ket\0tle,,1,,1", "name: must not contain control characters"),
        (b"Kettl\xe9,,1,,1", "is not in UTF-8"),
        (b"-1,x,-1,y,x", "inventory: must be a whole number"),
        (b"Kettle," + b"x" * 140_000 + b",1,,1", "description: must have at most 10000 characters, not 140000"),
        (b"Kettle," + b"x" * 2**20 + b",1,,1", "is longer than 1048576 characters"),
        (b'24" pan,,1,,1', csv_reader.STRAY),
    ],
)
def test_tell_a_bad_row_by_its_line_and_go_on(row: bytes, fault: str) -> None:
    good = b'First,"two\nlines",1,,1\n'
    found = read(HEADER + good + row + b"\nLast,,1,,1\n")
    assert [(each.line, each.content and each.content.name, each.fault) for each in found] == [
        (2, "First", ""),
        (4, None, fault),
        (5, "Last", ""),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b'sep=;\nname;description;price;tags;inventory\nKettle;A, b;9,99;"x;y z";5,0\n',
        b"\xef\xbb\xbfSEP=,\r\n" + HEADER + b'Kettle,"A, b",9.99,x;y z,5.0\n',
        b'"sep=;";;;;\nname;description;price;tags;inventory\nKettle;A, b;9.99;"x; y z;";5\n',
        b"\r\n,,,,\r\n" + HEADER + b'Kettle,"A, b",9.99,x;y z,5\n',
        HEADER + b'\n,,,,\n ,\t,,,\n,,,,,,,,\n\nKettle,"A, b",9.99,x;y z,5,,,\n,,\n',
        HEADER + b'Kettle,"A, b",9.99,x;;y z;,5, ,""\n',
        b'name,description,price,tags,inventory,colour,,\nKettle,"A, b",9.99,x;y z,5\n',
        (HEADER + b'Kettle,"A, b",9.99,x;y z,5\n').replace(b"\n", b"\r"),
        (HEADER + b'Kettle,"A, b",9.99,x;y z,5\n').decode().encode("utf-16"),
        b'sep=; \nname;price;description;tags;inventory\nKettle;9,99;A, b;"x;y z";5,00\n',
        b"\xef\xbb\xbf" * 2 + HEADER.replace(b"price", b"\xe2\x80\x8bprice\xc2\xa0") + b'Kettle,"A, b",9.99,x;y z,5\n',
        b'name|price|description|tags|inventory\n||||\nKettle|9,99|A, b|x;"y z"|5\n'.replace(b'"', b""),
        b'sep=|\nname|price|description|tags|inventory\nKettle|9.99|"A, b"|"x;y z"|5|\n',
        b"\xfe\xff" + 'name;price;description;tags;inventory\r\nKettle;9,99;A, b;"x;y z";5\r\n'.encode("utf-16-be"),
        b'name,price,description,tags,inventory,"a;b;c;d;e;f;""g;h"""\nKettle,9.99,"A, b",x;y z,5,\n',
        b'"tags|of|all|kinds|of|things";Name;price;Des cription;TAGS;"inventory"\n;Kettle;9,99;A, b;"x;y z";5\n',
    ],
)
def test_are_read_as_people_have_them(content: bytes) -> None:
    [row] = read(content)
    assert row.content == ItemValues("Kettle", Decimal("9.99"), "A, b", ["x", "y z"], 5), row.fault


def test_keep_the_line_numbers_of_what_is_skipped() -> None:
    content = b"sep=;\r\n\r\nname;price\r\n;;;\r\n\r\nbad;x\r\n;\r\ngood;1\r\n"
    assert [(row.line, row.fault) for row in read(content)] == [(6, "price: must be a decimal number such as 9.99"), (8, "")]
    assert [(row.line, row.fault) for row in read_json(b'\r\n{"name": 1, "price": 1}\r\r{}\n')] == [
        (2, "name: is of the wrong type"),
        (4, "lacks name and price"),
    ]


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("number", ["1,000", "1.000", "12,500", "999.999", "-1,000"])
@pytest.mark.parametrize("match", [Match.NONE, Match.KEY])
def test_have_no_number_that_may_be_thousands_or_a_fraction(separator: str, number: str, match: Match) -> None:
    """Where commas may be decimal: `1.000` is a thousand to a German, and `1,000` to an American whose file has tabs."""
    header, good = ("name", "price", "inventory", "externalId"), ("Pan", "0,500", "1000", "y")
    lines = [header, ("Kettle", number, "1", "x"), ("Kettle", "1", number, "x"), good]
    found = list(file_import.from_csv(io.BytesIO("\n".join(map(separator.join, lines)).encode()), match=match))
    assert [row.fault for row in found] == [f"price: {AMBIGUOUS}", f"inventory: {AMBIGUOUS}", ""]
    assert [row.key for row in found] == ([None] * 3 if match is Match.NONE else ["x", "x", "y"])


def test_have_a_description_that_is_empty_or_none() -> None:
    assert [row.content and row.content.description for row in read(b'name,price,description\na,1,\nb,1,""\nc,1\n')] == [None, "", None]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (b'A,,1,,"oops', csv_reader.UNCLOSED),
        (b'"24\\" wide",,1,,1', csv_reader.BROKEN),
        (b'A, "b",1,,1', csv_reader.BLANK_BEFORE),
        (b'"' + b"x" * 2**20 + b'"x,,1,,1', csv_reader.BROKEN),
        (b'"' + b"x" * 2**20 + b"\nEvil,,9.99,,1", csv_reader.UNCLOSED),
    ],
)
def test_are_refused_from_the_line_where_a_record_has_no_end(row: bytes, fault: str) -> None:
    found = read(HEADER + b"First,,1,,1\n" + row + b"\nEvil,,9.99,,1\n")
    assert [(each.line, each.content and each.content.name, each.fault) for each in found] == [(2, "First", ""), (3, None, fault)]


def test_never_have_rows_out_of_the_middle_of_a_cell() -> None:
    for size in (140_000, 2**20):
        cell = b'"' + b"x" * size + b'\nEvil,9.99,x\n"'
        found = read(b"name,price,description\nFirst,1,\nA,1," + cell + b"\nLast,1,\n")
        assert [(each.line, each.content and each.content.name) for each in found] == [(2, "First"), (3, None), (6, "Last")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"sep=x\nname,price\n", "The first line names a separator that is not read: it must be a comma, a semicolon, a tab or a |."),
        (b'name,"price\na,1\n', f"Line 1 must name the columns, but {csv_reader.UNCLOSED}."),
        (b'\nname,pri"ce\na,1\n', f"Line 2 must name the columns, but {csv_reader.STRAY}."),
        *(("name,price\n".encode(form), "The file is in UTF-32: save it as UTF-8.") for form in ("utf-32", "utf-32-le", "utf-32-be")),
        ("name,price\n".encode("utf-16-le"), "The file is in UTF-16 without a byte order mark: save it as UTF-8."),
        ("name,price\na,1\n".encode("utf-16") + b"x", "From line 3 on, the file is not in UTF-16: save it as UTF-8."),
    ],
)
def test_are_refused_as_a_whole(content: bytes, message: str) -> None:
    with pytest.raises(UnreadableFile) as refused:
        read(content)
    assert str(refused.value) == message


def test_lose_the_apostrophes_of_an_export_but_no_other() -> None:
    row = HEADER + b"'=1+1,''@x,1,'-a;b,1\n"
    assert read(row)[0].content == ItemValues("=1+1", Decimal(1), "'@x", ["-a", "b"], 1)
    assert read(row, raw=True)[0].content == ItemValues("'=1+1", Decimal(1), "''@x", ["'-a", "b"], 1)
    assert read(HEADER + b"'tis,,1,,1\n")[0].content == ItemValues("'tis", Decimal(1), None, [], 1)


def test_are_read_from_json_lines() -> None:
    content = (
        b'{"name": "Kettle", "price": "9.99", "tags": ["x"], "id": "1"}\n\n{"name": "Pan", "price": 5, "description": null, "inventory": 2}'
    )
    assert read_json(content) == [
        ImportRow(1, ItemValues("Kettle", Decimal("9.99"), tags=["x"])),
        ImportRow(3, ItemValues("Pan", Decimal(5), inventory=2)),
    ]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[1]", "is not a JSON object"),
        (b'{"name": "a"}', "lacks price"),
        (b'{"name": 1, "price": 1}', "name: is of the wrong type"),
        (b'{"name": "a", "price": true}', "price: must be a decimal number such as 9.99"),
        (b'{"name": "a", "price": NaN}', "is not JSON"),
        (b'{"name": "a", "price": 1e400}', "is not JSON"),
        (
            b'{"name": "a", "price": 19.999999999999999999}',
            "is not strict JSON: A number has more digits than are kept: write it as a string.",
        ),
        (b'{"name": "a", "price": 1, "price": 2}', "is not strict JSON: A name is repeated in a JSON object."),
        (b'{"name": "a", "price": 1, "\\u0070rice": 2}', "is not strict JSON: A name is repeated in a JSON object."),
        (b'{"name": "a", "price": null}', "price: must be a decimal number such as 9.99"),
        (b'{"name": "a", "price": 1, "tags": [1]}', "tags: is of the wrong type"),
        (b'{"name": "a", "price": "Infinity"}', "price: must be a decimal number such as 9.99"),
        (b'{"name": "a", "price": 1, "inventory": 1.5}', "inventory: must be a whole number"),
        (b'{"name": "a", "price": 1, "inventory": true}', "inventory: must be a whole number"),
        (b'{"name": "a", "price": 1, "inventory": 9999999999999999}', "inventory: must be between 0 and 2147483647"),
        (b'{"name": "a", "price": 1, "tags": ["x", " x"]}', "tags.1: must not hold 'x' twice"),
        (b'"' + b"x" * 2**20 + b'"', "is longer than 1048576 characters"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_tell_a_bad_line_of_json_and_go_on(line: bytes, fault: str) -> None:
    found = read_json(line + b'\n{"name": "Last", "price": 1}\n')
    assert [(row.line, row.fault) for row in found] == [(1, fault), (2, "")]


async def test_load_the_good_rows_of_a_large_file(service: Service) -> None:
    lines = [b"Item %d,,%s,,1\n" % (n, b"bad" if n % 1_000 == 7 else b"1") for n in range(2_500)]
    created, refused = await load(service, HEADER + b"".join(lines))
    assert (created, [row.line for row in refused]) == (2_497, [9, 1_009, 2_009])
    assert [row[0] for row in await stored(service)] == [f"Item {n}" for n in range(2_500) if n % 1_000 != 7]


AWKWARD = [
    ItemValues("=1+1", Decimal("0.1"), '\'+x\nsecond, "line"', ("-a", "b c", 'd"', "e,f", "5", "6"), 1),
    ItemValues("'quoted", Decimal("9999999999.99"), None, (), 2**31 - 1),
    ItemValues("''=x", Decimal(0), "@", ("'=y",), 0),
    ItemValues("Motörhead 🙂", Decimal(1), " spaces ", ("é", "k\u00adl", "a\u200db"), 5),
    ItemValues(" outer ", Decimal(1), "", (" x ", "\u3000y"), 5),
    ItemValues("a;=1+1", Decimal(1), "\t=1\r\n- one\r\n'- two\rthree\n", ("=1", "＝2", "'=3", " @4", "x,=5", '"=6"', "| -7"), 5),  # noqa: RUF001
    ItemValues('"', Decimal(1), '"', ('"', '""', "'"), 5),
    ItemValues("\ufeff=x", Decimal(1), "\n", ("null", "NaN", "1_0"), 5),
    ItemValues("a\u200eb\u00a0c", Decimal(1), "x\u2028y\x85\u2029", ("\\", "\\n", "\\."), 5),
    ItemValues("\\.", Decimal(1), "\\.\n\\.", ("\\.",), 5),
    ItemValues("sep=;", Decimal(1), "x" * 10_000, tuple(f"{number:050}" for number in range(20)), 5),
    ItemValues("Known", Decimal(1), None, (), 5, '=A;-"1", 2 é'),
    ItemValues("\u202ertl\u200f", Decimal(1), '"' * 10_000, ("-", "+", "=", "@"), 5),
]


def line_of(draft: ItemValues, *, raw: bool) -> str:
    """What either database is to write, but for the id and the instant."""

    def cell(text: str | None) -> str:
        text = text if raw or not text else formulas.escape(text)
        return "" if text is None else '"' + text.replace('"', '""') + '"' if not text or set(text) & set(',"\r\n') else text

    return f"{cell(draft.name)},{cell(draft.description)},{draft.price:.2f},{cell(';'.join(draft.tags) or None)},{draft.inventory},{cell(draft.external_id)},\r\n"


@pytest.mark.parametrize("query", ["", "?bom=1", "?raw=1", "?raw=1&bom=1"])
async def test_come_back_from_an_export_as_they_were(service: Service, query: str) -> None:
    async with service.database.transaction() as work:
        await items.create_all(work, AWKWARD, owner_id=None)
    before, exported = await stored(service), await export(service, query=query)
    assert exported.startswith(b"\xef\xbb\xbf") == ("bom" in query)
    assert [row.content for row in read(exported, raw="raw" in query)] == AWKWARD
    await service.empty()
    assert await load(service, exported, raw="raw" in query) == (len(AWKWARD), [])
    assert await stored(service) == before
    written = "".join(re.split(r"(?<=,)SXR[^\r]+", exported.decode()))
    header, bom = "name,description,price,tags,inventory,externalId,id,createdAt\r\n", "\ufeff" if "bom" in query else ""
    assert written == bom + header + "".join(line_of(draft, raw="raw" in query) for draft in AWKWARD)


async def test_come_back_from_json_lines_as_they_were(service: Service) -> None:
    async with service.database.transaction() as work:
        await items.create_all(work, AWKWARD, owner_id=None)
    exported = b"".join([part async for part in FORMATS["jsonl"].parts(service.database, ExportRequest())])
    assert [row.content for row in read_json(exported)] == AWKWARD


async def test_come_back_whole_from_real_data(service: Service) -> None:
    if not CHINOOK.exists():
        pytest.skip(f"the sample data is not beside the repository: {CHINOOK.name}")
    assert await load(service, CHINOOK.read_bytes()) == (3_503, [])
    before, exported = await stored(service), await export(service)
    with CHINOOK.open(newline="", encoding="utf-8") as file:
        given = [(row["name"], row["price"], row["tags"], row["inventory"]) for row in csv.DictReader(file)]
    assert [(name, str(price), ";".join(tags), str(inventory)) for name, _, price, tags, inventory, _ in before] == given
    await service.empty()
    assert await load(service, exported) == (3_503, [])
    assert await stored(service) == before
    assert [row["name"] for row in orjson.loads(await export(service, "json"))] == [row[0] for row in before]
