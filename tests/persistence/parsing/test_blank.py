"""What shows nothing is blank, at every door by one rule."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from persistence import files
from persistence.items import file_import
from persistence.items.table import ItemValues
from persistence.kit.blobs.blobs import Blobs, store
from persistence.kit.errors import InvalidInput
from persistence.kit.parsing.blank import is_blank, visible_length
from persistence.users import SignUpValues
from tests.support.service import PASSWORD

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from persistence.files import StoredFile
    from tests.support.service import Service

BLANK = {
    "spaces": " \u00a0\u1680\u2003\u202f\u205f\u3000",
    "zero width space": "\u200b",
    "zero width joiners": "\u200c\u200d\u2060\ufeff",
    "soft hyphen": "\u00ad",
    "directions": "\u200e\u200f\u202a\u202e\u2066\u2069\u061c",
    "hangul fillers": "\u115f\u1160\u3164\uffa0",
    "braille without dots": "\u2800",
    "mongolian vowel separator": "\u180e",
    "variation selectors": "\ufe0f\ufe00\u180b\U000e0100",
    "combining grapheme joiner": "\u034f",
    "khmer inherent vowels": "\u17b4\u17b5",
    "tags": "\U000e0001\U000e0020",
    "invisible operators": "\u2061\u2062\u2063\u2064",
    "lone accent": "\u0301",
    "lone vowel sign": "\u093f",
    "lone enclosing circle": "\u20dd",
    "space under an accent": " \u0308",
    "notehead and hieroglyphic blanks": "\U0001d159\U00013441\U00013442",
    "all together": "\u200b \u3164\u0301\u2800",
}
VISIBLE = ["a", "-", "e\u0301", "हि", "\u200bx", "1\ufe0f\u20e3", "❤\ufe0f", "中", "\u30fc", "\ue000", "\U0003fffd", "⠁", "́a"]
CREATE = "mutation ($input: CreateItemInput!) { createItem(input: $input) { __typename ... on InvalidInput { path message } } }"
UPDATE = "mutation ($id: ID!, $input: UpdateItemInput!) { updateItem(id: $id, input: $input) { __typename ... on InvalidInput { path } } }"
BULK = """mutation ($inputs: [CreateItemInput!]!) { bulkCreateItems(inputs: $inputs) { __typename ... on BulkCreateItems { created results {
  __typename ... on InvalidInput { path message } } } } }"""
SIGN_UP = "mutation ($input: SignupInput!) { signup(input: $input) { __typename ... on InvalidInput { path message } } }"
ECHO = 'mutation ($channel: ID!) { sendEcho(channel: $channel, message: "hello") { text } }'

every_blank = pytest.mark.parametrize("blank", BLANK.values(), ids=BLANK)


@every_blank
def test_is_told_from_what_can_be_seen(blank: str) -> None:
    assert is_blank(blank)
    assert is_blank(blank * 10)
    assert not any(is_blank(f"{blank}{text}{blank}") for text in VISIBLE)


def test_length_counts_what_can_be_seen() -> None:
    assert [visible_length(text) for text in ("a b", " a ", "a\u200b\u3164\u2800", "हिन्दी", "\u200b" * 9 + "a" * 7)] == [3, 1, 1, 6, 7]


@every_blank
async def test_names_and_tags_of_items_are_refused_by_the_api(embedded: Service, blank: str) -> None:
    token, item_id = await embedded.sign_in(), await embedded.make_item("Kettle")
    before = await embedded.count("items", "event_log", "audit_entries")
    refused = {"__typename": "InvalidInput", "message": "name: must not be blank", "path": ["name"]}
    assert (await embedded.ask(CREATE, {"input": {"name": blank, "price": "1"}}, token=token))["createItem"] == refused
    tagged = (await embedded.ask(CREATE, {"input": {"name": "Pan", "price": "1", "tags": ["a", blank]}}, token=token))["createItem"]
    assert (tagged["__typename"], tagged["path"][-2:]) == ("InvalidInput", ["tags", "1"])
    for wrong in ({"name": blank}, {"tags": [blank]}):
        assert (await embedded.ask(UPDATE, {"id": item_id, "input": wrong}, token=token))["updateItem"]["__typename"] == "InvalidInput"
    bulk = await embedded.ask(BULK, {"inputs": [{"name": "Pan", "price": "1"}, {"name": blank, "price": "1"}]}, token=token)
    assert (bulk["bulkCreateItems"]["created"], [row["__typename"] for row in bulk["bulkCreateItems"]["results"]]) == (
        0,
        ["NotCreated", "InvalidInput"],
    )
    assert await embedded.count("items", "event_log", "audit_entries") == before


@every_blank
def test_names_and_tags_of_items_are_refused_by_the_import(blank: str) -> None:
    rows = [
        *file_import.from_csv(io.BytesIO(f'name,price,tags\n"{blank}",1,\nPan,1,a\n'.encode())),
        *file_import.from_json_lines(io.BytesIO(json.dumps({"name": blank, "price": 1}).encode())),
        *file_import.from_json_lines(io.BytesIO(json.dumps({"name": "Pan", "price": 1, "tags": [blank]}).encode())),
    ]
    assert [row.fault for row in rows] == ["name: must not be blank", "", "name: must not be blank", "tags.0: must not be blank"]


@every_blank
async def test_parts_of_an_account_are_refused(embedded: Service, blank: str) -> None:
    good: dict[str, Any] = {"username": "ada", "password": PASSWORD}
    for wrong in (
        {"fullName": blank},
        {"password": blank * 10},
        {"username": blank},
        {"username": f"ada{blank}"},
        {"email": f"{blank}@b.c"},
    ):
        answer = (await embedded.ask(SIGN_UP, {"input": {**good, **wrong}}))["signup"]
        assert (answer["__typename"], answer["path"]) == ("InvalidInput", [*wrong])
    assert await embedded.count("users") == [0]


def test_a_password_is_as_long_as_what_can_be_seen_of_it() -> None:
    for password, message in (
        ("a" + "\u200b" * 9, "password: must have at least 8 characters"),
        ("a" * 7 + "\u3164", "password: must have at least 8 characters"),
        ("\u2800" * 12, "password: must not be blank"),
    ):
        with pytest.raises(InvalidInput, match=message):
            SignUpValues("ada", password).check()
    SignUpValues("ada", "pass\u200bwords").check()


@every_blank
async def test_filenames_are_refused(embedded: Service, blank: str) -> None:
    token = await embedded.sign_in()
    headers = {"Authorization": f"Bearer {token}"}
    for name in (blank, f"{blank}.txt"):
        disposition = f'form-data; name="file"; filename="{name}"'.encode()
        form = b"--edge\r\nContent-Disposition: " + disposition + b"\r\n\r\nhello\r\n--edge--\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=edge"}
        answer = await embedded.http.post("/api/v2/files/upload", content=form, headers=headers | kind)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BAD_USER_INPUT")
        assert answer.json()["error"]["message"].startswith("filename: must not ")
    assert await embedded.count("stored_files") == [0]


async def test_files_of_earlier_versions_under_such_names_are_found_and_deleted(service: Service) -> None:
    token, name = await service.sign_in(), "\u3164.txt"
    row = await stored(service, name)
    headers = {"Authorization": f"Bearer {token}"}
    assert (await service.http.get("/api/v2/files/list", headers=headers)).json()["files"][0]["filename"] == name
    answer = await service.http.get(f"/api/v2/files/download/{name}", headers=headers)
    assert (answer.content, answer.headers["etag"]) == (b"hello", f'"{row.sha256}"')
    gone = await service.ask("mutation ($name: String!) { deleteFile(filename: $name) { __typename } }", {"name": name}, token=token)
    assert (gone["deleteFile"]["__typename"], await service.count("stored_files")) == ("DeletedFile", [0])


async def stored(service: Service, name: str) -> StoredFile:
    """A file whose name was good once."""

    async def parts() -> AsyncGenerator[bytes]:
        yield b"hello"

    written = await store(service.services.ports[Blobs], parts(), most_bytes=5)
    async with service.database.transaction() as work:
        return await files.add(work, name, written, owner_id=None)


@every_blank
async def test_channels_are_refused(embedded: Service, blank: str) -> None:
    assert await embedded.refused(ECHO, {"channel": blank}) == "BAD_USER_INPUT"


def test_texts_around_what_can_be_seen_are_kept() -> None:
    for text in VISIBLE:
        ItemValues(text, Decimal(1), tags=(text,)).check()
