"""Who is believed about where a request came from, and who isn't."""

import socket

import pytest

from shim.source_address import TrustedProxies
from shim.streams import PublicStream

PROXIES = TrustedProxies(["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"])


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "source"),
    [
        ("10.1.1.1", ["203.0.113.5"], "203.0.113.5"),
        ("10.1.1.1", ["198.51.100.1, 203.0.113.5"], "203.0.113.5"),
        ("10.1.1.1", ["203.0.113.5, 10.2.2.2, 192.0.2.7"], "203.0.113.5"),
        ("10.1.1.1", ["198.51.100.1", "203.0.113.5", "10.2.2.2"], "203.0.113.5"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.1.1.1", ["198.51.100.1, 203.0.113.5, nonsense"], "10.1.1.1"),
        ("10.1.1.1", ["203.0.113.5, nonsense, 10.2.2.2"], "10.2.2.2"),
        ("10.1.1.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", [""], "10.1.1.1"),
        ("10.1.1.1", ["203.0.113.5:4711"], "203.0.113.5"),
        ("10.1.1.1", ["[2001:db8:1:2:3::4]:4711"], "2001:db8:1:2::/64"),
        ("10.1.1.1", ["2001:db8:1:2:ffff::1"], "2001:db8:1:2::/64"),
        ("10.1.1.1", ["::ffff:203.0.113.5"], "203.0.113.5"),
        ("::ffff:10.1.1.1", ["203.0.113.5"], "203.0.113.5"),
        ("fd00::1%eth0", ["203.0.113.5"], "203.0.113.5"),
        ("", ["203.0.113.5"], None),
        ("10.1.1.1", ["203.0.113.5\x00"], "10.1.1.1"),
        ("10.1.1.1", ["," * 5_000], "10.1.1.1"),
    ],
)
def test_the_source_is_the_right_most_address_that_is_none_of_ours(
    peer: str, forwarded_for: list[str], source: str | None
) -> None:
    assert PROXIES.find_source(peer, forwarded_for) == source


def test_without_a_trusted_proxy_nobody_has_a_source() -> None:
    assert TrustedProxies().find_source("203.0.113.5", ["198.51.100.1"]) is None


async def test_a_connection_that_is_gone_has_no_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as caller:
        accepted, _ = server.accept()
        stream = PublicStream(accepted)
        assert stream.peer == "127.0.0.1"
        caller.close()
        stream.close()
        assert stream.peer == ""
