"""Connects to the right one of several PostgreSQL hosts, as libpq does with `target_session_attrs`, though one of them may hang.

asyncpg asks one host after the other within one time-out, which a frozen first one uses up. Here the next is asked as well after a moment, and the one
that answered last goes first: a connection costs one attempt in good times, and none waits for a host that is silent.

When a new connection finds another host than the last one did, the older ones are of a host that is the right one no more: pools ask `is_current`, so
that not each of their connections has to find out by a time-out. Where only one host can be right, those at work are ended too: on a host that hangs
they would wait for their time-out, and what they say on one that does not know of its end must not count.

Of standbys one may be further than another. What one of them has replayed is promised to readers (`promise`), so another one takes its place once it has
replayed as much.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import asyncpg

HEAD_START_SECONDS = 0.3  # Of each host before the next one; a connection in one network takes some milliseconds.
CATCH_UP_SECONDS = 1.0  # For a standby that takes another one's place: they are some milliseconds apart where nothing is wrong.
PREFER_STANDBY = "prefer-standby"
ONE_HOST_ONLY = ("primary", "read-write")

# Bytes since the beginning of the log. A replica that was promoted has its own.
REPLAYED = (
    "SELECT (CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn(), '0/0') ELSE pg_current_wal_lsn() END - '0/0')::bigint"
)

Address = tuple[str, int]
Connection = Any  # asyncpg.Connection, which is generic for type checkers alone.


async def connect(*, host: Any = None, port: Any = None, **options: Any) -> Connection:
    """As `asyncpg.connect`; several hosts are a list, and so are their ports. Raises: what it raises, of the host that failed last."""
    if not isinstance(host, list):
        return await asyncpg.connect(host=host, port=port, **options)
    addresses: list[Address] = list(zip(host, port, strict=True))  # pyright: ignore[reportUnknownArgumentType]
    place = tuple(addresses), str(options.get("target_session_attrs"))
    if place[1] != PREFER_STANDBY:
        return await _first(place, options)
    return await _as_promised(await _standby_or_any(place, options))


async def _standby_or_any(place: HostSelection, options: dict[str, Any]) -> Connection:
    with suppress(OSError, asyncpg.PostgresError, asyncpg.InternalClientError):
        return await _first(place, options | {"target_session_attrs": "standby"})
    return await _first(place, options | {"target_session_attrs": "any"})


HostSelection = tuple[tuple[Address, ...], str]  # The hosts, and what is wanted of one.

_last: dict[HostSelection, Address] = {}  # As many as there are settings with several hosts: two.
_moves = Counter[HostSelection]()
_promised: dict[HostSelection, tuple[Address, int]] = {}
_connected: WeakKeyDictionary[Connection, tuple[HostSelection, Address]] = WeakKeyDictionary()


def is_current(connection: Connection) -> bool:
    """Whether its host is still the one that new connections go to."""
    place, address = _connected.get(connection, (None, None))
    return place is None or _last[place] == address


def moves() -> int:
    """How often another primary was found, which need not know all that the former one had acknowledged."""
    return sum(count for (_, attributes), count in _moves.items() if attributes in ONE_HOST_ONLY)


def standby_moves() -> int:
    """How often another host was found for reads, which need not have replayed what the former one had."""
    return _moves.total() - moves()


def promise(connection: Connection, position: int) -> None:
    """Readers were told that the host of this connection has replayed the log up to `position`, in bytes."""
    if (known := _connected.get(connection)) is not None:
        _promised[known[0]] = known[1], position


async def _as_promised(connection: Connection) -> Connection:
    place, address = _connected[connection]
    try:
        async with asyncio.timeout(CATCH_UP_SECONDS):
            while (owed := _owed(place, address)) and await connection.fetchval(REPLAYED) < owed:  # noqa: ASYNC110 -- a standby tells nobody
                await asyncio.sleep(CATCH_UP_SECONDS / 20)
    except BaseException:
        _promised.pop(place, None)  # Too far ahead, or of another history: whoever reads asks anew how far this host is.
        connection.terminate()
        raise
    return connection


def _owed(place: HostSelection, address: Address) -> int:
    promised, position = _promised.get(place, (address, 0))
    return 0 if promised == address else position


async def _first(place: HostSelection, options: dict[str, Any]) -> Connection:
    waiting = sorted(place[0], key=lambda address: address != _last.get(place))
    attempts: dict[asyncio.Task[Connection], Address] = {}
    error: BaseException = OSError("no host is given")
    try:
        while waiting or attempts:
            if waiting:
                address = waiting.pop(0)
                attempts[asyncio.create_task(asyncpg.connect(host=address[0], port=address[1], **options))] = address
            head_start = HEAD_START_SECONDS if waiting else None
            done, _ = await asyncio.wait(attempts, timeout=head_start, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                address = attempts.pop(attempt)
                if (failed := attempt.exception()) is None:
                    _found(place, address)
                    _connected[attempt.result()] = place, address
                    return attempt.result()
                error = failed
        raise error
    finally:
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_drop)


def _found(place: HostSelection, address: Address) -> None:
    former, _last[place] = _last.get(place, address), address
    if former == address:
        return
    _moves[place] += 1
    if place[1] not in ONE_HOST_ONLY:
        return
    for connection, known in list(_connected.items()):
        if known == (place, former):
            connection.terminate()


def _drop(attempt: asyncio.Task[Connection]) -> None:
    """One that succeeded all the same is not needed."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().terminate()
