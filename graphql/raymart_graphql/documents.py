"""Documents as they are parsed: remembered by their text, and read by who wants its results in parts."""

from collections.abc import Iterator

from graphql import DirectiveNode, DocumentNode, GraphQLError, Visitor, VisitorAction, visit
from graphql.language.visitor import REMOVE
from strawberry.extensions import ParserCache, SchemaExtension

from raymart_graphql.context import Operation

INCREMENTAL = frozenset({"defer", "stream"})


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


class WholeResults(SchemaExtension):
    """Leaves `@defer` and `@stream` out for a client that reads its results in one piece, as a server may.

    Without, graphql-core would make parts that a plain JSON answer or graphql-transport-ws has no place for.
    """

    def on_execute(self) -> Iterator[None]:
        """Change this operation's document, not the remembered one."""
        context = self.execution_context
        operation = context.context
        assert isinstance(operation, Operation)
        text = context.query or ""
        # Most documents have neither, and are not walked.
        if not operation.client.incremental and any(f"@{name}" in text for name in INCREMENTAL):
            assert context.graphql_document is not None
            context.graphql_document = whole(context.graphql_document)
        yield


def whole(document: DocumentNode) -> DocumentNode:
    """`document` without the directives that ask for parts."""
    found: DocumentNode = visit(document, _Whole())
    return found


class _Whole(Visitor):
    """Removes directives."""

    def enter_directive(self, node: DirectiveNode, *_: object) -> VisitorAction:
        """Remove it when it asks for parts."""
        return REMOVE if node.name.value in INCREMENTAL else None
