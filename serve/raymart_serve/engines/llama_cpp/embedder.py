"""Vectors from a GGUF model: a server of its own beside the one that generates.

llama.cpp generates several times slower with embeddings switched on (measured: 3 times), so they get another server;
both map the same file, and the weights are in memory once.
"""

import base64
import math
import secrets
import struct
import threading
from collections.abc import Sequence

import msgspec

from raymart_serve.engines.llama_cpp.library import embedding_parameters
from raymart_serve.engines.llama_cpp.listener import Listener
from raymart_serve.engines.protocol import Embedding, EngineFailed, EngineSpec, RequestRefused

TOGETHER_MAX = 16
"""Inputs in one call of the library, which cannot be broken off."""


class _Vector(msgspec.Struct):
    index: int
    embedding: str


class _Failure(msgspec.Struct):
    message: str = "no reason given"


class _Answer(msgspec.Struct):
    data: tuple[_Vector, ...] = ()
    # Errors come without a frame: {"code", "message", "type"}.
    message: str | None = None
    error: _Failure | None = None


class Embedder:
    """Blocking; any number of threads may use it at once."""

    def __init__(self, spec: EngineSpec, *, own_pooling: bool) -> None:
        """Load the model; `own_pooling` when its file says how to pool, else the mean is taken. Raises: EngineFailed."""
        import xllamacpp  # noqa: PLC0415 - see the engine

        key = secrets.token_hex(32)
        pooling = None if own_pooling else xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        parameters = embedding_parameters(xllamacpp.CommonParams(), spec, key=key, pooling=pooling)
        try:
            self._server: xllamacpp.Server | None = xllamacpp.Server(parameters)
        except Exception as error:  # the library raises RuntimeError and more, by version
            raise EngineFailed(f"llama.cpp cannot load {spec.path.name!r}: {error}") from error
        self.listener = Listener(self._server.listening_address, key=key)
        self.dimensions = len(self.vectors([(0,)])[0]) // 4
        """Numbers in a vector. Asking for one also proves that the library's loop runs: see the engine's `_load`."""

    def read(self, inputs: Sequence[Sequence[int]], left: threading.Event) -> list[bytes]:
        """`vectors` of any number of inputs, some at a time, until the caller has `left`. Raises: EngineFailed."""
        vectors: list[bytes] = []
        while len(vectors) < len(inputs) and not left.is_set():
            vectors += self.vectors(inputs[len(vectors) : len(vectors) + TOGETHER_MAX])
        return vectors

    def vectors(self, inputs: Sequence[Sequence[int]]) -> list[bytes]:
        """float32, little-endian, of length 1, for each list of token ids, in order. Raises: EngineFailed."""
        if self._server is None:
            raise EngineFailed("the engine is closed")
        body = msgspec.json.encode({"input": inputs, "encoding_format": "base64"})
        try:
            answer = msgspec.json.decode(self._server.handle_embeddings(body), type=_Answer)
        except Exception as error:  # what the library raises, and an answer that cannot be read
            raise EngineFailed(f"llama.cpp: {error}") from error
        problem = answer.message or (answer.error.message if answer.error else None)
        if problem or len(answer.data) != len(inputs):
            raise EngineFailed(f"llama.cpp: {problem or 'vectors are missing'}")
        return [base64.b64decode(item.embedding) for item in sorted(answer.data, key=lambda item: item.index)]

    def close(self) -> None:
        """Free the model."""
        self.listener.close()
        self._server = None


def embedding(vector: bytes, *, tokens: int, dimensions: int | None) -> Embedding:
    """The vector's first `dimensions` numbers, of length 1 again; all of them for None."""
    if dimensions is None:
        return Embedding(vector=vector, tokens=tokens)
    numbers = struct.unpack(f"<{dimensions}f", vector[: 4 * dimensions])
    # Zero has no direction; it stays zero.
    length = math.hypot(*numbers) or 1.0
    return Embedding(vector=struct.pack(f"<{dimensions}f", *(x / length for x in numbers)), tokens=tokens)


def check_dimensions(dimensions: int | None, *, most: int) -> None:
    """Raises: RequestRefused unless there are so many."""
    if dimensions is not None and not 1 <= dimensions <= most:
        raise RequestRefused(f"dimensions is {dimensions}; this model has 1 to {most}", param="dimensions")
