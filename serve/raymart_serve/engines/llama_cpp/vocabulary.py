"""The bytes of every token, read from a GGUF file's own header, and from them the tokens of a character.

llama.cpp reports, when it streams, only the last id of the tokens that together make a multi-byte character. The
others follow from the character's bytes whenever there is just one way to spell them with that many tokens.

Source: ggml/docs/gguf.md (layout); llama.cpp src/llama-vocab.cpp, `token_to_piece` (spelling of tokens).
"""

import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

from raymart_serve.engines.protocol import EngineFailed, RequestRefused

_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_NORMAL, _USER_DEFINED, _BYTE = 1, 4, 6
_WANTED = ("tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type")

_UNREADABLE = (
    struct.error, UnicodeDecodeError, KeyError, EOFError, OverflowError, MemoryError, RecursionError,
)  # fmt: skip

Metadata = int | float | bool | str | list["Metadata"]


class Vocabulary:
    """Spells text with tokens. Control and unused tokens are left out: they have no text."""

    def __init__(self, spellings: Mapping[int, bytes], *, size: int) -> None:
        self.size = size
        """Number of token ids, from 0."""
        self._spellings = dict(spellings)
        self._ids: dict[bytes, list[int]] = defaultdict(list)
        for token, spelling in spellings.items():
            if spelling:
                self._ids[spelling].append(token)

    def check(self, ids: Sequence[int], *, param: str) -> None:
        """Raises: RequestRefused naming `param` unless all are ids of this vocabulary."""
        if not 0 <= min(ids) <= max(ids) < self.size:
            raise RequestRefused(f"token ids must lie in 0..{self.size - 1} for this model", param=param)

    def text(self, ids: Sequence[int]) -> str:
        """What the tokens spell; control tokens spell nothing, and bytes that are no text become U+FFFD."""
        return b"".join(self._spellings.get(token, b"") for token in ids).decode(errors="replace")

    def only_spelling(self, text: str, *, count: int, last: int) -> tuple[int, ...] | None:
        """The `count` tokens ending in `last` that spell `text` with no cut between characters, if only one way exists.

        None when there is none or more than one. Cuts between characters are impossible because llama.cpp sends a
        chunk as soon as its text is whole.
        """
        data, ending = text.encode(), self._spellings.get(last, b"")
        if not ending or not data.endswith(ending):
            return None
        ways = self._ways(data, start=0, stop=len(data) - len(ending), count=count - 1)
        first, second = next(ways, None), next(ways, None)
        return None if first is None or second is not None else (*first, last)

    def _ways(self, data: bytes, *, start: int, stop: int, count: int) -> Iterator[tuple[int, ...]]:
        if count == 0:
            if start == stop:
                yield ()
            return
        for end in range(start + 1, stop - count + 2):
            if not _inside_character(data, end):
                continue
            for token in self._ids.get(data[start:end], ()):
                for rest in self._ways(data, start=end, stop=stop, count=count - 1):
                    yield (token, *rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the engine needs of a GGUF file's header."""

    vocabulary: Vocabulary
    own_pooling: bool
    """Whether the file says how to make one vector of its tokens' vectors: then it is made for embedding only."""


def read_header(path: Path) -> Header:
    """The header of the GGUF file at `path`. Raises: EngineFailed when it is no such file."""
    try:
        with path.open("rb") as file:
            metadata = _read_metadata(file)
    except _UNREADABLE as error:
        raise EngineFailed(f"{path.name!r} is no readable GGUF file: {error}") from error
    architecture = metadata.get("general.architecture")
    return Header(
        vocabulary=_vocabulary(path, metadata), own_pooling=f"{architecture}.pooling_type" in metadata
    )


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary in the header of the GGUF file at `path`. Raises: EngineFailed when it is no such file."""
    return read_header(path).vocabulary


def _vocabulary(path: Path, metadata: Mapping[str, Metadata]) -> Vocabulary:
    model, tokens, types = (metadata.get(name) for name in _WANTED)
    if not isinstance(tokens, list):
        raise EngineFailed(
            f"{path.name!r} has no tokenizer.ggml.tokens; convert the model with its tokenizer"
        )
    kinds = types if isinstance(types, list) else [_NORMAL] * len(tokens)
    spellings = {
        token: spelling
        for token, (text, kind) in enumerate(zip(tokens, kinds, strict=True))
        if (spelling := _spelling(str(model), str(text), kind)) is not None
    }
    return Vocabulary(spellings, size=len(tokens))


def _inside_character(data: bytes, position: int) -> bool:
    # In UTF-8 every byte of a character but its first is 0b10xxxxxx.
    return position < len(data) and data[position] & 0xC0 == 0x80


def _spelling(model: str, text: str, kind: Metadata) -> bytes | None:
    if kind == _USER_DEFINED:
        return text.encode()
    if kind == _BYTE:
        return bytes([int(text[3:5], 16)])
    if kind != _NORMAL:
        return None
    if model == "gpt2":
        letters = _byte_letters()
        return (
            bytes(letters[letter] for letter in text) if all(letter in letters for letter in text) else None
        )
    if model == "llama":
        return text.replace("\u2581", " ").encode()
    return None


@cache
def _byte_letters() -> Mapping[str, int]:
    """How byte-level BPE writes bytes as letters. Source: openai/gpt-2, src/encoder.py, `bytes_to_unicode`."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


def _read_metadata(file: BinaryIO) -> dict[str, Metadata]:
    if _exactly(file, 4) != _MAGIC:
        raise EOFError("it does not start with GGUF")
    version, _tensors, pairs = struct.unpack("<IQQ", _exactly(file, 20))
    if version not in {2, 3}:
        raise EOFError(f"its version is {version}, not 2 or 3")
    metadata = {}
    for _ in range(pairs):
        name = _read_string(file)
        metadata[name] = _read_value(file, _read_scalar(file, 4))
        # The vocabulary is written last but for its merges, which take long to read and are of no use here.
        if all(wanted in metadata for wanted in _WANTED):
            break
    return metadata


def _read_value(file: BinaryIO, kind: Metadata) -> Metadata:
    if kind == _STRING:
        return _read_string(file)
    if kind == _ARRAY:
        inner, length = struct.unpack("<IQ", _exactly(file, 12))
        return [_read_value(file, inner) for _ in range(length)]
    assert isinstance(kind, int)
    return _read_scalar(file, kind)


def _read_scalar(file: BinaryIO, kind: int) -> Metadata:
    layout = _SCALARS[kind]
    value: Metadata = struct.unpack(layout, _exactly(file, struct.calcsize(layout)))[0]
    return value


def _read_string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", _exactly(file, 8))
    return _exactly(file, length).decode()


def _exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) != length:
        raise EOFError("it ends too early")
    return data
