"""Embeddings: OpenAI's body in camelCase, and what comes back."""

import base64
from datetime import datetime

import strawberry

from raymart_core.errors import InvalidRequest
from raymart_core.ids import Prefix
from raymart_core.wire.embedding import EmbedReply
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation, resolved
from raymart_graphql.relay import global_id
from raymart_graphql.scalars import FloatVector, Money
from raymart_graphql.schema.inference.caller import caller_of
from raymart_graphql.schema.inference.request import routing_preference
from raymart_graphql.schema.inference.types import ProviderPreferenceInput
from raymart_graphql.schema.supply.types import Provider
from raymart_graphql.schema.usage.types import TokenUsage
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.gateway.vectors.life import Answered
from raymart_marketplace.gateway.vectors.meter import floats
from raymart_marketplace.gateway.vectors.request import EmbeddingRequest
from raymart_marketplace.metering.models import Surface

INPUTS_MAX = 256
"""In one mutation; the numbers of more are for REST, which writes them piece by piece."""


@strawberry.input(description="Texts to turn into vectors: OpenAI's body in camelCase.")
class CreateEmbeddingInput:
    """Exactly one of `input` and `token_ids` is given."""

    project_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="Project that pays; without it, the key's project or the viewer's own default one.",
    )
    model: str = strawberry.field(description="Slug of the model, such as 'raymart/demo-embed'.")
    input: list[str] = strawberry.field(
        default_factory=list, description=f"Texts, at most {INPUTS_MAX}; none empty."
    )
    token_ids: list[list[int]] = strawberry.field(
        default_factory=list, description="Instead of texts: token ids of the model's tokenizer."
    )
    dimensions: int | None = strawberry.field(
        default=None, description="Size of the vectors; what the model makes if not given."
    )
    provider: ProviderPreferenceInput | None = strawberry.field(
        default=None, description="Which providers may serve."
    )


@strawberry.type(description="The vector of one input, of length 1.")
class Embedding:
    """As numbers, or as bytes for those who would rather not parse numbers."""

    index: int = strawberry.field(description="Which input it is of.")
    vector: strawberry.Private[bytes]

    @resolved("Its numbers.")
    async def values(self) -> FloatVector:
        """One leaf of the answer, however many numbers."""
        return FloatVector(floats(self.vector).tolist())

    @resolved("The same as base64 of float32 numbers, little-endian.")
    async def base64(self) -> str:
        """As OpenAI sends it with `encoding_format: base64`."""
        return base64.b64encode(self.vector).decode()


@strawberry.type(description="Vectors for a request's inputs.")
class EmbeddingBatch:
    """What a request gives back."""

    request_id: strawberry.ID = strawberry.field(description="Id of the request; `node` finds it.")
    model: str = strawberry.field(description="Slug of the model that answered.")
    embeddings: list[Embedding] = strawberry.field(description="One for each input, in order.")
    dimensions: int = strawberry.field(description="Numbers in each vector.")
    usage: TokenUsage = strawberry.field(description="What was used.")
    cost: Money = strawberry.field(description="What it cost.")
    attempts: int = strawberry.field(description="Endpoints that were tried.")
    created_at: datetime = strawberry.field(description="When the request arrived.")
    provider_slug: strawberry.Private[str]

    @resolved("Who served it; null only if the provider was renamed meanwhile.")
    async def provider(self, info: Info) -> Provider | None:
        """The serving provider by slug."""
        return await info.context.loaders.supply.provider_by_slug.load(self.provider_slug)

    @classmethod
    def of(cls, answered: Answered[EmbedReply]) -> "EmbeddingBatch":
        """`answered` as the API shows it."""
        vectors = answered.reply.vectors
        return cls(
            request_id=global_id(Prefix.REQUEST, answered.request_id),
            model=answered.model,
            embeddings=[Embedding(index=index, vector=vector) for index, vector in enumerate(vectors)],
            dimensions=len(vectors[0]) // 4,
            usage=TokenUsage.of(tokens_prompt=answered.tokens, tokens_completion=0),
            cost=Money.of(answered.cost),
            attempts=answered.attempts,
            created_at=answered.created_at,
            provider_slug=answered.provider,
        )


@strawberry.type(description="What createEmbedding gives back.")
class CreateEmbeddingPayload(Payload):
    """The vectors, or why there are none."""

    embedding: EmbeddingBatch | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.type
class EmbeddingMutation:
    """Root field of embeddings."""

    @mutation("Turn texts into vectors. It is billed like a REST request.")
    async def create_embedding(self, info: Info, input_: CreateEmbeddingInput) -> CreateEmbeddingPayload:
        """Through the same pipeline as `/v1/embeddings`."""
        request = embedding_request(input_)
        operation = info.context
        caller = await caller_of(operation, input_.project_id)
        # No transaction is held over the network.
        await operation.reading.aclose()
        answered = await operation.services.vectors.run(caller, request, surface=Surface.GRAPHQL)
        return CreateEmbeddingPayload(embedding=EmbeddingBatch.of(answered))


def embedding_request(given: CreateEmbeddingInput) -> EmbeddingRequest:
    """`given` as the gateway takes it. Raises: InvalidRequest with the input's field as `param`."""
    for name, inputs in (("input", given.input), ("token_ids", given.token_ids)):
        if len(inputs) > INPUTS_MAX:
            raise InvalidRequest(
                f"{len(inputs)} inputs; the limit is {INPUTS_MAX}, and REST takes more", param=name
            )
    return EmbeddingRequest(
        model=given.model,
        texts=tuple(given.input),
        ids=tuple(tuple(ids) for ids in given.token_ids),
        dimensions=given.dimensions,
        routing=routing_preference(given.provider),
    )
