"""The manifest of a revision: one canonical form, and nothing in it that a node must not use."""

import json

import msgspec
import pytest

from raymart_core.errors import InvalidRequest
from raymart_core.wire.manifest import Manifest, ManifestFile, check_manifest, check_path, read_manifest

SHA256 = "a" * 64


def manifest(**changes: object) -> Manifest:
    usual = Manifest(
        engine="llama_cpp",
        files=(ManifestFile(path="model.gguf", bytes=3, sha256=SHA256),),
        quantization="q8_0",
        context_length=1_024,
        capabilities=("chat", "logprobs"),
        licence="Apache-2.0",
        parameters={"pooling": "mean"},
    )
    return msgspec.structs.replace(usual, **changes)


class TestDigest:
    def test_the_canonical_form_is_sorted_json_without_blanks(self):
        text = manifest().canonical()

        assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")).encode()

    def test_is_the_same_in_every_release(self):
        """Names of revisions are kept for good: a field that is added must not change them."""
        assert (
            manifest().digest() == "sha256:fcb98591fc10f2b37061c3d15dc34f7a96d719f8876e960dfd803bdabf5cf48f"
        )

    def test_everything_changes_it(self):
        others = [
            manifest(engine="vllm"),
            manifest(files=(ManifestFile(path="model.gguf", bytes=3, sha256="b" * 64),)),
            manifest(context_length=2_048),
            manifest(parameters={"pooling": "cls"}),
            manifest(licence="MIT"),
            manifest(owner="org_1"),
        ]

        assert len({other.digest() for other in [manifest(), *others]}) == 7


class TestReading:
    def test_what_was_written_is_read(self):
        assert read_manifest(manifest().canonical(), digest=manifest().digest()) == manifest()

    def test_another_document_than_the_name_says_is_refused(self):
        with pytest.raises(InvalidRequest, match="not sha256"):
            read_manifest(manifest(licence="MIT").canonical(), digest=manifest().digest())

    @pytest.mark.parametrize(
        "changes",
        [
            {"files": ()},
            {"context_length": 0},
            {"capabilities": ("logprobs", "chat")},
            {"files": (ManifestFile(path="model.gguf", bytes=3, sha256="short"),)},
            {"files": (ManifestFile(path="model.gguf", bytes=-1, sha256=SHA256),)},
            {"files": (ManifestFile(path="a", bytes=1, sha256=SHA256),) * 2},
        ],
        ids=["no files", "no context", "unsorted", "digest", "bytes", "twice"],
    )
    def test_what_no_node_may_use_is_refused(self, changes):
        with pytest.raises(InvalidRequest):
            check_manifest(manifest(**changes))


class TestPath:
    @pytest.mark.parametrize("path", ["unet/config.json", "a.safetensors", "v1-5_x/tokenizer+1.json"])
    def test_a_plain_path_is_taken(self, path):
        check_path(path)

    @pytest.mark.parametrize(
        "path",
        ["", "/etc/passwd", "../x", "a/../b", "a//b", ".hidden", "a\\b", "a\0b", "x" * 256, "a/", "é"],
        ids=range(11),
    )
    def test_one_that_could_leave_the_folder_is_refused(self, path):
        with pytest.raises(InvalidRequest):
            check_path(path)
