"""What reads a client's text takes any text: it reads it, or refuses it as it says it does."""

from __future__ import annotations

import base64
import io
import json
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from graphql import GraphQLError
from hypothesis import given
from hypothesis import strategies as st

from graph.kit.errors import Refused
from graph.kit.global_ids import global_id, split
from graph.kit.scalars import SCALARS
from graph.server.asgi.compression import choose_coding
from graph.server.asgi.trusted_proxies import client_address, networks
from graph.server.auth.tokens import ALGORITHM, Tokens, bearer
from graph.server.graphql import requests
from graph.server.graphql.persisted_documents import BadManifest, read_manifest
from graph.server.graphql.subscriptions import messages
from graph.server.representations import conditional_requests, content_negotiation, ranges
from graph.server.representations.conditional_requests import Validators
from graph.server.representations.content_disposition import disposition
from graph.server.rest.multipart import FormFile
from persistence.items import file_import
from persistence.kit.blobs import filenames
from persistence.kit.database.database import Database
from persistence.kit.errors import InvalidInput
from persistence.kit.events import log as events
from persistence.kit.imports.file_rows import UnreadableFile
from persistence.kit.search import tokenizer
from tests.support.fuzz.http_requests import bodies, form_types, forms
from tests.support.fuzz.inputs import GLOBAL_IDS, SAMPLES, anything, plain, texts
from tests.support.fuzz.invariants import counted, fuzzed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

KEY = b"a-key-that-only-this-test-knows-0123"
PROXIES = networks(["127.0.0.0/8", "10.0.0.0/8"])
encoded = texts.map(lambda text: base64.urlsafe_b64encode(text.encode()).decode()) | st.tuples(texts, plain).map(
    lambda pair: base64.b64encode(f"{pair[0]}:{pair[1]}".encode()).decode()
)
fields = st.sampled_from(SAMPLES["field_values"]) | st.text(st.characters(max_codepoint=255), max_size=60)


@fuzzed(0.08)
@given(text=texts | encoded | st.sampled_from(GLOBAL_IDS))
def test_global_ids(text: str):
    counted()
    found = split(text)
    assert found is None or global_id(*found) == text


@fuzzed(0.06)
@given(text=texts | encoded)
def test_event_cursors(text: str):
    counted()
    with suppress(InvalidInput):
        assert events.cursor(*events.parse(text)) == text


@fuzzed(0.1)
@given(field=fields, more=fields)
def test_header_fields(field: str, more: str):
    counted()
    accepted = content_negotiation.negotiate(field)
    assert accepted.result in {None, content_negotiation.JSON, content_negotiation.GRAPHQL_RESPONSE}
    assert content_negotiation.is_json(field) in {True, False}
    for name in ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"):
        conditional = {name.encode(): field.encode("latin-1")}
        assert conditional_requests.evaluate("GET", conditional, Validators('"a"', datetime(2026, 1, 1, tzinfo=UTC))) in {None, 304, 412}
    assert conditional_requests.range_applies({b"if-range": b"x"}, Validators(field)) is False
    assert conditional_requests.http_date(field) is None or field.endswith(("GMT", *"0123456789"))
    assert choose_coding(field, ("br", "gzip")) in {"br", "gzip", "identity"}
    with suppress(ranges.UnsatisfiableRange):
        span = ranges.requested_range(field, 10)
        assert span is None or 0 <= span.start < span.end <= 10
    assert client_address("127.0.0.1", field, more, PROXIES)
    with suppress(Refused):
        assert bearer(field) != ""


@fuzzed(0.08)
@given(body=bodies, query=st.binary(max_size=60))
def test_requests(body: bytes, query: bytes):
    counted()
    with suppress(requests.Malformed):
        requests.from_json(requests.parse_json(body), body)
    with suppress(requests.Malformed):
        requests.from_query_string(query)
    with suppress(messages.Closed, requests.Malformed):
        messages.message(requests.parse_json(body.decode(errors="replace")), len(body)).request()


