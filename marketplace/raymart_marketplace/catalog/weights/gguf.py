"""Headers of GGUF files, read without believing them. Source: ggml `docs/gguf.md`, versions 2 and 3, little endian."""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from raymart_core.errors import InvalidRequest

HEADER_BYTES_MAX = 128 << 20
"""Vocabularies of 256,000 words take 10 MB."""
ENTRIES_MAX = 65_536
TENSORS_MAX = 100_000
DIMENSIONS_MAX = 8
NAME_BYTES_MAX = 65_535
TEXT_BYTES_MAX = 1 << 20
"""Of a text that is kept, such as a chat template; longer ones, and lists, are passed over."""
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
_FORMATS = {
    0: "f32", 1: "f16", 2: "q4_0", 3: "q4_1", 7: "q8_0", 8: "q5_0", 9: "q5_1", 10: "q2_k", 11: "q3_k_s", 12: "q3_k_m",
    13: "q3_k_l", 14: "q4_k_s", 15: "q4_k_m", 16: "q5_k_s", 17: "q5_k_m", 18: "q6_k", 32: "bf16",
}  # fmt: skip
"""llama.cpp's `llama_ftype`."""

Value = int | float | bool | str


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """What a GGUF file says of itself."""

    values: Mapping[str, Value] = field(repr=False)
    """Numbers and texts by name; without lists."""
    tensors: int

    @property
    def architecture(self) -> str:
        """Such as "llama"; empty when it does not say."""
        return str(self.values.get("general.architecture", ""))

    @property
    def quantization(self) -> str:
        """Such as "q8_0"; empty when it does not say."""
        return _FORMATS.get(int(self.values.get("general.file_type", -1)), "")

    @property
    def context_length(self) -> int:
        """Tokens it was trained for; 0 when it does not say."""
        found = self.values.get(f"{self.architecture}.context_length", 0)
        return found if isinstance(found, int) else 0

    @property
    def licence(self) -> str:
        """As written there."""
        return str(self.values.get("general.license", ""))

    @property
    def template_sha256(self) -> str:
        """Of the chat template as text, hex; empty without one."""
        template = self.values.get("tokenizer.chat_template")
        return "" if template is None else hashlib.sha256(str(template).encode()).hexdigest()


def read_gguf_header(path: Path) -> GgufHeader:
    """What the file says of itself; its tensors lie within it. Raises: InvalidRequest.

    No more is read than `HEADER_BYTES_MAX`, and no length is believed before it is compared with what is left.
    """
    with path.open("rb") as file:
        reader = _Header(file, path)
        if reader.take(4) != b"GGUF":
            raise reader.wrong("it does not begin with 'GGUF'")
        version = reader.number("I")
        if version not in {2, 3}:
            raise reader.wrong(f"version {version} is not 2 or 3")
        tensors, entries = (
            reader.count("Q", TENSORS_MAX, "tensors"),
            reader.count("Q", ENTRIES_MAX, "entries"),
        )
        values: dict[str, Value] = {}
        for _ in range(entries):
            name = reader.text(NAME_BYTES_MAX)
            assert name is not None
            value = reader.value(int(reader.number("I")))
            if value is not None:
                values[name] = value
        offsets = [reader.tensor() for _ in range(tensors)]
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise reader.wrong(f"an alignment of {alignment!r}")
        data_bytes = reader.size - -(-file.tell() // alignment) * alignment
        if any(offset % alignment or offset >= max(data_bytes, 1) for offset in offsets):
            raise reader.wrong(f"a tensor lies outside the {data_bytes} bytes of data, or between two places")
    return GgufHeader(values=values, tensors=tensors)


class _Header:
    """Reads forward through a header, and no further than the limit."""

    def __init__(self, file: BufferedReader, path: Path) -> None:
        self._file, self._name = file, path.name
        self.size = path.stat().st_size
        self._left = min(self.size, HEADER_BYTES_MAX)

    def wrong(self, what: str) -> InvalidRequest:
        """The error that says what is wrong with the file."""
        return InvalidRequest(f"{self._name!r} is no GGUF file that can be used: {what}")

    def take(self, length: int) -> bytes:
        """The next bytes."""
        self._spend(length)
        return self._file.read(length)

    def number(self, kind: str) -> int | float:
        """The next number; `kind` as in `struct`."""
        found: int | float = struct.unpack("<" + kind, self.take(struct.calcsize("<" + kind)))[0]
        return found

    def count(self, kind: str, most: int, what: str) -> int:
        """The next number, which says how many there are of something."""
        found = int(self.number(kind))
        if found > most:
            raise self.wrong(f"{found} {what}, the limit is {most}")
        return found

    def text(self, most: int) -> str | None:
        """The next text; None for one that is longer, which is passed over."""
        length = int(self.number("Q"))
        if length > most:
            self._skip(length)
            return None
        return self.take(length).decode("utf-8", "replace")

    def value(self, kind: int) -> Value | None:
        """The next value; None for a list, which is passed over."""
        if kind == _TEXT:
            return self.text(TEXT_BYTES_MAX)
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind != _LIST:
            raise self.wrong(f"a value of kind {kind}, which is not known")
        element, length = int(self.number("I")), int(self.number("Q"))
        if element in _NUMBERS:
            self._skip(length * struct.calcsize("<" + _NUMBERS[element]))
        elif element == _TEXT:
            # Each takes eight bytes at least, so a false length ends at the limit of the header.
            for _ in range(length):
                self._skip(int(self.number("Q")))
        else:
            raise self.wrong("a list of lists")
        return None

    def tensor(self) -> int:
        """Pass over one tensor's entry; returns where its data begins."""
        if self.text(NAME_BYTES_MAX) is None:
            raise self.wrong(f"a tensor's name is longer than {NAME_BYTES_MAX} bytes")
        for _ in range(self.count("I", DIMENSIONS_MAX, "dimensions")):
            self.number("Q")
        self.number("I")
        return int(self.number("Q"))

    def _skip(self, length: int) -> None:
        self._spend(length)
        self._file.seek(length, 1)

    def _spend(self, length: int) -> None:
        if length > self._left:
            raise self.wrong(f"its header ends in the middle or is longer than {HEADER_BYTES_MAX} bytes")
        self._left -= length
