"""Documents as they are parsed: remembered by their text."""

from collections.abc import Iterator

from graphql import GraphQLError
from strawberry.extensions import ParserCache


class ParsedDocuments(ParserCache):
    """Parses a document once for many requests."""

    def on_parse(self) -> Iterator[None]:
        """Fill in the document. A wrong one is left to the schema, which refuses it alike on every transport."""
        context = self.execution_context
        try:
            context.graphql_document = self.cached_parse_document(context.query, **context.parse_options)
        except (GraphQLError, RecursionError):
            # What a hook raises ends an event stream or a WebSocket's operation without a word.
            context.graphql_document = None
        yield
