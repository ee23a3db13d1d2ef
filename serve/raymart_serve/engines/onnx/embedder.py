"""Texts to vectors; scores by the cosine of query and document."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from raymart_serve.engines.onnx.pooling import pool, unit
from raymart_serve.engines.onnx.session import Graph, Stop
from raymart_serve.engines.onnx.text_engine import OnnxTextEngine
from raymart_serve.engines.protocol import Embedding, EngineFailed, RequestRefused, Score

POOLED = ("sentence_embedding", "pooler_sentence_embedding")
"""Outputs that are one vector per input already."""
TOKEN_STATES = ("last_hidden_state", "token_embeddings")


class OnnxEmbedder(OnnxTextEngine):
    """Implements `Embeds`, and `Reranks` as vLLM's score API does for embedding models: by cosine."""

    _output: str
    _width: int | None
    """Numbers of a vector; None until the first run where the graph does not say."""

    async def embed(
        self, inputs: Sequence[str | Sequence[int]], *, dimensions: int | None = None
    ) -> Sequence[Embedding]:
        """See the protocol."""
        self._check_dimensions(dimensions)
        return await self._work(partial(self._embed, tuple(inputs), dimensions))

    async def rerank(self, query: str, documents: Sequence[str]) -> Sequence[Score]:
        """Cosines, -1 to 1. The query is read once: its tokens are counted with the first document's."""
        return await self._work(partial(self._rerank, query, tuple(documents)))

    def _prepare(self, graph: Graph) -> None:
        super()._prepare(graph)
        known = [name for name in (*POOLED, *TOKEN_STATES) if name in graph.outputs]
        if not known:
            raise EngineFailed(
                f"the model has the outputs {', '.join(graph.outputs)}; an embedding model has one of "
                f"{', '.join((*POOLED, *TOKEN_STATES))}"
            )
        self._output = known[0]
        width = graph.outputs[self._output].shape[-1]
        self._width = width if isinstance(width, int) else None

    async def _warm_up(self) -> None:
        [made] = await self.embed(["Hello"])
        self._width = len(made.vector) // 4

    def _check_dimensions(self, dimensions: int | None) -> None:
        if dimensions is not None and not 1 <= dimensions <= (self._width or dimensions):
            raise RequestRefused(
                f"dimensions is {dimensions}; this model makes 1 to {self._width}", param="dimensions"
            )

    def _embed(
        self, inputs: Sequence[str | Sequence[int]], dimensions: int | None, graph: Graph, stop: Stop
    ) -> list[Embedding]:
        """In a worker thread."""
        encoded = self._encoder.encode(inputs)
        vectors: list[bytes] = [b""] * len(encoded)
        for positions, batch, found in self._outputs(graph, self._output, encoded, stop):
            pooled = found if self._output in POOLED else pool(found, batch["mask"], self._revision.pooling)
            for position, vector in zip(positions, unit(pooled, dimensions=dimensions), strict=True):
                vectors[position] = vector.tobytes()
        return [
            Embedding(vector=vector, tokens=len(one.ids))
            for vector, one in zip(vectors, encoded, strict=True)
        ]

    def _rerank(self, query: str, documents: Sequence[str], graph: Graph, stop: Stop) -> list[Score]:
        """In a worker thread."""
        first, *others = self._embed((query, *documents), None, graph, stop)
        cosines = np.stack([_numbers(other) for other in others]) @ _numbers(first)
        return [
            Score(score=float(cosine), tokens=other.tokens + (first.tokens if place == 0 else 0))
            for place, (cosine, other) in enumerate(zip(cosines, others, strict=True))
        ]


def _numbers(embedding: Embedding) -> np.ndarray:
    vector: np.ndarray = np.frombuffer(embedding.vector, "<f4")
    return vector
