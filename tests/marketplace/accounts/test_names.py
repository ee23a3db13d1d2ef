import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_core.errors import InvalidRequest
from raymart_marketplace.accounts.names import clean_name, unique_slug


class TestCleanName:
    def test_blanks_around_are_dropped(self):
        assert clean_name("  Ann Example ", param="name") == "Ann Example"

    @pytest.mark.parametrize("text", ["", "   ", "a" * 101, "a\0b", "a\nb", "a\ud800", "\x1b[31mred"])
    def test_bad_name_is_refused_by_its_field(self, text: str):
        with pytest.raises(InvalidRequest, match="organization_name") as refusal:
            clean_name(text, param="organization_name")
        assert refusal.value.param == "organization_name"


class TestUniqueSlug:
    @given(st.text(max_size=200))
    def test_any_name_gives_a_slug(self, name: str):
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]*-[0-9a-f]{8}", unique_slug(name))

    def test_slug_begins_like_the_name(self):
        assert unique_slug("Ärger & Söhne GmbH").startswith("arger-sohne-gmbh-")

    def test_same_name_gives_another_slug(self):
        assert unique_slug("Ann") != unique_slug("Ann")
