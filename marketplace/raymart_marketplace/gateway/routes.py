"""The OpenAI-shaped REST surface as raw ASGI routes: no middleware, no pydantic, no dependency injection.

(Being written; the signature is final.)
"""

from collections.abc import Sequence

from starlette.routing import BaseRoute

from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.gateway.inference import Inference
from raymart_marketplace.gateway.model_lookup import ModelLookup
from raymart_marketplace.supply.live import EndpointDirectory


def gateway_routes(
    *,
    inference: Inference,
    authenticator: Authenticator,
    directory: EndpointDirectory,
    models: ModelLookup,
    body_bytes_max: int,
) -> Sequence[BaseRoute]:
    """Every route under /v1; put them first in the application. What is not served answers 404 in OpenAI's shape."""
    raise NotImplementedError
