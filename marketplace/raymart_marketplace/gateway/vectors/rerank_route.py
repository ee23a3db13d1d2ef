"""`POST /v1/rerank`: Cohere's and Jina's request and answer, best document first."""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from starlette.types import Receive, Scope

from raymart_core.ids import Prefix, show
from raymart_core.wire.embedding import RerankReply
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.asked_deadline import asked_deadline_s
from raymart_marketplace.gateway.body import read_body
from raymart_marketplace.gateway.endpoint import Answer, Endpoint
from raymart_marketplace.gateway.generation_route import READ_GRACE_S
from raymart_marketplace.gateway.presence import Presence
from raymart_marketplace.gateway.vectors.embeddings_route import VectorUsage, headers_of, vector_usage
from raymart_marketplace.gateway.vectors.inference import VectorInference
from raymart_marketplace.gateway.vectors.life import Answered
from raymart_marketplace.gateway.vectors.openai_body import ParsedRerank, parse_rerank
from raymart_marketplace.metering.models import Surface

_encode = msgspec.json.Encoder().encode


class RankedDocument(msgspec.Struct, omit_defaults=True):
    """One document with its place in the request."""

    index: int
    relevance_score: float
    document: dict[str, str] | None = None
    """With `return_documents`: {"text": ...}."""


class RerankAnswer(msgspec.Struct):
    """The body."""

    id: str
    model: str
    provider: str
    results: Sequence[RankedDocument]
    usage: VectorUsage


class RerankRoute(Endpoint):
    """Documents by relevance."""

    method = "POST"

    def __init__(
        self, authenticator: Authenticator, *, inference: VectorInference, body_bytes_max: int
    ) -> None:
        super().__init__(authenticator)
        self.headers_of = inference.headers_of
        self._inference = inference
        self._body_bytes_max = body_bytes_max
        self._limit_s = inference.limits.request_deadline_s + READ_GRACE_S

    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Answer one request. Raises: whatever `VectorInference.run` raises."""
        parsed = parse_rerank(await read_body(scope, receive, bytes_max=self._body_bytes_max))
        async with Presence(scope, limit_s=self._limit_s) as presence:
            answered = await self._inference.run(
                caller,
                parsed.request,
                surface=Surface.REST,
                request_id=answer.request_id,
                deadline_s=asked_deadline_s(scope, parsed.timeout_s),
            )
            presence.dismiss()
            body = _body(parsed, answered, request_id=answer.request_id)
            await answer.json(_encode(body), headers_of(answered))


def ranked(scores: Sequence[float], *, top_n: int) -> Sequence[int]:
    """Positions of the `top_n` best scores, best first; the earlier of two equals first."""
    return sorted(range(len(scores)), key=lambda place: -scores[place])[:top_n]


def _body(parsed: ParsedRerank, answered: Answered[RerankReply], *, request_id: UUID) -> RerankAnswer:
    scores, documents = answered.reply.scores, parsed.request.documents
    return RerankAnswer(
        id=show(Prefix.REQUEST, request_id),
        model=answered.model,
        provider=answered.provider,
        results=[
            RankedDocument(
                index=place,
                relevance_score=scores[place],
                document={"text": documents[place]} if parsed.return_documents else None,
            )
            for place in ranked(scores, top_n=parsed.top_n)
        ],
        usage=vector_usage(tokens=answered.tokens, cost=answered.cost),
    )
