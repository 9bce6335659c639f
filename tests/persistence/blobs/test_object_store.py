"""Files in a bucket of S3, through the whole service …"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncGenerator, Generator
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import pytest
from moto.server import ThreadedMotoServer

from persistence import health_checks
from persistence.kit.blobs.by_url import open_blobs
from tests.conftest import settings_for
from tests.files.test_files import DELETE, FILES, bearer, get, put, sweep
from tests.files.test_uploads import BOUNDARY, part, raw, send
from tests.support.endpoints import LATE_SECONDS
from tests.support.servers.silent_network import silent_proxy
from tests.support.service import Service, running

if TYPE_CHECKING:
    from pathlib import Path

LARGE = os.urandom(11 * 2**20 + 3)  # Three parts.


def started(port: int = 0) -> ThreadedMotoServer:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    return server


def make_bucket(store: ThreadedMotoServer, name: str) -> None:
    httpx.put(f"{address(store)}/{name}").raise_for_status()


@pytest.fixture(scope="module")
def store() -> Generator[ThreadedMotoServer]:
    """An endpoint that speaks S3 over HTTP; credentials are where every client of S3 looks for them."""
    server = started()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "storegraph")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "storegraph")
        make_bucket(server, "storegraph")
        yield server
    server.stop()


def address(store: ThreadedMotoServer) -> str:
    host, port = store.get_host_and_port()
    return f"http://{host}:{port}"


@pytest.fixture(scope="module")
async def stored(store: ThreadedMotoServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Service]:
    url = f"s3://storegraph/files?region=eu-central-1&endpoint={address(store)}"
    settings = await settings_for("sqlite", tmp_path_factory.mktemp("bucket"), files_url=url)
    async with running(settings) as service:
        yield service


@pytest.fixture
async def service(stored: Service) -> AsyncGenerator[Service]:
    yield stored
    await stored.empty()
    await sweep(stored)


async def kept(service: Service) -> list[str]:
    """Keys of the objects in the bucket."""
    return [key async for key in open_blobs(service.settings.files_url).older_than(timedelta(0))]


async def test_come_back_whole_and_in_ranges_and_are_listed_and_deleted(service: Service) -> None:
    token, digest = await service.sign_in(), hashlib.sha256(LARGE).hexdigest()
    sent = await put(service, token, "large.bin", LARGE)
    assert (sent.status_code, sent.json()["sha256"], sent.json()["sizeBytes"]) == (201, digest, len(LARGE))
    whole = await get(service, token, "large.bin")
    assert (whole.content, whole.headers["etag"]) == (LARGE, f'"{digest}"')
    for asked, expected in ((f"5-{9 * 2**20}", LARGE[5 : 9 * 2**20 + 1]), ("-7", LARGE[-7:]), (f"{len(LARGE) - 2}-", LARGE[-2:])):
        received = await get(service, token, "large.bin", Range=f"bytes={asked}")
        assert (received.status_code, received.content) == (206, expected)
    assert (await get(service, token, "large.bin", Range=f"bytes={len(LARGE)}-")).status_code == 416
    assert (await get(service, token, "large.bin", **{"If-None-Match": f'"{digest}"'})).status_code == 304

    assert (await service.ask(FILES, token=token))["files"]["nodes"][0]["sha256"] == digest
    listed = (await service.http.get("/api/v2/files/list", headers=bearer(token))).json()["files"]
    assert [file["filename"] for file in listed] == ["large.bin"]
    assert len(await kept(service)) == 1

    await service.ask(DELETE, {"name": "large.bin"}, token=token)
    assert (await get(service, token, "large.bin")).status_code == 404
    assert await kept(service) == []


async def test_have_one_winner_of_a_name(service: Service) -> None:
    token = await service.sign_in()
    sent = await asyncio.gather(*(put(service, token, "same.bin", content) for content in (LARGE, b"small", b"other")))
    assert sorted(answer.status_code for answer in sent) == [201, 409, 409]
    winner = next(content for content, answer in zip((LARGE, b"small", b"other"), sent, strict=True) if answer.status_code == 201)
    assert (await get(service, token, "same.bin")).content == winner
    assert len(await kept(service)) == 1


async def test_are_not_there_if_their_upload_breaks_off(service: Service, store: ThreadedMotoServer) -> None:
    token = await service.sign_in()
    _, writer = await raw(service, token, part(LARGE, end=False), length=len(LARGE) * 2)
    uploads = f"{address(store)}/storegraph?uploads"
    async with httpx.AsyncClient() as client, asyncio.timeout(30):
        while b"<UploadId>" not in (await client.get(uploads)).content:  # noqa: ASYNC110 -- a store tells nobody
            await asyncio.sleep(0.02)
        writer.close()
        while b"<UploadId>" in (await client.get(uploads)).content:  # noqa: ASYNC110 -- the same
            await asyncio.sleep(0.02)
    assert (await get(service, token, "a.txt")).status_code == 404
    assert await kept(service) == []
    assert (await put(service, token, "a.txt", b"again")).status_code == 201


async def test_leave_the_service_degraded_while_their_bucket_is_away(
    service: Service, store: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_checks, "TROUBLE_SECONDS", 0.0)
    token = await service.sign_in()
    async with httpx.AsyncClient(base_url=address(store)) as client:
        (await client.delete("/storegraph")).raise_for_status()
        answer, sent = await service.http.get("/ready"), await put(service, token, "a.txt", b"a")
        (await client.put("/storegraph")).raise_for_status()
    assert (answer.status_code, answer.json()["status"], answer.json()["files"]) == (200, "degraded", False)
    assert (sent.status_code, sent.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert (await service.http.get("/ready")).json()["status"] == "ok"
    assert (await put(service, token, "a.txt", b"a")).status_code == 201


@pytest.mark.usefixtures("store")  # For its credentials.
async def test_are_refused_as_in_any_outage_while_their_store_is_stopped(tmp_path: Path) -> None:
    own = started()
    make_bucket(own, "elsewhere")
    settings = await settings_for("sqlite", tmp_path, files_url=f"s3://elsewhere?region=eu-central-1&endpoint={address(own)}")
    async with running(settings) as service:
        token = await service.sign_in()
        assert (await put(service, token, "kept.txt", b"kept")).status_code == 201
        await asyncio.to_thread(own.stop)
        for refused in (
            await put(service, token, "a.txt", b"a"),
            await put(service, token, "b.txt", LARGE),
            await get(service, token, "kept.txt"),
        ):
            assert (refused.status_code, refused.json()["error"]["code"], refused.headers["retry-after"]) == (
                503,
                "SERVICE_UNAVAILABLE",
                "1",
            )
        assert [file["filename"] for file in (await service.ask(FILES, token=token))["files"]["nodes"]] == ["kept.txt"]
        again = started(own.get_host_and_port()[1])
        assert (await put(service, token, "a.txt", b"a")).status_code == 201
        assert (await get(service, token, "kept.txt")).content == b"kept"
        await asyncio.to_thread(again.stop)


async def test_are_refused_in_time_while_the_store_is_silent(store: ThreadedMotoServer, tmp_path: Path) -> None:
    """It takes connections and answers nothing: up, down and away, within the deadline, and all goes on once it does."""
    _, port = store.get_host_and_port()
    async with silent_proxy(port) as proxy:
        url = f"s3://storegraph/files?region=eu-central-1&endpoint=http://127.0.0.1:{proxy.port}"
        limits = {"blob_timeout_seconds": 1.0, "operation_timeout_seconds": 3.0}
        settings = await settings_for("sqlite", tmp_path, files_url=url, **limits)
        async with running(settings) as service:
            token = await service.sign_in()
            assert (await put(service, token, "before.txt", b"here")).status_code == 201
            proxy.fall_silent()
            began = time.monotonic()
            answers = await asyncio.gather(
                put(service, token, "small.txt", b"some"),
                put(service, token, "large.bin", LARGE),
                get(service, token, "before.txt"),
            )
            assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [(503, "SERVICE_UNAVAILABLE")] * 3
            assert time.monotonic() - began < 3 + LATE_SECONDS
            assert (await service.ask(FILES, token=token))["files"]["nodes"] != []
            assert (await service.http.get("/ready")).json()["status"] == "degraded"
            assert await service.count("stored_files") == [1]
            proxy.speak()
            async with asyncio.timeout(20):
                while (await put(service, token, "small.txt", b"some")).status_code != 201:  # noqa: ASYNC110 -- nobody tells
                    await asyncio.sleep(0.05)
            assert (await get(service, token, "before.txt")).content == b"here"


async def test_may_come_as_slowly_as_their_client_sends_them(store: ThreadedMotoServer, tmp_path: Path) -> None:
    """The deadline is the service's, not the client's."""
    url = f"s3://storegraph/files?region=eu-central-1&endpoint={address(store)}"
    limits = {"blob_timeout_seconds": 1.5, "operation_timeout_seconds": 1.5}
    async with running(await settings_for("sqlite", tmp_path, files_url=url, **limits)) as service:
        token = await service.sign_in()
        head, tail = part(b"", end=False).removesuffix(b"\r\n"), part(b"")[-len(f"\r\n--{BOUNDARY}--\r\n") :]

        async def body() -> AsyncGenerator[bytes]:
            yield head
            for _ in range(4):
                await asyncio.sleep(0.4)  # Together longer than the deadline.
                yield b"slow"
            yield tail

        answer = await send(service, token, body())
        assert (answer.status_code, answer.json().get("sizeBytes")) == (201, 16)
