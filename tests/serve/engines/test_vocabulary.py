import struct
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_serve.engines.llama_cpp.vocabulary import Vocabulary, read_vocabulary
from raymart_serve.engines.protocol import EngineFailed
from raymart_serve.models import resolve

SHA256 = "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3"
BYTES = {byte: bytes([byte]) for byte in range(256)}
PAIR = {300: "😀".encode()[:2]}
TRIPLE = {301: "😀".encode()[1:3]}


def vocabulary(*more: dict[int, bytes]) -> Vocabulary:
    spellings = dict(BYTES)
    for part in more:
        spellings |= part
    return Vocabulary(spellings, size=400)


class TestOnlySpelling:
    def test_single_bytes_are_found(self) -> None:
        assert vocabulary().only_spelling("😀", count=4, last=0x80) == tuple("😀".encode())

    def test_the_count_tells_merged_bytes_from_single_ones(self) -> None:
        assert vocabulary(PAIR).only_spelling("😀", count=4, last=0x80) == tuple("😀".encode())
        assert vocabulary(PAIR).only_spelling("😀", count=3, last=0x80) == (300, 0x98, 0x80)

    def test_two_ways_are_no_knowledge(self) -> None:
        assert vocabulary(PAIR, TRIPLE).only_spelling("😀", count=3, last=0x80) is None

    def test_two_tokens_of_one_spelling_are_no_knowledge(self) -> None:
        assert vocabulary({302: b"\xf0"}).only_spelling("😀", count=4, last=0x80) is None

    def test_a_last_token_that_does_not_fit_is_refused(self) -> None:
        assert vocabulary().only_spelling("😀", count=4, last=0x81) is None
        assert vocabulary().only_spelling("😀", count=4, last=399) is None

    def test_no_cut_lies_between_characters(self) -> None:
        """llama.cpp would have sent the first character on its own."""
        assert vocabulary().only_spelling("éé", count=4, last=0xA9) is None

    def test_a_token_may_end_one_character_and_begin_the_next(self) -> None:
        bridge = {303: "éé".encode()[1:3]}
        assert vocabulary(bridge).only_spelling("éé", count=3, last=0xA9) == (0xC3, 303, 0xA9)

    @given(text=st.text(min_size=1, max_size=1), cuts=st.lists(st.booleans(), min_size=3, max_size=3))
    def test_what_is_found_is_the_only_way(self, text: str, cuts: list[bool]) -> None:
        data = text.encode()
        merged = {
            1000 + start * 10 + end: data[start:end]
            for start, end in product(range(len(data)), range(len(data) + 1))
            if end - start > 1 and cuts[start % 3]
        }
        spellings = {byte: bytes([byte]) for byte in data} | merged
        vocabulary = Vocabulary(spellings, size=3000)
        for count in range(1, len(data) + 1):
            for last, ending in spellings.items():
                ways = [way for way in _all_ways(data, spellings, count) if way[-1] == last]
                found = vocabulary.only_spelling(text, count=count, last=last)
                assert found == (ways[0] if len(ways) == 1 and data.endswith(ending) else None)


class TestReadVocabulary:
    def test_bundled_model_is_read(self) -> None:
        found = read_vocabulary(resolve("bundled:demo-llm.gguf", SHA256))
        assert found.size == 2048
        assert found.only_spelling("你", count=3, last=258) is not None

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"GGUF",
            b"nope" * 20,
            b"GGUF" + struct.pack("<IQQ", 9, 0, 0),
            b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60),
        ],
    )
    def test_what_is_no_gguf_is_refused(self, data: bytes, tmp_path: Path) -> None:
        path = tmp_path / "x.gguf"
        path.write_bytes(data)
        with pytest.raises(EngineFailed, match=r"'x\.gguf' is no readable GGUF file"):
            read_vocabulary(path)

    def test_a_string_longer_than_the_file_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "x.gguf"
        path.write_bytes(b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**63 - 1))
        with pytest.raises(EngineFailed):
            read_vocabulary(path)


def _all_ways(data: bytes, spellings: dict[int, bytes], count: int) -> list[tuple[int, ...]]:
    if count == 0:
        return [] if data else [()]
    return [
        (token, *rest)
        for token, spelling in spellings.items()
        if data.startswith(spelling)
        for rest in _all_ways(data[len(spelling) :], spellings, count - 1)
    ]
