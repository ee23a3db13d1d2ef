import hashlib

import pytest

from raymart_marketplace.catalog.manifest import manifest_digest

DEMO = {
    "engine": "llama_cpp",
    "source": "bundled:demo-llm.gguf",
    "sha256": "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3",
    "quantization": "q8_0",
    "context_length": 1_024,
}


class TestManifestDigest:
    def test_digest_is_of_the_canonical_text(self):
        """Whoever computes it in another language must get the same; this is the text to hash."""
        canonical = (
            '{"context_length":1024,"engine":"llama_cpp","quantization":"q8_0",'
            '"sha256":"6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3",'
            '"source":"bundled:demo-llm.gguf"}'
        )
        assert manifest_digest(**DEMO) == f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"

    def test_digest_never_changes(self):
        """Nodes that run know their revision by it."""
        assert (
            manifest_digest(**DEMO)
            == "sha256:8cbc056d86366d84bc6ec19b2c74ee41b9495cfe735a1894ecd29e9868be6e65"
        )

    @pytest.mark.parametrize("field", DEMO)
    def test_any_other_field_is_another_revision(self, field: str):
        changed = 2_048 if field == "context_length" else f"{DEMO[field]}x"
        assert manifest_digest(**{**DEMO, field: changed}) != manifest_digest(**DEMO)
