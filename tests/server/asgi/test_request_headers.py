"""Header fields of a request …"""

from __future__ import annotations

from typing import Any

import pytest

from graph.server.asgi.request_headers import headers_of, read_headers, text


def test_are_found_by_name_and_repeated_ones_are_joined():
    headers = read_headers([(b"accept", b"text/html"), (b"host", b"here"), (b"accept", b"*/*;q=0.1")])
    assert dict(headers) == {b"accept": b"text/html, */*;q=0.1", b"host": b"here"}


def test_are_text_whatever_bytes_they_hold():
    headers = read_headers([(b"x", b"caf\xe9\xff")])
    assert (text(headers, b"x"), text(headers, b"y")) == ("caf\u00e9\u00ff", None)


def test_are_read_once_and_cannot_be_changed():
    scope: dict[str, Any] = {"headers": [(b"host", b"here")]}
    headers: Any = headers_of(scope)
    scope["headers"] = [(b"host", b"there")]
    assert headers_of(scope) is headers
    with pytest.raises(TypeError):
        headers[b"host"] = b"there"
    assert headers == {b"host": b"here"}
