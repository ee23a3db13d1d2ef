import json
import resource
import struct
from pathlib import Path

import pytest

from raymart_core.errors import InvalidRequest
from raymart_marketplace.catalog.weights.choosing import check_content, choose
from raymart_marketplace.catalog.weights.gguf import read_gguf_header
from raymart_marketplace.catalog.weights.safetensors import (
    HEADER_BYTES_MAX,
    TENSORS_MAX,
    read_safetensors_header,
)
from support.weight_files import gguf, safetensors

BUNDLED = Path(__file__).parents[3] / "serve/raymart_serve/models/bundled"


def written(folder: Path, content: bytes, name: str) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def header_of(**entry: object) -> bytes:
    return json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | entry}).encode()


BAD_SAFETENSORS = {
    "empty": b"",
    "cut": b"\x08\0\0",
    "header of 2**40 bytes": (2**40).to_bytes(8, "little") + b"{}",
    "header longer than the file": (100).to_bytes(8, "little") + b"{}",
    "header over the limit": (HEADER_BYTES_MAX + 1).to_bytes(8, "little") + b"{" * (HEADER_BYTES_MAX + 1),
    "a pickle": b"\x80\x04\x95" + bytes(100),
    "no JSON object": safetensors(header=b"[]", data=b""),
    "deep JSON": safetensors(header=b'{"a":' + b"[" * 200_000, data=b""),
    "tensor before the data": safetensors(header=header_of(data_offsets=[-16, 0])),
    "tensor behind the data": safetensors(header=header_of(data_offsets=[0, 2**50])),
    "tensors over each other": safetensors(
        header=json.dumps(
            {name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for name in "ab"}
        ).encode()
    ),
    "hole": safetensors(header=header_of(data_offsets=[16, 32]), data=bytes(32)),
    "bytes at the end": safetensors(header=header_of(), data=bytes(20)),
    "shape of another size": safetensors(header=header_of(shape=[2**52, 2**52]), data=bytes(16)),
    "unknown number format": safetensors(header=header_of(dtype="PICKLE"), data=bytes(16)),
    "more tensors than the limit": safetensors(
        header=b"{" + b",".join(b'"%d":[]' % number for number in range(TENSORS_MAX + 1)) + b"}", data=b""
    ),
    "many dimensions": safetensors(header=header_of(shape=[1] * 100 + [4]), data=bytes(16)),
}


LIMITS_OF_SAFETENSORS = {
    "header over the limit": "the limit is 16777216",
    "more tensors than the limit": "100001 tensors; the limit is 100000",
    "tensors over each other": "does not go on from 16",
    "hole": "does not go on from 0",
    "shape of another size": "does not fit",
    "bytes at the end": "20 bytes of data and tensors of 16",
    "unknown number format": "no known number format",
    "many dimensions": "length <= 16",
}
"""What each is refused for: another check would not have seen it."""


class TestSafetensors:
    @pytest.mark.parametrize("name", LIMITS_OF_SAFETENSORS)
    def test_what_is_over_a_limit_is_refused_for_that(self, tmp_path: Path, name: str):
        path = written(tmp_path, BAD_SAFETENSORS[name], "m.safetensors")
        with pytest.raises(InvalidRequest, match=LIMITS_OF_SAFETENSORS[name]):
            read_safetensors_header(path)

    def test_true_file_is_read(self, tmp_path: Path):
        path = written(
            tmp_path, safetensors({"a": ("F32", [2, 3], 24), "b": ("BF16", [], 2)}), "m.safetensors"
        )
        assert {name: tensor.dtype for name, tensor in read_safetensors_header(path).items()} == {
            "a": "F32",
            "b": "BF16",
        }

    def test_files_that_we_ship_are_read(self):
        found = sorted(BUNDLED.rglob("*.safetensors"))
        assert found
        for path in found:
            assert read_safetensors_header(path)

    @pytest.mark.parametrize("name", BAD_SAFETENSORS)
    def test_what_is_wrong_is_refused_and_takes_no_memory(self, tmp_path: Path, name: str):
        path = written(tmp_path, BAD_SAFETENSORS[name], "m.safetensors")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(InvalidRequest, match=r"m\.safetensors"):
            read_safetensors_header(path)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


BAD_GGUF = {
    "empty": b"",
    "not GGUF": b"GGML" + bytes(100),
    "version": b"GGUF" + struct.pack("<IQQ", 9, 0, 0),
    "2**60 tensors": b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0),
    "2**60 entries": gguf(entries=2**60),
    "more entries than there are": gguf(entries=60),
    "text of 2**60 bytes": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**60),
    "list of 2**60 numbers": gguf({"a": struct.pack("<IIQ", 9, 4, 2**60)}),
    "list of 2**60 texts": gguf({"a": struct.pack("<IIQ", 9, 8, 2**60)}),
    "list of lists": gguf({"a": struct.pack("<IIQ", 9, 9, 1)}),
    "unknown kind": gguf({"a": struct.pack("<I", 77)}),
    "alignment of nothing": gguf({"general.alignment": 0}),
    "tensor behind the end": gguf()[: -64 - 32] + struct.pack("<Q", 2**40) + bytes(88),
}


