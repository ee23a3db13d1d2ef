import pytest

from raymart_providers.errors import BadServer
from raymart_providers.link.server_address import link_url


class TestLinkUrl:
    @pytest.mark.parametrize(
        ("server", "url"),
        [
            ("http://127.0.0.1:8000", "ws://127.0.0.1:8000/link"),
            ("http://127.0.0.1:8000/", "ws://127.0.0.1:8000/link"),
            ("http://localhost:8000", "ws://localhost:8000/link"),
            ("http://[::1]:8000", "ws://[::1]:8000/link"),
            ("https://market.example", "wss://market.example/link"),
            ("https://market.example/raymart/", "wss://market.example/raymart/link"),
            ("wss://market.example/link", "wss://market.example/link"),
            ("wss://market.example/link?x=1#y", "wss://market.example/link"),
        ],
    )
    def test_a_server_has_its_link(self, server, url):
        assert link_url(server) == url

    @pytest.mark.parametrize("server", ["", "market.example", "ftp://market.example", "http://", "//x"])
    def test_what_is_no_server_is_refused(self, server):
        with pytest.raises(BadServer, match="--server"):
            link_url(server)

    @pytest.mark.parametrize(
        "server", ["http://market.example", "ws://10.0.0.1:8000", "http://127.0.0.1.evil.example"]
    )
    def test_a_token_is_not_sent_in_clear_to_another_machine(self, server):
        with pytest.raises(BadServer, match="not encrypted"):
            link_url(server)
        assert link_url(server, allow_plaintext=True)
