"""What the first line of a request may be, and its `Host` field: the methods that are known, the forms of a target, the names of hosts."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")
"""Those that mean something to some server of this kind; which of them a route has, it says itself. Source: RFC 9110, section 9.1; RFC 10008."""

# A method and what follows it: all of a request's first line, or the beginning that has come. Source: RFC 9112, section 3; RFC 9110, section 5.6.2.
REQUEST_LINE = re.compile(
    rf"(?:\A|\r\n)(?!(?:{'|'.join(METHODS)}) )[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:\Z| (?P<target>[!-~]*)(?:\Z| (?:\Z|HTTP/1\.[01]\r?\n)))".encode()
)

# An absolute form may have no path, which is `/` then. Source: RFC 9112, section 3.2.2; RFC 9110, section 4.2.3.
NO_PATH = re.compile(rb"\A[A-Za-z][A-Za-z0-9+.-]*://[^/?#]+(?=[?#]|\Z)")

# Source: RFC 3986, section 3.2.2. Longer names than DNS has, with a port, are nobody's.
HOST_BYTES = 300
HOST = re.compile(rb"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+)(?::(?P<port>[0-9]{0,5}))?")


@lru_cache(1_024)
def _is_host(value: bytes) -> bool:
    found = HOST.fullmatch(value)
    if found is None or int(found["port"] or 0) > 65_535:
        return False
    if (address := found["v6"]) is not None:
        try:
            IPv6Address(address.decode())
        except AddressValueError:
            return False
    return True


def is_host(value: bytes) -> bool:
    """Whether it names a host, perhaps with a port. Source: RFC 9110, section 7.2."""
    return len(value) <= HOST_BYTES and _is_host(value)
