import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymart_core.errors import InvalidRequest
from raymart_marketplace.accounts import passwords
from raymart_marketplace.accounts.passwords import NOBODYS_HASH, hash_password, is_outdated, verify_password


class TestHashPassword:
    def test_hash_verifies_its_password_only(self):
        kept = hash_password("correct horse battery")
        assert verify_password("correct horse battery", kept)
        assert not verify_password("correct horse batterz", kept)
        assert not verify_password("", kept)

    def test_hash_is_argon2id_and_salted(self):
        first, second = hash_password("correct horse battery"), hash_password("correct horse battery")
        assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert first != second

    @pytest.mark.parametrize("length", [8, 128])
    def test_length_at_the_limits_is_taken(self, length: int):
        assert verify_password("ä" * length, hash_password("ä" * length))

    @pytest.mark.parametrize("length", [0, 1, 7, 129, 100_000])
    def test_length_outside_the_limits_names_the_field(self, length: int):
        with pytest.raises(InvalidRequest, match=f"{length} characters; use 8 to 128") as refusal:
            hash_password("a" * length)
        assert refusal.value.param == "password"

    def test_lone_surrogate_is_refused_as_bad_input(self):
        """JSON may carry one; it must not become an internal error."""
        with pytest.raises(InvalidRequest, match="surrogate"):
            hash_password("aaaaaaaaaa\ud800")

    def test_two_spellings_of_one_letter_are_one_password(self):
        assert verify_password("cafe\u0301" * 32, hash_password("caf\u00e9" * 32))

    def test_full_width_letters_are_the_plain_ones(self):
        assert verify_password("password of mine", hash_password("\uff50assword of mine"))


class TestIsOutdated:
    def test_other_parameters_are_outdated(self):
        assert is_outdated("$argon2id$v=19$m=32768,t=2,p=1$c2FsdHNhbHQ$aGFzaA")
        assert not is_outdated(hash_password("correct horse battery"))


class TestVerifyPassword:
    def test_over_long_password_is_refused_without_hashing(self, monkeypatch):
        monkeypatch.setattr(passwords, "_HASHER", None)
        assert not verify_password("a" * 129, NOBODYS_HASH)
        assert not verify_password("a" * 10_000_000, NOBODYS_HASH)

    def test_surrogate_matches_nothing(self):
        assert not verify_password("\ud800" * 10, NOBODYS_HASH)

    @settings(max_examples=10, deadline=None)
    @given(st.text(max_size=128))
    def test_nobodys_hash_matches_nothing(self, password: str):
        assert not verify_password(password, NOBODYS_HASH)

    def test_nobodys_hash_costs_what_a_users_costs(self):
        """Else the time of a refusal tells which e-mail addresses have accounts."""
        parameters = [
            each.rsplit("$", 2)[0] for each in (hash_password("correct horse battery"), NOBODYS_HASH)
        ]
        assert parameters[0] == parameters[1]