def of_tensor(*, name: bytes = b"t", name_bytes: int = 1, dimensions: int = 1, offset: int = 0) -> bytes:
    """A GGUF file with one tensor and a hundred kilobytes of data."""
    entry = (
        struct.pack("<Q", name_bytes) + name + struct.pack("<I", dimensions) + bytes(8 * min(dimensions, 100))
    )
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + entry + struct.pack("<IQ", 0, offset)
    return head + bytes(-len(head) % 32 + 100_000)


LIMITS_OF_GGUF = {
    "100,000 tensors": (b"GGUF" + struct.pack("<IQQ", 3, 100_001, 0) + bytes(10**7), "100001 tensors, the limit is 100000"),
    "65,536 entries": (b"GGUF" + struct.pack("<IQQ", 3, 0, 65_537) + bytes(10**7), "65537 entries, the limit is 65536"),
    "8 dimensions": (of_tensor(dimensions=9), "9 dimensions, the limit is 8"),
    "name of 65,535 bytes": (of_tensor(name=b"t" * 65_536, name_bytes=65_536), "name is longer than 65535"),
    "header of its own length": (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + struct.pack("<Q", 2**60), "ends in the middle"),
    "data of its own length": (of_tensor(offset=1 << 20), "a tensor lies outside"),
    "places of its alignment": (of_tensor(offset=8), "or between two places"),
}  # fmt: skip


class TestGguf:
    @pytest.mark.parametrize("name", LIMITS_OF_GGUF)
    def test_what_is_over_a_limit_is_refused_for_that(self, tmp_path: Path, name: str):
        content, because = LIMITS_OF_GGUF[name]
        with pytest.raises(InvalidRequest, match=because):
            read_gguf_header(written(tmp_path, content, "m.gguf"))

    def test_tensor_within_the_limits_is_read(self, tmp_path: Path):
        path = written(tmp_path, of_tensor(dimensions=8, offset=32), "m.gguf")
        assert read_gguf_header(path).tensors == 1

    def test_true_file_says_what_it_is(self):
        header = read_gguf_header(BUNDLED / "demo-llm.gguf")
        assert (header.architecture, header.quantization, header.context_length) == ("llama", "q8_0", 1_024)
        assert len(header.template_sha256) == 64

    @pytest.mark.parametrize("name", BAD_GGUF)
    def test_what_is_wrong_is_refused_and_takes_no_memory(self, tmp_path: Path, name: str):
        path = written(tmp_path, BAD_GGUF[name], "m.gguf")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(InvalidRequest, match=r"m\.gguf"):
            read_gguf_header(path)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000

    def test_long_text_is_passed_over(self, tmp_path: Path):
        path = written(tmp_path, gguf({"tokenizer.chat_template": "x" * (1 << 21)}), "m.gguf")
        assert read_gguf_header(path).template_sha256 == ""


class TestChoose:
    def test_pickles_beside_safe_weights_are_left_out(self):
        choice = choose(
            [
                "model.safetensors",
                "pytorch_model.bin",
                "config.json",
                ".gitattributes",
                "modeling.py",
                "a/b.png",
            ]
        )
        assert choice.kept == ("config.json", "model.safetensors")
        assert dict(choice.left_out) == {
            ".gitattributes": "hidden",
            "a/b.png": "nothing that an engine reads",
            "modeling.py": "nothing that an engine reads",
            "pytorch_model.bin": "can run code when it is loaded",
        }

    @pytest.mark.parametrize(
        "name",
        ["pytorch_model.bin", "m.pt", "M.PTH", "m.ckpt", "m.pkl", "w.npz", "m.h5", "m.keras", "m.joblib"],
    )
    def test_only_pickled_weights_are_refused(self, name: str):
        with pytest.raises(InvalidRequest, match="convert them to safetensors or GGUF"):
            choose([name, "config.json"])

    def test_no_weights_are_refused(self):
        with pytest.raises(InvalidRequest, match="no weights"):
            choose(["config.json", "weights.zip"])

    @pytest.mark.parametrize(
        "path", ["../m.gguf", "/m.gguf", "a/../../m.gguf", "a//m.gguf", "a\\..\\m.gguf", "a b.gguf", "ü.gguf"]
    )
    def test_path_tricks_are_refused(self, path: str):
        with pytest.raises(InvalidRequest, match="cannot be a revision's file"):
            choose(["ok.gguf", path])


class TestCheckContent:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("config.json", b"PK\x03\x04" + bytes(20)),
            ("config.json", b"\x80\x04\x95" + bytes(20)),
            ("config.json", b"\x1f\x8b" + bytes(20)),
            ("config.json", b"not json"),
            ("m.onnx", b"PK\x03\x04" + bytes(20)),
            ("tokenizer.model", b"\x7fELF" + bytes(20)),
            ("README.md", b"#!/bin/sh"),
            ("m.safetensors", b"PK\x03\x04" + bytes(20)),
            ("m.gguf", b"\x80\x02" + bytes(20)),
        ],
    )
    def test_what_is_not_what_its_name_says_is_refused(self, tmp_path: Path, name: str, content: bytes):
        with pytest.raises(InvalidRequest):
            check_content(written(tmp_path, content, "brought"), name=name)

    def test_files_that_we_ship_are_kept(self):
        for folder in ("demo-image", "demo-embed", "demo-llm"):
            root = BUNDLED / folder
            paths = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
            choice = choose(paths)
            assert choice.left_out == ()
            for name in choice.kept:
                check_content(root / name, name=name)
