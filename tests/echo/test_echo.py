"""An echo …"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.conftest import settings_for
from tests.support.clients.websocket_subscriber import listening
from tests.support.service import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service import Service

ECHO = "subscription ($channel: ID!, $message: String) { echo(channel: $channel, message: $message) { channel text } }"
SEND = "mutation ($channel: ID!, $message: String!) { sendEcho(channel: $channel, message: $message) { channel text } }"


async def test_comes_back_to_whoever_asked_for_it_and_then_brings_what_others_send(service: Service) -> None:
    async with listening(service, ECHO, {"channel": "room", "message": "hello"}) as listener:
        assert await listener.next() == {"channel": "room", "text": "echo: hello"}
        await service.ask(SEND, {"channel": "another room", "message": "not for you"})
        sent = await service.ask(SEND, {"channel": "room", "message": "Grüße 👋"})
        assert sent["sendEcho"] == {"channel": "room", "text": "echo: Grüße 👋"}
        assert await listener.next() == {"channel": "room", "text": "echo: Grüße 👋"}


async def test_is_refused_when_it_is_out_of_bounds(service: Service) -> None:
    for channel, message in (("", "x"), ("c" * 101, "x"), ("c", "x" * 1_001), ("c\0", "x"), ("c", "\0")):
        assert await service.refused(SEND, {"channel": channel, "message": message}) == "BAD_USER_INPUT"
        async with listening(service, ECHO, {"channel": channel, "message": message}) as listener:
            assert await listener.refusal() == "BAD_USER_INPUT"


async def test_crosses_from_one_process_to_another(tmp_path: Path) -> None:
    settings = await settings_for("postgresql", tmp_path)
    hello = {"channel": "room", "message": "hello"}
    async with running(settings) as here, running(settings) as there, listening(here, ECHO, hello) as listener:
        assert await listener.next() == {"channel": "room", "text": "echo: hello"}
        heard = asyncio.ensure_future(listener.next())
        while not heard.done():  # The processes need a moment to find each other.
            await there.ask(SEND, {"channel": "room", "message": "from afar"})
            await asyncio.wait([heard], timeout=0.1)
        assert heard.result() == {"channel": "room", "text": "echo: from afar"}
