"""Throttles password guessing: wrong passwords delay the next attempt, and the right password is always accepted.

A limit that refuses is a way to lock others out: anybody can send wrong passwords for anybody's name. So failures only buy a delay, which grows with
their number: for one name from one network, for one network, and for one name from anywhere. The last two pass over a network from which that name
signed in lately, as its owner's other failures are not likely to be there. Successes count nothing, however many come at once: attempts of one name
from one network, and of one network, are tried a few at a time, so that failures side by side cannot outrun the count, nor one network fill the line
in which passwords wait to be hashed.
Source: OWASP, "Slow Down Online Guessing Attacks with Device Cookies".
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from redis.asyncio import Redis

from persistence.kit.errors import TooManyAttempts
from persistence.kit.limits.token_bucket import Budget, LocalTokenBucket, SharedTokenBucket, TokenBucket
from persistence.kit.redis.circuit_breaker import CircuitBreaker
from persistence.kit.redis.client import delete_matching

T = TypeVar("T")

PAIR_AT_ONCE = 4  # Attempts of one name from one network.
NETWORK_AT_ONCE = 8  # Of one network, but those of names that signed in from there: an eighth of the line for hashes.
WAITING = 2_000  # Attempts in one process, waiting or at work; each takes some 5 kB with its request.
NETWORK_WAITING = 500  # Of them, from one network.
FIRST_SECONDS = 0.1
DOUBLED_BY = 25  # Failures.
MOST_SECONDS = 4.0  # One name from one network: 900 guesses an hour; less than clients and the deadline of an operation wait.
LINE_SECONDS = 8.0  # Who would wait longer behind attempts of the same network is refused at once.
KNOWN_PAIRS = 50_000  # Of a name and a network, of which this process remembers that they belong together: 8 MB.
KNOWN_SECONDS = 30 * 86_400  # And Redis for so long.
PREFIX = "storegraph:signed-in:"


@dataclass(frozen=True)
class Allowance:
    """How many failures cost no delay, and how many are counted at most; they are forgotten one by one."""

    free: int
    counted: Budget

    def delay_seconds(self, failures: float) -> float:
        over = failures - self.free
        return 0.0 if over < 0 else min(MOST_SECONDS, FIRST_SECONDS * 2 ** (over / DOUBLED_BY))


# A person tries a handful of passwords, a household or an office sits behind one address, and a name is tried from few.
PAIR = Allowance(20, Budget(capacity=200, per_second=100 / 3_600))
NETWORK = Allowance(150, Budget(capacity=400, per_second=900 / 3_600))
NAME = Allowance(100, Budget(capacity=300, per_second=100 / 3_600))


@dataclass
class _Lane:
    """Lets a few through at a time."""

    width: int
    inside: int = 0
    places: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.places = asyncio.Semaphore(self.width)


class GuessThrottle:
    """Shared through Redis where there is one; while it is away each process counts for itself."""

    def __init__(self, redis: Redis | None, *, enabled: bool, sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep) -> None:
        self._redis: Any = redis
        self._enabled, self._sleep = enabled, sleep
        self._pairs, self._networks, self._names = (_counts(redis, allowance) for allowance in (PAIR, NETWORK, NAME))
        self._known: OrderedDict[str, None] = OrderedDict()
        self._queues: dict[str, _Lane] = {}
        self._in_progress = Counter[str]()
        self.breaker = CircuitBreaker("sign-ins", redis or self)

    async def attempt(self, network: str, name: str, check: Callable[[], Awaitable[T]], failure: type[Exception]) -> T:
        """What `check` returns, or the `failure` that it raises, which is counted.

        Raises: TooManyAttempts, behind too many attempts of the same network; TimeoutError, if too many wait in this process.
        """
        if not self._enabled:
            return await check()
        attempt = _Attempt.of(network, name)
        with self._waiting(attempt.network):
            self._check_line(attempt.pair, await self._delay(attempt), 1)
            async with self._lane(attempt.pair, PAIR_AT_ONCE), self._lane_of_network(attempt):
                result = await self._held_up(attempt, check, failure)
        await self._remember(attempt.pair)
        return result

    async def forget(self, name_key: str) -> None:
        """What is known of a name's sign-ins, here and in Redis. Raises: what redis-py raises, as something must not stay."""
        for pair in [pair for pair in self._known if pair.startswith(name_key)]:
            del self._known[pair]
        if self._redis is not None:
            await delete_matching(self._redis, f"storegraph:*{name_key}*")

    @asynccontextmanager
    async def place(self, network: str) -> AsyncGenerator[None]:
        """For other work with passwords, such as a sign-up: one network cannot take the threads from all. Raises: as `attempt`."""
        if not self._enabled:
            yield
            return
        key = _digest("network", network)
        with self._waiting(key):
            async with self._lane(key, NETWORK_AT_ONCE):
                yield

    async def _held_up(self, attempt: _Attempt, check: Callable[[], Awaitable[T]], failure: type[Exception]) -> T:
        """Those of one name and network wait for their delays one after the other."""
        if delay := await self._delay(attempt):
            self._check_line(attempt.pair, delay, 1)
            self._check_line(attempt.network, delay, NETWORK_AT_ONCE)
            async with self._lane(f"delayed {attempt.pair}", 1):
                await self._sleep(delay)
        try:
            return await check()
        except failure:
            await self._count(attempt)
            raise

    @asynccontextmanager
    async def _lane_of_network(self, attempt: _Attempt) -> AsyncGenerator[None]:
        """Names that signed in from the network lately do not queue with others."""
        if await self._is_known(attempt.pair):
            yield
            return
        async with self._lane(attempt.network, NETWORK_AT_ONCE):
            yield

    @contextmanager
    def _waiting(self, network: str) -> Generator[None]:
        if self._in_progress.total() >= WAITING:
            raise TimeoutError("too many sign-ins wait")
        if self._in_progress[network] >= NETWORK_WAITING:
            raise TooManyAttempts("Too many sign-ins from here wait: try again in a second.", 1)
        self._in_progress[network] += 1
        try:
            yield
        finally:
            self._in_progress[network] -= 1
            if not self._in_progress[network]:
                del self._in_progress[network]

    async def _delay(self, attempt: _Attempt) -> float:
        pair, network, name = await asyncio.gather(
            _failures(self._pairs, attempt.pair), _failures(self._networks, attempt.network), _failures(self._names, attempt.name)
        )
        delay = PAIR.delay_seconds(pair)
        others = max(NETWORK.delay_seconds(network), NAME.delay_seconds(name))
        return others if others > delay and not await self._is_known(attempt.pair) else delay

    async def _count(self, attempt: _Attempt) -> None:
        await asyncio.gather(
            self._pairs.charge(attempt.pair, 1), self._networks.charge(attempt.network, 1), self._names.charge(attempt.name, 1)
        )

    def _check_line(self, name: str, delay: float, width: int) -> None:
        lane = self._queues.get(name)
        wait = delay * lane.inside / width if lane else 0.0
        if wait > LINE_SECONDS:
            seconds = math.ceil(wait)
            raise TooManyAttempts(f"Too many sign-ins from here wait after wrong passwords: try again in {seconds} s.", seconds)

    @asynccontextmanager
    async def _lane(self, name: str, width: int) -> AsyncGenerator[None]:
        """Exists only while an attempt is in it."""
        lane = self._queues.setdefault(name, _Lane(width))
        lane.inside += 1
        try:
            async with lane.places:
                yield
        finally:
            lane.inside -= 1
            if not lane.inside:
                del self._queues[name]

    async def _is_known(self, pair: str) -> bool:
        if pair in self._known:
            return True
        if self._redis is None or not await self.breaker.call(lambda: self._redis.exists(PREFIX + pair)):
            return False
        self._keep(pair)
        return True

    async def _remember(self, pair: str) -> None:
        self._keep(pair)
        if self._redis is not None:
            await self.breaker.call(lambda: self._redis.set(PREFIX + pair, b"1", ex=KNOWN_SECONDS))

    def _keep(self, pair: str) -> None:
        self._known[pair] = None
        self._known.move_to_end(pair)
        if len(self._known) > KNOWN_PAIRS:
            self._known.popitem(last=False)


@dataclass(frozen=True)
class _Attempt:
    """The keys under which an attempt is counted. Digests are of one length, and tell nobody who looks into Redis which names were tried."""

    pair: str
    network: str
    name: str

    @classmethod
    def of(cls, network: str, name: str) -> _Attempt:
        key = name_key(name)
        return cls(f"{key}:{_digest('pair', network)}", _digest("network", network), key)


def name_key(name: str) -> str:
    """What keys of a name's attempts begin with; see `GuessThrottle.forget`."""
    return _digest("name", name.casefold())


def _digest(kind: str, *parts: str) -> str:
    plain = "\0".join(parts).encode("utf-8", "surrogatepass")
    return f"guess:{kind}:{hashlib.blake2b(plain, digest_size=16).hexdigest()}"


def _counts(redis: Redis | None, allowance: Allowance) -> TokenBucket:
    """A bucket from which each failure takes a point."""
    return SharedTokenBucket(redis, allowance.counted) if redis else LocalTokenBucket(allowance.counted)


async def _failures(counts: TokenBucket, key: str) -> float:
    level = await counts.charge(key, 0)
    return level.budget.capacity - level.points
