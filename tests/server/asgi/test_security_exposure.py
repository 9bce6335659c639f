"""What the service shows of itself to strangers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.routing import Route
from structlog.testing import capture_logs

from graph.kit.auth import TOKEN_LENGTH
from graph.kit.execution import validation
from graph.kit.limits.query_size import SizeLimits
from graph.server import settings
from graph.server.asgi.protocols.transport import WireLimits
from graph.server.asgi.protocols.websocket_protocol import FrameLimits
from graph.server.asgi.response_headers import HEADERS
from graph.server.auth import tokens
from graph.server.graphql.subscriptions.websocket import SocketLimits
from graph.server.telemetry.logs import identified
from persistence.items.sources import PriceSource
from tests.conftest import settings_for
from tests.support.access_ways import ROUTES
from tests.support.clients.websocket_subscriber import listening
from tests.support.service import Service, running

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def help_given(service: Service) -> dict[str, bool]:
    """Which of what helps a developer a stranger gets."""
    introspected = (await service.send("{ __schema { queryType { name } } }")).json()
    mistaken = (await service.send("{ itemz { totalCount } }")).json()
    page = await service.http.get("/graphql", headers=BROWSER)
    explorer = page.headers["content-type"].startswith("text/html")
    schema = await service.http.get("/schema.graphql")
    landing, links = await service.http.get("/", headers=BROWSER), (await service.http.get("/")).json()["links"]
    assert ('href="graphql"' in landing.text, 'href="schema.graphql"' in landing.text) == (explorer, schema.status_code == 200)
    assert ("explorer" in links, "schema" in links) == (explorer, schema.status_code == 200)
    return {
        "introspection": "errors" not in introspected,
        "suggestions": "Did you mean" in mistaken["errors"][0]["message"],
        "explorer": explorer,
        "schema.graphql": schema.status_code == 200,
    }


NOTHING = {"introspection": False, "suggestions": False, "explorer": False, "schema.graphql": False}


async def test_is_no_help_outside_development(deployed: Service):
    assert await help_given(deployed) == NOTHING
    for name in ("main.js", "main.js.map"):
        assert (await deployed.http.get(f"/explorer/assets/{name}")).status_code == 404


async def test_is_all_help_in_development(embedded: Service):
    assert await help_given(embedded) == dict.fromkeys(NOTHING, True)


@pytest.mark.parametrize(
    ("setting", "gives"),
    [
        ("introspection_enabled", {"introspection", "schema.graphql"}),
        ("suggestions_enabled", {"suggestions"}),
        ("explorer_enabled", {"explorer", "schema.graphql"}),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
async def test_is_what_each_setting_says(tmp_path: Path, setting: str, gives: set[str], debug: bool):
    changed: dict[str, Any] = {setting: not debug}
    async with running(await settings_for("sqlite", tmp_path, debug=debug, **changed)) as service:
        found = await help_given(service)
    given = {name for name, shown in found.items() if shown}
    assert given == (gives if not debug else {*NOTHING} - gives | ({"schema.graphql"} if "schema.graphql" in gives else set()))


# Headers


def unguarded(response: httpx.Response) -> set[str]:
    """Which of the protecting headers a response lacks or weakens."""
    found = response.headers
    wrong = {name.decode() for name, _ in HEADERS if name.decode() not in found}
    wrong |= {
        name
        for name in ("x-content-type-options", "x-frame-options", "referrer-policy")
        if found.get_list(name) != found.get_list(name)[:1]
    }
    policy = found["content-security-policy"]
    sandboxed = "sandbox" in policy
    if not policy.startswith("default-src 'none'") and not sandboxed:
        wrong.add("content-security-policy")
    if "frame-ancestors 'none'" not in policy and not sandboxed:
        wrong.add("frame-ancestors")
    is_for_all = response.url.path.startswith("/explorer/")
    if (
        "authorization" in response.request.headers
        and not is_for_all
        and not {"no-store", "no-cache"} & set(found["cache-control"].split(", "))
    ):
        wrong.add("cache-control")
    return wrong


@pytest.mark.parametrize("debug", [False, True])
async def test_is_guarded_by_headers_on_every_route_and_status(deployed: Service, embedded: Service, debug: bool):
    service = embedded if debug else deployed
    token = await service.sign_in()
    headers = {"Authorization": f"Bearer {token}"}
    await service.http.post("/api/v2/files/upload", files={"file": ("plan.txt", b"text")}, headers=headers)
    paths = {ROUTES.get(route.path, route.path) for route in service.app.routes if isinstance(route, Route)}
    seen = set[int]()
    for path in sorted(paths | {"/nothing", "/docs/nothing.md", "/explorer/nothing.css"}):
        for method, more in (
            *(("GET", more) for more in ({}, headers, BROWSER, {"Authorization": "Bearer bad"}, {"Sec-Fetch-Site": "cross-site"})),
            *((method, headers) for method in ("HEAD", "POST", "PUT", "OPTIONS")),
            ("POST", {"Accept": "text/event-stream", "Content-Type": "application/json"}),
        ):
            response = await service.http.request(method, path, headers=more)
            assert unguarded(response) == set(), (method, path, response.status_code, response.headers)
            seen.add(response.status_code)
    assert seen >= {200, 307, 400, 401, 403, 404, 405, 415}


async def test_is_nothing_of_what_is_private_in_a_cache(deployed: Service):
    headers = {"Authorization": f"Bearer {await deployed.sign_in()}"}
    await deployed.http.post("/api/v2/files/upload", files={"file": ("plan.txt", b"text")}, headers=headers)
    asked = {
        "/graphql?query={me{email}}": "private, no-store",
        "/api/v2/files/list": "private, no-store",
        "/api/v2/stream/items.csv": "private, no-store",
        "/api/v2/files/download/plan.txt": "private, no-cache",
        "/api/v2/files/download/none.txt": "private, no-store",
    }
    assert {path: (await deployed.http.get(path, headers=headers)).headers["cache-control"] for path in asked} == asked


# Request ids


@pytest.mark.parametrize("offered", ["a", "A-1_b.c", "0" * 64])
async def test_is_the_clients_request_id_where_it_is_sane(embedded: Service, offered: str):
    assert (await embedded.http.get("/live", headers={"X-Request-ID": offered})).headers["x-request-id"] == offered


@pytest.mark.parametrize("offered", ["", "a b", "0" * 65, "a\tb", "é", "<b>", "a,b", "${x}", "a;b"])
async def test_is_a_request_id_of_its_own_where_the_clients_is_not(embedded: Service, offered: str):
    told = (await embedded.http.get("/live", headers={b"X-Request-ID": offered.encode()})).headers["x-request-id"]
    assert len(told) == 16
    assert set(told) <= set("0123456789abcdef")


# Faults


class BrokenSource:
    async def price(self, item_id: int) -> Any:
        raise RuntimeError("postgresql://shop:secret@10.0.0.1")


@pytest.fixture
async def broken(tmp_path: Path) -> AsyncGenerator[Service]:
    async with running(await settings_for("sqlite", tmp_path, debug=False), {PriceSource: BrokenSource()}) as service:
        yield service


ID = "the-request"
BREAK = "{ itemSummary(id: $id) { price } }"
WORDS = f"Internal error. Request id: {ID}"


async def asked(service: Service, transport: str, query: str) -> list[dict[str, Any]]:
    """The errors of an operation, sent under ID, except for sockets."""
    if transport == "WebSocket":
        async with listening(service, query) as listener:
            message = await listener.message()
            return message["payload"] if message["type"] == "error" else message["payload"]["errors"]
    accept = {"HTTP": "application/json", "SSE": "text/event-stream"}[transport]
    answer = await service.http.post("/graphql", json={"query": query}, headers={"X-Request-ID": ID, "Accept": accept})
    data = answer.text if transport == "HTTP" else next(line[6:] for line in answer.text.splitlines() if line.startswith("data: "))
    return json.loads(data)["errors"]


def faults(logs: list[Any], words: str) -> list[str]:
    """The request ids of the lines that tell a fault with its cause."""
    return [line["request_id"] for line in logs if words in repr(line.get("exc_info"))]


@pytest.mark.parametrize("transport", ["HTTP", "SSE", "WebSocket"])
@pytest.mark.parametrize("place", ["in a resolver", "around the operation"])
async def test_is_only_the_request_id_of_a_fault_which_is_logged_once(
    broken: Service, transport: str, place: str, monkeypatch: pytest.MonkeyPatch
):
    query = BREAK.replace("$id", json.dumps(await broken.make_item()))
    if place == "around the operation":

        async def charge(*_: object) -> None:
            raise RuntimeError("postgresql://shop:secret@10.0.0.1")

        monkeypatch.setattr(broken.app.state.pipeline._limits, "charge", charge)
    with capture_logs() as logs:
        errors = await asked(broken, transport, query)
    (request_id,) = faults(logs, "shop:secret")
    assert [(error["message"], error["extensions"]) for error in errors] == [
        (f"Internal error. Request id: {request_id}", {"code": "INTERNAL_SERVER_ERROR"})
    ]
    assert transport == "WebSocket" or request_id == ID


@pytest.mark.parametrize(
    ("path", "part"), [("/api/v2/files/list", "persistence.files.page"), ("/ready", "persistence.health_checks.HealthChecks.run")]
)
async def test_is_only_the_request_id_of_a_fault_on_a_route(broken: Service, path: str, part: str, monkeypatch: pytest.MonkeyPatch):
    headers = {"X-Request-ID": ID, "Authorization": f"Bearer {await broken.sign_in()}"}

    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("postgresql://shop:secret@10.0.0.1")

    monkeypatch.setattr(part, fail)
    with capture_logs([identified]) as logs:
        answer = await broken.http.get(path, headers=headers)
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, ID)
    assert answer.json() == {"error": {"code": "INTERNAL_SERVER_ERROR", "message": WORDS}, "path": path}
    assert unguarded(answer) == set()
    assert [(line["path"], line["request_id"]) for line in logs if line.get("exc_info")] == [(path, ID)]


# The page that says so


def test_is_defended_as_security_md_says():
    page = " ".join((Path(__file__).parents[3] / "SECURITY.md").read_text().split())
    limits, sockets, budget, wire, frames = SizeLimits(), SocketLimits(), settings.BUDGET, WireLimits(), FrameLimits()
    for words in (
        f"{limits.depth} levels, {limits.aliases} aliases, {limits.query_roots} root fields, {limits.mutation_roots} for mutations",
        f"{limits.directives} directives, {limits.selections:,} selections, and {settings.Settings.model_fields['max_cost'].default:,} points",
        f"{validation.MAX_CHARACTERS:,} characters, {validation.MAX_TOKENS:,} tokens, {validation.MAX_COMMENTS} comments",
        f"{budget.capacity:,} points, {budget.per_second:,} back each second",
        f"{settings.Settings.model_fields['connections_per_caller'].default} open connections each",
        f"at most {TOKEN_LENGTH:,} characters, {tokens.ACCESS_SECONDS // 60} minutes, {tokens.LEEWAY_SECONDS} s for clocks",
        f"sign-in within {sockets.init_seconds:.0f} s; {sockets.message_characters // 1024} kB a message, {sockets.operations} operations",
        f"{sockets.control_characters:,} characters where it is no operation, {frames.frames.span.amount:,} frames a second, {frames.idle_frames.span.amount} of them",
        (
            f"{wire.head_seconds:.0f} to {wire.head_seconds + wire.check_seconds:.0f} s for a request's head, of {wire.head_bytes // 1024} kB "
            f"and {wire.head_fields} fields at most"
        ),
        (
            f"less than {wire.least_rate // 1024} kB a second of what waits for it is cut off after {wire.slow_seconds:.0f} to "
            f"{wire.slow_seconds + 3 * wire.check_seconds:.0f} s"
        ),
        f"{settings.Settings.model_fields['max_upload_bytes'].default // 2**20} MiB",
        "argon2id, 19 MiB, 2 passes",
    ):
        assert words in page
