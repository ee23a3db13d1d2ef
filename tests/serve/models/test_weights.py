import hashlib
import subprocess
from pathlib import Path

import pytest

from raymart_serve.models import WeightsUnavailable, resolve, tree_sha256

SHA256 = "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3"
IMAGE_TREE_SHA256 = "080a662dd9d19fb345e11daf2f6b7e5e9c838b843fb8ef6f4f207adf05294cfd"


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
        "name",
        [
            "../weights.py",
            "/etc/passwd",
            "",
            ".",
            "README.md",
            "x/../demo-llm.gguf",
            "demo-image/unet",
            "gone.gguf",
            "gone",
        ],
    )
    def test_only_plain_bundled_model_names_are_taken(self, name: str) -> None:
        with pytest.raises(WeightsUnavailable, match=r"bundled are demo-embed, demo-image, .*demo-llm\.gguf"):
            resolve(f"bundled:{name}", SHA256)

    @pytest.mark.parametrize("source", ["demo-llm.gguf", "https://example.com/x.gguf", ""])
    def test_unknown_source_form_is_refused(self, source: str) -> None:
        with pytest.raises(WeightsUnavailable, match="known is 'bundled:<name>'"):
            resolve(source, SHA256)

    def test_bundled_folder_with_the_right_digest_is_found(self) -> None:
        path = resolve("bundled:demo-image", IMAGE_TREE_SHA256)
        assert (path / "model_index.json").is_file()

    def test_folder_with_one_changed_byte_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("raymart_serve.models.weights._BUNDLED", tmp_path)
        (tmp_path / "m/unet").mkdir(parents=True)
        (tmp_path / "m/unet/weights.safetensors").write_bytes(b"good")
        digest = tree_sha256(tmp_path / "m")
        assert resolve("bundled:m", digest) == tmp_path / "m"
        (tmp_path / "m/unet/weights.safetensors").write_bytes(b"goOd")
        with pytest.raises(WeightsUnavailable, match="the revision names"):
            resolve("bundled:m", digest)


class TestTreeSha256:
    def test_equals_what_the_shell_computes(self) -> None:
        """Anybody can check the digest of a folder without our code."""
        folder = resolve("bundled:demo-image", IMAGE_TREE_SHA256)
        command = "find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
        printed = subprocess.run(["sh", "-c", command], cwd=folder, check=True, capture_output=True).stdout
        assert printed.split()[0].decode() == tree_sha256(folder) == IMAGE_TREE_SHA256

    def test_moved_and_renamed_files_change_it(self, tmp_path: Path) -> None:
        for name, path in (("a", "x/f.json"), ("b", "y/f.json"), ("c", "x/g.json")):
            (tmp_path / name / path).parent.mkdir(parents=True)
            (tmp_path / name / path).write_text("{}")
        assert len({tree_sha256(tmp_path / name) for name in "abc"}) == 3

    def test_link_is_refused(self, tmp_path: Path) -> None:
        """Else a folder could hold a file of this machine and count as whole."""
        (tmp_path / "model.safetensors").symlink_to("/etc/passwd")
        with pytest.raises(WeightsUnavailable, match="a link or a device"):
            tree_sha256(tmp_path)

    @pytest.mark.parametrize("name", [".hidden", "a b.json", "n\u00e9.json", "line\nbreak.json"])
    def test_name_that_no_manifest_may_hold_is_refused(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("{}")
        with pytest.raises(WeightsUnavailable, match="is no model"):
            tree_sha256(tmp_path)

    def test_empty_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsUnavailable, match="has 0 files"):
            tree_sha256(tmp_path)
