"""What real clients' documents cost, beside what the plain page and the item let expect: `.venv/bin/python -m scripts.benchmark.corpus`.

The model is taken in the same run: `base + unit * objects in the answer`, where the item by id is the base and the plain page of 50 gives the unit.
Printed is the processor time of the server for one request, and its ratio to the model; the response cache is off.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson

from scripts.benchmark import load
from scripts.benchmark.dataset import Dataset, created
from scripts.benchmark.servers import ROOT, Place, Server, product

CORPUS = ROOT / "tests" / "corpus.graphql"
ITEMS = 20_000
ROUNDS = 6  # Each document once in every round. Its least counts: what else the machine does can only add to it.
BASE, PAGE, PAGE_OBJECTS = "item-by-id", "plain-page", 50
AROUND = ("nodes", "edges", "pageInfo", "totalCount", "node", "cursor", "hasNextPage", "hasPreviousPage", "endCursor", "startCursor")


@dataclass(frozen=True)
class Document:
    name: str
    variables: Mapping[str, Any]
    query: str

    def filled(self, names: Mapping[str, str]) -> dict[str, Any]:
        """The variables with ids and cursors in the place of their names."""
        return {key: _filled(value, names) for key, value in self.variables.items()}


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_filled(each, names) for each in value]  # pyright: ignore[reportUnknownVariableType] -- of JSON
    return names.get(value, value) if isinstance(value, str) else value


def documents(file: Path = CORPUS) -> Sequence[Document]:
    parts = [part.split("\n", 1) for part in file.read_text().split("\n### ")[1:]]
    return [Document(head.split(" ", 1)[0], json.loads(head.split(" ", 1)[1]), query) for head, query in parts]


def objects(data: Any) -> int:
    """How many objects an answer has, without connections, edges and page infos."""
    if isinstance(data, list):
        return sum(objects(each) for each in data)  # pyright: ignore[reportUnknownVariableType] -- of JSON
    if not isinstance(data, dict):
        return 0
    inside = sum(objects(each) for each in data.values())  # pyright: ignore[reportUnknownVariableType]
    return inside + (not any(name in data for name in AROUND))


@dataclass(frozen=True)
class Figure:
    name: str
    microseconds: float
    objects: int


async def measured(server: Server, token: str, names: Mapping[str, str], seconds: float, only: str) -> Sequence[Figure]:
    selected = [each for each in documents() if only in each.name or each.name in {BASE, PAGE}]
    requests = {each.name: _request(each, token, names) for each in selected}
    counts = {name: await _objects(server, name, request) for name, request in requests.items()}
    least = dict.fromkeys(requests, math.inf)
    for _ in range(ROUNDS):
        for name, request in requests.items():
            least[name] = min(least[name], await _window(server, request, seconds / ROUNDS))
    return [Figure(name, microseconds, counts[name]) for name, microseconds in least.items()]


def _request(document: Document, token: str, names: Mapping[str, str]) -> bytes:
    body = orjson.dumps({"query": document.query, "variables": document.filled(names)})
    return load.post("/graphql", body, Authorization=f"Bearer {token}")


async def _objects(server: Server, name: str, request: bytes) -> int:
    """How many the answer has. Raises: Broken, for one with an error."""
    answer = orjson.loads(await load.once(server.port, request))
    if "errors" in answer:
        raise load.Broken(f"{name}: {answer['errors']}")
    return sum(objects(each) for each in answer["data"].values())  # The data's root is no object of an entity.


async def _window(server: Server, request: bytes, seconds: float) -> float:
    """Processor time for one request, in microseconds."""
    before = server.cpu_seconds
    done = await load.run(server.port, [request], seconds)
    return (server.cpu_seconds - before) / len(done.waits) * 1e6


def lines(figures: Sequence[Figure]) -> Generator[str]:
    by_name = {figure.name: figure.microseconds for figure in figures}
    unit = (by_name[PAGE] - by_name[BASE]) / (PAGE_OBJECTS - 1)
    base = by_name[BASE] - unit
    yield f"model: {base:.0f} µs + {unit:.1f} µs for each object"
    for figure in figures:
        ratio = figure.microseconds / (base + unit * figure.objects)
        yield f"{figure.name:28} {figure.microseconds:8.0f} µs {figure.objects:4} objects  {ratio:5.2f} {'!' if ratio > 1.75 else ''}"


async def prepared(server: Server, token: str) -> dict[str, str]:
    """The names in the corpus, once there are purchases and files to show."""
    item, other = _global_id("Item", 1), _global_id("Item", 2)
    headers = {"Authorization": f"Bearer {token}"}
    buy = orjson.dumps({"query": "mutation ($id: ID!) { purchaseItem(itemId: $id) { ... on Purchase { id } } }", "variables": {"id": item}})
    bought = [orjson.loads(await load.once(server.port, load.post("/graphql", buy, **headers))) for _ in range(12)]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", headers=headers) as client:
        for number in range(20):
            (await client.post("/api/v2/files/upload", files={"file": (f"file-{number}.txt", b"text")})).raise_for_status()
    query = "{ me { id username } files(first: 1) { nodes { id } } items(first: 50) { pageInfo { endCursor } } }"
    seen = orjson.loads(await load.once(server.port, load.post("/graphql", orjson.dumps({"query": query}), **headers)))["data"]
    return {
        "ITEM": item,
        "OTHER": other,
        "GONE": _global_id("Item", 10**9),
        "USERNAME": seen["me"]["username"],
        "USER": seen["me"]["id"],
        "PURCHASE": bought[0]["data"]["purchaseItem"]["id"],
        "FILE": seen["files"]["nodes"][0]["id"],
        "AFTER": seen["items"]["pageInfo"]["endCursor"],
    }


def _global_id(kind: str, id_: int) -> str:
    return base64.b64encode(f"{kind}:{id_}".encode()).decode()


def report(title: str, place: Place, dataset: Dataset, seconds: float, only: str) -> None:
    token = dataset.token(place)

    async def run(server: Server) -> Sequence[Figure]:
        return await measured(server, token, await prepared(server, token), seconds, only)

    with product(place, limits=False) as server:
        figures = asyncio.run(run(server))
    print("\n".join([f"\n{title}", *lines(figures)]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each document is measured")
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--only", default="", help="documents whose name holds this")
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), action="append")
    supplied = parser.parse_args()
    engines = supplied.engine or ["sqlite", "postgresql"]
    with created(supplied.items) as dataset:
        if "sqlite" in engines:
            dataset.lay_sqlite()
            report("SQLite", dataset.sqlite, dataset, supplied.seconds, supplied.only)
        if "postgresql" in engines:
            report("PostgreSQL", dataset.place, dataset, supplied.seconds, supplied.only)


if __name__ == "__main__":
    main()
