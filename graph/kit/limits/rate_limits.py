"""How often one field may be asked, and who is counted as one. A budget in points counts for everything; this is for a few fields beside it.

    @query(…, limit=Limit("3/60seconds", by=ADDRESS))
    @mutation(…, limit=(Limit("100/hour", by=ADDRESS, failures=True), …))

With `failures` each attempt is counted when it begins, so that many at once get no further than one after the other, and taken back when it succeeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any

from graphql import GraphQLError

from graph.kit.auth import Caller
from graph.kit.errors import RATE_LIMITED
from persistence.kit.limits.moving_window import Windows, spans


@dataclass(frozen=True, slots=True)
class By:
    """Whom a limit counts as one, in words and as a key."""

    words: str
    key: Callable[[Caller, Mapping[str, Any]], str]


@dataclass(frozen=True, slots=True)
class Limit:
    """`rate` is in the syntax of the library `limits`: "3/60seconds", "10/minute; 100/day". With `failures`, a mutation counts those alone."""

    rate: str
    by: By
    failures: bool = False

    def __post_init__(self) -> None:
        spans(self.rate)  # A mistake stops the start, not the first request.

    def __str__(self) -> str:
        return f"At most {self.rate}{' that fail' if self.failures else ''} for each {self.by.words}."

    def key(self, field: str, caller: Caller, arguments: Mapping[str, Any]) -> tuple[str, ...]:
        return (field, self.by.words, self.by.key(caller, arguments))


@lru_cache(10_000)
@lru_cache(maxsize=4_096)
def network(address: str) -> str:
    """An address to count a client by. An IPv6 client has a network of 2**64 of them, which count as one. Source: RFC 6177."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Network((parsed, 64), strict=False))
    return str(parsed)


def payer(caller: Caller) -> str:
    """Whose budget a caller spends: the user's, or else that of the network the request comes from."""
    return f"user:{caller.principal.user_id}" if caller.principal else f"ip:{network(caller.client_ip)}"


ADDRESS = By("client address", lambda caller, _arguments: network(caller.client_ip))
CALLER = By("user, or client address without one", lambda caller, _arguments: payer(caller))


class Counted:
    """One use of a field under its limits."""

    def __init__(self, windows: Windows, field: str, caller: Caller, arguments: Mapping[str, Any]) -> None:
        self._windows, self._field, self._caller, self._arguments = windows, field, caller, arguments

    async def count(self, limits: Sequence[Limit]) -> None:
        """Raises: GraphQLError RATE_LIMITED with `retryAfter`, in whole seconds."""
        for limit in limits:
            wait = await self._windows.use(limit.rate, *limit.key(self._field, self._caller, self._arguments))
            if wait > 0:
                seconds = math.ceil(wait)
                message = f"{self._field}: {str(limit).lower()} Try again in {seconds} s."
                raise GraphQLError(message, extensions={"code": RATE_LIMITED, "retryAfter": seconds})

    async def succeed(self, limits: Sequence[Limit]) -> None:
        for limit in limits:
            if limit.failures:
                await self._windows.take_back(limit.rate, *limit.key(self._field, self._caller, self._arguments))
