"""Bounds of a request before anything is counted: what routing needs to know, and what is held."""

from collections.abc import Sequence

from raymart_core.money import ZERO, Money
from raymart_core.ports import Quantities, Rater
from raymart_marketplace.gateway.candidates import priced
from raymart_marketplace.gateway.request import ChatRequest
from raymart_marketplace.routing.route import Needs, Offered
from raymart_marketplace.supply.live import LiveEndpoint

TEMPLATE_TOKENS_PER_MESSAGE = 16
TEMPLATE_TOKENS = 32
"""What a chat template may add around the contents, per message and once."""
BYTES_PER_TOKEN = 4
ANSWER_TOKENS = 512
"""Of most text, and of an answer whose length is not bounded: nothing is billed by these."""


def needs_of(request: ChatRequest) -> Needs:
    """The token bounds of `request`.

    A byte-level tokenizer never makes more tokens than bytes, so bytes plus the template's share bound the prompt.
    """
    messages = len(request.messages)
    tokens_max = request.sampling.max_tokens
    # Of a conversation a message has one token at least, of a prompt in tokens all are known.
    tokens_least = messages or (1 if request.prompt_ids is None else len(request.prompt_ids))
    return Needs(
        model_slug=request.reference.slug,
        revision=request.reference.revision,
        tokens_prompt_max=request.content_bytes + TEMPLATE_TOKENS_PER_MESSAGE * messages + TEMPLATE_TOKENS,
        tokens_completion_max=tokens_max,
        tokens_min=tokens_least + (1 if tokens_max is None else tokens_max),
    )


def tokens_expected(request: ChatRequest) -> int:
    """A guess of what `request` will use, for limits: what was too much is given back, what was too little taken later."""
    asked = request.sampling.max_tokens
    return request.content_bytes // BYTES_PER_TOKEN + (ANSWER_TOKENS if asked is None else asked) + 1


def prompt_bound(endpoint: Offered, needs: Needs) -> int:
    """Most prompt tokens that the endpoint may count for the request."""
    most, room = needs.tokens_prompt_max, endpoint.context_length
    return min(room, most)


def completion_bound(endpoint: Offered, needs: Needs) -> int:
    """Most completion tokens that the endpoint may generate for the request."""
    most, room = needs.tokens_completion_max, endpoint.context_length
    return most if most is not None and most < room else room


def quantities_bound(endpoint: Offered, needs: Needs) -> Quantities:
    """The most of everything that the endpoint may be paid for."""
    return Quantities(
        token_prompt=prompt_bound(endpoint, needs),
        token_completion=completion_bound(endpoint, needs),
        image_megapixel_step=needs.pixel_steps,
        request=1,
    )


def quote(rater: Rater, plan: Sequence[LiveEndpoint], needs: Needs) -> Money:
    """What has to be held: the most that any endpoint of `plan` could charge."""
    most, context_length = ZERO, -1
    for endpoint, prices in priced(plan):
        if endpoint.context_length != context_length:  # Mostly all have the same.
            context_length, bound = endpoint.context_length, quantities_bound(endpoint, needs)
        amount = rater.quote(bound, prices)
        if amount.amount > most.amount:
            most = amount
    return most
