"""One inference request through the gateway's pipeline, for the mutation and the subscription alike."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from raymart_core.ids import Prefix
from raymart_graphql.context import Operation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.inference.request import chat_request
from raymart_graphql.schema.inference.types import ChatCompletionInput
from raymart_marketplace.accounts.caller import Caller
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
    caller = await _caller(operation, given)
    # No transaction is held over the network.
    await operation.reading.aclose()
    events = operation.services.inference.run(caller, request, surface=Surface.GRAPHQL, streamed=streamed)
    try:
        yield events
    finally:
        await events.aclose()


async def _caller(operation: Operation, given: ChatCompletionInput) -> Caller:
    """Whose money pays. The operation's rule has checked the viewer's role in a named project."""
    principal = await operation.principal()
    if principal.caller is not None:
        return principal.caller
    if given.project_id is None:
        assert operation.client.authorization is not None, "the rule lets only the authenticated in"
        return await operation.services.authenticator.caller(operation.client.authorization)
    project_id = parse_global_id(Prefix.PROJECT, given.project_id, field="project_id")
    project = await operation.loaders.identity.project.load_known(project_id)
    return Caller(
        organization_id=project.organization_uuid,
        project_id=project.uuid,
        api_key_id=None,
        user_id=principal.user_id,
    )
