"""Vectors, scores and tensors from an engine's replica: one JSON body in, one out, bytes in base64.

`POST /v1/embed` takes an `EmbedRequest` and answers an `EmbedReply`, `/v1/rerank` a `RerankRequest` and a `RerankReply`,
`/v1/predict` a `PredictRequest` and a `PredictReply`. Refusals are those of `wire.replica`.
"""

from typing import Literal

import msgspec

EMBED_PATH = "/v1/embed"
RERANK_PATH = "/v1/rerank"
PREDICT_PATH = "/v1/predict"
EMBED_INPUTS_MAX = 2_048
RERANK_DOCUMENTS_MAX = 1_000


class EmbedRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Texts, or token ids of the revision's tokenizer; exactly one of the two is given."""

    texts: tuple[str, ...] = ()
    ids: tuple[tuple[int, ...], ...] = ()
    dimensions: int | None = None
    """Cut the vectors to their first so many numbers and normalise again; None for all."""


class EmbedReply(msgspec.Struct, frozen=True):
    """A vector for each input, in order."""

    vectors: tuple[bytes, ...]
    """float32, little-endian, [dimensions] each, of length 1."""
    tokens: tuple[int, ...]
    """Tokens read of each input."""
    revision: str
    engine: str


class RerankRequest(msgspec.Struct, frozen=True):
    """Score each document for the query."""

    query: str
    documents: tuple[str, ...]


class RerankReply(msgspec.Struct, frozen=True):
    """A score for each document, in their order; the higher, the more relevant."""

    scores: tuple[float, ...]
    tokens: tuple[int, ...]
    """Tokens read of each pair of query and document."""
    revision: str
    engine: str


class Tensor(msgspec.Struct, frozen=True):
    """Numbers in C order, little-endian."""

    name: str
    dtype: Literal["float32", "float64", "int32", "int64", "uint8", "bool"]
    shape: tuple[int, ...]
    data: bytes


class PredictRequest(msgspec.Struct, frozen=True):
    """The named inputs of an exported model."""

    inputs: tuple[Tensor, ...]


class PredictReply(msgspec.Struct, frozen=True):
    """Its named outputs."""

    outputs: tuple[Tensor, ...]
    revision: str
    engine: str


decode_embed_request = msgspec.json.Decoder(EmbedRequest).decode
decode_embed_reply = msgspec.json.Decoder(EmbedReply).decode
decode_rerank_request = msgspec.json.Decoder(RerankRequest).decode
decode_rerank_reply = msgspec.json.Decoder(RerankReply).decode
decode_predict_request = msgspec.json.Decoder(PredictRequest).decode
decode_predict_reply = msgspec.json.Decoder(PredictReply).decode
