"""Headers that would make a library allocate, loop or read past the end. Nothing here imports torch."""

import json
import tracemalloc
from pathlib import Path

import pytest

from raymart_serve.engines.diffusers.safetensors_header import HEADER_BYTES_MAX, read_header
from raymart_serve.engines.protocol import EngineFailed
from raymart_serve.models import resolve
from support.image_engine import TREE_SHA256

ONE = {"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}


def file(folder: Path, header: object, *, data: int = 16, length: int | None = None) -> Path:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "w.safetensors"
    path.write_bytes((len(head) if length is None else length).to_bytes(8, "little") + head + bytes(data))
    return path


class TestReadHeader:
    def test_bundled_weights_are_read(self) -> None:
        entries = read_header(
            resolve("bundled:demo-image", TREE_SHA256) / "unet/diffusion_pytorch_model.safetensors"
        )
        assert entries["conv_in.weight"].dtype == "F16"
        assert entries["conv_in.weight"].shape == (48, 4, 3, 3)

    def test_well_formed_file_with_metadata_and_an_empty_tensor_is_read(self, tmp_path: Path) -> None:
        empty = {"dtype": "F32", "shape": [0, 4], "data_offsets": [16, 16]}
        found = read_header(file(tmp_path, {"__metadata__": {"format": "pt"}, **ONE, "e": empty}))
        assert set(found) == {"w", "e"}

    @pytest.mark.parametrize("length", [HEADER_BYTES_MAX + 1, 2**40, 2**63, 2**64 - 1])
    def test_promised_length_is_not_allocated(self, tmp_path: Path, length: int) -> None:
        path = file(tmp_path, ONE, length=length)
        tracemalloc.start()
        with pytest.raises(EngineFailed, match=f"promises a header of {length} bytes"):
            read_header(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**20

    @pytest.mark.parametrize("size", [0, 7])
    def test_file_without_room_for_a_length_is_refused(self, tmp_path: Path, size: int) -> None:
        (tmp_path / "w.safetensors").write_bytes(bytes(size))
        with pytest.raises(EngineFailed, match="promises a header"):
            read_header(tmp_path / "w.safetensors")

    @pytest.mark.parametrize(
        "header",
        [
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b"\xff\xfe{}",
            b"{",
            b"[]",
            {"__metadata__": {"format": ["pt"]}, **ONE},
            {"w": {**ONE["w"], "more": 1}},
            {"w": {**ONE["w"], "shape": [-2, -2]}},
            {"w": {**ONE["w"], "shape": [2.0, 2.0]}},
            {"w": {**ONE["w"], "shape": [1] * 9}},
            {"w": {**ONE["w"], "shape": [2**64]}},
            {"w": {"dtype": "F32", "shape": [2, 2]}},
        ],
        ids=lambda header: str(header)[:24],
    )
    def test_malformed_header_is_refused(self, tmp_path: Path, header: object) -> None:
        with pytest.raises(EngineFailed, match="cannot be read"):
            read_header(file(tmp_path, header))

    @pytest.mark.parametrize(
        "entry",
        [
            {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 16]},
            {"dtype": "F32", "shape": [2, 2], "data_offsets": [4, 20]},
            {"dtype": "F32", "shape": [2**20, 2**20, 2**20], "data_offsets": [0, 16]},
            {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 16]},
            {"dtype": "F32", "shape": [2, 2], "data_offsets": [16, 0]},
        ],
    )
    def test_tensor_that_lies_about_its_bytes_is_refused(
        self, tmp_path: Path, entry: dict[str, object]
    ) -> None:
        with pytest.raises(EngineFailed, match="its shape and its place say otherwise"):
            read_header(file(tmp_path, {"w": entry}))

    def test_overlap_is_refused(self, tmp_path: Path) -> None:
        """A small file could otherwise fill memory many times over."""
        with pytest.raises(EngineFailed, match="say otherwise"):
            read_header(file(tmp_path, {"a": ONE["w"], "b": ONE["w"]}))

    def test_unknown_type_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(EngineFailed, match="unknown type 'OBJECT'"):
            read_header(file(tmp_path, {"w": {**ONE["w"], "dtype": "OBJECT"}}))

    @pytest.mark.parametrize("data", [15, 17])
    def test_bytes_that_no_tensor_describes_are_refused(self, tmp_path: Path, data: int) -> None:
        with pytest.raises(EngineFailed, match=f"has {data} bytes of tensors, its header describes 16"):
            read_header(file(tmp_path, ONE, data=data))

    def test_too_many_tensors_are_refused(self, tmp_path: Path) -> None:
        entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        with pytest.raises(EngineFailed, match="65537 tensors"):
            read_header(file(tmp_path, {str(index): entry for index in range(65_537)}, data=0))
