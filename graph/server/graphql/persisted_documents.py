"""Persisted documents: automatic persisted queries, and trusted documents from a manifest.

- Automatic persisted queries: the client sends a hash; if it is unknown, the document once with it. Saves bandwidth and makes
  GET cacheable; it is no allow list, as anybody may register. Processes share them through Redis, which they do without while it is away.
- Trusted documents: a manifest written by the client's build. In `shadow` mode what is not in it is logged, in `enforce` mode
  it is refused, and nothing can be registered. A client's name is its own claim: modes by client are for rolling out, and only
  `enforce` without exceptions keeps strangers to the list.

Source: GraphQL over HTTP, appendix "Persisted Documents"; Apollo's persistedQuery extension, version 1.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, cast

import structlog

from graph.kit.auth import Caller
from graph.kit.errors import BAD_USER_INPUT, DOCUMENT_NOT_FOUND, FORBIDDEN, refusal
from graph.server.graphql.requests import GraphQLRequest
from persistence.kit.cache.store import Cache
from persistence.kit.lru_cache import LruCache
from persistence.kit.parsing import strict_json

log = structlog.get_logger(__name__)

TEXTS_BYTES = 16 * 2**20  # Of registered documents in one process.
# The longest real ones, of Relay applications, have some 30 kB; a longer one runs but is not kept.
CACHE_BYTES = 32_768
SHARED_SECONDS = 7 * 24 * 3600
# Anybody may register, so the places in Redis are counted: the first digits of a hash say which of 4,096 is the document's, whoever had it before.
# They take 130 MB at worst.
PLACE_DIGITS = 3
LOGGED_HASHES = 500  # In `shadow` mode: documents of which the log need not hear again. 150 kB.
_SHA256 = "sha256:"
_HEX = re.compile(r"[0-9a-f]{64}")
_CUSTOM = re.compile(r"(x-[A-Za-z0-9._~-]+:)?[A-Za-z0-9._~-]{1,256}")


class DocumentMode(Enum):
    OFF = "off"
    SHADOW = "shadow"
    ENFORCE = "enforce"


@dataclass(frozen=True)
class TrustedDocuments:
    """The manifest: documents by their identifiers, those of the build and `sha256:…` alike."""

    by_id: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, manifest: Mapping[str, str]) -> TrustedDocuments:
        return cls({**manifest, **{f"{_SHA256}{sha256(text)}": text for text in manifest.values()}})

    @classmethod
    def read(cls, manifest: Path | None) -> TrustedDocuments:
        """Raises: BadManifest."""
        return cls.of(read_manifest(manifest) if manifest else {})

    def __contains__(self, text: str) -> bool:
        return f"{_SHA256}{sha256(text)}" in self.by_id


class BadManifest(ValueError):
    """The service must not start with this manifest."""


def read_manifest(path: Path) -> dict[str, str]:
    """Read Apollo's format (`generate-persisted-query-manifest`) or Relay's (`persistConfig`). Raises: BadManifest."""
    try:
        content = strict_json.loads(path.read_bytes())
    except (OSError, strict_json.BadJson) as error:
        raise BadManifest(f"{path}: {error}") from error
    entries = _entries(content)
    if entries is None or not all(isinstance(part, str) for entry in entries for part in entry):
        raise BadManifest(f"{path}: this is neither Apollo's persisted query manifest nor Relay's map from id to text")
    return dict(cast("list[tuple[str, str]]", entries))


def _entries(content: object) -> list[tuple[object, object]] | None:
    """Identifiers and texts, whatever they are; None for what has no place for them."""
    if not isinstance(content, dict):
        return None
    manifest = cast("dict[str, object]", content)
    if manifest.get("format") != "apollo-persisted-query-manifest":
        return list(manifest.items())
    operations = manifest.get("operations")
    if not isinstance(operations, list):
        return None
    found = [cast("dict[str, object]", each) if isinstance(each, dict) else {} for each in cast("list[object]", operations)]
    return [(each.get("id"), each.get("body")) for each in found]


class PersistedDocuments:
    """Finds the text that a request means."""

    def __init__(
        self,
        trusted: TrustedDocuments | None = None,
        *,
        mode: DocumentMode = DocumentMode.OFF,
        mode_by_client: Mapping[str, DocumentMode] | None = None,
        shared: Cache | None = None,
    ) -> None:
        self.trusted, self._mode, self._mode_by_client = trusted or TrustedDocuments(), mode, mode_by_client or {}
        self._registered = _DocumentCache(shared)
        self._logged = LruCache[str, str](2**20, lambda hash_, _: sys.getsizeof(hash_), most_entries=LOGGED_HASHES)

    async def source(self, request: GraphQLRequest, caller: Caller) -> str:
        """The document's text. Raises: Refused."""
        identifier = _identifier(request)
        mode = self._mode_by_client.get(caller.client_name or "", self._mode)
        if request.query is None:
            return await self._find(identifier or "", mode)
        if mode is not DocumentMode.OFF and request.query not in self.trusted:
            self._judge(request.query, mode, caller)
        if identifier is not None:
            await self._register(identifier, request.query)
        return request.query

    async def _find(self, identifier: str, mode: DocumentMode) -> str:
        text = self.trusted.by_id.get(identifier)
        if text is None and identifier.startswith(_SHA256) and mode is not DocumentMode.ENFORCE:
            text = await self._registered.get(identifier)
        if text is None:
            # Apollo's clients look for this very message, and then send the document itself.
            raise refusal(DOCUMENT_NOT_FOUND, "PersistedQueryNotFound")
        return text

    def _judge(self, text: str, mode: DocumentMode, caller: Caller) -> None:
        hash_ = sha256(text)
        if self._logged.get(hash_) is None:
            self._logged.put(hash_, hash_)
            log.warning("unknown document", sha256=hash_, client=caller.client_name, version=caller.client_version, mode=mode.value)
        if mode is DocumentMode.ENFORCE:
            raise refusal(FORBIDDEN, "Only the documents of this service's own clients are run here.")

    async def _register(self, identifier: str, text: str) -> None:
        if not identifier.startswith(_SHA256):
            return
        if identifier != f"{_SHA256}{sha256(text)}":
            raise refusal(BAD_USER_INPUT, "The sha256 is not that of the document.")
        await self._registered.put(identifier, text)


