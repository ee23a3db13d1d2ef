"""The REST bodies of `/v1/embeddings` (OpenAI's) and `/v1/rerank` (Cohere's and Jina's), by allow-lists of fields.

Source: https://platform.openai.com/docs/api-reference/embeddings/create, https://docs.cohere.com/reference/rerank,
https://jina.ai/reranker.
"""

from dataclasses import dataclass

import msgspec

from raymart_core.errors import InvalidRequest
from raymart_marketplace.gateway.asked_deadline import checked_timeout_s
from raymart_marketplace.gateway.openai_body import UNSET, Ignored, decode_body
from raymart_marketplace.gateway.provider_object import ProviderObject, routing_preference
from raymart_marketplace.gateway.vectors.request import EmbeddingRequest, RerankingRequest
from raymart_marketplace.routing.preference import NO_PREFERENCE

ENCODINGS = ("float", "base64")


class EmbeddingBody(msgspec.Struct, forbid_unknown_fields=True):
    """OpenAI's body; `None` is what a client sends for "not set"."""

    model: str
    input: str | list[str | int | list[int]]
    encoding_format: str | None = None
    dimensions: int | None = None
    provider: ProviderObject | None = None
    timeout: float | None = None
    """Seconds that the client waits; `x-raymart-deadline-ms` says the same."""
    user: Ignored = UNSET
    input_type: Ignored = UNSET


class DocumentBody(msgspec.Struct):
    """A document as an object."""

    text: str


class RerankBody(msgspec.Struct, forbid_unknown_fields=True):
    """Cohere's and Jina's body. What is too long is refused, so `truncation` and its kin change nothing."""

    model: str
    query: str
    documents: list[str | DocumentBody]
    top_n: int | None = None
    return_documents: bool | None = None
    provider: ProviderObject | None = None
    timeout: float | None = None
    """Seconds that the client waits; `x-raymart-deadline-ms` says the same."""
    user: Ignored = UNSET
    truncation: Ignored = UNSET
    max_tokens_per_doc: Ignored = UNSET
    max_chunks_per_doc: Ignored = UNSET
    rank_fields: Ignored = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedEmbedding:
    """A REST body: the request, and how its answer is to be written."""

    request: EmbeddingRequest
    base64: bool
    """Whether vectors are sent as base64 of their bytes instead of as numbers."""
    timeout_s: float | None
    """How long the client waits, as the body says; None where it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRerank:
    """A REST body: the request, and how its answer is to be written."""

    request: RerankingRequest
    top_n: int
    """How many results, at least 1."""
    return_documents: bool
    timeout_s: float | None
    """How long the client waits, as the body says; None where it does not."""


_decode_embedding = msgspec.json.Decoder(EmbeddingBody).decode
_decode_rerank = msgspec.json.Decoder(RerankBody).decode


def parse_embedding(body: bytes) -> ParsedEmbedding:
    """Read an OpenAI embeddings body. Raises: InvalidRequest naming the field as `param`, whatever the bytes are."""
    decoded = decode_body(body, _decode_embedding, fields=EmbeddingBody.__struct_fields__)
    encoding = decoded.encoding_format or "float"
    if encoding not in ENCODINGS:
        raise InvalidRequest(
            f"encoding_format {encoding[:40]!r} is none of {', '.join(ENCODINGS)}", param="encoding_format"
        )
    texts, ids = _inputs(decoded.input)
    request = EmbeddingRequest(
        model=decoded.model,
        texts=texts,
        ids=ids,
        dimensions=decoded.dimensions,
        routing=NO_PREFERENCE if decoded.provider is None else routing_preference(decoded.provider),
    )
    return ParsedEmbedding(
        request=request, base64=encoding == "base64", timeout_s=checked_timeout_s(decoded.timeout)
    )


def parse_rerank(body: bytes) -> ParsedRerank:
    """Read a rerank body. Raises: InvalidRequest naming the field as `param`, whatever the bytes are."""
    decoded = decode_body(body, _decode_rerank, fields=RerankBody.__struct_fields__)
    if decoded.top_n is not None and decoded.top_n < 1:
        raise InvalidRequest(f"top_n={decoded.top_n} is not 1 or more", param="top_n")
    documents = tuple(
        document if isinstance(document, str) else document.text for document in decoded.documents
    )
    request = RerankingRequest(
        model=decoded.model,
        query=decoded.query,
        documents=documents,
        routing=NO_PREFERENCE if decoded.provider is None else routing_preference(decoded.provider),
    )
    return ParsedRerank(
        request=request,
        top_n=min(decoded.top_n or len(documents), len(documents)),
        return_documents=bool(decoded.return_documents),
        timeout_s=checked_timeout_s(decoded.timeout),
    )


def _inputs(given: str | list[str | int | list[int]]) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """(texts, token ids), one of them empty. Raises: InvalidRequest for a mixture."""
    if isinstance(given, str):
        return (given,), ()
    texts = tuple(one for one in given if isinstance(one, str))
    numbers = tuple(one for one in given if isinstance(one, int))
    lists = tuple(tuple(one) for one in given if isinstance(one, list))
    if max(len(texts), len(numbers), len(lists)) != len(given):
        raise InvalidRequest("input mixes texts and token ids; send one kind", param="input")
    return texts, ((numbers,) if numbers else lists)
