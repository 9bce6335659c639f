"""Awaits several things at once, and leaves none running when one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar, cast

T = TypeVar("T")


async def gather(works: Sequence[Awaitable[T]]) -> Sequence[T]:
    """All results, in order; the first failure is raised once all have ended."""
    if len(works) == 1:
        return [await works[0]]
    results = await asyncio.gather(*works, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return cast("Sequence[T]", results)
