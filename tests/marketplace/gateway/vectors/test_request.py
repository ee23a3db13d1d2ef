"""What is read of a body, and what is refused by name."""

import json

import pytest

from raymart_core.errors import InvalidRequest
from raymart_marketplace.gateway.vectors.meter import SPECIAL_TOKENS_MAX
from raymart_marketplace.gateway.vectors.openai_body import parse_embedding, parse_rerank
from raymart_marketplace.gateway.vectors.request import EmbeddingRequest, RerankingRequest


def embedding(**changes: object):
    return parse_embedding(json.dumps({"model": "a/b", "input": "x", **changes}).encode())


def rerank(**changes: object):
    return parse_rerank(json.dumps({"model": "a/b", "query": "q", "documents": ["d"], **changes}).encode())


class TestEmbeddingBody:
    @pytest.mark.parametrize(
        ("given", "texts", "ids"),
        [
            ("a", ("a",), ()),
            (["a", "b"], ("a", "b"), ()),
            ([5, 6], (), ((5, 6),)),
            ([[5], [6, 7]], (), ((5,), (6, 7))),
        ],
        ids=["text", "texts", "ids", "lists"],
    )
    def test_input_has_openais_four_forms(self, given, texts, ids) -> None:
        request = embedding(input=given).request
        assert (request.texts, request.ids) == (texts, ids)

    def test_numbers_are_written_unless_base64_is_asked_for(self) -> None:
        assert not embedding().base64
        assert not embedding(encoding_format="float").base64
        assert embedding(encoding_format="base64").base64

    def test_fields_that_change_nothing_are_taken(self) -> None:
        embedding(user="u", input_type={"any": "thing"}, dimensions=None)

    @pytest.mark.parametrize(
        ("changes", "param"),
        [
            ({"input": []}, "input"),
            ({"input": ""}, "input"),
            ({"input": ["a", ""]}, "input"),
            ({"input": ["a", 1]}, "input"),
            ({"input": [1, [2]]}, "input"),
            ({"input": [[]]}, "input"),
            ({"input": [-1]}, "input"),
            ({"input": [2**31]}, "input"),
            ({"input": {"a": 1}}, "input"),
            ({"input": None}, "input"),
            ({"input": ["a"] * 2049}, "input"),
            ({"dimensions": 0}, "dimensions"),
            ({"dimensions": 65537}, "dimensions"),
            ({"encoding_format": "hex"}, "encoding_format"),
            ({"dimension": 3}, "dimension"),
            ({"truncate_prompt_tokens": 3}, "truncate_prompt_tokens"),
            ({"provider": {"sort": "luck"}}, "provider.sort"),
            ({"model": ""}, "model"),
        ],
        ids=[
            "none", "empty", "one-empty", "mixture", "ids-and-lists", "no-ids", "negative", "huge", "object", "null", "count",
            "no-dimensions", "dimensions", "encoding", "typo", "engines", "provider", "model",
        ],
    )  # fmt: skip
    def test_malformed_body_names_its_field(self, changes, param) -> None:
        with pytest.raises(InvalidRequest) as caught:
            embedding(**changes)
        assert caught.value.param == param

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"model":"a/b","input":' + b"[" * 99999])
    def test_anything_else_is_refused_too(self, body) -> None:
        with pytest.raises(InvalidRequest):
            parse_embedding(body)

    def test_typo_is_answered_with_the_field_that_was_meant(self) -> None:
        with pytest.raises(InvalidRequest, match="did you mean 'dimensions'"):
            embedding(dimension=3)


class TestRerankBody:
    def test_documents_may_be_objects(self) -> None:
        parsed = rerank(documents=[{"text": "a", "title": "t"}, "b"])
        assert (parsed.request.documents, parsed.top_n, parsed.return_documents) == (("a", "b"), 2, False)

    def test_top_n_beyond_the_documents_is_all_of_them(self) -> None:
        assert rerank(top_n=9).top_n == 1

    @pytest.mark.parametrize(
        ("changes", "param"),
        [
            ({"query": ""}, "query"),
            ({"documents": []}, "documents"),
            ({"documents": ["a", ""]}, "documents"),
            ({"documents": ["a"] * 1001}, "documents"),
            ({"top_n": 0}, "top_n"),
            ({"topn": 1}, "topn"),
        ],
        ids=["query", "none", "empty", "count", "top_n", "typo"],
    )
    def test_malformed_body_names_its_field(self, changes, param) -> None:
        with pytest.raises(InvalidRequest) as caught:
            rerank(**changes)
        assert caught.value.param == param


class TestBounds:
    def test_texts_are_bounded_by_their_bytes_and_ids_by_their_number(self) -> None:
        texts = EmbeddingRequest(model="a/b", texts=("abc", "é"))
        assert texts.token_bounds == (3 + SPECIAL_TOKENS_MAX, 2 + SPECIAL_TOKENS_MAX)
        assert EmbeddingRequest(model="a/b", ids=((1, 2), (3,))).tokens_max == 3

    def test_pair_is_bounded_by_both_texts(self) -> None:
        request = RerankingRequest(model="a/b", query="qq", documents=("d", "ddd"))
        assert request.token_bounds == (3 + 2 * SPECIAL_TOKENS_MAX, 5 + 2 * SPECIAL_TOKENS_MAX)

    @pytest.mark.parametrize("inputs", [{}, {"texts": ("a",), "ids": ((1,),)}], ids=["none", "both"])
    def test_exactly_one_kind_of_input_is_taken(self, inputs) -> None:
        with pytest.raises(InvalidRequest):
            EmbeddingRequest(model="a/b", **inputs)

    def test_lone_surrogate_is_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="lone surrogate"):
            EmbeddingRequest(model="a/b", texts=("\ud800",))
