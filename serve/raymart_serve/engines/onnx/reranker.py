"""Cross-encoders: query and document read together, one score for each pair."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from raymart_serve.engines.onnx.session import Graph, Stop
from raymart_serve.engines.onnx.text_engine import OnnxTextEngine
from raymart_serve.engines.protocol import EngineFailed, Score

OUTPUT = "logits"


class OnnxReranker(OnnxTextEngine):
    """Implements `Reranks`."""

    async def rerank(self, query: str, documents: Sequence[str]) -> Sequence[Score]:
        """Probabilities of relevance, 0 to 1."""
        return await self._work(partial(self._rerank, query, tuple(documents)))

    def _prepare(self, graph: Graph) -> None:
        super()._prepare(graph)
        if OUTPUT not in graph.outputs:
            raise EngineFailed(
                f"the model has the outputs {', '.join(graph.outputs)}; a reranker has {OUTPUT!r}"
            )

    async def _warm_up(self) -> None:
        await self.rerank("Hello", ["Hello"])

    def _rerank(self, query: str, documents: Sequence[str], graph: Graph, stop: Stop) -> list[Score]:
        """In a worker thread."""
        encoded = self._encoder.encode_pairs(query, documents)
        scores = [0.0] * len(encoded)
        for positions, _, logits in self._outputs(graph, OUTPUT, encoded, stop):
            for position, score in zip(positions, relevance(logits), strict=True):
                scores[position] = float(score)
        return [Score(score=score, tokens=len(one.ids)) for score, one in zip(scores, encoded, strict=True)]


def relevance(logits: np.ndarray) -> np.ndarray:
    """Logits [B, 1] or [B, 2] (no, yes) -> probabilities [B]. Raises: EngineFailed.

    Source: sentence_transformers/cross_encoder: the logistic function for one label; softmax of two is the same of
    their difference.
    """
    if logits.ndim != 2 or logits.shape[1] not in {1, 2}:
        raise EngineFailed(f"the model gave scores of shape {logits.shape}; one or two a pair are read")
    wide: np.ndarray = logits.astype(np.float64)
    odds = wide[:, 0] if wide.shape[1] == 1 else wide[:, 1] - wide[:, 0]
    if not np.isfinite(odds).all():
        raise EngineFailed("the model gave a score that is not finite")
    # tanh does not overflow, however sure the model is.
    shares: np.ndarray = 0.5 * (1.0 + np.tanh(odds / 2))
    return shares
