"""Whether the API describes itself: always in development, else by a feature switch."""

from collections.abc import Iterator

from graphql.validation import NoSchemaIntrospectionCustomRule
from strawberry.extensions import SchemaExtension

from raymart_graphql.context import Client, Operation
from raymart_marketplace.oversight.switches import Feature


class SwitchedIntrospection(SchemaExtension):
    """Refuses introspection while the switch is off. Asked at each operation, from memory."""

    def on_operation(self) -> Iterator[None]:
        """Add the refusing rule to this operation's validation."""
        execution = self.execution_context
        context = execution.context
        assert isinstance(context, Client | Operation)
        if not context.services.controls.is_on(Feature.INTROSPECTION):
            execution.validation_rules = (*execution.validation_rules, NoSchemaIntrospectionCustomRule)
        yield
