"""uvicorn's HTTP protocol with buffered writes: what is written in one turn of the event loop leaves in one system call.

It differs from uvicorn's where that one trusts its clients: a head has a size and a time, no request is parsed while another's answer is due, `Host` is
checked, a response without a length ends an HTTP/1.0 connection, and a refusal never falls into a response that has begun.
Source: RFC 9112; the section stands where it matters.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from graph.kit.auth import network
from graph.kit.errors import BAD_USER_INPUT, UNAVAILABLE
from graph.server.asgi.error_responses import NOT_IMPLEMENTED, TOO_LARGE, TOO_SLOW, error_response
from graph.server.asgi.protocols.request_line import METHODS, NO_PATH, REQUEST_LINE, is_host
from graph.server.asgi.protocols.response_writer import ResponseWriter
from graph.server.asgi.protocols.transport import (
    BY_BACKLOG,
    CONNECTION,
    LARGEST_READ_BYTES,
    READ_BYTES,
    BufferedTransport,
    WireLimits,
    has_input,
)
from graph.server.asgi.request_body import PADDING, PIECE_BYTES
from graph.server.asgi.request_headers import headers_of
from graph.server.asgi.response_headers import new_request_id, with_own

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Scope
    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

VERSIONS = ("1.1", "1.0")
CHUNKED = b"chunked"
HEAD_END = b"\r\n\r\n"
DISCARDED_BYTES = 65_536  # Of a body that nobody wants: so much is read for the connection's next request. More is not worth its time.
TAKEN_SECONDS = (
    0.05  # Until the first look whether a client that pipelines has taken its responses; twice as long until each next one, up to a second.
)
SHORT_HEAD = 128  # Bytes. Ends of heads are looked for beyond this, so that many tiny requests are not as many calls of the parser.

BODILESS = frozenset({"GET", "HEAD"})
"""A body of theirs means nothing, so nobody is told to send it. Source: RFC 9110, section 9.3.1."""

H2C = re.compile(rb"(\r\n)upgrade:([ \t]*h2c[ \t]*\r\n)", re.IGNORECASE)


class Rejection(NamedTuple):
    """An answer that the connection gives by itself, its last one."""

    status: int
    code: str
    message: str


MALFORMED = Rejection(400, BAD_USER_INPUT, "This is not a valid HTTP request.")
NO_HOST = Rejection(400, BAD_USER_INPUT, "The request needs one Host field with a valid value.")
UPGRADE_TOO_EARLY = Rejection(400, BAD_USER_INPUT, "An upgrade has to wait for the answers to the requests before it.")
HEAD_TOO_LARGE = Rejection(431, TOO_LARGE, "The head of the request is too large.")
HEAD_TOO_SLOW = Rejection(408, TOO_SLOW, "The head of the request took too long.")
TOO_MANY = Rejection(503, UNAVAILABLE, "Too many requests wait on this connection.")
TOO_MANY_CONNECTIONS = Rejection(503, UNAVAILABLE, "Too many connections are open from your network: close one.")
NO_SUCH_METHOD = Rejection(501, NOT_IMPLEMENTED, f"This server knows the methods {', '.join(METHODS)}, in capital letters.")
NO_SUCH_CODING = Rejection(501, NOT_IMPLEMENTED, "The only transfer coding that this server reads is chunked.")
NO_SUCH_VERSION = Rejection(505, NOT_IMPLEMENTED, "This server speaks HTTP/1.1 and HTTP/1.0.")


HTTP_CONNECTIONS = "http connections"
"""The name of the process's `HttpConnections` in the state of the application."""
PROXY = ""  # In the place of a network.


