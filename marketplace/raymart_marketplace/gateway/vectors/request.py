"""What a customer asks for, whatever the surface: checked once, when it is built. Ranges are not checked again behind it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from raymart_core.errors import InvalidRequest
from raymart_core.wire.embedding import (
    EMBED_INPUTS_MAX,
    EMBED_PATH,
    RERANK_DOCUMENTS_MAX,
    RERANK_PATH,
    EmbedReply,
    EmbedRequest,
    RerankReply,
    RerankRequest,
)
from raymart_core.wire.replica import encode
from raymart_marketplace.catalog.reference import ModelReference, read_reference
from raymart_marketplace.gateway.event_lines import EventLines
from raymart_marketplace.gateway.request import MODEL_CHARACTERS_MAX
from raymart_marketplace.gateway.vectors.meter import (
    SPECIAL_TOKENS_MAX,
    check_scores,
    check_vectors,
    embed_lines,
    rerank_lines,
)
from raymart_marketplace.routing.preference import NO_PREFERENCE, RoutingPreference

DIMENSIONS_MAX = 65_536
TOKEN_ID_MAX = 2**31 - 1

Reply = TypeVar("Reply", bound=EmbedReply | RerankReply)


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorRequest(ABC, Generic[Reply]):
    """A request that is answered in one piece."""

    path: ClassVar[str]

    model: str
    """As the customer wrote it: a slug, or a slug, "@" and an alias or a revision's digest."""
    routing: RoutingPreference = NO_PREFERENCE
    reference: ModelReference = field(init=False)
    """What `model` names."""
    token_bounds: tuple[int, ...] = field(init=False)
    """Most tokens that each input can have, or each pair of query and document."""

    def __post_init__(self) -> None:
        if not 0 < len(self.model) <= MODEL_CHARACTERS_MAX:
            raise InvalidRequest(
                f"a model's name has 1 to {MODEL_CHARACTERS_MAX} characters, not {len(self.model)}",
                param="model",
            )
        object.__setattr__(self, "reference", read_reference(self.model))
        object.__setattr__(self, "token_bounds", self._bounds())

    @property
    def tokens_max(self) -> int:
        """Most tokens of the whole request: what is held for."""
        return sum(self.token_bounds)

    @abstractmethod
    def body(self) -> bytes:
        """The request as any replica is asked for it."""

    @abstractmethod
    def lines(self) -> EventLines[Reply]:
        """What reads the replica's answer."""

    @abstractmethod
    async def check(self, reply: Reply) -> None:
        """Check the answer against what was asked for. Raises: UpstreamBroken."""

    @abstractmethod
    def _bounds(self) -> tuple[int, ...]:
        """Raises: InvalidRequest when it cannot be served as it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest(VectorRequest[EmbedReply]):
    """A vector for each input. Raises InvalidRequest when it cannot be served as it stands."""

    path = EMBED_PATH

    texts: tuple[str, ...] = ()
    ids: tuple[tuple[int, ...], ...] = ()
    """Token ids of the model's tokenizer; exactly one of the two is given."""
    dimensions: int | None = None
    """Size of the vectors; None for what the model makes."""

    def body(self) -> bytes:
        """See the base."""
        return encode(EmbedRequest(texts=self.texts, ids=self.ids, dimensions=self.dimensions))

    def lines(self) -> EventLines[EmbedReply]:
        """See the base."""
        return embed_lines(len(self.token_bounds))

    async def check(self, reply: EmbedReply) -> None:
        """See the base."""
        exact = tuple(len(ids) for ids in self.ids) if self.ids else None
        await check_vectors(reply, bounds=self.token_bounds, exact=exact, dimensions=self.dimensions)

    def _bounds(self) -> tuple[int, ...]:
        inputs: Sequence[str | tuple[int, ...]] = self.texts or self.ids
        if bool(self.texts) == bool(self.ids):
            raise InvalidRequest("input must be texts or lists of token ids, one at least", param="input")
        if len(inputs) > EMBED_INPUTS_MAX:
            raise InvalidRequest(f"{len(inputs)} inputs; the limit is {EMBED_INPUTS_MAX}", param="input")
        if self.dimensions is not None and not 1 <= self.dimensions <= DIMENSIONS_MAX:
            raise InvalidRequest(
                f"dimensions={self.dimensions} is not between 1 and {DIMENSIONS_MAX}", param="dimensions"
            )
        for position, given in enumerate(inputs):
            if not given:
                raise InvalidRequest(f"input {position} is empty", param="input")
        for ids in self.ids:
            if min(ids) < 0 or max(ids) > TOKEN_ID_MAX:
                raise InvalidRequest(f"token ids lie between 0 and {TOKEN_ID_MAX}", param="input")
        if self.ids:
            return tuple(map(len, self.ids))
        return tuple(_tokens_max(text, param="input") for text in self.texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankingRequest(VectorRequest[RerankReply]):
    """A score for each document. Raises InvalidRequest when it cannot be served as it stands."""

    path = RERANK_PATH

    query: str
    documents: tuple[str, ...]

    def body(self) -> bytes:
        """See the base."""
        return encode(RerankRequest(query=self.query, documents=self.documents))

    def lines(self) -> EventLines[RerankReply]:
        """See the base."""
        return rerank_lines(len(self.documents))

    async def check(self, reply: RerankReply) -> None:
        """See the base."""
        check_scores(reply, bounds=self.token_bounds)

    def _bounds(self) -> tuple[int, ...]:
        if not self.query:
            raise InvalidRequest("query is empty", param="query")
        if not 1 <= len(self.documents) <= RERANK_DOCUMENTS_MAX:
            raise InvalidRequest(
                f"{len(self.documents)} documents; 1 to {RERANK_DOCUMENTS_MAX} are taken", param="documents"
            )
        for position, document in enumerate(self.documents):
            if not document:
                raise InvalidRequest(f"document {position} is empty", param="documents")
        query = _tokens_max(self.query, param="query")
        return tuple(query + _tokens_max(document, param="documents") for document in self.documents)


def _tokens_max(text: str, *, param: str) -> int:
    """A byte-level tokenizer never makes more tokens than bytes; a model adds a few of its own."""
    try:
        return len(text.encode()) + SPECIAL_TOKENS_MAX
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{param} has a lone surrogate at character {error.start}; send whole characters", param=param
        ) from None