class _DocumentCache:
    """Registered documents: in this process the last used ones, at most TEXTS_BYTES; in Redis, where there is one, those of all processes."""

    def __init__(self, shared: Cache | None) -> None:
        self._shared = shared
        self._texts = LruCache[str, str](TEXTS_BYTES, lambda identifier, text: sys.getsizeof(identifier) + sys.getsizeof(text))

    async def get(self, identifier: str) -> str | None:
        text = self._texts.get(identifier)
        if text is not None:
            return text
        if self._shared is None or (found := await self._shared.get(_place(identifier))) is None:
            return None
        text = found.decode()
        if identifier != f"{_SHA256}{sha256(text)}":
            return None
        self._texts.put(identifier, text)
        return text

    async def put(self, identifier: str, text: str) -> None:
        if identifier in self._texts or len(encoded := text.encode()) > CACHE_BYTES:
            return
        self._texts.put(identifier, text)
        if self._shared is not None:
            await self._shared.put(_place(identifier), encoded, SHARED_SECONDS)


def _place(identifier: str) -> str:
    return f"document:{identifier.removeprefix(_SHA256)[:PLACE_DIGITS]}"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _identifier(request: GraphQLRequest) -> str | None:
    """What identifies the document, in the form of the appendix. Raises: Refused, if it is no identifier or two that differ."""
    identifier = request.document_id
    if identifier is not None and not _is_identifier(identifier):
        raise refusal(
            BAD_USER_INPUT, "documentId must be `sha256:` and 64 lower-case hexadecimal digits, or an identifier of the manifest."
        )
    if request.extensions is None or (persisted := request.extensions.get("persistedQuery")) is None:
        return identifier
    hash_: object = cast("dict[str, Any]", persisted).get("sha256Hash") if isinstance(persisted, dict) else None
    if not isinstance(hash_, str) or not _HEX.fullmatch(hash_) or cast("dict[str, Any]", persisted).get("version") != 1:
        raise refusal(BAD_USER_INPUT, "persistedQuery must have version 1 and sha256Hash, 64 lower-case hexadecimal digits.")
    if identifier not in {None, f"{_SHA256}{hash_}"}:
        raise refusal(BAD_USER_INPUT, "documentId and persistedQuery name different documents.")
    return f"{_SHA256}{hash_}"


def _is_identifier(text: str) -> bool:
    if text.startswith(_SHA256):
        return _HEX.fullmatch(text.removeprefix(_SHA256)) is not None
    return _CUSTOM.fullmatch(text) is not None
