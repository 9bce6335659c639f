"""A proxy between two programs that cuts, delays, swallows and half-closes connections, and loses answers after they were given."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from socket import SO_LINGER, SOL_SOCKET

ABORTIVE = struct.pack("ii", 1, 0)


class Fault(Enum):
    NONE = "none"
    DELAY = "delay"
    """Each piece comes late."""
    SWALLOW = "swallow"
    """Nothing comes through; connections stay open."""
    LOSE_ANSWERS = "lose answers"
    """What is sent arrives, and what comes back does not."""


class FaultProxy:
    def __init__(self, target: int) -> None:
        self.target, self.port, self.fault = target, 0, Fault.NONE
        self._open: set[asyncio.StreamWriter] = set()
        self._spoiled: set[asyncio.StreamWriter] = set()

    @property
    def is_idle(self) -> bool:
        """Whether nobody is connected."""
        return not self._open

    def cut(self) -> None:
        """End all connections at once."""
        for writer in list(self._open):
            writer.transport.abort()

    def reset(self) -> None:
        """Abort all connections as a machine does that lost them: with a reset, where `cut` mostly says that there is nothing more to come."""
        for writer in list(self._open):
            with suppress(OSError, AttributeError, ValueError):  # The last of one that is closed by now.
                writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, ABORTIVE)
        self.cut()

    def half_close(self) -> None:
        """Tell one side of each connection that the other has nothing more to say."""
        for writer in list(self._open):
            with suppress(OSError, RuntimeError):
                if random.random() < 0.5 and writer.can_write_eof():
                    writer.write_eof()

    def end_fault(self) -> None:
        """Connections that lost something cannot go on."""
        self.fault = Fault.NONE
        for writer in self._spoiled:
            writer.transport.abort()
        self._spoiled.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            theirs, ours = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, ours}
        try:
            await asyncio.gather(self._pass(reader, ours, is_answer=False), self._pass(theirs, writer, is_answer=True))
        finally:
            for each in (writer, ours):
                self._open.discard(each)
                self._spoiled.discard(each)
                each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        """An end goes through as an end, and a reset as a reset: a database whose client died must learn of it, or it keeps its locks."""
        try:
            while piece := await reader.read(65_536):
                await self._pass_piece(piece, writer, is_answer=is_answer)
            if not writer.is_closing():
                writer.write_eof()
        except (OSError, RuntimeError):  # The latter, where the other side was told that there is nothing more to say.
            writer.transport.abort()

    async def _pass_piece(self, piece: bytes, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        if self.fault is Fault.DELAY:
            await asyncio.sleep(random.uniform(0.02, 0.2))
        if self.fault is Fault.SWALLOW or (self.fault is Fault.LOSE_ANSWERS and is_answer):
            self._spoiled.add(writer)
        if writer not in self._spoiled:
            writer.write(piece)
            await writer.drain()


@asynccontextmanager
async def fault_proxy(target: int) -> AsyncGenerator[FaultProxy]:
    proxy = FaultProxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
