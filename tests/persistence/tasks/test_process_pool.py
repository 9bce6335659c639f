"""Computing …"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from persistence.kit.tasks.process_pool import ProcessPool, fibonacci
from tests.support.endpoints import until

if TYPE_CHECKING:
    from tests.support.service import Service

COMPUTE = "query ($n: Int!) { compute(n: $n) }"


async def test_gives_the_numbers_of_fibonacci_exactly(service: Service) -> None:
    for n, value in ((0, 0), (1, 1), (10, 55), (78, 8944394323791464), (79, "14472334024676221")):
        assert await service.ask(COMPUTE, {"n": n}) == {"compute": value}
    largest = (await service.ask(COMPUTE, {"n": 20_000}))["compute"]
    assert (len(largest), largest[:10], largest[-10:]) == (4_180, "2531162323", "1213093125")


async def test_is_refused_out_of_its_bounds(service: Service) -> None:
    for n in (-1, 20_001):
        assert await service.refused(COMPUTE, {"n": n}) == "BAD_USER_INPUT"


async def test_survives_the_death_of_its_process() -> None:
    computing = ProcessPool(processes=1)
    assert await computing.run(fibonacci, 10) == 55
    (worker,) = computing.processes
    os.kill(worker, signal.SIGKILL)
    assert await computing.run(fibonacci, 11) == 89
    await computing.stop()


async def test_is_cut_off_when_the_service_stops() -> None:
    computing = ProcessPool(processes=1)
    assert await computing.run(fibonacci, 10) == 55
    (worker,) = computing.processes
    endless = asyncio.create_task(computing.run(fibonacci, 10**9))
    await asyncio.sleep(0)
    await computing.stop()
    assert not psutil.pid_exists(worker)
    await asyncio.wait([endless])
    assert endless.cancelled() or endless.exception()


async def test_ends_no_program_that_has_the_number_of_a_process_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    computing, killed = ProcessPool(processes=1), list[int]()
    assert await computing.run(fibonacci, 10) == 55
    (worker,) = computing.processes
    os.kill(worker, signal.SIGKILL)
    pool: Any = computing._pool  # pyright: ignore[reportPrivateUsage] -- to wait until its end has been noticed
    (process,) = pool._processes.values()
    await until(lambda: process.exitcode is not None)  # The pool's own thread may be at it: whoever only joined would not know yet.

    def kill(number: int, _signal: int) -> None:
        killed.append(number)

    monkeypatch.setattr(os, "kill", kill)
    await computing.stop()
    assert killed == []
