import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_core.wire.sealed import (
    CHUNK_BYTES_MAX,
    HEADER_BYTES,
    TAG_BYTES,
    ArtifactKey,
    SealedLayout,
    read_header,
)

KEY = bytes(range(32))
GOLDEN = "524d5345414c303100000010000000000000000566d9d9b2da399307717c67b917cc5c892e7468084a"
"""Of "hello" in chunks of 16 under `KEY`."""


def sealed(plain: bytes, *, chunk_bytes: int = 16, key: bytes = KEY) -> bytes:
    layout = SealedLayout(size_bytes=len(plain), chunk_bytes=chunk_bytes)
    cipher = ArtifactKey(key, layout)
    parts = [
        cipher.seal(index, plain[index * chunk_bytes : (index + 1) * chunk_bytes])
        for index in range(layout.chunks)
    ]
    return layout.header + b"".join(parts)


def opened(stored: bytes, *, key: bytes = KEY) -> bytes:
    cipher = ArtifactKey(key, read_header(stored[:HEADER_BYTES]))
    return b"".join(cipher.open_all([stored[HEADER_BYTES:]]))


class TestSealing:
    @given(st.binary(max_size=100), st.integers(1, 40), st.lists(st.integers(1, 30), max_size=20))
    def test_what_was_sealed_opens_whatever_pieces_it_comes_in(self, plain, chunk_bytes, pieces):
        stored = sealed(plain, chunk_bytes=chunk_bytes)
        layout = read_header(stored[:HEADER_BYTES])
        assert len(stored) == layout.stored_bytes
        body, parts = stored[HEADER_BYTES:], []
        for length in pieces:
            parts.append(body[:length])
            body = body[length:]
        assert b"".join(ArtifactKey(KEY, layout).open_all([*parts, body])) == plain

    @given(st.binary(min_size=1, max_size=100), st.integers(1, 40), st.data())
    def test_any_range_opens_by_itself(self, plain, chunk_bytes, data):
        start = data.draw(st.integers(0, len(plain) - 1))
        end = data.draw(st.integers(start + 1, len(plain)))
        stored = sealed(plain, chunk_bytes=chunk_bytes)
        layout = read_header(stored[:HEADER_BYTES])
        low, high = layout.stored_range(start, end)
        first = layout.chunk_at(low)
        found = b"".join(ArtifactKey(KEY, layout).open_all([stored[low:high]], first=first))
        offset = start - first * chunk_bytes
        assert found[offset : offset + end - start] == plain[start:end]

    def test_format_never_changes(self):
        """Artifacts that were sealed years ago must open."""
        stored = sealed(b"hello")
        assert stored[:HEADER_BYTES].hex() == "524d5345414c3031" + "00000010" + "0000000000000005"
        assert opened(bytes.fromhex(GOLDEN)) == b"hello"
        assert stored.hex() == GOLDEN

    def test_same_bytes_under_another_key_are_other_bytes(self):
        assert sealed(b"a" * 100) != sealed(b"a" * 100, key=secrets.token_bytes(32))


class TestRefusals:
    def damaged(self) -> dict[str, bytes]:
        stored = sealed(bytes(range(64)))
        step = 16 + TAG_BYTES
        body = stored[HEADER_BYTES:]
        chunks = [body[at : at + step] for at in range(0, len(body), step)]
        return {
            "a bit": stored[:-1] + bytes([stored[-1] ^ 1]),
            "cut by a chunk, and the header with it": SealedLayout(size_bytes=48, chunk_bytes=16).header
            + b"".join(chunks[:3]),
            "two chunks swapped": stored[:HEADER_BYTES] + chunks[1] + chunks[0] + chunks[2] + chunks[3],
            "a chunk of another file": stored[:HEADER_BYTES]
            + sealed(bytes(64), key=bytes(32))[HEADER_BYTES : HEADER_BYTES + step]
            + b"".join(chunks[1:]),
            "bytes after the end": stored + b"x",
            "other chunk size": SealedLayout(size_bytes=64, chunk_bytes=32).header + body,
        }

    @pytest.mark.parametrize(
        "name",
        [
            "a bit",
            "cut by a chunk, and the header with it",
            "two chunks swapped",
            "a chunk of another file",
            "bytes after the end",
            "other chunk size",
        ],
    )
    def test_what_was_tampered_with_does_not_open(self, name: str):
        with pytest.raises(ValueError, match=r"damaged|after the last"):
            opened(self.damaged()[name])

    def test_cut_file_yields_no_more_than_is_whole(self):
        stored = sealed(bytes(64))
        with pytest.raises(ValueError, match="after the last whole chunk"):
            opened(stored[:-1])

    @pytest.mark.parametrize(
        "header",
        [
            b"",
            b"RMSEAL01",
            b"x" * HEADER_BYTES,
            b"RMSEAL01" + (0).to_bytes(4, "big") + (1).to_bytes(8, "big"),
            b"RMSEAL01" + (CHUNK_BYTES_MAX + 1).to_bytes(4, "big") + (1).to_bytes(8, "big"),
        ],
    )
    def test_header_that_is_none_or_asks_for_much_memory_is_refused(self, header: bytes):
        with pytest.raises(ValueError, match="sealed"):
            read_header(header)

    def test_short_key_is_refused(self):
        with pytest.raises(ValueError, match="32 bytes"):
            ArtifactKey(b"short", SealedLayout(size_bytes=1))
