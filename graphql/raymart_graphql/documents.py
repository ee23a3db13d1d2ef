"""Documents as they are parsed: remembered by their text, and read by who wants its results in parts."""

from collections.abc import Iterator
from functools import lru_cache

from graphql import DirectiveNode, DocumentNode, GraphQLError, Token, Visitor, VisitorAction, parse, visit
from graphql.language.visitor import REMOVE
from strawberry.extensions import SchemaExtension

from raymart_graphql.context import Operation

INCREMENTAL = frozenset({"defer", "stream"})
DOCUMENTS_MAX = 128
"""Parsed documents that are remembered."""


class ParsedDocuments(SchemaExtension):
    """Parses a document once for many requests."""

    def on_parse(self) -> Iterator[None]:
        """Fill in the document. A wrong one is left to the schema, which refuses it alike on every transport."""
        context = self.execution_context
        try:
            context.graphql_document = parsed(
                context.query or "", max_tokens=context.parse_options.get("max_tokens")
            )
        except (GraphQLError, RecursionError):
            # What a hook raises ends an event stream or a WebSocket's operation without a word.
            context.graphql_document = None
        yield


@lru_cache(maxsize=DOCUMENTS_MAX)
def parsed(text: str, *, max_tokens: int | None) -> DocumentNode:
    """The document of `text`, remembered; its nodes know where they begin and end. Raises: GraphQLError."""
    document = parse(text, max_tokens=max_tokens)
    if document.loc is not None:
        _unlink(document.loc.start_token)
    return document


def _unlink(first: Token) -> None:
    """Let go of the lexer's chain: its tokens hold each other both ways, and nobody follows them after parsing.

    A document that is forgotten would otherwise leave all of them to the garbage collector, and only to its oldest
    generation, which holds the event loop for longest.
    """
    token: Token | None = first
    while token is not None:
        following, token.prev, token.next = token.next, None, None
        token = following


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
