"""Parsed documents: remembered, with their places, and gone when they are forgotten."""

import gc

from graphql import FieldNode, GraphQLError, OperationDefinitionNode

from raymart_graphql.documents import DOCUMENTS_MAX, parsed

TEXT = "query {\n  viewer { id name }\n  models(first: 3) { nodes { slug } }\n}"


class TestParsed:
    def test_the_same_text_is_one_document(self):
        assert parsed(TEXT, max_tokens=100) is parsed(TEXT, max_tokens=100)

    def test_nodes_know_their_places(self):
        [operation] = parsed(TEXT, max_tokens=100).definitions
        assert isinstance(operation, OperationDefinitionNode)
        second = operation.selection_set.selections[1]
        assert isinstance(second, FieldNode)
        [place] = GraphQLError("unknown", second).locations
        assert (place.line, place.column) == (3, 3)
        assert (
            second.loc.source.body[second.loc.start : second.loc.end] == "models(first: 3) { nodes { slug } }"
        )

    def test_what_is_forgotten_leaves_nothing_to_the_garbage_collector(self):
        """What it leaves survives to the oldest generation, whose collection stops the process."""
        parsed.cache_clear()
        gc.collect()
        gc.disable()
        try:
            for number in range(DOCUMENTS_MAX * 2):
                parsed(f"{TEXT} # {number}", max_tokens=100)
            assert parsed.cache_info().currsize == DOCUMENTS_MAX
            parsed.cache_clear()
            assert gc.collect() == 0
        finally:
            gc.enable()