class HttpConnections:
    """The open HTTP connections of a process by the network of their peer, at most `per_network` of one, but for `exempt` ones such as proxies.

    One more takes the place of one that is idle; where all are at work it is refused. WebSockets are counted by the registry of connections instead.
    """

    def __init__(self, per_network: int, exempt: Callable[[str], bool]) -> None:
        self._per_network, self._exempt = per_network, exempt
        self._open: dict[str, dict[HttpProtocol, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def register(self, connection: HttpProtocol, address: str) -> str | None:
        """Under which network it is counted; PROXY, if it is not; None, if it has no place."""
        if self._exempt(address):
            return PROXY
        key = network(address)
        others = self._open.setdefault(key, {})
        if len(others) >= self._per_network:
            idle = next((each for each in others if each.is_idle), None)
            if idle is None:
                return None
            del others[idle]
            idle.close_idle()
        others[connection] = None
        return key

    def unregister(self, connection: HttpProtocol, key: str | None) -> None:
        others = self._open.get(key or "", {})
        others.pop(connection, None)
        if key and not others:
            self._open.pop(key, None)


class _RejectedError(Exception):
    """Ends the parsing of what came, from inside one of the parser's callbacks."""


class HttpProtocol(HttpToolsProtocol):
    limits = WireLimits()

    url = b""
    _running: RequestResponseCycle | None = None
    """The request whose application was started last; those behind it wait in `pipeline`."""
    _head_since: float | None = None
    """When the head began that has not ended; for the first one, when the connection did."""
    _idle_since: float | None = None
    """When the last answer was given; None as soon as the next request begins."""
    _rejection: Rejection | None = None
    """From then on nothing more is parsed."""
    _lingers_since: float | None = None
    _dropped = 0
    """Bytes that came since then."""
    _connections: HttpConnections | None = None
    _network: str | None = None
    """Under which it is counted among the open ones."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._head_since = self.loop.time()
        self._backlog = bytearray()
        self._in_head, self._begun = True, False
        self._head_bytes = self._body_left = self._unframed = 0
        self._buffered = BufferedTransport(transport, self, self.loop)
        self.app_state = {**self.app_state, CONNECTION: self._buffered}
        super().connection_made(cast("asyncio.Transport", self._buffered))
        self._connections = cast("Any", self.app_state.get(HTTP_CONNECTIONS))
        if self._connections is not None and self.client is not None:
            self._network = self._connections.register(self, self.client[0])
            if self._network is None:
                self._reject(TOO_MANY_CONNECTIONS)

    @property
    def is_idle(self) -> bool:
        """Whether it is between two requests, or has not begun one."""
        return not self._begun and not self._answer_due and not self.pipeline and not self._backlog

    def close_idle(self) -> None:
        self.transport.close()

    def shutdown(self) -> None:
        """A request that has come is answered, as the connection's last: a proxy does not repeat one that meets a close."""
        if self._answer_due or not self._request_is_coming:
            super().shutdown()

    @property
    def _request_is_coming(self) -> bool:
        if self._rejection is not None or self.transport.is_closing():
            return False
        return self._begun or bool(self._backlog) or has_input(self.transport.get_extra_info("socket"))

    def _give_up_place(self) -> None:
        if self._connections is not None:
            self._connections.unregister(self, self._network)

    def connection_lost(self, exc: Exception | None) -> None:
        self._give_up_place()
        super().connection_lost(exc)
        if self._running is not None:  # uvicorn tells only the last one that came.
            self._disconnect(self._running)
        for cycle, _ in self.pipeline:
            cycle.on_response = _nothing
        self.pipeline.clear()
        self._backlog.clear()
        self._forget()

    def _forget(self) -> None:
        """What holds this protocol or is held by it goes at once: it would wait for a garbage collection, and with it all that was read."""
        self._running = self.cycle = self.scope = self.headers = self.parser = cast("Any", None)

    @property
    def read_bytes(self) -> int:
        return LARGEST_READ_BYTES if self._body_left > READ_BYTES else READ_BYTES

    # What comes.

    def data_received(self, data: bytes) -> None:
        if self._lingers_since is not None:
            self._dropped += len(data)
            if self._dropped > self.limits.linger_bytes:
                self._buffered.abort()
        elif self._backlog:
            self._wait(data)
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        """Parse up to the end of a request; what is behind it waits for its answer. So hardly anything is ever in uvicorn's pipeline."""
        at, size = 0, len(data)
        while at < size and self._rejection is None and self._lingers_since is None and self.parser is not None:
            if self._answer_due and not self.cycle.more_body:
                self._wait(data[at:])
                return
            if self._in_head:
                found = data.find(HEAD_END, at if self._head_bytes else at + SHORT_HEAD)
                body = size if found < 0 else found + len(HEAD_END)
                self._head_bytes += body - at
                end = size if found < 0 or data.find(HEAD_END, body) < 0 else body
            elif self._body_left:
                body, end = at, min(at + self._body_left, size)
            else:
                body, end = at, _chunks_end(data, at)
                self._unframed += end - at
            at += self._feed(data if end - at == size else data[at:end])
            self._body_left = max(0, self._body_left - (end - body))

    def _wait(self, data: bytes) -> None:
        """Reading goes on for a while, as only so the client's end is noticed."""
        self._backlog += data
        if len(self._backlog) >= READ_BYTES:
            self._buffered.hold(BY_BACKLOG)

    def _should_upgrade(self) -> bool:
        """Not by HTTP/1.0, where the field means nothing. Source: RFC 9110, section 7.8."""
        return self.parser.get_http_version() != "1.0" and super()._should_upgrade()

    def _parse_backlog(self, wait_seconds: float = TAKEN_SECONDS) -> None:
        """Once the responses before it are on their way: who reads none of them is served no further."""
        if not self._backlog or self._answer_due:
            return
        if self._buffered.unacknowledged() > self.limits.pipelined_bytes:
            self.loop.call_later(wait_seconds, self._parse_backlog, min(1.0, 2 * wait_seconds))
            return
        data = bytes(self._backlog)
        self._backlog.clear()
        self._parse(data)
        if len(self._backlog) < READ_BYTES:
            self._buffered.release(BY_BACKLOG)

    def _feed(self, piece: bytes) -> int:
        """The number of bytes that were parsed."""
        if b"h2c" in piece and self._in_head:
            piece = _without_h2c(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            elif self._announces_body:  # Which httptools takes for the other protocol, and would take for a request next.
                self._reject(MALFORMED)
            else:
                return int(upgrade.args[0])  # To a protocol that nobody speaks here: ignored. Source: RFC 9110, section 7.8.
        except httptools.HttpParserInvalidMethodError:
            self._reject(self._invalid_method(piece))
        except httptools.HttpParserError:
            self._reject(self._rejection or (MALFORMED if self._knows_method else NO_SUCH_METHOD))
        else:
            if self._is_head_too_large:
                self._reject(HEAD_TOO_LARGE)
        return len(piece)

    @property
    def _knows_method(self) -> bool:
        return self.parser.get_method().decode() in METHODS

    def _invalid_method(self, piece: bytes) -> Rejection:
        """What httptools knows no method in is a request with one of its own, or no request."""
        found = REQUEST_LINE.search(piece)
        if found is None:
            return MALFORMED
        self.url = found["target"] or b""
        return NO_SUCH_METHOD

    @property
    def _announces_body(self) -> bool:
        return any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers)

    @property
    def _answer_due(self) -> bool:
        return self._running is not None and not self._running.response_complete

    @property
    def _is_head_too_large(self) -> bool:
        """Also for trailers, and what else stands between the chunks of a body."""
        limits = self.limits
        return max(self._head_bytes, self._unframed) > limits.head_bytes or (self._begun and len(self.headers) > limits.head_fields)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._idle_since, self._head_since = None, self.loop.time()
        self._begun = True
        self._body_left = self._unframed = 0

    def on_headers_complete(self) -> None:
        fields = headers_of(cast("Scope", self.scope))
        self._rejection = self._invalid_reason(fields.get(b"host"), self.parser.get_http_version())
        if len(fields) < len(self.headers) and [name for name, _ in self.headers].count(b"host") > 1:
            self._rejection = NO_HOST
        if fields.get(b"transfer-encoding", CHUNKED).strip().lower() != CHUNKED:
            self._rejection = self._rejection or NO_SUCH_CODING  # Its body could not be told from what it stands for. Source: section 6.1.
        if self._rejection is not None:
            raise _RejectedError
        self._in_head, self._head_since = False, None
        if (length := fields.get(b"content-length")) is not None and length.isdigit():
            self._body_left = int(length)
        if not self.url.startswith(b"/"):
            self.url = NO_PATH.sub(rb"\g<0>/", self.url)
        super().on_headers_complete()
        if not self.parser.should_upgrade():
            self.headers = []  # For trailers: nobody asked for them, and they are no fields of the request. Source: RFC 9110, section 6.5.1.
        if self.pipeline:
            self.flow.resume_reading()  # Where uvicorn's pipeline would be the only bound, it pauses here.

    def _invalid_reason(self, host: bytes | None, version: str) -> Rejection | None:
        if self._is_head_too_large:
            return HEAD_TOO_LARGE
        if version not in VERSIONS:
            return NO_SUCH_VERSION
        if not self._knows_method:
            return NO_SUCH_METHOD
        if self.url.startswith(b"*") and (self.url, self.parser.get_method()) != (b"*", b"OPTIONS"):
            return MALFORMED  # Source: section 3.2.4.
        if not is_host(host) if host is not None else version == "1.1":
            return NO_HOST  # Source: section 3.2.
        if version == "1.0":
            self.expect_100_continue = False  # Source: RFC 9110, section 10.1.1.
        return self._objection_behind() if self._answer_due else None

    def _objection_behind(self) -> Rejection | None:
        """To a request that follows one whose answer is due."""
        if self.parser.should_upgrade() and self._should_upgrade():
            return UPGRADE_TOO_EARLY
        if len(self.pipeline) >= self.limits.waiting_requests:
            self.cycle.keep_alive = False  # So the client knows that it has to repeat what is behind. Source: section 9.3.2.
            return TOO_MANY
        return None

    def on_body(self, body: bytes) -> None:
        self._unframed = 0
        if (missing := PIECE_BYTES - len(body)) > 0:
            scope: Any = self.cycle.scope
            scope[PADDING] = scope.get(PADDING, 0) + missing
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head, self._begun = True, False
        self._head_bytes = self._body_left = 0

    def handle_websocket_upgrade(self) -> None:
        self._give_up_place()
        super().handle_websocket_upgrade()
        self._forget()

    # What is answered.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        if cycle.scope["method"] in BODILESS:
            cycle.waiting_for_100_continue = False
        whole = ResponseWriter(cycle, self.transport.write, self._answer_early)
        super()._start_asgi_task(cycle, lambda scope, receive, _: app(scope, receive, whole.send))

    def _answer_early(self, cycle: RequestResponseCycle) -> None:
        """Before the request is whole: the connection's last answer, unless what is left of the request is short and comes for certain.

        A client that waits for 100 Continue need not send it. Source: RFC 9110, section 10.1.1.
        """
        is_awaited = cycle.waiting_for_100_continue or (cycle.scope["method"] in BODILESS and self.expect_100_continue)
        if is_awaited or not 0 < self._body_left <= DISCARDED_BYTES:
            cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """The steps of uvicorn, but for its timer; and reading goes on only when no request waits."""
        self.server_state.total_requests += 1
        if self.transport.is_closing() or self._lingers_since is not None:
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._rejection is not None:
            self._write_rejection(self._rejection)
        else:
            self._idle_since = now = self.loop.time()
            if self._head_since is not None:
                self._head_since = now  # Its client waited for us.
            self.flow.resume_reading()
            self._parse_backlog()

    def _reject(self, rejection: Rejection) -> None:
        """Parse nothing more, and answer so after the answers that are due: it must not fall into one of them."""
        self._rejection = rejection
        self._backlog.clear()
        if not self._answer_due:
            self._write_rejection(rejection)
        elif self.cycle.more_body:  # The body of the last request is not well formed.
            if self.cycle is not self._running:
                self.pipeline.popleft()[0].on_response = _nothing
            elif self.cycle.response_started:
                self._buffered.abort()
            else:
                self._disconnect(self.cycle)
                self._write_rejection(rejection)

    def _disconnect(self, cycle: RequestResponseCycle) -> None:
        """Tell the application that its client is gone."""
        if not cycle.response_complete:
            cycle.disconnected = True
        cycle.message_event.set()

    def _write_rejection(self, rejection: Rejection) -> None:
        path = self.url.partition(b"?")[0].decode("latin-1")
        response = error_response(rejection.code, rejection.message, path, {"Connection": "close"})
        fields = [*self.server_state.default_headers, *with_own(response.raw_headers, new_request_id(), 0.0)]
        head = b"".join(b"%b: %b\r\n" % field for field in fields)
        self.transport.write(STATUS_LINE[rejection.status] + head + b"\r\n" + bytes(response.body))
        self._linger()

    def lingers(self) -> bool:
        """Whether its client is in the middle of a body that nobody waits for: closing at once would destroy the answer to it."""
        is_answered = self._running is not None and self._running.response_complete
        if not is_answered or self._in_head or self._lingers_since is not None or self.transport.is_closing():
            return False
        self._linger()
        return True

    def _linger(self) -> None:
        """Write no more, and close when the client does: what it still sends is dropped. Source: section 9.6."""
        self._buffered.write_eof()
        self._lingers_since = self.loop.time()
        self.flow.resume_reading()
        self._buffered.release(BY_BACKLOG)

    # What takes too long.

    def check_progress(self, now: float) -> None:
        if self._lingers_since is not None:
            if now - self._lingers_since >= self.limits.linger_seconds:
                self._buffered.abort()
        elif self._answer_due:
            pass  # The application has deadlines of its own for what it waits for.
        elif self._head_since is not None:
            if now - self._head_since >= self.limits.head_seconds:
                self._give_up_head()
        elif self._idle_since is not None and now - self._idle_since >= self._most_idle_seconds:
            self.transport.close()

    @property
    def _most_idle_seconds(self) -> float:
        """Proxies keep connections to us for long, and it is they who end them. Nobody else's should be held open by a response that nobody reads."""
        return self.timeout_keep_alive if self._network == PROXY else self.limits.idle_seconds

    def _give_up_head(self) -> None:
        if self._begun:
            self._reject(HEAD_TOO_SLOW)
        else:
            self.transport.close()  # Without a request there is nothing to answer.


def _chunks_end(data: bytes, at: int) -> int:
    """Of a body in chunks, or of a part of it: what ends it ends a head too."""
    end = data.find(HEAD_END, at + SHORT_HEAD)
    return len(data) if end < 0 else end + len(HEAD_END)


def _without_h2c(piece: bytes) -> bytes:
    """The same bytes, but that an offer of HTTP/2 has another name: httptools would take the body of such a request for HTTP/2. curl --http2 sends them."""
    fields, end, rest = piece.partition(HEAD_END)
    return H2C.sub(rb"\1x-grade:\2", fields + end) + rest


def _nothing() -> None:
    """In the place of a callback that would hold its protocol."""
