"""Notifications to the outside: an interface, and a default that writes a log line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Notification:
    """It may be sent more than once, for instance when a process dies before it notes the success; `key` is the same each time."""

    key: str
    kind: str
    data: Mapping[str, Any]


class Notifier(Protocol):
    async def notify(self, notice: Notification) -> None:
        """Raise to be called again later."""
        ...


class LogNotifier:
    async def notify(self, notice: Notification) -> None:
        log.info("notification", kind=notice.kind, key=notice.key, **notice.data)
