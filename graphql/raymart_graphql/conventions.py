"""What a schema of ours must look like, whoever adds to it. `broken` names each place that does not.

Source: design contract "GraphQL conventions": Relay's nodes and connections, verbNoun mutations with an input and a
payload, user errors in payloads, decimal money, times in UTC, a description on everything.
"""

import re
from collections.abc import Iterator

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    get_named_type,
    get_nullable_type,
    is_introspection_type,
    is_list_type,
    is_specified_scalar_type,
)

ROOTS = frozenset({"Query", "Mutation", "Subscription"})
PAGE_ARGUMENTS = frozenset({"first", "after", "last", "before"})
VERBS = frozenset(
    {
        "deprecate", "point", "roll", "accept", "activate", "adjust", "approve", "archive", "assign", "begin", "block", "cancel", "change", "choose", "clear", "close", "complete",
        "confirm", "correct", "create", "credit", "decline", "delete", "disable", "discard", "draft", "drain", "enable",
        "end", "enrol", "erase", "exchange", "export", "finalize", "flag", "forget", "freeze", "fund", "give", "grant", "hold", "invite",
        "issue", "leave", "lift", "link", "login", "logout", "mark", "move", "open", "pause", "pay", "prove",
        "publish", "put", "recompute", "reconcile", "record", "refresh", "refund", "register", "reject", "release", "remove",
        "rename", "replace", "request", "resend", "reset", "resolve", "restore", "resume", "retire", "retry",
        "reverse", "review", "revoke", "rotate", "run", "schedule", "send", "set", "sign", "split", "start", "stop",
        "suspend", "switch", "transfer", "unblock", "undo", "unlink", "unmark", "update", "verify", "void", "withdraw",
    }
)  # fmt: skip
"""What a mutation's name may begin with. Adding one is a decision about the language of the API."""
EXCEPTIONS = {
    "PayoutWallet.sharedWith": "it names twenty at most",
    "Deposit.disputes": "a card network allows a handful for one payment",
    "RateLimit.cost": "points, by GitHub's name for them",
}
"""Places that leave a convention, and why they may."""
_MONEY = re.compile(r"(?i)(amount|price|cost|balance|fee|spent|earned|charge|credit|refund)s?$")
"""Names of what is money, unless its type says that it is something else of that name."""
_CAMEL = re.compile(r"^[a-z][a-zA-Z0-9]*$")
_PASCAL = re.compile(r"^[A-Z][a-zA-Z0-9]*$")
_UPPER = re.compile(r"^[A-Z][A-Z0-9_]*$")


def broken(schema: GraphQLSchema) -> list[str]:
    """Each place where `schema` leaves a convention, with the convention; empty for a schema that keeps all."""
    found: list[str] = []
    for kind in schema.type_map.values():
        if is_introspection_type(kind) or is_specified_scalar_type(kind):
            continue
        found += _type(kind)
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for name, field in kind.fields.items():
                found += _field(kind, name, field)
    if schema.mutation_type is not None:
        for name, field in schema.mutation_type.fields.items():
            found += _mutation(name, field)
    return [line for line in found if line.partition(":")[0] not in EXCEPTIONS]


def _type(kind: GraphQLNamedType) -> Iterator[str]:
    if not kind.description:
        yield f"{kind.name}: has no description"
    if not _PASCAL.match(kind.name):
        yield f"{kind.name}: types are named in PascalCase"
    if isinstance(kind, GraphQLEnumType):
        yield from _enum(kind)
    if isinstance(kind, GraphQLInputObjectType):
        if not kind.name.endswith(("Input", "Filter")):
            yield f"{kind.name}: inputs are named ...Input, or ...Filter for what narrows a list"
        for name, given in kind.fields.items():
            yield from _value(f"{kind.name}.{name}", name, given.type, given.description)
    if isinstance(kind, GraphQLObjectType):
        yield from _object(kind)


def _enum(kind: GraphQLEnumType) -> Iterator[str]:
    for name, value in kind.values.items():
        if not value.description:
            yield f"{kind.name}.{name}: has no description"
        if not _UPPER.match(name):
            yield f"{kind.name}.{name}: values of enums are UPPER_CASE"


def _object(kind: GraphQLObjectType) -> Iterator[str]:
    if kind.name.endswith("Connection"):
        node = kind.name.removesuffix("Connection")
        shape = {name: str(field.type) for name, field in kind.fields.items()}
        wanted = {"edges": f"[{node}Edge!]!", "nodes": f"[{node}!]!", "pageInfo": "PageInfo!"}
        if shape.items() & wanted.items() != wanted.items():
            yield f"{kind.name}: a connection has {wanted}"
    if (
        kind.name.endswith("Payload")
        and str(getattr(kind.fields.get("userErrors"), "type", "")) != "[UserError!]!"
    ):
        yield f"{kind.name}: a payload has `userErrors: [UserError!]!`"


def _field(parent: GraphQLNamedType, name: str, field: GraphQLField) -> Iterator[str]:
    place = f"{parent.name}.{name}"
    yield from _value(place, name, field.type, field.description)
    for argument, given in field.args.items():
        yield from _value(f"{place}({argument})", argument, given.type, given.description)
    kind = get_named_type(field.type)
    is_list = is_list_type(get_nullable_type(field.type))
    if kind.name.endswith("Connection") and not field.args.keys() >= PAGE_ARGUMENTS:
        yield f"{place}: a connection takes first, after, last and before"
    # A payload gives what its own input made, and that is bounded.
    grows = is_list and not parent.name.endswith(("Connection", "Payload")) and "ids" not in field.args
    if grows and _is_node(kind):
        yield f"{place}: a list of {kind.name} can grow; make it a connection"


def _value(
    place: str, name: str, kind: GraphQLOutputType | GraphQLInputType, description: str | None
) -> Iterator[str]:
    """What holds for fields, arguments and input fields alike."""
    named = get_named_type(kind).name
    if not description:
        yield f"{place}: has no description"
    if not _CAMEL.match(name):
        yield f"{place}: names are camelCase"
    if (name == "id" or name.endswith("Id")) and named not in {"ID", "String"}:
        yield f"{place}: an id is an ID, or a String where it is not one of ours"
    if name == "id" and named != "ID":
        yield f"{place}: an id is an ID"
    if name.endswith("At") and named != "DateTime":
        yield f"{place}: a point in time is a DateTime"
    if _MONEY.search(name) and named in {"Float", "Int", "String"}:
        yield f"{place}: money is Money, or a decimal where its unit is in the name; never {named}"


def _mutation(name: str, field: GraphQLField) -> Iterator[str]:
    verb = re.split(r"(?=[A-Z])", name, maxsplit=1)[0]
    stem = name[0].upper() + name[1:]
    if verb not in VERBS:
        yield f"Mutation.{name}: begins with no verb of `conventions.VERBS`"
    if {argument: str(given.type) for argument, given in field.args.items()} != {"input": f"{stem}Input!"}:
        yield f"Mutation.{name}: takes `input: {stem}Input!` alone"
    if str(field.type) != f"{stem}Payload!":
        yield f"Mutation.{name}: returns `{stem}Payload!`"


def _is_node(kind: GraphQLNamedType) -> bool:
    return isinstance(kind, GraphQLObjectType) and any(made.name == "Node" for made in kind.interfaces)
