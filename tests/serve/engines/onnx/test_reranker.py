"""A cross-encoder whose score is the sum of its tokens' weights."""

import struct

import pytest

from raymart_serve.engines.onnx.reranker import OnnxReranker
from raymart_serve.engines.protocol import EngineFailed, PromptTooLong
from support.tiny_onnx import floats, lookup, model, node, port, tensor
from support.word_tokens import words_tokenizer

CONFIG = {"architectures": ["TinyForSequenceClassification"]}
WEIGHTS = [100.0, 0, 0, 0, 2, -2, 0, 1]
"""[PAD] would spoil a score that counted it."""


def score_model() -> bytes:
    """Sum of the weights of the second text's tokens that are no padding."""
    return model(
        [
            node("Gather", ["weights", "input_ids"], ["each"]),
            node("Cast", ["token_type_ids"], ["second"], to=1),
            node("Cast", ["attention_mask"], ["real"], to=1),
            node("Mul", ["second", "real"], ["counts"]),
            node("Mul", ["each", "counts"], ["weighted"]),
            node("ReduceSum", ["weighted", "axis"], ["logits"], keepdims=1),
        ],
        inputs=[
            port(name, "int64", ("b", "t")) for name in ("input_ids", "attention_mask", "token_type_ids")
        ],
        outputs=[port("logits", "float32", ("b", 1))],
        tensors=[
            tensor("weights", "float32", (8,), floats(WEIGHTS)),
            tensor("axis", "int64", (1,), struct.pack("<q", 1)),
        ],
    )


class TestReranker:
    async def test_pairs_are_scored_in_order_and_counted_whole(self, write, start) -> None:
        engine = await start(write(score_model(), tokenizer=words_tokenizer(), config=CONFIG))
        assert type(engine) is OnnxReranker
        scores = await engine.rerank("red red", ["blue", "green", "red pale pale pale"])
        assert [round(score.score, 5) for score in scores] == [0.5, 0.1192, 0.99331]
        # [CLS] red red [SEP] ... [SEP]
        assert [score.tokens for score in scores] == [6, 6, 9]

    async def test_pair_over_the_context_is_refused(self, write, start) -> None:
        engine = await start(
            write(score_model(), tokenizer=words_tokenizer(), config=CONFIG), context_length=6
        )
        with pytest.raises(PromptTooLong) as caught:
            await engine.rerank("red red", ["blue", "blue blue"])
        assert caught.value.param == "documents"

    async def test_model_without_scores_fails_the_load(self, write, start) -> None:
        engine = await start(
            write(lookup([[1.0, 2.0]]), tokenizer=words_tokenizer(), config=CONFIG), load=False
        )
        with pytest.raises(EngineFailed, match="a reranker has 'logits'"):
            await engine.load(lambda _: None)
