import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_marketplace.accounts.sealing import SecretBox

OLD, NEW = b"o" * 32, b"n" * 32


class TestSecretBox:
    @given(st.binary(max_size=100), st.text(st.characters(codec="utf-8"), max_size=20))
    def test_what_was_sealed_opens_for_its_purpose(self, content: bytes, purpose: str):
        box = SecretBox([NEW])
        sealed = box.seal(content, purpose=purpose)
        assert box.open(sealed, purpose=purpose) == content
        with pytest.raises(ValueError, match="not sealed by us"):
            box.open(sealed, purpose=purpose + "x")

    def test_content_does_not_show_and_two_seals_differ(self):
        box = SecretBox([NEW])
        first, second = [box.seal(b"secret content", purpose="p") for _ in range(2)]
        assert b"secret" not in first
        assert first != second

    def test_any_changed_bit_is_noticed(self):
        box = SecretBox([NEW])
        sealed = box.seal(b"content", purpose="p")
        for place in range(len(sealed)):
            changed = bytearray(sealed)
            changed[place] ^= 1
            with pytest.raises(ValueError, match="sealed"):
                box.open(bytes(changed), purpose="p")

    def test_key_is_replaced_without_losing_anything(self):
        sealed = SecretBox([OLD]).seal(b"content", purpose="p")
        both = SecretBox([NEW, OLD])
        assert both.open(sealed, purpose="p") == b"content"
        assert both.is_outdated(sealed)
        anew = both.seal(b"content", purpose="p")
        assert not both.is_outdated(anew)
        assert SecretBox([NEW]).open(anew, purpose="p") == b"content"
        with pytest.raises(ValueError, match="not in the settings"):
            SecretBox([NEW]).open(sealed, purpose="p")

    @pytest.mark.parametrize("sealed", [b"", b"a" * 3, b"a" * 16, b"a" * 100])
    def test_nonsense_is_refused(self, sealed: bytes):
        with pytest.raises(ValueError, match="sealed"):
            SecretBox([NEW]).open(sealed, purpose="p")
