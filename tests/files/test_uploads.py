"""An upload, as hostile clients send it: one whole file, or a clear refusal and nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest

from graph.kit.auth import Scope
from graph.server.asgi import request_body
from graph.server.rest.multipart import PART_BYTES, FormFile
from tests.conftest import settings_for
from tests.support.service import running

if TYPE_CHECKING:
    from pathlib import Path

    from graph.server.settings import Settings
    from tests.support.service import Service

BOUNDARY = "a-boundary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
HINT = "send one part named file with a filename, as `curl -F file=@photo.png` does."
UPLOAD = "/api/v2/files/upload"


def part(content: bytes = b"content", disposition: str = 'form-data; name="file"; filename="a.txt"', *, end: bool = True) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
    return head + content + b"\r\n" + (f"--{BOUNDARY}--\r\n".encode() if end else b"")


async def send(service: Service, token: str, body: bytes | AsyncGenerator[bytes], kind: str = FORM, **headers: str) -> httpx.Response:
    return await service.http.post(UPLOAD, content=body, headers={"Authorization": f"Bearer {token}", "Content-Type": kind, **headers})


async def put(service: Service, token: str, name: str, content: bytes, **headers: str) -> httpx.Response:
    return await service.http.post(UPLOAD, files={"file": (name, content)}, headers={"Authorization": f"Bearer {token}", **headers})


async def raw(service: Service, token: str, *pieces: bytes, length: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    announced = f"Content-Length: {length}" if length else "Transfer-Encoding: chunked"
    writer.write(
        f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: {FORM}\r\n{announced}\r\n\r\n".encode()
    )
    for piece in pieces:
        writer.write(piece if length else b"%x\r\n%b\r\n" % (len(piece), piece))
    await writer.drain()
    return reader, writer


async def listed(service: Service, token: str) -> list[str]:
    answer = await service.http.get("/api/v2/files/list", headers={"Authorization": f"Bearer {token}"})
    return [file["filename"] for file in answer.json()["files"]]


def blobs(service: Service) -> list[str]:
    return [path.name for path in service.folder.rglob("*") if path.is_file()]


async def kept_nothing(service: Service, token: str) -> bool:
    return await listed(service, token) == [] and blobs(service) == []


@pytest.fixture
async def token(service: Service) -> str:
    return await service.sign_in(Scope.FILES_READ, Scope.FILES_WRITE)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", f"The form is empty or ends before its file: {HINT}"),
        (f"--{BOUNDARY}--\r\n".encode(), f"The form is empty or ends before its file: {HINT}"),
        (b"not a form at all", f"The form is empty or ends before its file: {HINT}"),
        (part()[:-20], f"The body ends within the form: {HINT}"),
        (part(end=False), f"The body ends within the form: {HINT}"),
        (part(end=False) + part(), f"There is more than one part named file: {HINT}"),
        (part(b"x", 'form-data; name="photo"; filename="a.txt"'), f"The form is empty or ends before its file: {HINT}"),
        (part(b"x", 'attachment; name="file"; filename="a.txt"'), f"The form is empty or ends before its file: {HINT}"),
        (part(b"x", "form-data; name=file; filename*=UTF-8''"), f"The filename* is not well formed: {HINT}"),
        (part(b"x", "form-data; name=file; filename*=UTF-8''%zz"), f"The filename* is not well formed: {HINT}"),
        (part(b"x", "form-data; name=file; filename*=a.txt"), f"The filename* is not well formed: {HINT}"),
        (part(b"x", "form-data; name=file; filename*=UTF-16''a.txt"), f"The filename* is not well formed: {HINT}"),
        (part(b"x", "form-data; name=file; filename*=UTF-8''%ff.txt"), f"The filename is not in UTF-8: {HINT}"),
        (
            part().replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"),
            f"The part has a Content-Transfer-Encoding, which forms have no more: {HINT}",
        ),
        (b"preamble\r\n" * 1_000 + part(), f"The form is not well formed: no boundary comes where it begins: {HINT}"),
        (part(b"x" * 70_000, 'form-data; name="text"', end=False) + part(), f"Beside the file, a form may have 65536 bytes: {HINT}"),
        (part(end=False) + part(b"x" * 70_000, 'form-data; name="text"'), f"Beside the file, a form may have 65536 bytes: {HINT}"),
        (part(b"", 'form-data; name="text"', end=False) * 100 + part(), f"A form may have 100 parts: {HINT}"),
        (f"--{BOUNDARY}x\r\n\r\n--{BOUNDARY}".encode(), f"The form is empty or ends before its file: {HINT}"),
        (part(b"x", 'form-data; name="file"'), f"The part has no filename: {HINT}"),
        (part(b"x", 'form-data; name="file"; filename=""'), f"The part has no filename: {HINT}"),
        (part(b"x", 'form-data; name="file"; filename="C:\\dir\\a.txt"'), f"The filename holds a quotation mark or a backslash: {HINT}"),
        (part(b"x", "form-data; name=file; filename==?utf-8?B?YQ==?=; filename*=x''a"), f"The filename* is not well formed: {HINT}"),
        (part().replace(b"a.txt", b"\xff.txt"), f"The filename is not in UTF-8: {HINT}"),
        (part(b"x", "form-data; " + "x" * 5_000), f"The form is not well formed: {HINT}"),
        (f"--{BOUNDARY}\r\n{'X: y' * 3}\r\n".encode() * 20, f"The form is not well formed: {HINT}"),
        (f"--{BOUNDARY}\r\n\r\nno headers\r\n--{BOUNDARY}--".encode(), f"The form is empty or ends before its file: {HINT}"),
    ],
)
async def test_is_refused_if_the_form_is_broken(service: Service, token: str, body: bytes, message: str) -> None:
    refused = await send(service, token, body)
    assert (refused.status_code, refused.json()) == (400, {"error": {"code": "BAD_USER_INPUT", "message": message}, "path": UPLOAD})
    assert await kept_nothing(service, token)


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/mixed; boundary=a-boundary", "application/x-www-form-urlencoded"])
async def test_is_refused_if_it_is_no_form(service: Service, token: str, kind: str) -> None:
    refused = await send(service, token, part(), kind)
    assert (refused.status_code, refused.json()["error"]["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert await kept_nothing(service, token)


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=", f"multipart/form-data; boundary={'x' * 300}"])
async def test_is_refused_without_a_boundary(service: Service, token: str, kind: str) -> None:
    assert (await send(service, token, part(), kind)).status_code == 400


async def test_is_refused_compressed(service: Service, token: str) -> None:
    """What a kilobyte unpacks to is not found out."""
    refused = await send(service, token, part(), **{"Content-Encoding": "gzip"})
    assert (refused.status_code, refused.headers["accept-encoding"]) == (415, "identity")
    assert await kept_nothing(service, token)


@pytest.mark.parametrize("name", ["..", "../a", ".env", "a/b", "CON", "nul.txt", "a\u202egpj.exe", "a:b", "x" * 256, "a\uff0fb"])
async def test_is_refused_under_a_name_that_is_not_safe(service: Service, token: str, name: str) -> None:
    refused = await send(service, token, part(disposition=f'form-data; name="file"; filename="{name}"').replace(b"\\", b""))
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "BAD_USER_INPUT")
    assert refused.json()["error"]["message"].startswith("filename: must ")
    assert await kept_nothing(service, token)


async def test_keeps_one_spelling_of_a_name(service: Service, token: str) -> None:
    assert (await put(service, token, "nai\u0308ve.txt", b"1")).json()["filename"] == "na\u00efve.txt"
    assert (await put(service, token, "na\u00efve.txt", b"2")).status_code == 409


async def test_takes_an_empty_file_and_a_boundary_within(service: Service, token: str) -> None:
    assert (await put(service, token, "empty.txt", b"")).json()["sizeBytes"] == 0
    tricky = f"\r\n--{BOUNDARY[:-1]}\r\n--\r\n--{BOUNDARY[:-1]}--".encode() * 1_000
    sent = await send(service, token, part(tricky))
    assert sent.json()["sha256"] == hashlib.sha256(tricky).hexdigest()


TEXT = part(b"a holiday", 'form-data; name="text"', end=False)
OTHER = part(b"not this", 'form-data; name="other"; filename="other.txt"', end=False)
FORMS = {
    "a preamble": b"This is a form.\r\nOf several lines -- and --a-bound\r\n" + part(),
    "a preamble with a line feed alone": b"This is a form.\n" + part(),
    "an empty line before it": b"\r\n" + part(),
    "blanks after the first boundary": part().replace(b"--a-boundary\r\n", b"--a-boundary \t \r\n", 1),
    "blanks after a boundary between": TEXT + part().replace(b"--a-boundary\r\n", b"--a-boundary\t\r\n", 1),
    "blanks after the last boundary": part()[:-2] + b" \t \r\n",
    "no line end after the last boundary": part()[:-2],
    "an epilogue": part() + b"The end.\r\n--a-boundary\r\nof the form",
    "a field before": TEXT + part(),
    "a field after": part(end=False) + TEXT + b"--a-boundary--\r\n",
    "fields around": TEXT + OTHER + part(end=False) + OTHER + TEXT + b"--a-boundary--\r\n",
    "many fields": TEXT * 99 + part(),
    "a transfer encoding that is none": part().replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: Binary\r\n\r\n"),
    "a part that says nothing": b"--a-boundary\r\n\r\nnothing\r\n" + part(),
    "a name that is no field": part(b"x", 'attachment; name="file"; filename="b.txt"', end=False) + part(),
    "all of it": b"preamble\r\n" + TEXT.replace(b"ary\r\n", b"ary  \r\n", 1) + part(end=False) + OTHER + b"--a-boundary-- \r\nepilogue",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("step", [1, 1_000_000])
async def test_finds_the_file_in_any_form(form: str, step: int) -> None:
    body = FORMS[form]

    async def pieces() -> AsyncGenerator[bytes]:
        for place in range(0, len(body), step):
            yield body[place : place + step]

    reader = FormFile(FORM, pieces())
    assert await reader.filename() == "a.txt"
    assert b"".join([each async for each in reader.parts()]) == b"content"


async def test_takes_a_form_with_all_that_it_may_have(service: Service, token: str) -> None:
    sent = await send(service, token, FORMS["all of it"])
    assert (sent.status_code, sent.json()["filename"], sent.json()["sizeBytes"]) == (201, "a.txt", 7)


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("form-data; name=\"file\"; filename*=UTF-8''na%C3%AFve%20%E2%82%AC.txt", "naïve €.txt"),
        ("form-data; name=file; filename*=utf-8'de'na%c3%afve.txt", "naïve.txt"),
        ("form-data; name=file; FileName*=ISO-8859-1''na%EFve.txt", "naïve.txt"),
        ("form-data; filename*=UTF-8''a.txt; name=file", "a.txt"),
        ('form-data; name="file"; filename*="UTF-8\'\'a.txt"', "a.txt"),
        ('form-data; name="file"; filename="plain.txt"; filename*=UTF-8\'\'other.txt', "plain.txt"),
        ("form-data; name=file; filename=plain.txt", "plain.txt"),
        ("form-data; name=file; filename=plain.txt; filename*=koi8-r''%c1.txt", "plain.txt"),
        # As .NET sends every name, and one beyond ASCII.
        ("form-data; name=file; filename=a.txt; filename*=utf-8''a.txt", "a.txt"),
        ("form-data; name=file; filename=\"=?utf-8?B?w6kudHh0?=\"; filename*=utf-8''%C3%A9.txt", "é.txt"),
        ("form-data; name=file; filename*=utf-8''%C3%A9.txt; filename==?utf-8?B?w6kudHh0?=", "é.txt"),
    ],
)
async def test_takes_a_name_that_is_plain_or_extended(service: Service, token: str, disposition: str, name: str) -> None:
    """RFC 8187; RFC 7578, section 4.2, has the plain one count where there are both."""
    sent = await send(service, token, part(b"x", disposition))
    assert (sent.status_code, sent.json().get("filename")) == (201, name)


async def test_comes_in_any_pieces(service: Service, token: str) -> None:
    content = os.urandom(3_000)

    async def bytewise() -> AsyncGenerator[bytes]:
        whole = part(content)
        for place in range(0, len(whole), 7):
            yield whole[place : place + 7]

    sent = await send(service, token, bytewise())
    assert (sent.status_code, sent.json()["sha256"]) == (201, hashlib.sha256(content).hexdigest())


async def test_is_handed_on_before_small_pieces_take_much_memory() -> None:
    content = os.urandom(80_000)

    async def pairs() -> AsyncGenerator[bytes]:
        whole = part(content)
        for place in range(0, len(whole), 2):
            yield whole[place : place + 2]

    form = FormFile(FORM, pairs())
    await form.filename()
    handed_on = [each async for each in form.parts()]
    assert b"".join(handed_on) == content
    assert max(map(len, handed_on)) <= PART_BYTES / 25


async def test_is_cut_off_where_it_is_too_large(tmp_path: Path) -> None:
    """Announced, before anything is read; unannounced, within a mebibyte of the first byte too many."""
    settings = await settings_for("sqlite", tmp_path, max_upload_bytes=100_000)
    async with running(settings) as service:
        token = await service.sign_in()
        message = "The file is larger than 100000 bytes, the most that is taken."
        announced = await put(service, token, "a.bin", bytes(10_000_000))
        assert (announced.status_code, announced.json()["error"]) == (413, {"code": "TOO_LARGE", "message": message})
        reader, writer = await raw(service, token, part(bytes(2 * 2**20), end=False))
        unannounced = await reader.readuntil(b"}")
        assert unannounced.startswith(b"HTTP/1.1 413 ")
        assert message.encode() in unannounced
        writer.close()
        assert await kept_nothing(service, token)
        assert (await put(service, token, "a.bin", bytes(100_000))).status_code == 201
        assert (await put(service, token, "b.bin", bytes(100_001))).status_code == 413


async def test_is_given_up_if_nothing_comes(service: Service, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "SILENT_SECONDS", 0.2)
    reader, writer = await raw(service, token, part(b"half", end=False), length=10_000)
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["error"] == {"code": "TOO_SLOW", "message": "Nothing came for 0.2 seconds."}
    writer.close()
    assert await kept_nothing(service, token)


async def test_is_given_up_if_it_trickles(service: Service, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(request_body, "LEAST_RATE", 10**12)
    refused = await put(service, token, "a.bin", bytes(200_000))
    assert (refused.status_code, refused.json()["error"]["code"]) == (408, "TOO_SLOW")
    assert await kept_nothing(service, token)


async def test_leaves_nothing_of_a_client_that_vanishes(service: Service, token: str) -> None:
    _, writer = await raw(service, token, part(bytes(3 * 2**20), end=False), length=10_000_000)
    async with asyncio.timeout(10):
        while not blobs(service):  # noqa: ASYNC110 -- the service has no bell for a file that is not there yet
            await asyncio.sleep(0.01)
    assert await listed(service, token) == []
    writer.close()
    async with asyncio.timeout(10):
        while blobs(service):  # noqa: ASYNC110 -- as above
            await asyncio.sleep(0.01)


async def test_has_one_winner_of_a_name(service: Service, token: str) -> None:
    contents = [bytes([number]) * 300_000 for number in range(6)]
    answers = await asyncio.gather(*(put(service, token, "same.bin", content) for content in contents))
    won = [number for number, answer in enumerate(answers) if answer.status_code == 201]
    assert len(won) == 1
    assert {answer.json()["error"]["code"] for answer in answers if answer.status_code != 201} == {"FILENAME_TAKEN"}
    assert {answer.status_code for answer in answers} == {201, 409}
    received = await service.http.get("/api/v2/files/download/same.bin", headers={"Authorization": f"Bearer {token}"})
    assert received.content == contents[won[0]]
    assert len(blobs(service)) == 1


async def test_is_done_once_under_a_key(service: Service, token: str) -> None:
    first = await put(service, token, "a.txt", b"content", **{"Idempotency-Key": "k"})
    again = await put(service, token, "a.txt", b"content", **{"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert (first.headers.get("idempotency-replayed"), again.headers["idempotency-replayed"]) == (None, "true")
    assert again.json() == first.json()
    other = await put(service, token, "a.txt", b"other", **{"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert (await put(service, token, "a.txt", b"content", **{"Idempotency-Key": "new"})).status_code == 409
    assert (await put(service, token, "b.txt", b"content", **{"Idempotency-Key": "x" * 256})).status_code == 400
    assert len(blobs(service)) == 1


@contextmanager
def files_up_to(size_bytes: int) -> Generator[None]:
    """Whoever writes more to one file gets EFBIG: the nearest thing to a full disk that needs no root."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_says_when_the_disk_is_full(service: Service, token: str) -> None:
    with files_up_to(512 * 2**20 if service.database.dialect == "sqlite" else 2**20):
        limit = 2**20
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        refused = await put(service, token, "a.bin", bytes(3 * 2**20))
    assert (refused.status_code, refused.json()["error"]["code"]) == (507, "STORAGE_FULL")
    assert await kept_nothing(service, token)
    assert (await put(service, token, "a.bin", b"small")).status_code == 201


