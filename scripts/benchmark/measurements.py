"""The cases of the comparison, one function each: it starts who takes part, measures, and judges by the targets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from random import Random
from typing import Any

import orjson

from scripts.benchmark import load, queries, rounds, servers, sockets, transfers
from scripts.benchmark.dataset import Dataset
from scripts.benchmark.queries import Case
from scripts.benchmark.report import Finding, Target, at_least, at_most
from scripts.benchmark.rounds import Figures, Pace
from scripts.benchmark.servers import BARE, CACHED, COMPILED, NODE, PLANNING, PRODUCT, PSQL, REST, STATIC, STOCK, Server

CPU = "server CPU, µs a request"
IDS = 5_000  # Different ones, asked for in turn.
PURCHASE = "mutation ($id: ID!) { purchaseItem(itemId: $id) { ... on Purchase { id total } } }"
LIST_ROWS = 5_000


def reads(ground: Dataset, pace: Pace) -> list[Finding]:
    place = ground.place
    with ExitStack() as running:
        start = running.enter_context
        who = [
            start(servers.product(place)),
            start(servers.python(REST, "rest", place)),
            start(servers.python(STOCK, "stock", place)),
            start(servers.javascript(NODE, "mercurius", place)),
            start(servers.compiled(place)),
            start(servers.python(BARE, "bare", place)),
        ]
        return [asyncio.run(_read(case, who, ground, pace)) for case in queries.READS]


def client_documents(ground: Dataset, pace: Pace) -> list[Finding]:
    """What bare asyncpg answers is the same without a count."""
    place, token = ground.place, ground.token()
    with ExitStack() as running:
        start = running.enter_context
        who = [
            start(servers.product(place)),
            start(servers.javascript(NODE, "mercurius", place)),
            start(servers.javascript(PLANNING, "postgraphile", place)),
            start(servers.compiled(place)),
            start(servers.python(BARE, "bare", place)),
        ]
        return [asyncio.run(_read(case, who, ground, pace, token=token)) for case in queries.CLIENTS]


def sqlite_reads(ground: Dataset, pace: Pace) -> list[Finding]:
    with ExitStack() as running:
        who = [
            running.enter_context(servers.product(ground.sqlite)),
            running.enter_context(servers.python(REST, "rest", ground.sqlite)),
        ]
        return [asyncio.run(_read(case, who, ground, pace, "SQLite: ")) for case in queries.READS]


async def _read(case: Case, who: Sequence[Server], ground: Dataset, pace: Pace, where: str = "", token: str = "") -> Finding:
    ids = Random(1).choices(range(1, ground.items - queries.PAGE), k=IDS)
    figures = await rounds.measured(await queries.verified(case, who, ids, token), who, pace)
    cpu = _cpu(figures)
    return Finding(case.name, where + case.title, CPU, cpu, _read_targets(case, cpu, sqlite=bool(where)), _pace(figures))


def _read_targets(case: Case, cpu: Mapping[str, float], *, sqlite: bool) -> list[Target]:
    ours, share = cpu[PRODUCT], 8 if case.name == "W3" and not sqlite else 6
    if case in queries.CLIENTS:
        beside = [at_most(f"≤ {name}", ours, cpu[name]) for name in (NODE, PLANNING, COMPILED)]
        return [*beside, at_most(f"≤ 1.5 × {BARE}", ours, cpu[BARE] * 1.5)]
    rest = at_most(f"≤ {REST} ÷ {share}", ours, cpu[REST] / share)
    if sqlite:
        return [rest]
    if case.name == "W3":
        return [rest, at_most(f"≤ half of {NODE}", ours, cpu[NODE] / 2), at_most(f"≤ {COMPILED}", ours, cpu[COMPILED])]
    others = [rest, at_most(f"≤ {NODE}", ours, cpu[NODE]), at_most(f"≤ {COMPILED}", ours, cpu[COMPILED])]
    return [*others, at_most(f"≤ 2 × {BARE}", ours, cpu[BARE] * 2)] if case.name == "W2" else others


def cached_page(ground: Dataset, pace: Pace, *, sqlite: bool = False) -> list[Finding]:
    place = ground.sqlite if sqlite else ground.place
    with ExitStack() as running:
        who = [
            running.enter_context(servers.product(place, cache=True, name=CACHED)),
            running.enter_context(servers.product(place)),
            running.enter_context(servers.python(STATIC, "bare", ground.place)),
        ]
        return [asyncio.run(_cached_page(who, pace, "SQLite: " if sqlite else ""))]


async def _cached_page(who: Sequence[Server], pace: Pace, where: str) -> Finding:
    page = queries.graphql(queries.OWNED, after=None)
    bodies = [await load.once(each.port, page) for each in who[:2]]
    if bodies[0] != bodies[1]:
        raise load.Broken("W4: the cache changes the answer")
    await load.once(who[2].port, load.put("/static", bodies[0]))
    requests = {CACHED: [page], PRODUCT: [page], STATIC: [load.get("/static")]}
    figures = await rounds.measured(requests, who, pace, check=lambda body: body == bodies[0])
    cpu = _cpu(figures)
    target = at_most(f"≤ 1.3 × {STATIC}", cpu[CACHED], cpu[STATIC] * 1.3)
    return Finding("W4", where + "one public page again and again", CPU, cpu, [target], _pace(figures))


def deliveries(ground: Dataset, pace: Pace) -> list[Finding]:
    token = ground.token()
    starts = (
        lambda: servers.product(ground.place),
        lambda: servers.python(STOCK, "stock", ground.place),
        lambda: servers.javascript(NODE, "mercurius", ground.place),
    )
    found: dict[str, sockets.Delivery] = {}
    for start in starts:
        with start() as who:
            found[who.name] = asyncio.run(sockets.delivered(who, pace, token))
    ours = found[PRODUCT]
    targets = [
        at_most("≤ 60 µs", ours.cpu_us, 60),
        at_least(f"above {NODE} in deliveries a second", ours.per_second, found[NODE].per_second),
        at_most("≤ 40 kB a socket", ours.socket_kb, 40),
    ]
    more = {
        name: f"{each.per_second:,.0f} a second, {each.socket_kb:.0f} kB a socket, {each.growth_mb:+.0f} MB after the burst"
        for name, each in found.items()
    }
    title = f"{pace.sockets} subscribers, {pace.events} events back to back"
    return [Finding("W5", title, "server CPU, µs a delivery", {name: each.cpu_us for name, each in found.items()}, targets, more)]


def purchases(ground: Dataset, pace: Pace) -> list[Finding]:
    token = ground.token()
    with servers.product(ground.place) as ours, servers.python(BARE, "bare", ground.place) as bare:
        return [asyncio.run(_purchases([ours, bare], ground, pace, token))]


async def _purchases(who: Sequence[Server], ground: Dataset, pace: Pace, token: str) -> Finding:
    ids = Random(2).choices(range(1, ground.items), k=IDS)
    requests = {
        PRODUCT: [_signed(PURCHASE, token, id=queries.item_id(id_)) for id_ in ids],
        BARE: [load.post("/purchases", orjson.dumps({"item": id_, "quantity": 1})) for id_ in ids],
    }
    figures = await rounds.measured(requests, who, pace, check=lambda body: b'"total":' in body)
    speed = {name: each.per_second for name, each in figures.items()}
    target = at_least(f"≥ half of {BARE}", speed[PRODUCT], speed[BARE] / 2)
    return Finding("W8", "purchases of random items, durable", "purchases a second", speed, [target], _pace(figures))


def files(ground: Dataset, pace: Pace) -> list[Finding]:
    header = {"Authorization": f"Bearer {ground.token()}"}
    with servers.product(ground.place) as ours, servers.python(REST, "rest", ground.place) as rest:

        async def both() -> list[Finding]:
            up = {
                PRODUCT: await transfers.uploaded(ours, "/api/v2/files/upload", pace.megabytes, **header),
                REST: await transfers.uploaded(rest, "/files", pace.megabytes),
            }
            down = {
                PRODUCT: await transfers.downloaded(ours, "/api/v2/files/download/big.bin", **header),
                REST: await transfers.downloaded(rest, "/files/rest.bin"),
            }
            return [_transfer(f"{pace.megabytes} MB up", up), _transfer(f"{pace.megabytes} MB down", down)]

        return asyncio.run(both())


def _transfer(title: str, found: Mapping[str, transfers.Transfer]) -> Finding:
    rate = {name: each.rate for name, each in found.items()}
    targets = [at_least(f"≥ {REST}", rate[PRODUCT], rate[REST]), at_most("+16 MB of memory", found[PRODUCT].memory_mb, 16)]
    return Finding("W7", title, "MB a second", rate, targets, {name: f"{each.memory_mb:+.0f} MB of memory" for name, each in found.items()})


def exports(ground: Dataset, pace: Pace, *, sqlite: bool = False) -> list[Finding]:
    place = ground.sqlite if sqlite else ground.place
    header = {"Authorization": f"Bearer {ground.token(place)}"}
    found: dict[str, transfers.Transfer] = {}
    with servers.product(place) as ours:
        found[PRODUCT] = asyncio.run(transfers.exported(ours, "/api/v2/stream/items.csv", _others(ground), **header))
    with servers.python(REST, "rest", place) as rest:
        found[REST] = asyncio.run(transfers.exported(rest, "/items.csv", [load.get("/items/1")]))
    if not sqlite:
        found[PSQL] = transfers.copied(place, ground.server.program("psql"))
    rate = {name: each.rate for name, each in found.items()}
    fast = (
        at_least(f"≥ {REST} × 6", rate[PRODUCT], rate[REST] * 6)
        if sqlite
        else at_least("≥ 0.7 × psql \\copy", rate[PRODUCT], rate[PSQL] * 0.7)
    )
    targets = [
        fast,
        at_most("+32 MB of memory", found[PRODUCT].memory_mb, 32),
        at_most("others' p99 ≤ 20 ms", found[PRODUCT].others_p99_ms, 20),
    ]
    more = {
        name: f"{each.memory_mb:+.0f} MB of memory, others' p99 {each.others_p99_ms:.0f} ms" for name, each in found.items() if name != PSQL
    }
    items = ground.items if sqlite else pace.big
    return [Finding("W6", f"{'SQLite: ' if sqlite else ''}CSV of {items:,} items", "MB a second", rate, targets, more)]


def _others(ground: Dataset) -> list[bytes]:
    return [queries.graphql(queries.ITEM, id=queries.item_id(id_)) for id_ in Random(3).choices(range(1, ground.items), k=500)]


def lists(ground: Dataset, pace: Pace) -> dict[int, float]:
    """CPU of lists by their rows, from pages and from a stream of LIST_ROWS."""
    header = {"Authorization": f"Bearer {ground.token()}"}
    with servers.product(ground.place, limits=False) as who:  # A stream may be asked for 60 times a minute.

        async def measured() -> dict[int, float]:
            cursor = await queries.cursors(who.port)
            starts = Random(4).choices(range(1, ground.items - LIST_ROWS), k=500)
            found: dict[int, float] = {}
            for rows in (10, 100):
                query = f"query ($after: String) {{ items(first: {rows}, after: $after) {{ nodes {{ {queries.FIELDS} }} }} }}"
                found[rows] = await _alone(who, [queries.graphql(query, after=cursor(start)) for start in starts], pace)
            return found | {LIST_ROWS: await _alone(who, [load.get(f"/api/v2/stream/items.json?limit={LIST_ROWS}", **header)], pace)}

        return asyncio.run(measured())


def growth(small: Mapping[int, float], big: Mapping[int, float], ground: Dataset, pace: Pace) -> Finding:
    values = {f"{rows:,} rows of {items:,}": cpu[rows] for items, cpu in ((ground.items, small), (pace.big, big)) for rows in cpu}
    worst = max(big[rows] / small[rows] for rows in small)
    return Finding(
        "L",
        "lists by their length, in a table and one ten times as long",
        CPU,
        values,
        [at_most("the same ± 25 % in both tables", worst, 1.25)],
    )


async def _alone(who: Server, requests: Sequence[bytes], pace: Pace) -> float:
    return (await rounds.measured({who.name: requests}, [who], pace))[who.name].cpu_us


def _signed(query: str, token: str, **variables: Any) -> bytes:
    return load.post("/graphql", orjson.dumps({"query": query, "variables": variables}), Authorization=f"Bearer {token}")


def _cpu(figures: Mapping[str, Figures]) -> dict[str, float]:
    return {name: each.cpu_us for name, each in figures.items()}


def _pace(figures: Mapping[str, Figures]) -> dict[str, str]:
    return {name: f"{each.per_second:,.0f} a second, p99 {each.p99_ms:.1f} ms" for name, each in figures.items()}
