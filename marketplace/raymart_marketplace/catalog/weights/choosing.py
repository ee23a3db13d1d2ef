"""Which files of a model are kept: weights that are numbers only, and the texts beside them. Never a pickle.

A pickle runs code when it is loaded, an archive may unpack to anything, a script is code: none of them is ever stored, so
none of them is ever at hand to be loaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from raymart_core.errors import InvalidRequest
from raymart_core.wire.manifest import FILES_MAX, check_path
from raymart_marketplace.catalog.weights.gguf import read_gguf_header
from raymart_marketplace.catalog.weights.safetensors import read_safetensors_header

WEIGHTS = frozenset({".safetensors", ".gguf", ".onnx"})
_BESIDE = frozenset({".json", ".txt", ".jinja", ".model", ".md", ".onnx_data", ".data", ".tiktoken"})
_NAMES = frozenset({"LICENSE", "LICENCE", "NOTICE"})
PICKLED = frozenset(
    {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".h5", ".keras", ".pb"}
)
"""Formats that can run code when they are loaded, or hold what does."""
TEXT_BYTES_MAX = 64 << 20
"""Tokenizers of the largest vocabularies have half of it."""
_MAGIC = {
    b"PK\x03\x04": "a zip archive, as PyTorch's pickles are",
    b"PK\x05\x06": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"#!": "a script",
    **{bytes([0x80, version]): "a pickle" for version in range(2, 6)},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Paths of a model's folder, parted."""

    kept: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    """With the reason."""


def choose(paths: Sequence[str]) -> Choice:
    """Part `paths`. Raises: InvalidRequest when only pickled weights are there, none at all, or a path is a trick."""
    kept, left_out, pickled = [], [], []
    for path in sorted(paths):
        if any(part in {"", ".", ".."} or "\\" in part for part in path.split("/")):
            check_path(path)
        pure = PurePosixPath(path)
        if any(part.startswith(".") for part in pure.parts):
            left_out.append((path, "hidden"))
        elif pure.suffix.lower() in PICKLED:
            pickled.append(path)
            left_out.append((path, "can run code when it is loaded"))
        elif pure.suffix in WEIGHTS | _BESIDE or pure.name in _NAMES:
            check_path(path)
            kept.append(path)
        else:
            left_out.append((path, "nothing that an engine reads"))
    if not any(PurePosixPath(path).suffix in WEIGHTS for path in kept):
        if pickled:
            raise InvalidRequest(
                f"the weights are pickled ({pickled[0]}), and loading those runs whatever code they hold; convert them to"
                " safetensors or GGUF"
            )
        raise InvalidRequest(f"there are no weights: no {', '.join(sorted(WEIGHTS))} file")
    if len(kept) > FILES_MAX:
        raise InvalidRequest(f"{len(kept)} files; the limit of a revision is {FILES_MAX}")
    return Choice(kept=tuple(kept), left_out=tuple(left_out))


def check_content(path: Path, *, name: str) -> None:
    """Refuse a file that is not what its name says. Reads its header only. Raises: InvalidRequest."""
    suffix = PurePosixPath(name).suffix
    if suffix == ".safetensors":
        read_safetensors_header(path)
        return
    if suffix == ".gguf":
        read_gguf_header(path)
        return
    with path.open("rb") as file:
        head = file.read(16)
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise InvalidRequest(f"{name!r} is {what}, which is never kept")
    if suffix in {".json", ".txt", ".jinja", ".md"}:
        size = path.stat().st_size
        if size > TEXT_BYTES_MAX:
            raise InvalidRequest(f"{name!r} has {size} bytes; the limit of a text is {TEXT_BYTES_MAX}")
        if suffix == ".json" and not head.lstrip().startswith((b"{", b"[", b'"')):
            raise InvalidRequest(f"{name!r} is no JSON")
