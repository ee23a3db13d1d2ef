"""What a replica claims, believed only as far as it adds up."""

import math
import struct

import msgspec
import pytest

from raymart_core.units import Fault
from raymart_core.wire.embedding import EmbedReply, EmbedRequest, RerankRequest
from raymart_marketplace.gateway.vectors.meter import embed_lines, floats, rerank_lines
from raymart_marketplace.gateway.vectors.request import EmbeddingRequest, RerankingRequest
from raymart_marketplace.supply.upstream import UpstreamBroken
from support.vector_market import embedded, scored, unit

ASKED = EmbeddingRequest(model="a/b", texts=("three words here",), dimensions=2)
HONEST = embedded(EmbedRequest(texts=ASKED.texts, dimensions=2))
RANKED = RerankingRequest(model="a/b", query="red fox", documents=("a dog", "a red fox", "red"))
SCORED = scored(RerankRequest(query=RANKED.query, documents=RANKED.documents))


class TestVectors:
    async def test_honest_answer_is_believed(self) -> None:
        await ASKED.check(HONEST)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"tokens": (81,)}, "81 tokens of an input that can have 1 to 80"),
            ({"tokens": (0,)}, "0 tokens"),
            ({"tokens": ()}, "0 counts for 1 inputs"),
            ({"vectors": ()}, "0 vectors for 1 inputs"),
            ({"vectors": (unit(1, 0), unit(1, 0))}, "2 vectors"),
            ({"vectors": (unit(1),)}, "1 dimensions; 2 were asked for"),
            ({"vectors": (b"\0" * 7,)}, "a vector of 7 bytes"),
            ({"vectors": (b"",)}, "a vector of 0 bytes"),
            ({"vectors": (b"\0" * 65540,)}, "a vector of 65540 bytes"),
            ({"vectors": (unit(2, 0),)}, "not length 1"),
            ({"vectors": (unit(math.nan, 0),)}, "not length 1"),
            ({"vectors": (unit(math.inf, 0),)}, "not length 1"),
        ],
        ids=[
            "more",
            "zero",
            "uncounted",
            "none",
            "two",
            "short",
            "odd",
            "empty",
            "huge",
            "long",
            "nan",
            "inf",
        ],
    )
    async def test_false_answer_is_the_providers_fault(self, changes, reason) -> None:
        with pytest.raises(UpstreamBroken, match=reason) as caught:
            await ASKED.check(msgspec.structs.replace(HONEST, **changes))
        assert caught.value.fault is Fault.PROVIDER

    async def test_vectors_must_be_of_one_size(self) -> None:
        request = EmbeddingRequest(model="a/b", texts=("a", "b"))
        reply = msgspec.structs.replace(HONEST, vectors=(unit(1, 0), unit(1)), tokens=(1, 1))
        with pytest.raises(UpstreamBroken, match="vectors of 8 and of 4 bytes"):
            await request.check(reply)

    async def test_counts_of_token_ids_must_be_theirs(self) -> None:
        request = EmbeddingRequest(model="a/b", ids=((7, 8),))
        with pytest.raises(UpstreamBroken, match="not those of the token ids"):
            await request.check(msgspec.structs.replace(HONEST, tokens=(3,)))
        await request.check(msgspec.structs.replace(HONEST, tokens=(2,)))

    def test_vectors_are_read_little_endian(self) -> None:
        assert list(floats(struct.pack("<2f", 1.5, -2))) == [1.5, -2]


class TestScores:
    async def test_honest_answer_is_believed(self) -> None:
        await RANKED.check(SCORED)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"scores": (1.0,)}, "1 scores for 3 documents"),
            ({"tokens": (1, 1)}, "2 counts"),
            ({"tokens": (1, 1, 500)}, "500 tokens"),
            ({"scores": (1.0, math.nan, 0.0)}, "not finite"),
        ],
        ids=["scores", "counts", "more", "nan"],
    )
    async def test_false_answer_is_the_providers_fault(self, changes, reason) -> None:
        with pytest.raises(UpstreamBroken, match=reason):
            await RANKED.check(msgspec.structs.replace(SCORED, **changes))


class TestLines:
    def test_answer_without_its_line_end_is_none_yet(self) -> None:
        lines = embed_lines(1)
        whole = msgspec.json.encode(EmbedReply(vectors=(), tokens=(), revision="r", engine="e"))
        assert lines.feed(whole) == []
        assert len(lines.feed(b"\n")) == 1

    def test_longest_answers_that_are_allowed_fit(self) -> None:
        vectors = (b"\xff" * 65536,) * 3
        whole = msgspec.json.encode(
            EmbedReply(vectors=vectors, tokens=(10**9,) * 3, revision="r" * 71, engine="e" * 64)
        )
        assert len(embed_lines(3).feed(whole) + embed_lines(3).feed(whole + b"\n")) == 1

    @pytest.mark.parametrize("lines", [embed_lines(1), rerank_lines(1)], ids=["embed", "rerank"])
    def test_flood_is_cut_off(self, lines) -> None:
        def flood() -> None:
            for _ in range(100):
                lines.feed(b" " * 5_000)

        with pytest.raises(UpstreamBroken, match="a line of more than"):
            flood()

    def test_score_that_is_no_number_is_no_answer(self) -> None:
        body = msgspec.json.encode(SCORED).replace(b"2.0", b"null") + b"\n"
        with pytest.raises(UpstreamBroken, match="no event"):
            rerank_lines(3).feed(body)
