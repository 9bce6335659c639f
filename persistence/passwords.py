"""Passwords, kept as argon2id hashes only.

A hash takes 19 MiB and tens of milliseconds on purpose, so hashes are made in a few threads of their own: the event loop goes on, and a flood of
sign-ins waits in line instead of filling the memory.
"""

from __future__ import annotations

import asyncio
import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

from passlib.context import CryptContext  # pyright: ignore[reportMissingTypeStubs] -- libpass has none

LENGTH_MIN = 8  # Characters. Source: NIST SP 800-63B, section 5.1.1.2.
LENGTH_MAX = 128  # Characters.
THREADS = min(4, os.cpu_count() or 1)

# Source: OWASP Password Storage Cheat Sheet, the first of its equal choices for argon2id. Raise them and each password is hashed anew when it is next used.
_hashing: Any = CryptContext(
    schemes=["argon2"], argon2__type="ID", argon2__memory_cost=19 * 1024, argon2__time_cost=2, argon2__parallelism=1
)
_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords")


@dataclass(frozen=True)
class Verdict:
    """Whether a password is right, and its new hash if the kept one was made with weaker parameters."""

    right: bool
    new_hash: str | None = None


async def hashed(password: str) -> str:
    return await asyncio.get_running_loop().run_in_executor(_threads, _hash, password)


async def verified(password: str, kept: str | None) -> Verdict:
    """Compare with the kept hash. `None` is a user who does not exist: it takes the same time, and is never right."""
    return await asyncio.get_running_loop().run_in_executor(_threads, _verify, password, kept)


def _hash(password: str) -> str:
    return str(_hashing.hash(_normal(password)))


def _verify(password: str, kept: str | None) -> Verdict:
    right, new_hash = _hashing.verify_and_update(_normal(password), kept or _nobodys_hash())
    return Verdict(right and kept is not None, new_hash if right and kept is not None else None)


@cache
def _nobodys_hash() -> str:
    return _hash("the password of nobody")


def _normal(password: str) -> bytes:
    """One form for what different keyboards compose differently. Half surrogates cannot be in a kept password; here they must only not fail."""
    return unicodedata.normalize("NFKC", password[:LENGTH_MAX]).encode("utf-8", "surrogatepass")
