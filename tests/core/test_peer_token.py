import pytest

from raymart_core.wire.peer_token import make_peer_token, revision_of_token

REVISION = "sha256:" + "ab" * 32
NOW = 1_800_000_000


def token(secret="s", **changes):
    return make_peer_token(secret, **{"revision": REVISION, "expires_s": NOW + 60, **changes})


class TestPeerToken:
    def test_a_token_opens_its_revision_until_it_expires(self):
        assert revision_of_token(token(), secret="s", now_s=NOW) == REVISION
        assert revision_of_token(token(), secret="s", now_s=NOW + 59.9) == REVISION
        assert revision_of_token(token(), secret="s", now_s=NOW + 60) is None

    def test_a_token_of_another_node_opens_nothing(self):
        assert revision_of_token(token(secret="other"), secret="s", now_s=NOW) is None

    def test_a_token_that_would_live_for_days_opens_nothing(self):
        assert revision_of_token(token(expires_s=NOW + 90_000), secret="s", now_s=NOW) is None

    @pytest.mark.parametrize(
        "forge",
        [
            lambda good: good.replace("ab", "cd", 1),
            lambda good: good.replace(str(NOW + 60), str(NOW + 61)),
            lambda good: good[:-1],
            lambda good: good + "0",
            lambda good: good.rpartition(".")[2],
            lambda _: "",
            lambda _: "..",
            lambda _: "\xff.\u20ac.x",
        ],
        ids=["revision", "expiry", "short", "long", "mac only", "empty", "dots", "not ascii"],
    )
    def test_a_forged_token_opens_nothing(self, forge):
        assert revision_of_token(forge(token()), secret="s", now_s=NOW) is None
