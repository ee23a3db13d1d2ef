from ipaddress import ip_network

import pytest

from raymart_graphql.client_address import UNKNOWN, client_address

OURS = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


class TestClientAddress:
    @pytest.mark.parametrize(
        ("peer", "forwarded", "expected"),
        [
            ("192.0.2.7", [], "192.0.2.7"),
            ("192.0.2.7", ["203.0.113.1"], "192.0.2.7"),  # Not our proxy: what it says about itself is a lie.
            ("10.0.0.1", ["203.0.113.1"], "203.0.113.1"),
            ("10.0.0.1", ["6.6.6.6, 203.0.113.1"], "203.0.113.1"),  # The left one was sent by the client.
            ("10.0.0.1", ["203.0.113.1, 10.0.0.9"], "203.0.113.1"),
            ("10.0.0.1", ["203.0.113.1", "10.0.0.9"], "203.0.113.1"),
            ("fd00::1", ["2001:db8::7"], "2001:db8::7"),
            ("10.0.0.1", ["nonsense"], "10.0.0.1"),
            ("10.0.0.1", ["203.0.113.1, "], "10.0.0.1"),
            ("10.0.0.1", [", ".join(["10.0.0.2"] * 5_000)], "10.0.0.2"),
            (None, ["203.0.113.1"], UNKNOWN),
        ],
    )
    def test_nearest_that_is_no_proxy_of_ours(self, peer: str | None, forwarded: list[str], expected: str):
        assert client_address(peer, forwarded, OURS) == expected

    def test_without_proxies_the_header_is_never_read(self):
        assert client_address("10.0.0.1", ["203.0.113.1"], ()) == "10.0.0.1"
