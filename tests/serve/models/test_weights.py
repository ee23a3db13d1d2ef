import hashlib
from pathlib import Path

import pytest

from raymart_serve.models import WeightsUnavailable, resolve

SHA256 = "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3"


class TestResolve:
    def test_bundled_file_with_the_right_digest_is_found(self) -> None:
        path = resolve("bundled:demo-llm.gguf", SHA256)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256

    def test_wrong_digest_names_both(self) -> None:
        with pytest.raises(
            WeightsUnavailable, match=f"has SHA-256 {SHA256}, the revision names '{'0' * 64}'"
        ):
            resolve("bundled:demo-llm.gguf", "0" * 64)

    def test_digest_is_checked_at_every_call(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that changes after a good load is refused at the next."""
        monkeypatch.setattr("raymart_serve.models.weights._BUNDLED", tmp_path)
        weights = tmp_path / "m.gguf"
        weights.write_bytes(b"good")
        digest = hashlib.sha256(b"good").hexdigest()
        assert resolve("bundled:m.gguf", digest) == weights
        weights.write_bytes(b"bad!")
        with pytest.raises(WeightsUnavailable):
            resolve("bundled:m.gguf", digest)

    @pytest.mark.parametrize(
        "name", ["../weights.py", "/etc/passwd", "", ".", "README.md", "x/../demo-llm.gguf", "gone.gguf"]
    )
    def test_only_plain_bundled_model_names_are_taken(self, name: str) -> None:
        with pytest.raises(WeightsUnavailable, match=r"bundled are demo-llm\.gguf"):
            resolve(f"bundled:{name}", SHA256)

    @pytest.mark.parametrize("source", ["demo-llm.gguf", "https://example.com/x.gguf", ""])
    def test_unknown_source_form_is_refused(self, source: str) -> None:
        with pytest.raises(WeightsUnavailable, match="known is 'bundled:<file>'"):
            resolve(source, SHA256)
