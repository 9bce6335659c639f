"""Counts what comes on one connection against a rate limit (`rate_limits.py`): frames and messages of a WebSocket.

The count ends with the connection, so it needs no key, no Redis and no waiting, and takes two numbers however much comes: thousands of idle sockets
each have one. So its windows are fixed, and let through the double at their edge.
"""

from __future__ import annotations

from graph.kit.limits.rate_limits import RateLimitRule


class ConnectionRateLimiter:
    __slots__ = ("_amount", "_seconds", "_uses", "_window")

    def __init__(self, rule: RateLimitRule) -> None:
        """Raises: ValueError, for a rule of failures or of several spans."""
        self._amount, self._seconds = rule.span.amount, rule.span.get_expiry()
        self._uses = self._window = 0

    def hit(self, uses: int, now: float) -> bool:
        """Count some uses at once; whether they are within the limit. `now` is in seconds, by any clock that does not go back."""
        window = int(now // self._seconds)
        if window != self._window:
            self._window, self._uses = window, 0
        self._uses += uses
        return self._uses <= self._amount
