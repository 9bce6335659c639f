"""The client's address behind trusted proxies, from `X-Forwarded-For` or `Forwarded`.

Any client can send `X-Forwarded-For` or `Forwarded`; only what a trusted proxy added to them is true. So they are read from the right, from
the proxy that spoke to us outward, and the first address that is no trusted proxy's is the client's: whatever stands left of it is its word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send

from graph.server.asgi.request_headers import headers_of, text

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

SECURE = {"http": "https", "websocket": "wss"}
HOPS = 20  # More proxies in a row than anybody has; what is left of them is not read.
FOR = re.compile(r'(?:^|;)\s*for\s*=\s*("[^"]*"|[^\s;"]+)\s*(?=;|$)', re.IGNORECASE)


class TrustedProxies:
    """Puts the client's address, and whether it speaks TLS to the outermost proxy, where the rest of the app looks for them."""

    def __init__(self, app: ASGIApp, *, trusted: Sequence[Network]) -> None:
        self._app, self._trusted = app, trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope.get("client")
        if peer and scope["type"] in SECURE and (address := _parsed(peer[0])) and _within(address, self._trusted):
            headers = headers_of(scope)
            scope["client"] = client_address(peer[0], text(headers, b"x-forwarded-for"), text(headers, b"forwarded"), self._trusted), 0
            if headers.get(b"x-forwarded-proto", b"").rpartition(b",")[2].strip() == b"https":
                scope["scheme"] = SECURE[scope["type"]]
        await self._app(scope, receive, send)


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Raises: ValueError, for what is no address and no network in CIDR notation."""
    return tuple(ip_network(text) for text in texts)


def is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    parsed = _parsed(address)
    return parsed is not None and _within(parsed, trusted)


def client_address(peer: str, forwarded_for: str | None, forwarded: str | None, trusted: Sequence[Network]) -> str:
    """The client's address, by the values of the two header fields. `peer`, as it is, where nothing better is known."""
    by_for, by_forwarded = _outermost(peer, _listed(forwarded_for), trusted), _outermost(peer, _named(forwarded), trusted)
    if forwarded_for is not None and forwarded is not None:
        # A proxy writes one of the two and may let the client's own pass in the other: where they differ, neither is believed.
        return by_for if by_for == by_forwarded else peer
    return by_for if forwarded is None else by_forwarded


def _outermost(peer: str, hops: Iterator[str], trusted: Sequence[Network]) -> str:
    nearest, address = peer, _parsed(peer)
    for _ in range(HOPS):
        if address is None or not _within(address, trusted):
            break
        address = _parsed(next(hops, ""))
        if address is None:
            break  # Nothing, or garbage: the last proxy that is known to be one stands for whatever is behind it.
        nearest = str(address)
    return nearest


def _listed(value: str | None) -> Iterator[str]:
    """The elements from the last one, which the nearest proxy added."""
    return reversed([] if value is None else value.split(","))


def _named(value: str | None) -> Iterator[str]:
    """The `for` of each element. Source: RFC 7239, section 4."""
    for element in _listed(value):
        found = FOR.search(element)
        yield found[1].strip('"') if found else ""


def _parsed(text: str) -> Address | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _within(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)
