"""The routes of embeddings and reranking."""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Route

from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.gateway.vectors.embeddings_route import EmbeddingsRoute
from raymart_marketplace.gateway.vectors.inference import VectorInference
from raymart_marketplace.gateway.vectors.rerank_route import RerankRoute


def vector_routes(
    *, inference: VectorInference, authenticator: Authenticator, body_bytes_max: int
) -> Sequence[BaseRoute]:
    """For `gateway_routes`, as `more`."""
    embeddings = EmbeddingsRoute(authenticator, inference=inference, body_bytes_max=body_bytes_max)
    rerank = RerankRoute(authenticator, inference=inference, body_bytes_max=body_bytes_max)
    return [
        Route("/v1/embeddings", embeddings, name="embeddings", include_in_schema=False),
        Route("/v1/rerank", rerank, name="rerank", include_in_schema=False),
    ]
