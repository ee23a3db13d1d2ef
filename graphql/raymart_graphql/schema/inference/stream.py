"""One inference request through the gateway's pipeline, for the mutation and the subscription alike."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from raymart_graphql.context import Operation
from raymart_graphql.schema.inference.caller import caller_of
from raymart_graphql.schema.inference.request import chat_request
from raymart_graphql.schema.inference.types import ChatCompletionInput
from raymart_marketplace.gateway.events import InferenceEvent
from raymart_marketplace.metering.models import Surface


@asynccontextmanager
async def inference_events(
    operation: Operation, given: ChatCompletionInput, *, streamed: bool
) -> AsyncIterator[AsyncGenerator[InferenceEvent, None]]:
    """The events of one request. Leaving the block early means that the client left: what was delivered is billed.

    Raises: DomainError before the first event.
    """
    request = chat_request(given)
    caller = await caller_of(operation, given.project_id)
    # No transaction is held over the network.
    await operation.reading.aclose()
    events = operation.services.inference.run(caller, request, surface=Surface.GRAPHQL, streamed=streamed)
    try:
        yield events
    finally:
        await events.aclose()