@pytest.mark.parametrize("scopes", [(), (Scope.FILES_READ,)])
async def test_is_refused_to_whoever_may_not_before_it_is_read(service: Service, token: str, scopes: tuple[Scope, ...]) -> None:
    other: Any = await service.sign_in(*scopes, username="bob") if scopes else "forged"
    refused = await put(service, other, "a.bin", bytes(20 * 2**20))
    assert refused.status_code == (403 if scopes else 401)
    assert await kept_nothing(service, token)


async def test_is_limited_for_each_caller(tmp_path: Path) -> None:
    settings = await settings_for("postgresql", tmp_path, rate_limits_enabled=True)
    async with running(settings) as service:
        ada, bob = await service.sign_in(), await service.sign_in(username="bob")
        answers = [await service.http.get("/api/v2/files/list", headers={"Authorization": f"Bearer {ada}"}) for _ in range(121)]
        assert [answer.status_code for answer in answers] == [200] * 120 + [429]
        assert answers[-1].json()["error"]["code"] == "RATE_LIMITED"
        assert 0 < int(answers[-1].headers["retry-after"]) <= 60
        assert await listed(service, bob) == []


async def with_quota(backend: str, folder: Path, **more: Any) -> Settings:
    return await settings_for(backend, folder, upload_quota_bytes=100_000, **more)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_is_refused_beyond_what_its_user_may_store(backend: str, tmp_path: Path) -> None:
    async with running(await with_quota(backend, tmp_path)) as service:
        token, other = await service.sign_in(), await service.sign_in(username="bob")
        assert (await put(service, token, "a.bin", bytes(60_000))).status_code == 201
        message = "You may store 100000 bytes and there is room for 40000 more: this file is larger. Delete some of your files first."
        refusal = {"error": {"code": "QUOTA_EXCEEDED", "message": message}, "path": UPLOAD}
        announced = await put(service, token, "b.bin", bytes(300_000))
        unannounced = await send(service, token, chunked(part(bytes(40_001))))
        keyed = await put(service, token, "b.bin", bytes(40_001), **{"Idempotency-Key": "k"})
        for refused in (announced, unannounced, keyed):
            assert (refused.status_code, refused.json()) == (413, refusal)
        assert (await listed(service, token), len(blobs(service))) == (["a.bin"], 1)
        assert (await put(service, other, "bobs.bin", bytes(100_000))).status_code == 201
        assert (await put(service, token, "b.bin", bytes(40_000), **{"Idempotency-Key": "k"})).status_code == 201
        # The same request once more takes no room; an empty file takes none either.
        again = await put(service, token, "b.bin", bytes(40_000), **{"Idempotency-Key": "k"})
        assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
        assert (await put(service, token, "empty.bin", b"")).status_code == 201
        assert (await put(service, token, "c.bin", b"x")).status_code == 413
        await service.ask('mutation { deleteFile(filename: "a.bin") { __typename } }', token=token)
        assert (await put(service, token, "c.bin", bytes(60_000))).status_code == 201


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_is_counted_with_those_that_come_at_the_same_time(backend: str, tmp_path: Path) -> None:
    """Also with those that another process takes."""
    settings = await with_quota(backend, tmp_path)
    async with running(settings) as service, running(settings) as second:
        token = await service.sign_in()
        answers = await asyncio.gather(
            *(put((service, second)[number % 2], token, f"{number}.bin", bytes(30_000)) for number in range(12)),
        )
        assert sorted(answer.status_code for answer in answers) == [201] * 3 + [413] * 9
        assert {answer.json()["error"]["code"] for answer in answers if answer.status_code == 413} == {"QUOTA_EXCEEDED"}
        assert (len(await listed(service, token)), len(blobs(service))) == (3, 3)


async def chunked(body: bytes) -> AsyncGenerator[bytes]:
    """A body that does not say how long it is."""
    yield body
