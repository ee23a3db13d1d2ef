"""Bounds of a request before anything is counted: what routing needs to know, and what is held."""

from collections.abc import Iterable

from raymart_core.money import ZERO, Money
from raymart_core.ports import Quantities, Rater
from raymart_marketplace.gateway.request import ChatRequest
from raymart_marketplace.routing.route import Needs
from raymart_marketplace.supply.live import LiveEndpoint

TEMPLATE_TOKENS_PER_MESSAGE = 16
TEMPLATE_TOKENS = 32
"""What a chat template may add around the contents, per message and once."""


def needs_of(request: ChatRequest) -> Needs:
    """The token bounds of `request`.

    A byte-level tokenizer never makes more tokens than bytes, so bytes plus the template's share bound the prompt.
    """
    messages = len(request.messages)
    tokens_max = request.sampling.max_tokens
    return Needs(
        model_slug=request.reference.slug,
        revision=request.reference.revision,
        tokens_prompt_max=request.content_bytes + TEMPLATE_TOKENS_PER_MESSAGE * messages + TEMPLATE_TOKENS,
        tokens_completion_max=tokens_max,
        tokens_min=messages + (1 if tokens_max is None else tokens_max),
    )


def prompt_bound(endpoint: LiveEndpoint, needs: Needs) -> int:
    """Most prompt tokens that the endpoint may count for the request."""
    return min(needs.tokens_prompt_max, endpoint.context_length)


def completion_bound(endpoint: LiveEndpoint, needs: Needs) -> int:
    """Most completion tokens that the endpoint may generate for the request."""
    if needs.tokens_completion_max is None:
        return endpoint.context_length
    return min(needs.tokens_completion_max, endpoint.context_length)


def quantities_bound(endpoint: LiveEndpoint, needs: Needs) -> Quantities:
    """The most of everything that the endpoint may be paid for."""
    return Quantities(
        token_prompt=prompt_bound(endpoint, needs),
        token_completion=completion_bound(endpoint, needs),
        image_megapixel_step=needs.pixel_steps,
        request=1,
    )


def quote(rater: Rater, plan: Iterable[LiveEndpoint], needs: Needs) -> Money:
    """What has to be held: the most that any endpoint of `plan` could charge."""
    bounds = (rater.quote(quantities_bound(endpoint, needs), endpoint.prices) for endpoint in plan)
    return max(bounds, default=ZERO)
