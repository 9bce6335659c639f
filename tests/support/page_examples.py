"""Pages of Markdown, run as a reader would run them: block after block, in one shell, against a service.

- `sh`, `python` and `js` blocks run; one with an `&`, as in `js &`, runs in the background, and the page goes on when its subscription is open.
- A `json`, `csv` or `text` block after one is what it prints. `…` in it stands for anything.
- A `console` block is for an operator's terminal: it is not run, but its commands must exist.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.clients.node import PACKAGES
from tests.support.servers.processes import environment_of

if TYPE_CHECKING:
    from tests.support.service import Service

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\S+)( &)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
RUNNERS = {
    "sh": "{text}",
    "python": f"{ROOT}/.venv/bin/python - <<'BLOCK'\n{{text}}\nBLOCK",
    "js": f"(cd {PACKAGES} && exec node --input-type=module -) <<'BLOCK'\n{{text}}\nBLOCK",
}
SHOWN = ("json", "csv", "text")
END = "--- end of block ---"
SECONDS = 60  # Longer than any block takes on a slow machine.


@dataclass
class Block:
    kind: str
    text: str
    in_background: bool = False
    shown: str | None = None


def blocks(page: Path) -> Iterator[Block]:
    """The page's blocks, what one prints joined to it."""
    last: Block | None = None
    for kind, background, text in FENCE.findall(page.read_text()):
        if kind in SHOWN and last is not None and last.kind in RUNNERS and last.shown is None:
            last.shown = text.strip()
            continue
        if last is not None:
            yield last
        last = Block(kind, text, bool(background))
    if last is not None:
        yield last


def agrees(shown: str, said: str) -> bool:
    return re.fullmatch(".*".join(re.escape(part) for part in shown.split("…")), said.strip().replace("\r\n", "\n"), re.DOTALL) is not None


class Shell:
    """One bash for a whole page: what a block exports, the next one has."""

    def __init__(self, process: asyncio.subprocess.Process, service: Service, folder: Path) -> None:
        self._process, self._service, self._folder, self._numbers = process, service, folder, count()

    @classmethod
    async def start(cls, service: Service, folder: Path) -> Shell:
        """In a folder that has all of the repository's files, and keeps what a page writes."""
        checkout = folder / "checkout"
        checkout.mkdir()
        for each in ROOT.iterdir():
            (checkout / each.name).symlink_to(each)
        pipe = asyncio.subprocess.PIPE
        environment = os.environ | environment_of(service.settings)  # What an operator runs is run against the same database.
        return cls(await asyncio.create_subprocess_exec("bash", cwd=checkout, env=environment, stdin=pipe, stdout=pipe), service, folder)

    async def run(self, block: Block) -> str:
        """What the block printed; in the background, the name of the file in which that will be."""
        command = RUNNERS[block.kind].format(text=block.text).replace("localhost:8000", self._service.url.removeprefix("http://"))
        if not block.in_background:
            return await self._say(command)
        heard = self._folder / f"heard-{next(self._numbers)}"
        await self._say(f"wait; {{ {command}\n}} > {heard} &")
        await self._listening()
        return str(heard)

    async def heard(self, name: str) -> str:
        """What a block in the background printed, once it has ended."""
        return await self._say(f"wait; cat {name}")

    async def end(self) -> None:
        self._process.kill()
        await self._process.wait()

    async def _say(self, command: str) -> str:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{command}\necho\necho '{END}'\n".encode())
        async with asyncio.timeout(SECONDS):
            return (await self._process.stdout.readuntil(f"{END}\n".encode())).decode().removesuffix(f"{END}\n")

    async def _listening(self) -> None:
        open_ = re.compile(r"^graphql_server_subscription_active\{.*\} [1-9]", re.MULTILINE)
        async with asyncio.timeout(SECONDS):
            while not open_.search((await self._service.http.get("/metrics")).text):  # noqa: ASYNC110 -- nothing tells of it
                await asyncio.sleep(0.02)
