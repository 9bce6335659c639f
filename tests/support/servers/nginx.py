"""Two processes of the service behind nginx, configured as it is deployed."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import httpx

from graph.server.app import create_app
from tests.conftest import settings_for
from tests.server.telemetry.test_metrics import samples
from tests.support.servers.databases import free_port, unavailable, wait_until_listening
from tests.support.servers.processes import ROOT, Process, serving
from tests.support.servers.reaper import ends_with_us
from tests.support.service import Service

if TYPE_CHECKING:
    from graph.server.settings import Settings


@contextmanager
def nginx(*ports: int) -> Generator[str]:
    """The address of nginx before services on these ports."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin:/usr/local/bin:/usr/bin")
    if program is None:
        unavailable("nginx", "it is not installed (on Debian: apt-get install nginx)")
    folder = Path(tempfile.mkdtemp(prefix="storegraph-nginx-"))
    ends_with_us(folder)
    folder.chmod(0o755)  # nginx's workers are another user when root starts it.
    listen = free_port()
    servers = " ".join(f"server 127.0.0.1:{port} max_fails=1 fail_timeout=2s;" for port in ports)
    values = {"LISTEN": f"127.0.0.1:{listen}", "FOLDER": str(folder), "RESOLVER": "", "SERVERS": servers}
    template = Template((ROOT / "scripts/deploy/nginx.conf").read_text())
    (folder / "nginx.conf").write_text(template.safe_substitute(values))
    process = subprocess.Popen([program, "-e", "stderr", "-c", folder / "nginx.conf", "-g", "daemon off;"], cwd=folder)
    try:
        wait_until_listening(process, listen)
        yield f"http://127.0.0.1:{listen}"
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


class Deployment:
    """The service seen through the proxy; `processes` are what stands behind."""

    def __init__(self, settings: Settings, folder: Path, stack: ExitStack) -> None:
        self._settings, self._folder, self._stack = settings, folder, stack
        self.processes = [self._started(free_port()) for _ in range(2)]
        self.service: Service

    def _started(self, port: int) -> Process:
        return self._stack.enter_context(serving(self._settings, self._folder, port=port, DEBUG="false", TRUSTED_PROXIES="127.0.0.1"))

    async def restart(self, number: int) -> None:
        """As an operator does: end one process, start it anew, and go on when the proxy has sent it work again."""
        old = self.processes[number]
        await asyncio.to_thread(old.stop, seconds=60)
        self.processes[number] = await asyncio.to_thread(self._started, old.port)
        async with httpx.AsyncClient(base_url=self.processes[number].url, timeout=60) as http, asyncio.timeout(120):
            while not _worked(await http.get("/metrics")):  # noqa: ASYNC110 -- a proxy tells nobody whom it asks
                await asyncio.sleep(0.1)


def _worked(answer: httpx.Response) -> bool:
    return any(name == "graphql_server_request_duration_seconds_count" and value for (name, _), value in samples(answer.text).items())


@asynccontextmanager
async def deployed(folder: Path) -> AsyncGenerator[Deployment]:
    settings = await settings_for("postgresql", folder, connections_per_caller=10_000)
    with ExitStack() as stack:
        deployment = Deployment(settings, folder, stack)
        url = stack.enter_context(nginx(*(process.port for process in deployment.processes)))
        app = create_app(settings)
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            deployment.service = Service(url, settings, app.state.services, app.state.tokens, http, app)
            yield deployment
        await deployment.service.database.close()
