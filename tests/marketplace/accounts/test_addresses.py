import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_core.errors import InvalidRequest
from raymart_marketplace.accounts.addresses import normal_email


class TestNormalEmail:
    @pytest.mark.parametrize(
        ("typed", "stored"),
        [
            ("ann@example.com", "ann@example.com"),
            ("  Ann@Example.COM \n", "ann@example.com"),
            ("a.b+c@x-y.example.co", "a.b+c@x-y.example.co"),
            ("a" * 64 + "@example.com", "a" * 64 + "@example.com"),
        ],
    )
    def test_address_is_stored_in_one_form(self, typed: str, stored: str):
        assert normal_email(typed) == stored

    @pytest.mark.parametrize(
        "typed",
        [
            "",
            "@",
            "ann",
            "ann@",
            "@example.com",
            "ann@localhost",
            "ann@example.com, bob@example.com",
            "ann@@example.com",
            "ann@exa mple.com",
            "ann@-example.com",
            "ann@example-.com",
            "ann@.com",
            "ann@example..com",
            "ann\n@example.com",
            "ann@example.com\0",
            "änn@example.com",
            "ann@exämple.com",
            "\u212ann@example.com",
            "ann@example.com\r\nBcc: all@example.com",
            "a" * 65 + "@example.com",
            "a@" + "b" * 64 + ".com",
            "a@" + ".".join(["b" * 60] * 5) + ".com",
        ],
    )
    def test_anything_else_is_refused_with_an_example(self, typed: str):
        with pytest.raises(InvalidRequest, match=r"name@example\.com") as refusal:
            normal_email(typed)
        assert refusal.value.param == "email"

    @given(st.text())
    def test_any_text_is_refused_or_comes_out_in_lower_case_ascii(self, typed: str):
        try:
            email = normal_email(typed)
        except InvalidRequest:
            return
        assert email.isascii()
        assert email == email.lower() == normal_email(email)

    def test_long_text_is_not_repeated_at_length(self):
        with pytest.raises(InvalidRequest) as refusal:
            normal_email("a" * 1_000_000)
        assert len(refusal.value.message) < 400
