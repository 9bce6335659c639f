"""A value has the same verdict, and is stored the same, through every door: GraphQL by variable and by literal, alone and in bulk, CSV and JSON Lines."""

from __future__ import annotations

import io
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, select

from persistence.items import file_import
from persistence.items import table as items
from persistence.kit.imports.file_rows import Match
from persistence.kit.imports.file_sync import FileSync, SyncOptions

if TYPE_CHECKING:
    from tests.support.service import Service

Verdict = Any
"""What is stored; REFUSED where nothing is."""
REFUSED = "refused"
CREATE = (
    "mutation ($input: CreateItemInput!) { createItem(input: $input) { __typename ... on Item { name description price tags inventory } } }"
)
BULK = "mutation ($inputs: [CreateItemInput!]!) { bulkCreateItems(inputs: $inputs) { ... on BulkCreateItems { results { __typename ... on Item { name description price tags inventory } } } } }"
GOOD = {"name": '"Kettle"', "price": '"1"'}


def item(field: str, literal: str) -> str:
    """An item as JSON, with this value as it is written."""
    return f"{{{', '.join(f'{json.dumps(name)}: {value}' for name, value in (GOOD | {field: literal}).items())}}}"


async def posted(service: Service, token: str, body: str) -> Any:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    answer = await service.http.post("/graphql", content=body.encode("utf-8", "surrogatepass"), headers=headers)
    assert answer.status_code < 500, answer.text
    data: dict[str, Any] = answer.json().get("data") or {}
    return data.values()


def shown(answers: Any, field: str) -> Verdict:
    for answer in answers:
        found = answer["results"][0] if "results" in answer else answer
        if found["__typename"] == "Item":
            return found[field]
    return REFUSED


async def by_variable(service: Service, token: str, field: str, literal: str) -> Verdict:
    return shown(
        await posted(service, token, f'{{"query": {json.dumps(CREATE)}, "variables": {{"input": {item(field, literal)}}}}}'), field
    )


async def in_bulk(service: Service, token: str, field: str, literal: str) -> Verdict:
    return shown(
        await posted(service, token, f'{{"query": {json.dumps(BULK)}, "variables": {{"inputs": [{item(field, literal)}]}}}}'), field
    )


async def by_literal(service: Service, token: str, field: str, literal: str) -> Verdict:
    given = ", ".join(f"{name}: {value}" for name, value in (GOOD | {field: literal}).items())
    document = CREATE.replace("($input: CreateItemInput!)", "").replace("$input", f"{{{given}}}")
    return shown(await posted(service, token, json.dumps({"query": document})), field)


async def by_json_lines(service: Service, _token: str, field: str, literal: str) -> Verdict:
    line = item(field, literal).encode("utf-8", "surrogatepass")
    return await imported(service, file_import.from_json_lines(io.BytesIO(line)), field)


async def by_csv(service: Service, _token: str, field: str, literal: str) -> Verdict:
    value = json.loads(literal) if literal[0] in '"[n' else literal
    cells = {"name": "Kettle", "price": "1", field: ";".join(value) if isinstance(value, list) else value}  # pyright: ignore[reportUnknownArgumentType] -- whatever JSON holds
    row = ",".join("" if cell is None else '"' + cell.replace('"', '""') + '"' for cell in cells.values())
    content = f"{','.join(cells)}\n{row}\n".encode("utf-8", "surrogatepass")
    return await imported(service, file_import.from_csv(io.BytesIO(content), raw=True), field)


async def imported(service: Service, rows: Any, field: str) -> Verdict:
    run = FileSync(service.database, file_import.IMPORT, SyncOptions(Match.NONE))
    if [row async for batch in run.run(rows) for row in batch.rows if row.outcome == REFUSED.lower()]:
        return REFUSED
    async with service.database.reading() as session:
        [row] = await session.scalars(select(items.Item))
    return str(row.price) if field == "price" else getattr(row, field)


