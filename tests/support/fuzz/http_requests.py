"""What no client should send over HTTP: bodies, forms and headers, and bytes that are hardly HTTP at all."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from tests.support.fuzz.inputs import SAMPLES, requests, texts

BOUNDARY = "edge"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
_SPLINTERS = [
    b"",
    b"\xff",
    b"\xed\xa0\x80",
    b"\\ud800",
    b'"',
    b"{",
    b"[" * 2_000,
    b'{"a":' * 1_500,
    b"\0",
    b"NaN",
    b"1e99999",
    b",",
    b"\xef\xbb\xbf",
]
_WEDGES = [
    b"\r\n",
    b"\n",
    b"\0",
    b"\xff",
    b" ",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"A" * 70_000,
    b"Upgrade: websocket\r\n",
]
_ENDS = [b"--edge--\r\n", b"--edge--", b"", b"--", b"--edge", b"--edge\r\n"]


def _wedged(content: bytes, at: int, wedge: bytes) -> bytes:
    return content[:at] + wedge + content[at:]


bodies = st.binary(max_size=200) | st.builds(
    _wedged, requests.map(lambda request: json.dumps(request).encode()), st.integers(0, 400), st.sampled_from(_SPLINTERS)
)

_dispositions = st.sampled_from([*SAMPLES["dispositions"], "a" * 5_000]) | texts.map(
    lambda name: f'form-data; name="file"; filename="{name[:300]}"'
)


def _part(disposition: str, more: str, content: bytes) -> bytes:
    return f"--edge\r\nContent-Disposition: {disposition}\r\n{more}\r\n".encode() + content + b"\r\n"


def _form(parts: list[bytes], end: bytes) -> bytes:
    return b"".join(parts) + end


_part_headers = st.sampled_from([*SAMPLES["part_headers"], "X: y\r\n" * 20, "a" * 5_000])
_parts = st.builds(_part, _dispositions, _part_headers, st.binary(max_size=100))
forms = st.binary(max_size=200) | st.builds(_form, st.lists(_parts, max_size=3), st.sampled_from(_ENDS))
form_types = st.sampled_from(
    [FORM] * 6 + ["multipart/form-data", "multipart/form-data; boundary=", f"multipart/form-data; boundary={'b' * 300}", "a"]
)

_visible = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40)
headers = st.dictionaries(
    st.sampled_from(SAMPLES["fields"]), _visible | st.sampled_from([*SAMPLES["field_values"], "a" * 3_000]), max_size=4
)
_queries = st.sampled_from(SAMPLES["queries"]) | st.text("abc=&%+;?/0129{}[]\"'", max_size=30).map(lambda text: f"?{text}")


@st.composite
def whole_requests(draw: st.DrawFn) -> bytes:
    """One HTTP request whose Content-Length is right: it must be answered."""
    body = draw(st.just(b"") | bodies | forms)
    kind = draw(st.sampled_from(SAMPLES["content_types"]))
    fields = {"Host": "shop.test", "Content-Type": kind, **draw(headers), "Content-Length": str(len(body)), "Connection": "close"}
    target = draw(st.sampled_from(SAMPLES["paths"])) + draw(_queries)
    lines = [f"{draw(st.sampled_from(SAMPLES['methods']))} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


splintered_requests = st.binary(max_size=300) | st.builds(_wedged, whole_requests(), st.integers(0, 300), st.sampled_from(_WEDGES))
