"""`serve` …"""

from __future__ import annotations

import asyncio
import io
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import uvloop

from graph.server.cli import serve
from graph.server.process import server
from graph.server.telemetry import logs
from tests.conftest import settings_for
from tests.support.command_line import run
from tests.support.servers.processes import run as run_apart
from tests.support.servers.processes import serving as served

if TYPE_CHECKING:
    from pathlib import Path

NO_SUCH_REDIS = "redis://127.0.0.1:1"  # Never asked: the port is taken first.


async def test_refuses_several_workers_without_redis(tmp_path: Path) -> None:
    settings = await settings_for("sqlite", tmp_path)
    done = await asyncio.to_thread(run_apart, settings, tmp_path, "serve", "--port", "0", "--workers", "2")
    assert (done.returncode, done.stderr) == (
        2,
        "More than one worker needs REDIS_URL: without it, echoes and limits end at each process, and events come late.\n",
    )


@pytest.mark.parametrize("mode", [(), ("--reload",), ("--workers", "2")])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
async def test_says_in_a_sentence_that_its_port_is_in_use_and_announces_nothing(tmp_path: Path, mode: tuple[str, ...], host: str) -> None:
    settings = await settings_for("sqlite", tmp_path, redis_url=NO_SUCH_REDIS)
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        done = await run(settings, tmp_path, "serve", "--host", host, "--port", str(port), *mode)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"Port {port} of {host} is in use: stop what listens there, or choose another with --port.\n"


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
async def test_refuses_an_address_that_is_not_this_machines_with_code_2(tmp_path: Path, host: str) -> None:
    done = await run(await settings_for("sqlite", tmp_path), tmp_path, "serve", "--host", host, "--port", "0")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"--host {host} --port 0: ")
    assert done.err.count("\n") == 1


def test_binds_every_address_of_a_host_to_one_port() -> None:
    with server.bound("localhost", 0) as listeners:
        places = [listener.getsockname() for listener in listeners]
    assert {port for _, port, *_ in places} == {places[0][1]}
    assert {address for address, *_ in places} == {info[4][0] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}


def test_accepts_what_has_come_before_it_stops_to_listen() -> None:
    """The kernel resets what waits on a listening socket that is closed, and with it requests that a proxy has sent already."""

    async def stop() -> None:
        accepted = asyncio.Queue[asyncio.StreamWriter]()
        listener = await asyncio.start_server(lambda _, writer: accepted.put_nowait(writer), "127.0.0.1", 0)
        place = listener.sockets[0].getsockname()
        with socket.create_connection(place):  # At once: the loop has not run when it is told to stop.
            await server.close_listeners([listener])
            async with asyncio.timeout(20):
                (await accepted.get()).close()
        with pytest.raises(ConnectionRefusedError), socket.create_connection(place):
            pass

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # As `serve` has it.
        runner.run(stop())


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1"), ("0.0.0.0", "http://localhost"), ("::", "http://localhost"), ("::1", "http://[::1]")],
)
def test_announces_an_address_that_a_browser_finds(host: str, url: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        assert serve.address(host, [listener]) == f"{url}:{listener.getsockname()[1]}"


@pytest.mark.parametrize("arguments", [(), ("--reload",)])
async def test_announces_itself_in_plain_text_when_clients_can_connect(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    settings = await settings_for("sqlite", tmp_path)
    with served(settings, tmp_path, *arguments) as started:
        told = started.log.read_text()
        assert f"Storegraph is at {started.url}\n" in told
        assert f"curl -s {started.url}/graphql" in told
    assert "\x1b" not in started.log.read_text()


async def test_offers_the_explorer_only_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = await settings_for("sqlite", tmp_path)
    monkeypatch.setattr(serve, "BUNDLE", tmp_path)
    serve.announce(settings, "http://127.0.0.1:1234")
    missing = "The explorer     is not built: install Node.js 18 or newer, with npm (Debian: apt-get install nodejs npm), then run scripts/explorer"
    assert missing in capsys.readouterr().out
    (tmp_path / "index.html").touch()
    serve.announce(settings, "http://127.0.0.1:1234")
    assert "The explorer     http://127.0.0.1:1234/graphql in a browser" in capsys.readouterr().out
    serve.announce(settings.model_copy(update={"explorer_enabled": False}), "http://127.0.0.1:1234")
    assert "The explorer     is switched off by EXPLORER_ENABLED" in capsys.readouterr().out


async def test_says_in_a_sentence_that_the_database_is_away(tmp_path: Path) -> None:
    settings = await settings_for("sqlite", tmp_path)
    url = "postgresql+asyncpg://nobody:secret@127.0.0.1:1/none"
    for command in (
        ("serve", "--port", "0"),
        ("migrate",),
        ("seed",),
        ("export",),
        ("report",),
        ("grant", "ada", "--all"),
        ("jobs", "list"),
    ):
        done = await run(settings.model_copy(update={"database_url": url}), tmp_path, *command)
        assert (done.code, done.out) == (1, ""), command
        assert done.err.startswith("The database cannot be used: postgresql+asyncpg://nobody:***@127.0.0.1:1/none: "), command
        assert done.err.endswith("\nscripts/storegraph doctor looks at it more closely.\n"), command


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("output", "variables", "coloured"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ],
)
async def test_colours_its_log_only_on_a_terminal_that_may_have_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: io.StringIO, variables: dict[str, str], coloured: bool
) -> None:
    settings = await settings_for("sqlite", tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout", output)
    (render,) = logs.renderers(settings)
    assert ("\x1b[" in str(render(None, "info", {"event": "listening", "level": "info"}))) is coloured
