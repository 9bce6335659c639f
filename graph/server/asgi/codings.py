"""Which content coding a client takes, by its Accept-Encoding. Source: RFC 9110, section 12.5.3."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

IDENTITY = "identity"
LEAST_BYTES = 512  # A shorter body is not coded, unless its client refuses it as it is.

# No client needs more to say what it reads; without a bound each entry of the caches could hold 64 kB.
_CHARACTERS = 1_000
_OFFER = re.compile(r"\s*([!#$%&'*+.^_`|~0-9a-z-]+)\s*(?:;\s*q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*)?", re.IGNORECASE)
_SYNONYMS = {"x-gzip": "gzip", "x-compress": "compress"}  # Source: RFC 9110, section 8.4.1.


def choose(accept_encoding: str | None, offered: tuple[str, ...]) -> str:
    """The coding that a client likes best among those offered, which are given best first, or `identity`.

    Whoever refuses all of them and `identity` too gets `identity` nevertheless: an answer that cannot be read tells more than none.
    """
    return IDENTITY if accept_encoding is None else _choose(accept_encoding[:_CHARACTERS], offered)


def gzip_from(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """From how many bytes on a body is sent as gzip to a request with these header fields; None for never."""
    lines = [value for name, value in headers if name == b"accept-encoding"]
    return _gzip_from(b",".join(lines)[:_CHARACTERS]) if lines else None


@lru_cache(maxsize=256)
def _gzip_from(accept_encoding: bytes) -> int | None:
    text = accept_encoding.decode("latin-1")
    if _choose(text, ("gzip",)) == IDENTITY:
        return None
    return LEAST_BYTES if _weight(_weights(text), IDENTITY) > 0 else 0


@lru_cache(maxsize=256)
def _choose(accept_encoding: str, offered: tuple[str, ...]) -> str:
    weights = _weights(accept_encoding)
    best = max(offered, key=lambda coding: _weight(weights, coding), default=IDENTITY)  # The first of those that weigh the same.
    weight = _weight(weights, best)
    # Whoever says nothing about `identity` takes it, and asks for something else.
    return best if weight > 0 and (IDENTITY not in weights or weight >= weights[IDENTITY]) else IDENTITY


def _weight(weights: Mapping[str, float], coding: str) -> float:
    return weights.get(coding, weights.get("*", 1.0 if coding == IDENTITY else 0.0))


def _weights(accept_encoding: str) -> dict[str, float]:
    """By coding, in lower case. What is not well formed counts as not sent; of two weights for one coding the smaller counts."""
    weights: dict[str, float] = {}
    for offer in map(_OFFER.fullmatch, accept_encoding.split(",")):
        if offer is not None:
            name = offer[1].lower()
            coding, weight = _SYNONYMS.get(name, name), float(offer[2] or 1)
            weights[coding] = min(weight, weights.get(coding, weight))
    return weights
