import pytest

from raymart_marketplace.accounts.derived_keys import derived_key
from raymart_marketplace.accounts.refresh_tokens import RefreshTokens, hash_refresh_token, is_refresh_token

SECRET = b"0123456789abcdef0123456789abcdef"


class TestRefreshTokens:
    def test_first_tokens_differ_and_have_the_form(self):
        made = {RefreshTokens(SECRET).first() for _ in range(100)}
        assert len(made) == 100
        assert all(is_refresh_token(token) for token in made)

    def test_successor_is_one_for_each_token_and_secret(self):
        tokens, token = RefreshTokens(SECRET), RefreshTokens(SECRET).first()
        assert tokens.successor(token) == RefreshTokens(SECRET).successor(token) != token
        assert is_refresh_token(tokens.successor(token))
        assert tokens.successor(tokens.first()) != tokens.successor(token)
        assert RefreshTokens(SECRET[::-1]).successor(token) != tokens.successor(token)

    def test_hash_has_32_bytes_and_does_not_give_the_successor(self):
        token = RefreshTokens(SECRET).first()
        assert len(hash_refresh_token(token)) == 32
        assert RefreshTokens(SECRET).successor(hash_refresh_token(token).hex()) != RefreshTokens(
            SECRET
        ).successor(token)

    @pytest.mark.parametrize(
        "text",
        ["", "rmr_", "rmr_" + "a" * 42, "rmr_" + "a" * 44, "rmr_" + "a" * 42 + "\n", "rm_live_" + "a" * 43],
    )
    def test_another_form_is_none(self, text: str):
        assert not is_refresh_token(text)


class TestDerivedKey:
    def test_purposes_have_keys_of_their_own(self):
        assert derived_key(SECRET, purpose="a") != derived_key(SECRET, purpose="b")
        assert len(derived_key(SECRET, purpose="a")) == 32
