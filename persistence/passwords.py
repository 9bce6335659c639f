"""Password hashing: argon2id only, off the event loop, with a bounded queue.

A hash takes 19 MiB and tens of milliseconds on purpose, so hashes are made in a few threads of their own: the event loop goes on, and a flood of
sign-ins waits in line instead of filling the memory.
"""

from __future__ import annotations

import asyncio
import os
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from passlib.context import CryptContext  # pyright: ignore[reportMissingTypeStubs] -- libpass has none

LENGTH_MIN = 8  # Characters. Source: NIST SP 800-63B, section 5.1.1.2.
LENGTH_MAX = 128  # Characters.
DECOMPOSED_MAX = 4 * LENGTH_MAX  # The same password from a keyboard that writes letters and their marks apart. Source: UAX #15, section 3.
THREADS = min(4, os.cpu_count() or 1)
MAX_WAITING = 64  # With a tenth of a second for each and two threads: a wait of 3 s.

NO_PASSWORD = "-"  # In place of a hash: no password has it.  # noqa: S105

T = TypeVar("T")

# Source: OWASP Password Storage Cheat Sheet. Raise the figures, and each password is hashed anew when it is next used.
hashing: Any = CryptContext(
    schemes=["argon2"], argon2__type="ID", argon2__memory_cost=19 * 1024, argon2__time_cost=2, argon2__parallelism=1
)


@dataclass(frozen=True)
class VerifyResult:
    """Whether a password is right, and its new hash if the kept one was made with weaker parameters."""

    right: bool
    new_hash: str | None = None


class HashingQueue:
    """Where passwords wait for a thread. A full line turns new ones away at once, instead of letting them time out."""

    def __init__(self, threads: int, places: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="passwords")
        self._places, self._taken = places, 0

    async def run(self, work: Callable[[], T]) -> T:
        """Raises: TimeoutError, if no place is left."""
        if self._taken >= self._places:
            raise TimeoutError("too many passwords wait to be hashed")
        self._taken += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._taken -= 1


_queue = HashingQueue(THREADS, MAX_WAITING)


async def hash_password(password: str) -> str:
    """Of a password whose length was checked. Raises: TimeoutError, if too many passwords wait."""
    return await _queue.run(lambda: _hash(password))


async def verify(password: str, stored: str | None) -> VerifyResult:
    """Compare with the kept hash. `None` is a user who does not exist: it takes the same time, and is never right. Nor is a password that nobody can have.

    Raises: TimeoutError, if too many passwords wait.
    """
    if len(password) > DECOMPOSED_MAX:
        password, stored = "", None  # Not its beginning: that may be somebody's.
    return await _queue.run(lambda: _verify(password, stored))


def _hash(password: str) -> str:
    return str(hashing.hash(_normal(password)))


def _verify(password: str, stored: str | None) -> VerifyResult:
    usable = stored is not None and stored != NO_PASSWORD
    right, new_hash = hashing.verify_and_update(_normal(password), stored if usable else _dummy_hash())
    return VerifyResult(right and usable, new_hash if right and usable else None)


@cache
def _dummy_hash() -> str:
    return _hash("the password of nobody")


def _normal(password: str) -> bytes:
    """One form for what different keyboards compose differently. Half surrogates cannot be in a kept password; here they must only not fail."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
