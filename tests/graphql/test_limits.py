"""What one operation may ask for."""

import pytest
from graphql import parse

from raymart_graphql import limits
from raymart_graphql.limits import DOCUMENTS_MAX, RememberedWeights, over, weigh
from raymart_graphql.schema import build_schema
from support.api_server import Api

SCHEMA = build_schema()._schema


def limit_of(query: str, **variables: object) -> tuple[str, int] | None:
    """Which limit refuses `query`, and the value; None when none does."""
    error = over(weigh(SCHEMA, parse(query), variables))
    if error is None:
        return None
    assert error.extensions is not None
    return error.extensions["limit"], int(error.extensions["value"])


class TestCost:
    def test_flat_pages_are_free_to_be_large(self) -> None:
        assert limit_of("{ models(first: 100) { nodes { slug } } }") is None

    def test_nesting_multiplies(self) -> None:
        query = "{ models(first: 100) { nodes { offers(first: 100) { nodes { id } } } } }"
        assert limit_of(query) == ("cost", 100 * (1 + 100))

    def test_edges_and_nodes_count_once_each(self) -> None:
        query = "{ models(first: 40) { edges { node { offers(first: 100) { edges { node { id } } } } } } }"
        assert limit_of(query) is None
        query = "{ models(first: 50) { edges { node { offers(first: 100) { edges { node { id } } } } } } }"
        assert limit_of(query) == ("cost", 50 * (1 + 100))

    def test_page_size_in_a_variable_counts(self) -> None:
        query = "query ($n: Int) { models(first: $n) { nodes { offers(first: $n) { nodes { id } } } } }"
        assert limit_of(query, n=10) is None
        assert limit_of(query, n=100) == ("cost", 100 * 101)
        assert limit_of(query) == ("cost", 100 * 101)

    def test_default_page_size_counts(self) -> None:
        query = "{ models { nodes { offers { nodes { revision { model { offers { nodes { id } } } } } } } } }"
        assert limit_of(query) == ("cost", 50 * (1 + 50 * (1 + 50)))

    def test_fragments_do_not_hide_cost(self) -> None:
        query = """
        { models(first: 100) { ...Page } }
        fragment Page on ModelConnection { nodes { ...Offers } }
        fragment Offers on Model { ... on Model { offers(last: 100) { nodes { id } } } }
        """
        assert limit_of(query) == ("cost", 100 * 101)

    def test_ids_multiply(self) -> None:
        query = "query ($ids: [ID!]!) { nodes(ids: $ids) { ... on Model { offers(first: 100) { nodes { id } } } } }"
        assert limit_of(query, ids=["x"] * 10) is None
        assert limit_of(query, ids=["x"] * 50) == ("cost", 50 * 101)

    def test_logins_cannot_be_batched(self) -> None:
        login = 'login(input: {email: "a", password: "b"}) { token }'
        assert limit_of("mutation {" + " ".join(f"a{i}: {login}" for i in range(4)) + "}") is None
        assert limit_of("mutation {" + " ".join(f"a{i}: {login}" for i in range(6)) + "}") == ("cost", 6_000)


class TestDepthAndAliases:
    def test_depth_over_the_limit_is_refused(self) -> None:
        inner = "id"
        for _ in range(6):
            inner = f"model {{ revisions(first: 1) {{ nodes {{ {inner} }} }} }}"
        query = f"{{ models(first: 1) {{ nodes {{ revisions(first: 1) {{ nodes {{ {inner} }} }} }} }} }}"
        assert limit_of(query) == ("depth", 23)

    def test_depth_hidden_in_fragments_is_found(self) -> None:
        chain = " ".join(
            f"fragment F{i} on ModelRevision {{ model {{ revisions(first: 1) {{ nodes {{ ...F{i + 1} }} }} }} }}"
            for i in range(8)
        )
        query = (
            "{ models(first: 1) { nodes { revisions(first: 1) { nodes { ...F0 } } } } }"
            f" {chain} fragment F8 on ModelRevision {{ id }}"
        )
        assert limit_of(query) == ("depth", 4 + 3 * 8 + 1)

    def test_aliases_over_the_limit_are_refused(self) -> None:
        assert limit_of("{" + " ".join(f"a{i}: __typename" for i in range(15)) + "}") is None
        assert limit_of("{" + " ".join(f"a{i}: __typename" for i in range(16)) + "}") == ("aliases", 16)

    def test_aliases_multiply_through_fragments(self) -> None:
        fan = " ".join(f"fragment F{i} on Query {{ ...F{i + 1} ...F{i + 1} }}" for i in range(14))
        query = f"{{ ...F0 }} {fan} fragment F14 on Query {{ a: __typename }}"
        assert limit_of(query) == ("aliases", 2**14)

    def test_fragment_cycle_ends(self) -> None:
        query = "{ models { nodes { ...A } } } fragment A on Model { slug ...B } fragment B on Model { ...A }"
        assert limit_of(query) is None

    def test_unknown_names_weigh_nothing(self) -> None:
        assert limit_of("{ nothing { ...Nowhere } } fragment Odd on Missing { x }") is None


class TestRememberedWeights:
    SIZES: tuple[object, ...] = (1, 5, 100, None, "5", True, 1.5, ["a"], ["a", "b"], [], 10**30, -1)

    def test_they_are_what_would_be_weighed(self) -> None:
        """Whatever was remembered before, in any order of sizes and documents."""
        texts = (
            "query ($n: Int) { models(first: $n) { nodes { offers(first: $n) { nodes { id } } } } }",
            "query ($n: [ID!]!) { nodes(ids: $n) { id } }",
            "query ($n: Int, $m: Int) { models(last: $m) { nodes { offers(first: $n) { nodes { id } } } } }",
        )
        documents, remembered = [parse(text) for text in texts], RememberedWeights()
        for _ in range(2):
            for document in documents:
                for given in ({}, *({"n": n, "m": m} for n in self.SIZES for m in self.SIZES[:3])):
                    found = remembered.of(SCHEMA, document, given)
                    assert found == weigh(SCHEMA, document, given), given
        assert len(remembered) <= DOCUMENTS_MAX

    def test_a_document_is_weighed_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        weighed: list[object] = []
        monkeypatch.setattr(limits, "weigh", lambda *given: weighed.append(given) or {})
        remembered, document = RememberedWeights(), parse("{ viewer { id } }")
        for id_ in ("a", "b", "c"):
            remembered.of(SCHEMA, document, {"id": id_})
        assert len(weighed) == 1

    def test_the_oldest_are_forgotten(self) -> None:
        remembered = RememberedWeights()
        for number in range(DOCUMENTS_MAX + 5):
            remembered.of(SCHEMA, parse(f"{{ a{number}: viewer {{ id }} }}"), {})
        assert len(remembered) == DOCUMENTS_MAX


class TestTokens:
    async def test_document_over_the_limit_is_not_even_parsed(self, api: Api) -> None:
        assert (await api("{ " + "__typename " * 50 + "}")).data == {"__typename": "Query"}
        refused = await api("{ " + "__typename " * 1_000 + "}")
        assert refused.code == "GRAPHQL_PARSE_FAILED"
        assert "1000 tokens" in refused.errors[0]["message"]
