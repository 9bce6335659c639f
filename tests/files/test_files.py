"""Stored files."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import re
import threading
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from graph.kit.auth import Scope
from graph.server.representations.content_disposition import disposition
from persistence import files
from persistence.kit.blobs import content_type as media
from persistence.kit.blobs import filenames
from persistence.kit.blobs import local_folder as folders
from persistence.kit.blobs.blobs import new_key, store
from persistence.kit.blobs.by_url import open_blobs
from persistence.kit.blobs.local_folder import LocalFolder

if TYPE_CHECKING:
    from tests.support.service import Service

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
FILES = "{ files { totalCount nodes { filename sizeBytes contentType sha256 url owner { username } } } }"
DELETE = (
    "mutation ($name: String!) { deleteFile(filename: $name) { __typename ... on DeletedFile { id filename } ... on NotFound { code } } }"
)


def bearer(token: str, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **headers}


async def put(service: Service, token: str, name: str, content: bytes, **headers: str) -> httpx.Response:
    return await service.http.post("/api/v2/files/upload", headers=bearer(token, **headers), files={"file": (name, content)})


async def get(service: Service, token: str, name: str, **headers: str) -> httpx.Response:
    return await service.http.get(f"/api/v2/files/download/{name}", headers=bearer(token, **headers))


def contents(service: Service) -> list[Path]:
    return sorted(path for path in service.folder.rglob("*") if path.is_file())


async def sweep(service: Service) -> int:
    return await files.sweep(service.database, open_blobs(service.settings.files_url), age=timedelta(0))


async def test_come_back_as_they_were_sent(service: Service) -> None:
    token = await service.sign_in()
    sent = await put(service, token, "photo.png", PNG)
    digest = hashlib.sha256(PNG).hexdigest()
    assert sent.status_code == 201
    assert sent.headers["location"] == sent.json()["url"] == "/api/v2/files/download/photo.png"
    received = await service.http.get(sent.json()["url"], headers=bearer(token))
    assert received.content == PNG
    assert received.headers["content-type"] == "image/png"
    assert received.headers["content-length"] == str(len(PNG))
    assert received.headers["etag"] == f'"{digest}"'
    assert received.headers["content-disposition"] == 'inline; filename="photo.png"'
    assert received.headers["x-content-type-options"] == "nosniff"
    listed = (await service.ask(FILES, token=token))["files"]
    assert listed == {
        "totalCount": 1,
        "nodes": [
            {
                "filename": "photo.png",
                "sizeBytes": len(PNG),
                "contentType": "image/png",
                "sha256": digest,
                "url": "/api/v2/files/download/photo.png",
                "owner": {"username": "ada"},
            }
        ],
    }


async def test_are_found_by_id_only_with_their_scope(service: Service) -> None:
    token = await service.sign_in()
    sent = await put(service, token, "a.txt", b"a")
    reader = await service.sign_in(Scope.ITEMS_READ, username="bob")
    query = "query ($id: ID!) { node(id: $id) { ... on StoredFile { filename } } }"
    assert await service.ask(query, {"id": sent.json()["id"]}, token=token) == {"node": {"filename": "a.txt"}}
    assert await service.ask(query, {"id": sent.json()["id"]}, token=reader) == {"node": None}
    assert await service.refused(FILES, token=reader) == "FORBIDDEN"
    assert await service.refused(FILES) == "UNAUTHENTICATED"


async def test_are_listed_page_by_page(service: Service) -> None:
    token = await service.sign_in()
    names = [f"{number}.txt" for number in range(5)]
    for name in names:
        await put(service, token, name, name.encode())
    found, after = list[str](), ""
    while after is not None:
        page = (await service.http.get(f"/api/v2/files/list?first=2{after and f'&after={after}'}", headers=bearer(token))).json()
        found += [file["filename"] for file in page["files"]]
        after = page["next"]
    assert found == names
    refused = await service.http.get("/api/v2/files/list?first=101", headers=bearer(token))
    assert refused.status_code == 400
    assert refused.json() == {
        "error": {"code": "BAD_USER_INPUT", "message": "first: must be between 0 and 100"},
        "path": "/api/v2/files/list",
    }


async def test_are_refused_without_the_scope(service: Service) -> None:
    writer = await service.sign_in()
    await put(service, writer, "a.txt", b"a")
    reader = await service.sign_in(Scope.FILES_READ, username="bob")
    nobody = await service.sign_in(Scope.ITEMS_READ, username="eve")
    refused = await put(service, reader, "b.txt", b"b")
    assert refused.status_code == 403
    assert refused.json()["error"] == {"code": "FORBIDDEN", "message": "Your token lacks files:write."}
    assert (await get(service, nobody, "a.txt")).status_code == 403
    assert (await service.http.get("/api/v2/files/download/a.txt")).status_code == 401
    assert (await service.http.get("/api/v2/files/list", headers=bearer("forged"))).status_code == 401
    assert await service.refused(DELETE, {"name": "a.txt"}, token=reader) == "FORBIDDEN"
    assert len(contents(service)) == 1


async def test_are_deleted_with_their_content(service: Service) -> None:
    token = await service.sign_in()
    sent = await put(service, token, "a.txt", b"a")
    deleted = await service.ask(DELETE, {"name": "a.txt"}, token=token)
    assert deleted == {"deleteFile": {"__typename": "DeletedFile", "id": sent.json()["id"], "filename": "a.txt"}}
    assert contents(service) == []
    assert (await get(service, token, "a.txt")).status_code == 404
    for name in ("a.txt", "../a.txt", "", "a\0"):
        assert await service.ask(DELETE, {"name": name}, token=token) == {"deleteFile": {"__typename": "NotFound", "code": "NOT_FOUND"}}
    assert (await put(service, token, "a.txt", b"new")).status_code == 201


@pytest.mark.parametrize(
    ("field", "status", "content_range", "body"),
    [
        ("bytes=0-0", 206, "bytes 0-0/10", b"0"),
        ("bytes=3-5", 206, "bytes 3-5/10", b"345"),
        ("bytes=7-", 206, "bytes 7-9/10", b"789"),
        ("bytes=7-99", 206, "bytes 7-9/10", b"789"),
        ("bytes=-3", 206, "bytes 7-9/10", b"789"),
        ("bytes=-99", 206, "bytes 0-9/10", b"0123456789"),
        (f"bytes=7-{'9' * 500}", 206, "bytes 7-9/10", b"789"),
        (f"bytes=-{'9' * 500}", 206, "bytes 0-9/10", b"0123456789"),
        (f"bytes={'9' * 500}-", 416, "bytes */10", None),
        (f"bytes=0-{'9' * 5_000}", 200, None, b"0123456789"),
        ("bytes=,3-5", 206, "bytes 3-5/10", b"345"),
        ("Bytes= 3-5 , ,", 206, "bytes 3-5/10", b"345"),
        ("bytes=,", 200, None, b"0123456789"),
        ("bytes=10-", 416, "bytes */10", None),
        ("bytes=-0", 416, "bytes */10", None),
        ("bytes=0-1,4-5", 200, None, b"0123456789"),
        ("bytes=5-3", 200, None, b"0123456789"),
        ("bytes=a-b", 200, None, b"0123456789"),
        ("items=0-1", 200, None, b"0123456789"),
    ],
)
async def test_are_read_in_part(service: Service, field: str, status: int, content_range: str | None, body: bytes | None) -> None:
    """RFC 9110, section 14."""
    token = await service.sign_in()
    await put(service, token, "ten.bin", b"0123456789")
    received = await get(service, token, "ten.bin", Range=field)
    assert (received.status_code, received.headers.get("content-range")) == (status, content_range)
    if body is not None:
        assert received.content == body
        assert received.headers["content-length"] == str(len(body))


async def test_are_not_sent_again_to_whoever_has_them(service: Service) -> None:
    token = await service.sign_in()
    await put(service, token, "ten.txt", b"0123456789")
    first = await get(service, token, "ten.txt")
    etag, moment = first.headers["etag"], first.headers["last-modified"]
    for field in (etag, f"W/{etag}", "*", f'"x", {etag}'):
        again = await get(service, token, "ten.txt", **{"If-None-Match": field})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert (await get(service, token, "ten.txt", **{"If-None-Match": '"x"'})).status_code == 200
    for field, status in ((etag, 206), (moment, 206), ('"x"', 200), (f"W/{etag}", 200)):
        assert (await get(service, token, "ten.txt", Range="bytes=1-2", **{"If-Range": field})).status_code == status
    head = await service.http.head("/api/v2/files/download/ten.txt", headers=bearer(token, **{"Accept-Encoding": "identity"}))
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "10", b"")


async def test_are_compressed_only_where_that_breaks_nothing(service: Service) -> None:
    token = await service.sign_in()
    await put(service, token, "long.txt", b"a" * 10_000)
    await put(service, token, "long.png", PNG + b"a" * 10_000)
    text = await get(service, token, "long.txt", **{"Accept-Encoding": "gzip"})
    assert (text.headers["content-encoding"], text.content) == ("gzip", b"a" * 10_000)
    assert text.headers["etag"].startswith('W/"')
    part = await get(service, token, "long.txt", **{"Accept-Encoding": "gzip", "Range": "bytes=0-4999"})
    assert (part.headers.get("content-encoding"), len(part.content)) == (None, 5_000)
    image = await get(service, token, "long.png", **{"Accept-Encoding": "gzip"})
    assert (image.headers.get("content-encoding"), image.headers["content-length"]) == (None, str(len(PNG) + 10_000))


async def test_break_off_when_their_content_is_gone(service: Service) -> None:
    """Half a file that looks whole would be worse."""
    token = await service.sign_in()
    await put(service, token, "large.bin", os.urandom(3 * 2**20))
    os.truncate(contents(service)[0], 2**20 + 5)
    with pytest.raises(httpx.RemoteProtocolError):
        await get(service, token, "large.bin")


@pytest.mark.parametrize("loss", ["gone", "empty", "a link", "a folder", "without its folder"])
async def test_are_not_found_when_their_content_is_lost(service: Service, loss: str) -> None:
    token = await service.sign_in()
    await put(service, token, "lost.bin", b"0123456789")
    path, message = contents(service)[0], "The content of this file is lost: delete the file and upload it again, or tell the operator."
    path.unlink()
    if loss == "empty":
        path.touch()
    elif loss == "a link":
        path.symlink_to("/etc/hostname")
    elif loss == "a folder":
        path.mkdir()
    elif loss == "without its folder":
        path.parent.rmdir()
    for headers in ({}, {"Range": "bytes=2-3"}, {"Range": "bytes=-1"}):
        lost = await get(service, token, "lost.bin", **headers)
        assert (lost.status_code, lost.json()) == (404, {"error": {"code": "NOT_FOUND", "message": message}, "path": lost.url.path})
    assert (await service.http.head("/api/v2/files/download/lost.bin", headers=bearer(token))).status_code == 404
    assert (await service.ask(FILES, token=token))["files"]["totalCount"] == 1
    assert (await service.ask(DELETE, {"name": "lost.bin"}, token=token))["deleteFile"]["__typename"] == "DeletedFile"


async def test_are_written_while_the_next_part_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    class Slow(io.FileIO):
        def write(self, part: Any) -> int:
            assert asked.wait(60)
            return super().write(part)

    def opened(path: Path, mode: str) -> Slow:
        return Slow(path, mode)

    async def parts() -> AsyncGenerator[bytes]:
        yield b"first "
        asked.set()
        yield b"second"

    monkeypatch.setattr(Path, "open", opened)
    written = await store(LocalFolder(tmp_path), parts(), most_bytes=100)
    assert (tmp_path / written.key).read_bytes() == b"first second"


async def test_leave_no_blob_without_a_row(service: Service) -> None:
    """What a crash leaves: a blob whose row was not written, and a write that was not finished."""
    token = await service.sign_in()
    await put(service, token, "kept.txt", b"kept")
    for name in (new_key(), f"{new_key()}.0123abcd"):
        path = service.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"left over")
    assert len(contents(service)) == 3
    assert await files.sweep(service.database, open_blobs(service.settings.files_url)) == 0
    assert len(contents(service)) == 3  # Too young to be judged.
    assert await sweep(service) == 1
    assert [path.read_bytes() for path in contents(service)] == [b"kept"]


async def test_ignore_what_else_stands_in_their_folder(service: Service, tmp_path: Path) -> None:
    token = await service.sign_in()
    await put(service, token, "kept.txt", b"kept")
    secret = tmp_path / "secret"
    secret.mkdir()
    pipe, link = service.folder / new_key(), service.folder / new_key()
    for path in (pipe, link):
        path.parent.mkdir(exist_ok=True)
    key = next(key for key in iter(new_key, "") if not (service.folder / key[:2]).exists())
    (secret / key[3:]).write_bytes(b"not ours")
    os.mkfifo(pipe)
    link.symlink_to(secret / key[3:])
    (service.folder / key[:2]).symlink_to(secret)
    assert await sweep(service) == 0
    assert (secret / key[3:]).read_bytes() == b"not ours"
    async with service.database.transaction() as work:
        row = (await files.ENTITY.by_id(work.session, [1])).get(1) or await files.by_filename(work.session, "kept.txt")
        assert row is not None
        row.blob_key = str(pipe.relative_to(service.folder))
    assert (await asyncio.wait_for(get(service, token, "kept.txt"), 5)).status_code == 404
    for path in (pipe, link, service.folder / key[:2]):
        path.unlink()


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("photo.png", None),
        ("naïve 🙂 (1).txt", None),
        ("a" * 251 + ".txt", None),
        ("constant.txt", None),
        ("..", "must not begin or end with a dot or a space"),
        (".env", "must not begin or end with a dot or a space"),
        ("a.txt.", "must not begin or end with a dot or a space"),
        ("a.txt ", "must not begin or end with a dot or a space"),
        (" ", "must not be blank"),
        ("../a", "must be a name, not a path: it must not contain slashes, backslashes or what looks like them"),
        ("a\\b", "must be a name, not a path: it must not contain slashes, backslashes or what looks like them"),
        ("a\u2215b", "must be a name, not a path: it must not contain slashes, backslashes or what looks like them"),
        ("a\uff0fb", "must be a name, not a path: it must not contain slashes, backslashes or what looks like them"),
        ("a\uff3cb", "must be a name, not a path: it must not contain slashes, backslashes or what looks like them"),
        ("\u2025", "must not begin or end with a dot or a space"),
        ("a\0b", "must not contain control characters or invisible ones"),
        ("a\nb", "must not contain control characters or invisible ones"),
        ("gpj\u202eexe.png", "must not contain control characters or invisible ones"),
        ("a\u200bb", "must not contain control characters or invisible ones"),
        ("a:b", 'must not contain any of " * : < > ? |'),
        ("CON", "must not be a name that Windows reserves for a device"),
        ("nul.txt", "must not be a name that Windows reserves for a device"),
        ("lpt1 .tar.gz", "must not be a name that Windows reserves for a device"),
        ("a" * 256, "must have at most 255 bytes, not 256"),
        ("é" * 128, "must have at most 255 bytes, not 256"),
        ("\ud800", "must be valid Unicode"),
    ],
)
def test_have_names_that_are_safe_everywhere(name: str, fault: str | None) -> None:
    assert filenames.filename_error(filenames.normalize(name)) == fault


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("a.png", PNG, "image/png"),
        ("a.PNG", PNG, "image/png"),
        ("a.png", b"<script>alert(1)</script>", "application/octet-stream"),
        ("a.jpg", PNG, "application/octet-stream"),
        ("a.webp", b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        ("a.txt", "naïve".encode()[:-1], "text/plain"),
        ("a.txt", "é".encode()[:1], "text/plain"),
        ("a.txt", b"MZ\x90\0\x03", "application/octet-stream"),
        ("a.html", b"<html>", "text/html"),
        ("a.exe", b"MZ", "application/octet-stream"),
        ("png", PNG, "image/png"),
        ("noextension", b"text", "application/octet-stream"),
        ("a.txt", b"", "text/plain"),
    ],
)
def test_are_what_name_and_content_agree_on(name: str, head: bytes, expected: str) -> None:
    assert media.content_type(name, head) == expected


@pytest.mark.parametrize(
    ("name", "content_type", "expected"),
    [
        ("a b.txt", "text/plain", 'attachment; filename="a b.txt"'),
        ("a.svg", "image/svg+xml", 'attachment; filename="a.svg"'),
        ("naïve.png", "image/png", "inline; filename=\"naive.png\"; filename*=UTF-8''na%C3%AFve.png"),
        ("日本.txt", "text/plain", "attachment; filename=\"file.txt\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.txt"),
        ("отчёт.pdf", "application/pdf", "attachment; filename=\"file.pdf\"; filename*=UTF-8''%D0%BE%D1%82%D1%87%D1%91%D1%82.pdf"),
        ("照.webp", "image/webp", "inline; filename=\"file.webp\"; filename*=UTF-8''%E7%85%A7.webp"),
        ("日 2026.csv", "text/csv", "attachment; filename=\"2026.csv\"; filename*=UTF-8''%E6%97%A5%202026.csv"),
        ("日本", "text/plain", "attachment; filename=\"file\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC"),
        ("日.本", "text/plain", "attachment; filename=\"file\"; filename*=UTF-8''%E6%97%A5.%E6%9C%AC"),
        (".é", "text/plain", "attachment; filename=\".e\"; filename*=UTF-8''.%C3%A9"),
        (".日", "text/plain", "attachment; filename=\"file\"; filename*=UTF-8''.%E6%97%A5"),
        ("日.tar.gz", "application/gzip", "attachment; filename=\"file.tar.gz\"; filename*=UTF-8''%E6%97%A5.tar.gz"),
        ("100%.txt", "text/plain", "attachment; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"),
        ('a"\r\nb', "text/plain", "attachment; filename=\"a___b\"; filename*=UTF-8''a%22%0D%0Ab"),
    ],
)
def test_are_offered_under_their_name(name: str, content_type: str, expected: str) -> None:
    """RFC 6266, RFC 8187."""
    assert disposition(name, content_type) == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/files", "must begin with file:/// or name a bucket: s3://bucket, gs://bucket, az://bucket"),
        ("file://host/files", "must name a folder from the root on, as in file:///var/lib/storegraph/files"),
        ("s3://bucket?colour=red", "Configuration key: 'colour' is not valid for store 'S3'."),
    ],
)
def test_need_a_place_that_can_be_one(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        open_blobs(url)


async def test_are_not_closed_while_they_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled in the middle of its sync, a file is closed and gone only when that has ended."""
    began, may_end, states = threading.Event(), threading.Event(), list[bool]()
    finish = folders._finish  # pyright: ignore[reportPrivateUsage] -- it is made slow

    def slow(file: Any, partial: Path, path: Path) -> None:
        began.set()
        may_end.wait(20)
        states.append(file.closed)
        finish(file, partial, path)

    async def parts() -> AsyncGenerator[bytes]:
        yield b"some"

    monkeypatch.setattr(folders, "_finish", slow)
    writing = asyncio.create_task(LocalFolder(tmp_path).write(new_key(), parts()))
    await asyncio.to_thread(began.wait, 20)
    writing.cancel()
    await asyncio.sleep(0.05)  # As long as it would take to close it.
    may_end.set()
    await asyncio.wait([writing])
    assert (writing.cancelled(), states) == (True, [False])
    assert await asyncio.to_thread(lambda: [path for path in tmp_path.rglob("*") if path.is_file()]) == []
