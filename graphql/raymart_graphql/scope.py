"""Gives each operation its own loaders and reading transaction, and ends them with it."""

from collections.abc import AsyncIterator

from strawberry.extensions import SchemaExtension

from raymart_graphql.context import Client, Operation
from raymart_graphql.loaders import Loaders
from raymart_graphql.reading import Reading


class OperationScope(SchemaExtension):
    """Puts an `Operation` in the place of the transport's `Client`: a WebSocket carries many operations."""

    async def on_operation(self) -> AsyncIterator[None]:
        """Begin and end the operation."""
        client = self.execution_context.context
        assert isinstance(client, Client)
        reading = Reading(client.services.sessions)
        loaders = Loaders(reading, redis=client.services.redis)
        self.execution_context.context = Operation(client=client, reading=reading, loaders=loaders)
        try:
            yield
        finally:
            await reading.end()