Door = Callable[["Service", str, str, str], Awaitable[Verdict]]
TEXT: list[Door] = [by_variable, in_bulk, by_literal, by_json_lines, by_csv]
NUMBER: list[Door] = [by_variable, in_bulk, by_json_lines]
EVERY = [*NUMBER, by_literal, by_csv]


def quoted(*values: Any) -> list[str]:
    return [json.dumps(value) for value in values]


TABLE: list[tuple[list[Door], str, dict[str, Verdict]]] = [
    (
        TEXT,
        "price",
        {
            **{json.dumps(text): stored for text, stored in {"19.9": "19.90", "19.90": "19.90", "5": "5.00", "-0": "0.00", "-0.00": "0.00", "007": "7.00", "1.500": "1.50"}.items()},
            **{json.dumps(text): stored for text, stored in {"9999999999.99": "9999999999.99", "0": "0.00"}.items()},
            **dict.fromkeys(quoted("1_9.90", "１９.90", "19.90 ", " 19.90", "19.90\n", "\t1", "+5", "1e1", "1E1", ".5", "5.", "19.999", "19.999999999999999999"), REFUSED),  # noqa: RUF001
            **dict.fromkeys(quoted("-0.01", "10000000000", "1,000.00", "NaN", "Infinity", "-Infinity", "0x1", "", "٥", "1\0", "1" * 60, "five", "1.0.0", "−1"), REFUSED),  # noqa: RUF001
        },
    ),
    (
        EVERY,
        "price",
        {"19.9": "19.90", "5": "5.00", "0": "0.00", "-0": "0.00", "-0.0": "0.00", "19.90": "19.90", "19.900": "19.90"}
        | dict.fromkeys(["19.999", "19.999999999999999999", "9.990000000000000000001", "-1", "1e11", "99999999999999999999", "1e400", "1e-400", "true", "0.001"], REFUSED),
    ),
    (NUMBER, "price", {"1e1": "10.00", "1.5e1": "15.00"} | dict.fromkeys(["null", "[]", "{}", "NaN", "Infinity", "01", "+1", ".5", "1e-3", "false"], REFUSED)),
    (
        EVERY,
        "inventory",
        {"0": 0, "5": 5, "2147483647": 2_147_483_647} | dict.fromkeys(["-1", "2147483648", "99999999999999999999", "1.5", "true", "5.000000000000000000001", "1_0"], REFUSED),
    ),
    (NUMBER, "inventory", {"5.0": 5, "1e3": 1_000, "-0": 0} | dict.fromkeys(["null", '"5"', "1e99", "[5, 6]", "NaN"], REFUSED)),
    (
        TEXT,
        "tags",
        {
            **{json.dumps(given): kept for given, kept in zip([[" x"], ["x ", "y"], ["\u00a0x\u3000"], ["a b"], ["é", "É"], ["a\u0301"], []], [["x"], ["x", "y"], ["x"], ["a b"], ["é", "É"], ["a\u0301"], []], strict=True)},
            **dict.fromkeys(quoted(["x", " x"], ["x" * 51], [str(number) for number in range(21)], ["a\nb"], ["a\0"], ["x", "x"]), REFUSED),
        },
    ),
    (NUMBER, "tags", {'"x"': ["x"], '" x "': ["x"]} | dict.fromkeys(["null", "[null]", "[1]", "[[]]", "{}", '[""]', '[" "]', '["a;b"]'], REFUSED)),
    (
        TEXT,
        "name",
        {json.dumps(text): text for text in ("Kettle", " outer ", "'tis", "=1+1", "a\u200db", "x" * 200, "🙂", "null", '"', "a,b;c")}
        | dict.fromkeys(quoted("", " ", "x" * 201, "a\tb", "a\nb", "a\rb", "a\0b", "\x1f", "\x7f", "a\x80b", "\x9b31mred", "a\x9f", "a\x85b", "a\u2028b", "a\u2029b"), REFUSED),
    ),
    (NUMBER, "name", dict.fromkeys(["null", "5", "true", '"\\ud800"', '["a"]'], REFUSED)),
    (
        TEXT,
        "description",
        {json.dumps(text): text for text in ("", " ", "two\nlines", "two\r\nlines\r", "\t", "a\x85b\u2028c\u2029", "'=1", "x" * 10_000, None)} | dict.fromkeys(quoted("x" * 10_001, "a\0", "\x1b[0m", "\x9b0m", "\x80", "a\x84b\x86"), REFUSED),
    ),
    (NUMBER, "description", dict.fromkeys(["5", "false", "[]"], REFUSED)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("doors", "field", "values"), TABLE, ids=[f"{field} by {len(doors)}, {place}" for place, (doors, field, _) in enumerate(TABLE)]
)
async def test_gives_one_verdict(service: Service, doors: list[Door], field: str, values: dict[str, Verdict]) -> None:
    token = await service.sign_in()
    wrong: list[Any] = []
    for literal, expected in values.items():
        for door in doors:
            found = await door(service, token, field, literal)
            if (found, await service.count("items")) != (expected, [int(expected != REFUSED)]):
                wrong.append((door.__name__, literal[:80], expected, found))
            async with service.database.transaction() as work:
                await work.session.execute(delete(items.Item))
    assert wrong == []


INSTANTS = {
    "2026-11-30T00:00:00Z": True, "2026-11-30t00:00:00z": True, "2026-11-30T00:00:00.123456+05:45": True, "2026-11-30T00:00:00.1234560Z": True,
    "2026-11-30X00:00:00Z": False, "2026-11-30 00:00:00Z": False, "20261130T000000Z": False, "2026-11-30T00:00Z": False, "2026-11-30T00:00:00": False,
    "2026-12-31T23:59:60Z": False, "2026-11-30T00:00:00.1234567Z": False, "0000-01-01T00:00:00Z": False, "２０２６-11-30T00:00:00Z": False,  # noqa: RUF001
}  # fmt: skip


@pytest.mark.parametrize("fast", [False, True])
async def test_gives_one_verdict_on_instants(service: Service, fast: bool) -> None:
    """As variables and as literals; a resolver that makes a plan and one that does not."""
    selection = "{ nodes { name } }" if fast else "{ totalCount }"
    for text, good in INSTANTS.items():
        asked = {
            "variable": (
                await service.send(f"query ($at: DateTime) {{ items(filter: {{createdAfter: $at}}) {selection} }}", {"at": text})
            ).json(),
            "literal": (await service.send(f'{{ items(filter: {{createdAfter: "{text}"}}) {selection} }}')).json(),
        }
        for door, answer in asked.items():
            assert ("errors" not in answer) == good, (door, text, answer)
            if not good:
                assert {error["extensions"]["code"] for error in answer["errors"]} <= {"BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED"}
                assert "must " in answer["errors"][0]["message"]
                assert answer["errors"][0]["locations"]


@pytest.mark.parametrize("literal", ['"1_0"', "true", "[1]", "{}", "PRICE", '"' + "9" * 51 + '"', "9" * 51, "1e99999999999999999999"])
async def test_says_where_a_literal_is_no_number(service: Service, literal: str) -> None:
    [error] = (await service.send(f"{{ items(filter: {{priceMin: {literal}}}) {{ totalCount }} }}")).json()["errors"]
    assert error["message"].startswith("must be a decimal number such as 9.99")
    assert error["locations"] == [{"line": 1, "column": 28}]


async def test_refuses_a_literal_that_would_be_rounded(service: Service) -> None:
    answer = (await service.send("{ items(filter: {priceMin: 19.999999999999999999}) { totalCount } }")).json()
    assert [error["message"] for error in answer["errors"]] == ["priceMin: must have at most two decimal places"]
    assert (await service.ask("{ items(filter: {priceMin: 1e1, priceMax: -0}) { totalCount } }"))["items"] == {"totalCount": 0}


async def test_finds_tags_whatever_blanks_stand_around_them(service: Service) -> None:
    token = await service.sign_in()
    await service.ask(CREATE, {"input": {"name": "Kettle", "price": "1", "tags": ["kitchen ", "\tsteel"]}}, token=token)
    for name, tags in {"tagsAny": ["kitchen"], "tagsAll": [" kitchen", "steel "]}.items():
        found = await service.ask(f"query ($tags: [String!]) {{ items(filter: {{{name}: $tags}}) {{ nodes {{ tags }} }} }}", {"tags": tags})
        assert found["items"]["nodes"] == [{"tags": ["kitchen", "steel"]}]


async def test_answers_what_is_stored(service: Service) -> None:
    token = await service.sign_in()
    created = (
        await service.ask('mutation { createItem(input: {name: "Kettle", price: "-0"}) { ... on Item { id price } } }', token=token)
    )["createItem"]
    update = "mutation ($id: ID!, $price: Decimal) { updateItem(id: $id, input: {price: $price}) { ... on Item { price version } } }"
    assert created["price"] == "0.00"
    assert (await service.ask(update, {"id": created["id"], "price": "-0.00"}, token=token))["updateItem"] == {
        "price": "0.00",
        "version": 1,
    }
    assert (await service.ask(update, {"id": created["id"], "price": 5}, token=token))["updateItem"] == {"price": "5.00", "version": 2}
    assert (await service.ask(update, {"id": created["id"], "price": -0.0}, token=token))["updateItem"] == {"price": "0.00", "version": 3}
    assert (await service.ask("query ($id: ID!) { item(id: $id) { price } }", {"id": created["id"]}))["item"] == {"price": "0.00"}


EMPTY = '{{ items(first: 1, {end}: "") {{ nodes {{ name }} }} plain: items(first: 1) {{ nodes {{ name }} pageInfo {{ hasPreviousPage hasNextPage }} }} }}'


async def test_takes_an_empty_cursor_for_none(service: Service) -> None:
    for name in ("Kettle", "Pan"):
        await service.make_item(name)
    token = await service.sign_in()
    page = {"nodes": [{"name": "Kettle"}]}
    for end in ("after", "before"):
        assert (await service.ask(EMPTY.format(end=end)))["items"] == page
    info = "pageInfo { hasPreviousPage hasNextPage }"
    found = await service.ask(f'{{ items(first: 1, after: "", before: "") {{ {info} }} me {{ items(last: 1, before: "") {{ {info} }} purchases(after: "") {{ {info} }} }} users(after: "") {{ {info} }} files(after: "") {{ {info} }} auditLog(before: "") {{ {info} }} }}', token=token)  # fmt: skip
    assert found["items"]["pageInfo"] == {"hasPreviousPage": False, "hasNextPage": True}
    assert {str(found[name]["pageInfo"]["hasPreviousPage"]) for name in ("users", "files", "auditLog")} == {"False"}
    assert await service.refused('{ items(after: " ") { nodes { name } } }') == "BAD_USER_INPUT"


@pytest.mark.parametrize(("query", "status", "message"), [
    ("first=0000000002", 200, 2), ("first=2", 200, 2), ("first=2.0", 200, 2), ("first=", 200, 3), ("first=0", 200, 0), ("after=", 200, 3),
    ("first=-1", 400, "first: must be between 0 and 2147483647"), ("first=101", 400, "first: must be between 0 and 100"),
    ("first=1000000005", 400, "first: must be between 0 and 100"), ("first=99999999999", 400, "first: must be between 0 and 2147483647"),
    *((f"first={text}", 400, "first: must be a whole number") for text in ("x", "%2B2", "1_0", "%EF%BC%92", "%C2%B2", "2%20", "1e1", "2.5", "0x2")),
    ("first=1&first=2", 400, "first: must be given once"),
])  # fmt: skip
async def test_lists_files_by_a_plain_number(service: Service, query: str, status: int, message: int | str) -> None:
    token = {"Authorization": f"Bearer {await service.sign_in()}"}
    for name in ("a.txt", "b.txt", "c.txt"):
        assert (await service.http.post("/api/v2/files/upload", files={"file": (name, b"x")}, headers=token)).status_code == 201
    answer = await service.http.get(f"/api/v2/files/list?{query}", headers=token)
    assert answer.status_code == status
    assert (len(answer.json()["files"]) if status == 200 else answer.json()["error"]["message"]) == message
