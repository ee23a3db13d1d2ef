"""What a request may call a model."""

import pytest

from raymart_core.errors import InvalidRequest
from raymart_marketplace.catalog.reference import ModelReference, read_reference

DIGEST = f"sha256:{'a' * 64}"


class TestReference:
    @pytest.mark.parametrize(
        ("text", "reference"),
        [
            ("raymart/demo-chat", ModelReference("raymart/demo-chat")),
            ("raymart/demo-chat@stable", ModelReference("raymart/demo-chat", "stable")),
            (f"raymart/demo-chat@{DIGEST}", ModelReference("raymart/demo-chat", DIGEST)),
        ],
        ids=["slug", "alias", "digest"],
    )
    def test_is_a_slug_with_or_without_a_revision(self, text, reference):
        assert read_reference(text) == reference

    @pytest.mark.parametrize(
        "text",
        ["m@", "m@Stable", "m@sha256:ab", "m@a@b", "m@" + "a" * 41, f"m@{DIGEST.upper()}"],
        ids=range(6),
    )
    def test_what_names_no_revision_is_refused(self, text):
        with pytest.raises(InvalidRequest, match="names no revision"):
            read_reference(text)
