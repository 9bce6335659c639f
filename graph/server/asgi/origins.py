"""Checks the origin of requests and WebSocket handshakes; CORS does not cover the latter.

Source: Fetch Metadata (Sec-Fetch-Site) first, as a browser cannot be made to lie there; then Origin (RFC 6454).
A request with neither comes from no browser, and there is no cookie that a page could borrow.
"""

from collections.abc import Iterable, Mapping

_OWN_SITES = frozenset({b"same-origin", b"none"})


class Origins:
    """The origins allowed by configuration, besides the one that the request was addressed to."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(origin.rstrip("/").lower().encode() for origin in allowed)

    def permit(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether to serve a request with these headers (names in lower case)."""
        site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
        if site in _OWN_SITES:
            return True
        if origin is None:
            return site is None
        origin = origin.lower()
        return origin in self._allowed or self._is_own(origin, headers, site)

    @staticmethod
    def _is_own(origin: bytes, headers: Mapping[bytes, bytes], site: bytes | None) -> bool:
        # Schemes are not compared: behind a proxy that ends TLS we do not know ours.
        return site is None and origin.partition(b"://")[2] == headers.get(b"host", b"").lower() != b""
