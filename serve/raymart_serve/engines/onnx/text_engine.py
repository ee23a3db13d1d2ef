"""What embedders and rerankers share: a transformer's inputs filled from token ids, padded batch by batch."""

from collections.abc import Callable, Sequence

import numpy as np

from raymart_serve.engines.onnx.engine import OnnxEngine
from raymart_serve.engines.onnx.session import Graph, Stop
from raymart_serve.engines.onnx.tokens import Encoded, TextEncoder, batches
from raymart_serve.engines.protocol import EngineFailed, RequestRefused

CELLS_MAX = 8_192
"""Tokens of one run, padding included: bounds the memory of activations whatever is asked for."""

Batch = dict[str, np.ndarray]
_FILLERS: dict[str, Callable[[Batch], np.ndarray]] = {
    "input_ids": lambda batch: batch["ids"],
    "attention_mask": lambda batch: batch["mask"],
    "token_type_ids": lambda batch: batch["types"],
    "position_ids": lambda batch: np.maximum(np.cumsum(batch["mask"], axis=1) - 1, 0),
}


class OnnxTextEngine(OnnxEngine):
    """An engine whose graph reads token ids."""

    _encoder: TextEncoder

    def _prepare(self, graph: Graph) -> None:
        assert self._revision.tokenizer is not None
        self._encoder = TextEncoder(
            self._revision.tokenizer, tokens_max=self.context_length, prompt=self._revision.prompt
        )
        unknown = [name for name in graph.inputs if name not in _FILLERS]
        if unknown or "input_ids" not in graph.inputs:
            raise EngineFailed(
                f"the model has the inputs {', '.join(graph.inputs)}; read are {', '.join(_FILLERS)}, the first always"
            )
        for port in graph.inputs.values():
            if port.dtype not in {"int32", "int64"} or any(isinstance(size, int) for size in port.shape):
                raise EngineFailed(f"{port.name} must be whole numbers of any count and length; export it so")

    def _outputs(
        self, graph: Graph, output: str, encoded: Sequence[Encoded], stop: Stop
    ) -> list[tuple[list[int], Batch, np.ndarray]]:
        """`output` for every batch of `encoded`: (positions in `encoded`, what went in, what came out)."""
        made = []
        for positions in batches([len(one.ids) for one in encoded], cells_max=CELLS_MAX):
            self._alive(stop)
            batch = _padded([encoded[position] for position in positions], pad_id=self._revision.pad_id)
            feeds: Batch = {
                port.name: _FILLERS[port.name](batch).astype(port.dtype) for port in graph.inputs.values()
            }
            try:
                [found] = graph.run([output], feeds, stop)
            except RequestRefused as error:
                # The customer gave text; that the graph does not take its tokens is the revision's doing.
                raise EngineFailed(error.message) from error
            made.append((positions, batch, found))
        return made


def _padded(encoded: Sequence[Encoded], *, pad_id: int) -> Batch:
    """ids, types, mask: [B, T] int64, padded on the right."""
    shape = (len(encoded), max(len(one.ids) for one in encoded))
    batch: Batch = {name: np.zeros(shape, np.int64) for name in ("ids", "types", "mask")}
    batch["ids"][:] = pad_id
    for row, one in enumerate(encoded):
        length = len(one.ids)
        batch["ids"][row, :length] = one.ids
        batch["types"][row, :length] = one.types
        batch["mask"][row, :length] = 1
    return batch
