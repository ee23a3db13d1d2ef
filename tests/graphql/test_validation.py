"""Documents are judged as graphql-core and Strawberry judge them, and leave nothing behind."""

import gc
from pathlib import Path

import pytest
from graphql import build_schema, specified_rules
from strawberry.schema.schema import validate_document

import raymart_graphql
from raymart_graphql.documents import parsed
from raymart_graphql.validation import ERRORS_MAX, validated

RULES = tuple(specified_rules)
VALID = "query($n: Int!) { ...own models(first: $n) { nodes { slug } } } fragment own on Query { viewer { __typename } }"
DOCUMENTS = [
    VALID,
    "{ nothing { a } viewer { none } }",
    "{ viewer { id { deeper } } models(first: 1, first: 2) { nodes { slug } } }",
    "query($unused: Int, $wrong: Nothing) { ...missing }",
    "{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }",
    "mutation { login(input: {email: 3, surprise: true}) { nothing } }",
    f"{{ {' '.join(f'unknown{number}' for number in range(ERRORS_MAX + 20))} }}",
    "{" + "viewer {" * 150 + "id" + "}" * 151,
]


@pytest.fixture(scope="module")
def schema():
    return build_schema((Path(raymart_graphql.__file__).parents[1] / "schema.graphql").read_text())


class TestValidated:
    @pytest.mark.parametrize("text", DOCUMENTS)
    def test_says_what_the_library_says(self, schema, text):
        document = parsed(text, max_tokens=1_000)
        expected = validate_document(schema, document, RULES)
        assert bool(expected) == (text != VALID)
        assert [error.formatted for error in validated(schema, document, RULES)] == [
            error.formatted for error in expected
        ]

    def test_is_remembered_for_a_document(self, schema):
        document = parsed(VALID, max_tokens=1_000)
        assert validated(schema, document, RULES) is validated(schema, document, RULES)

    @pytest.mark.parametrize("text", DOCUMENTS[:2])
    def test_leaves_little_to_the_garbage_collector(self, schema, text):
        """The library leaves 700 to 2,000 objects, most of which wait for the oldest generation."""
        document = parsed(text, max_tokens=1_000)
        gc.collect()
        gc.disable()
        try:
            validated.__wrapped__(schema, document, RULES)
            assert gc.collect() < 400
        finally:
            gc.enable()