@fuzzed(0.04)
@given(
    content=bodies
    | anything.map(lambda value: json.dumps(value).encode())
    | anything.map(lambda operations: json.dumps({"format": "apollo-persisted-query-manifest", "operations": operations}).encode())
)
def test_manifests(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    counted()
    file = Path(tmp_path_factory.getbasetemp()) / "manifest.json"
    file.write_bytes(content)
    with suppress(BadManifest):
        assert all(isinstance(word, str) for pair in read_manifest(file).items() for word in pair)


@fuzzed(0.06)
@given(name=texts | st.text(st.characters(), max_size=300))
def test_filenames(name: str):
    counted()
    accepted = filenames.normalize(name)
    if filenames.filename_error(accepted) is None:
        assert not set(accepted) & set('/\\\0"\r\n')
        field = disposition(accepted, "image/png")
        assert field.encode("latin-1").decode() == field
        assert field.isprintable()


@fuzzed(0.08)
@given(
    content=st.lists(st.sampled_from(['"', ",", ";", "\n", "\r", "\r\n", "'", "=", "9.99", "Kettle", "\0", "é"]) | texts, max_size=30).map(
        "".join
    ),
    header=st.sampled_from(["name,price\n", "sep=;\r\nname;price;tags\r\n", "price\tname\r", "", '"']),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"]),
    cut=st.integers(0, 5),
)
def test_files_of_items(content: str, header: str, encoding: str, cut: int):
    counted()
    data = (header + content).encode(encoding, "replace")
    data = data[: len(data) - cut]
    for read in (file_import.from_csv, file_import.from_json_lines):
        with suppress(UnreadableFile):
            rows = list(read(io.BytesIO(data)))
            lines = [row.line for row in rows]
            assert lines == sorted(set(lines))
            assert all((row.content is None) == bool(row.fault) for row in rows)


@fuzzed(0.05)
@given(value=anything)
def test_scalars(value: Any):
    counted()
    for scalar in SCALARS.values():
        if scalar.parse_value:
            with suppress(GraphQLError):
                scalar.parse_value(value)


@fuzzed(0.04)
@given(text=texts)
def test_searches(text: str):
    counted()
    for word in tokenizer.words(text):
        assert not any(char.isspace() or (char.isascii() and not char.isalnum()) for char in word)
        assert len(word) <= tokenizer.WORD_LENGTH


@fuzzed(0.05)
@given(form=forms, kind=form_types, cuts=st.lists(st.integers(0, 300), max_size=4))
async def test_forms(form: bytes, kind: str, cuts: list[int]):
    counted()
    at = sorted({0, *cuts, len(form)})

    async def pieces() -> AsyncGenerator[bytes]:
        for start, end in pairwise(at):
            yield form[start:end]

    with suppress(Refused):
        file = FormFile(kind, pieces())
        assert await file.filename()
        assert all([len(part) <= len(form) async for part in file.parts()])


@fuzzed(0.04)
@given(
    claims=st.dictionaries(
        st.sampled_from(["sub", "scopes", "iat", "exp", "nbf", "jti", "iss", "aud", "typ", "sid"]), plain | st.lists(plain, max_size=2)
    ),
    right=st.sets(st.sampled_from(["sub", "scopes", "iat", "exp", "jti", "iss", "aud", "typ"])),
    kid=plain,
    text=texts,
)
def test_access_tokens(reader: Tokens, claims: dict[str, Any], right: set[str], kid: Any, text: str):
    counted()
    assert reader.read(text) is None
    good = {
        "sub": "1",
        "scopes": ["items:read"],
        "iat": 1,
        "exp": 2**40,
        "jti": "a",
        "iss": "storegraph",
        "aud": "storegraph",
        "typ": "access",
    }
    mixed = claims | {name: good[name] for name in right}
    headers = {"kid": kid} if isinstance(kid, str) else {}
    try:
        token = jwt.encode(mixed, KEY, ALGORITHM, headers=headers)
    except (TypeError, ValueError):
        return  # What the library does not write, it is not asked to read.
    found = reader.read(token)
    assert found is None or (found.user_id > 0 and set(good) <= set(mixed))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens(Database.connect(f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('tokens') / 'a.db'}"), KEY)
