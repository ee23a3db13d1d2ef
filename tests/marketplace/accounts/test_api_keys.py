import re

import pytest

from raymart_marketplace.accounts.api_keys import hash_key, is_key, make_key


class TestMakeKey:
    def test_key_has_the_promised_form(self):
        key = make_key()
        assert re.fullmatch(r"rm_live_[A-Za-z0-9_-]{43}", key.text)
        assert key.text.startswith(key.prefix)
        assert len(key.prefix) == 12
        assert key.key_hash == hash_key(key.text)
        assert len(key.key_hash) == 32

    def test_keys_do_not_repeat(self):
        assert len({make_key().text for _ in range(1_000)}) == 1_000


class TestIsKey:
    def test_made_key_is_one(self):
        assert is_key(make_key().text)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "rm_live_",
            "rm_live_" + "a" * 42,
            "rm_live_" + "a" * 44,
            "rm_live_" + "a" * 43 + "\n",
            " rm_live_" + "a" * 43,
            "RM_LIVE_" + "a" * 43,
            "rm_test_" + "a" * 43,
            "rm_live_" + "a" * 42 + "+",
            "rm_live_" + "a" * 42 + "\u0661",
        ],
    )
    def test_anything_else_is_none(self, text: str):
        assert not is_key(text)
