"""The schema's conventions, and the gate that keeps a release's clients working."""

import pytest
from graphql import build_schema

from raymart_graphql.conventions import EXCEPTIONS, broken
from raymart_graphql.export_schema import COMMITTED, breaking_changes

SOUND = '''
"""Nodes."""
interface Node { "Id." id: ID! }
"""What was wrong."""
type UserError { "C." code: Code! }
"""Codes."""
enum Code { "Gone." NOT_FOUND }
"""Money."""
type Money { "Currency." currency: String! }
"""Time."""
scalar DateTime
"""Key."""
type Key implements Node { "Id." id: ID! "When." createdAt: DateTime! "Price." price: Money! }
"""Page."""
type PageInfo { "Whether." hasNextPage: Boolean! }
"""Edge."""
type KeyEdge { "Node." node: Key! }
"""Keys."""
type KeyConnection { "E." edges: [KeyEdge!]! "N." nodes: [Key!]! "P." pageInfo: PageInfo! }
"""Given."""
input CreateKeyInput { "Org." organizationId: ID! }
"""Given back."""
type CreateKeyPayload { "Key." key: Key "Errors." userErrors: [UserError!]! }
"""Reads."""
type Query {
  "Keys."
  keys("F." first: Int, "A." after: String, "L." last: Int, "B." before: String): KeyConnection!
  "By ids."
  nodes("Ids." ids: [ID!]!): [Node]!
}
"""Writes."""
type Mutation { "Creates." createKey("Input." input: CreateKeyInput!): CreateKeyPayload! }
'''


def complaints(old: str, new: str) -> list[str]:
    assert SOUND.count(old) >= 1
    return broken(build_schema(SOUND.replace(old, new, 1)))


class TestConventions:
    def test_ours_keeps_them(self) -> None:
        assert broken(build_schema(COMMITTED.read_text())) == []

    def test_every_exception_is_still_needed(self) -> None:
        """One that nothing leaves any more would hide the next mistake of its name."""
        schema = build_schema(COMMITTED.read_text())
        for place in EXCEPTIONS:
            type_name, _, field_name = place.partition(".")
            assert field_name in schema.type_map[type_name].fields  # type: ignore[union-attr]

    def test_sound_schema_has_no_complaint(self) -> None:
        assert broken(build_schema(SOUND)) == []

    @pytest.mark.parametrize(
        ("old", "new", "complaint"),
        [
            ('"""Key."""', "", "Key: has no description"),
            ('"When." createdAt', "createdAt", "Key.createdAt: has no description"),
            ('"Org." organizationId', "organizationId", "CreateKeyInput.organizationId: has no description"),
            ('"F." first', "first", "Query.keys(first): has no description"),
            ('"Gone." NOT_FOUND', "NOT_FOUND", "Code.NOT_FOUND: has no description"),
            ("NOT_FOUND", "notFound", "Code.notFound: values of enums"),
            ("createdAt: DateTime!", "createdAt: String!", "Key.createdAt: a point in time"),
            ("createdAt", "created_at", "Key.created_at: names are camelCase"),
            ("price: Money!", "price: Float!", "Key.price: money is Money"),
            ("organizationId: ID!", "organizationId: Int!", "CreateKeyInput.organizationId: an id"),
            ("): KeyConnection!", "): [Key!]!", "Query.keys: a list of Key can grow"),
            (', "L." last: Int, "B." before: String', "", "Query.keys: a connection takes"),
            ("nodes: [Key!]!", "nodes: [Key]!", "KeyConnection: a connection has"),
            ("userErrors: [UserError!]!", "userErrors: [UserError!]", "CreateKeyPayload: a payload has"),
            ("createKey(", "keyMaker(", "Mutation.keyMaker: begins with no verb"),
            ("createKey(", "createKeys(", "Mutation.createKeys: takes"),
            ("input: CreateKeyInput!)", "input: CreateKeyInput)", "Mutation.createKey: takes"),
            ("): CreateKeyPayload!", "): Key", "Mutation.createKey: returns"),
        ],
    )
    def test_what_leaves_one_is_named(self, old: str, new: str, complaint: str) -> None:
        assert any(line.startswith(complaint) for line in complaints(old, new)), complaints(old, new)


class TestGate:
    """`make check` compares the code with the last release; here stands that it would find something."""

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('"Price." price: Money!', ""),
            ("createdAt: DateTime!", "createdAt: DateTime"),
            ("createdAt: DateTime!", "createdAt: ID!"),
            ("organizationId: ID!", 'organizationId: ID! "More." name: ID!'),
            ('"Gone." NOT_FOUND', '"Late." CONFLICT'),
            ('"F." first: Int, ', ""),
            ("type Key implements Node", "type Key"),
        ],
    )
    def test_what_breaks_clients_is_found(self, old: str, new: str) -> None:
        assert breaking_changes(SOUND, SOUND.replace(old, new, 1))

    def test_what_is_added_breaks_nobody(self) -> None:
        added = SOUND.replace('"Price." price', '"Name." name: ID "Price." price')
        assert breaking_changes(SOUND, added) == []
