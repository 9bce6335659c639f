"""W6 and W7: long answers and long bodies, read and written by a thread, so that the loop is free to ask other questions meanwhile."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scripts.benchmark import load
from scripts.benchmark.servers import Place, Server

PIECE = 256 * 1024
ROWS = "SELECT name, description, price_cents * 0.01, tags, inventory, id, created_at FROM items WHERE deleted_at IS NULL ORDER BY id"
BOUNDARY = "storegraph-bench"


@dataclass(frozen=True)
class Transfer:
    megabytes: float
    seconds: float
    memory_mb: float = 0.0
    """The most resident memory meanwhile, above that before."""
    others_p99_ms: float = 0.0
    """Of requests that others make meanwhile."""

    @property
    def rate(self) -> float:
        return self.megabytes / self.seconds


async def exported(who: Server, path: str, others: Sequence[bytes], **headers: str) -> Transfer:
    """A whole answer, while four other clients ask now and then."""
    await load.run(who.port, others, 0.3, connections=4, pause=0.02)
    before = who.memory
    who.forget_peak()
    reading = asyncio.create_task(asyncio.to_thread(_read, who.port, load.get(path, **headers)))
    waits: list[float] = []
    while not reading.done():
        waits += (await load.run(who.port, others, 0.2, connections=4, pause=0.02)).waits
    size, seconds = await reading
    return Transfer(size / 1e6, seconds, (who.peak - before) / 2**20, load.Load(1, waits).p99_ms)


def copied(place: Place, psql: Path) -> Transfer:
    began = time.perf_counter()
    command = f"\\copy ({ROWS}) TO STDOUT (FORMAT csv)"
    program = [str(psql), "--no-psqlrc", "--quiet", place.plain_url, "--command", command]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        size = sum(map(len, iter(partial(os.read, running.stdout.fileno(), PIECE), b"")))
    return Transfer(size / 1e6, time.perf_counter() - began)


async def uploaded(who: Server, path: str, megabytes: int, **headers: str) -> Transfer:
    before = who.memory
    who.forget_peak()
    seconds = await asyncio.to_thread(_write, who.port, path, megabytes, headers)
    return Transfer(megabytes * 2**20 / 1e6, seconds, (who.peak - before) / 2**20)


async def downloaded(who: Server, path: str, **headers: str) -> Transfer:
    before = who.memory
    who.forget_peak()
    size, seconds = await asyncio.to_thread(_read, who.port, load.get(path, **headers))
    return Transfer(size / 1e6, seconds, (who.peak - before) / 2**20)


def _read(port: int, request: bytes) -> tuple[int, float]:
    """How many bytes came back, and in how long. Raises: Broken."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        size, last, first = 0, b"", b""
        while piece := line.recv(PIECE):
            first = first or piece
            size, last = size + len(piece), piece
    if not first.startswith(b"HTTP/1.1 200") or (b"chunked" in first[:2_000].lower() and not last.endswith(b"0\r\n\r\n")):
        raise load.Broken(f"{request[:60]!r}: {first[:300]!r} … {last[-20:]!r}")
    return size, time.perf_counter() - began


def _write(port: int, path: str, megabytes: int, headers: dict[str, str]) -> float:
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\nContent-Type: application/octet-stream\r\n\r\n'
    )
    tail = f"\r\n--{BOUNDARY}--\r\n"
    fields = {
        "Host": "127.0.0.1",
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "Content-Length": str(len(head) + megabytes * 2**20 + len(tail)),
        "Connection": "close",
        **headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    piece, began = os.urandom(2**20), time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(f"POST {path} HTTP/1.1\r\n{lines}\r\n{head}".encode())
        for _ in range(megabytes):
            line.sendall(piece)
        line.sendall(tail.encode())
        answer = b"".join(iter(lambda: line.recv(PIECE), b""))
    if not answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
        raise load.Broken(answer[:600].decode(errors="replace"))
    return time.perf_counter() - began
