"""Content negotiation: the media type of a request and those that its client accepts (RFC 9110, sections 8.3 and 12.5.1).

Pure functions of a header's text, kept in small bounded caches: clients send the same few headers for ever.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

GRAPHQL_RESPONSE = "application/graphql-response+json"
JSON = "application/json"
EVENT_STREAM = "text/event-stream"
HTML = "text/html"

# Of what a GraphQL response depends on in its request; the last two are compression's and CORS's, which plain requests do not pass (see `lanes`).
VARY = (b"vary", b"Accept, Authorization, Accept-Encoding, Origin")

# No client needs more to say what it reads; without a bound each entry of the cache could hold 64 kB.
_ACCEPT_CHARACTERS = 1_000
# The zero may be missing, unlike in RFC 9110, section 12.4.2: Java's own client sends `*/*; q=.2` with every request.
_QUALITY = re.compile(r"0?\.[0-9]{1,3}|0\.?|1(\.0{0,3})?")
_UTF8 = frozenset({"utf-8", "utf8"})
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ELEMENT, _PARAMETER = (re.compile(rf"(?:{_QUOTED}|[^{separator}])+") for separator in ",;")
"""Of a list and of one of its elements: what stands in quotation marks holds no separator. Source: RFC 9110, section 5.6.6."""


@dataclass(frozen=True, slots=True)
class AcceptedMediaTypes:
    """What may be sent back: the JSON type for a single result, if any, and whether a stream or a page will do."""

    result: str | None
    stream: bool
    page: bool


@dataclass(frozen=True, slots=True)
class _Range:
    type: str
    subtype: str
    quality: float

    def precedence(self, media_type: str) -> int:
        """How exactly this range names a media type: 3 by name, 2 by its first half, 1 by `*/*`, 0 not at all."""
        if media_type == f"{self.type}/{self.subtype}":
            return 3
        if self.subtype != "*":
            return 0
        if self.type == "*":
            return 1
        return 2 if media_type.startswith(f"{self.type}/") else 0


def negotiate(accept: str | None) -> AcceptedMediaTypes:
    """Choose by quality; an absent or empty header accepts anything.

    Between equal qualities a name beats a wildcard, and the GraphQL type beats plain JSON. A client that sends only
    wildcards gets `application/json`: it never said that it knows the newer type.
    """
    return _negotiate(_bounded(accept))


def prefers(accept: str | None, media_type: str, default: str) -> bool:
    """Whether a client names a media type and likes it no less than what others get."""
    ranges = _ranges(_bounded(accept))
    quality, precedence = _weight(ranges, media_type)
    return precedence == 3 and quality > 0 and quality >= _weight(ranges, default)[0]


def _bounded(accept: str | None) -> str:
    """Whole elements of the list: of half an element the quality would be missing."""
    if accept is None or len(accept) <= _ACCEPT_CHARACTERS:
        return accept or ""
    return accept[:_ACCEPT_CHARACTERS].rpartition(",")[0]


@lru_cache(maxsize=256)
def _negotiate(accept: str) -> AcceptedMediaTypes:
    ranges = _ranges(accept)
    modern, legacy = (_weight(ranges, media_type) for media_type in (GRAPHQL_RESPONSE, JSON))
    # A wildcard is not a request for the newer type, so it counts for it only where the older one is ruled out.
    named = modern if modern[1] == 3 or legacy[0] == 0 else (0.0, 0)
    result = GRAPHQL_RESPONSE if named[0] and named[0] >= legacy[0] else JSON if legacy[0] else None
    page = _weight(ranges, HTML)
    return AcceptedMediaTypes(
        result=result,
        stream=_weight(ranges, EVENT_STREAM)[0] > 0,
        page=page[1] == 3 and page[0] > max(named[0], legacy[0]),
    )


def _ranges(accept: str) -> list[_Range]:
    """Empty elements count for nothing (RFC 9110, section 5.6.1.2): a list of them alone is an empty header."""
    elements = [element for element in _ELEMENT.findall(accept) if element.strip()] or ["*/*"]
    return [found for element in elements if (found := _range(element)) is not None]


def _weight(ranges: list[_Range], media_type: str) -> tuple[float, int]:
    """Quality and precedence of the most specific range that covers a media type; (0, 0) if none does."""
    best = max(ranges, key=lambda each: (each.precedence(media_type), each.quality), default=None)
    if best is None or best.precedence(media_type) == 0:
        return 0.0, 0
    return best.quality, best.precedence(media_type)


def _range(text: str) -> _Range | None:
    name, *parameters = _parameters(text)
    type_, slash, subtype = name.partition("/")
    if not slash or not type_ or not subtype:
        return None
    quality = 1.0
    for parameter in parameters:
        key, _, value = (word.strip() for word in parameter.partition("="))
        if key == "q":
            quality = _quality(value)
        elif key == "charset" and value.strip('"') not in _UTF8:
            return None  # we write UTF-8 only
    return _Range(type_, subtype, quality)


def _parameters(text: str) -> list[str]:
    """A media type and its parameters, in small letters."""
    return [part.strip().lower() for part in _PARAMETER.findall(text)] or [""]


def _quality(text: str) -> float:
    """What is no quality makes the type unwanted. Source: RFC 9110, section 12.4.2."""
    return float(text) if _QUALITY.fullmatch(text) else 0.0


@lru_cache(maxsize=256)
def _is_json(content_type: str) -> bool:
    name, *parameters = _parameters(content_type)
    if name != JSON:
        return False
    pairs = (parameter.partition("=") for parameter in parameters)
    return all(key != "charset" or value.strip('"') in _UTF8 for key, _, value in pairs)


def is_json(content_type: str | None) -> bool:
    """Whether a body is UTF-8 JSON. Nothing else is read: a browser sends the other types without a preflight."""
    return content_type is not None and len(content_type) <= 200 and _is_json(content_type)
