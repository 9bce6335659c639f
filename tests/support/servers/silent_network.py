"""A network that swallows packets: connections are accepted and stay open, and nothing comes through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress


class SilentProxy:
    """Passes bytes on to a port of this machine, until it is told to be silent."""

    def __init__(self, target: int) -> None:
        self._target, self._passes = target, asyncio.Event()
        self._passes.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.open = 0

    def fall_silent(self) -> None:
        self._passes.clear()

    def speak(self) -> None:
        self._passes.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            await self._passes.wait()
            theirs, ours = await asyncio.open_connection("127.0.0.1", self._target)
            tasks = [asyncio.create_task(self._pass(reader, ours)), asyncio.create_task(self._pass(theirs, writer))]
            self._tasks |= {*tasks}
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            ours.close()
        except asyncio.CancelledError:
            return  # The test is over. Streams of Python 3.11 print a cancelled handler as an error.
        finally:
            self.open -= 1
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65_536):
                await self._passes.wait()
                writer.write(piece)
                await writer.drain()


@asynccontextmanager
async def silent_proxy(target: int) -> AsyncGenerator[SilentProxy]:
    proxy = SilentProxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        proxy.speak()
        server.close()
