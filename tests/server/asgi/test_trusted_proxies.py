"""A client's address…"""

import time

import pytest

from graph.kit.auth import network
from graph.server.asgi.request_headers import read_headers, text
from graph.server.asgi.trusted_proxies import client_address, networks

TRUSTED = networks(["10.0.0.0/8", "fd00::/8", "192.0.2.7"])
CLIENT = "203.0.113.9"


def address(peer: str, *, forwarded_for: tuple[str, ...] = (), forwarded: tuple[str, ...] = ()) -> str:
    """By header lines, as the server joins them."""
    headers = read_headers(
        [(b"for", line.encode("utf-8")) for line in forwarded_for] + [(b"forwarded", line.encode("utf-8")) for line in forwarded]
    )
    return client_address(peer, text(headers, b"for"), text(headers, b"forwarded"), TRUSTED)


def test_is_the_peers_when_no_header_says_more():
    assert address(CLIENT) == CLIENT
    assert address("10.0.0.1") == "10.0.0.1"


def test_is_the_peers_when_the_peer_is_no_trusted_proxy():
    assert address(CLIENT, forwarded_for=("198.51.100.1",)) == CLIENT
    assert address(CLIENT, forwarded=("for=198.51.100.1",)) == CLIENT


def test_is_the_first_from_the_right_that_is_no_trusted_proxy():
    assert address("10.0.0.1", forwarded_for=(f"198.51.100.1, {CLIENT}, 192.0.2.7, 10.9.9.9",)) == CLIENT
    assert address("10.0.0.1", forwarded=(f"for=198.51.100.1, for={CLIENT};proto=https;by=10.0.0.2, for=10.9.9.9",)) == CLIENT


def test_is_read_over_several_header_lines_from_the_last_one():
    assert address("10.0.0.1", forwarded_for=("198.51.100.1", f"{CLIENT}, 10.9.9.9", "10.9.9.8")) == CLIENT


def test_is_the_farthest_proxys_when_all_are_trusted():
    assert address("10.0.0.1", forwarded_for=("10.0.0.3, 10.0.0.2",)) == "10.0.0.3"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (f"{CLIENT}:4711", CLIENT),
        (f" {CLIENT}\t", CLIENT),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        (f"::ffff:{CLIENT}", CLIENT),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_is_read_with_a_port_brackets_a_zone_or_as_a_mapped_one(written: str, read: str):
    assert address("10.0.0.1", forwarded_for=(written,)) == read


@pytest.mark.parametrize("written", ['for="[2001:db8::1]:4711"', "For=[2001:db8::1]", 'proto=http;for="[2001:db8::1]"; by=x'])
def test_is_read_from_each_form_of_forwarded(written: str):
    assert address("10.0.0.1", forwarded=(written,)) == "2001:db8::1"


@pytest.mark.parametrize(
    "garbage", ["", "unknown", "_hidden", "1.2.3", "01.2.3.4", "<script>", "::1::", "localhost", "\u0661.2.3.4", "1" * 5_000]
)
def test_is_the_nearest_proxys_behind_garbage(garbage: str):
    assert address("10.0.0.1", forwarded_for=(f"{CLIENT}, {garbage}",)) == "10.0.0.1"
    assert address("10.0.0.1", forwarded=(f"for={CLIENT}, for={garbage}",)) == "10.0.0.1"


def test_is_the_proxys_when_the_two_headers_differ():
    assert address("10.0.0.1", forwarded_for=(CLIENT,), forwarded=("for=198.51.100.1",)) == "10.0.0.1"
    assert address("10.0.0.1", forwarded_for=(CLIENT,), forwarded=(f"for={CLIENT}",)) == CLIENT


def test_is_the_peers_word_for_word_when_it_is_no_address():
    assert address("unix:", forwarded_for=(CLIENT,)) == "unix:"


def test_is_found_in_no_time_in_a_header_of_60_kilobytes():
    began = time.thread_time()
    address("10.0.0.1", forwarded_for=("10.1.1.1," * 7_000,), forwarded=("for=10.1.1.1;" * 5_000,))
    assert time.thread_time() - began < 0.05


def test_counts_by_the_network_of_64_bits_in_version_6():
    assert network("2001:db8:1:2:3:4:5:6") == network("2001:db8:1:2:ffff::") == "2001:db8:1:2::/64"
    assert network("2001:db8:1:3::1") == "2001:db8:1:3::/64"


def test_counts_by_itself_in_version_4_also_when_mapped():
    assert network(CLIENT) == network(f"::ffff:{CLIENT}") == CLIENT
    assert network("testclient") == "testclient"


@pytest.mark.parametrize("written", ["10.0.0.1/8", "proxy", "10.0.0.0/33", ""])
def test_is_refused_as_a_proxys_when_it_is_no_network(written: str):
    with pytest.raises(ValueError, match=r"."):
        networks([written])
