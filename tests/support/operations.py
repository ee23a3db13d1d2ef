"""Operations made of the schema: every root field with arguments that fit its types, so that a new one comes in by itself."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLScalarType,
    GraphQLSchema,
    Undefined,
    get_named_type,
    is_leaf_type,
)

SCALARS: Mapping[str, object] = {
    "String": "text",
    "Int": 1,
    "Float": 1.0,
    "Boolean": True,
    "BigInt": "1",
    "Decimal": "1",
    "Date": "2026-01-01",
    "DateTime": "2026-01-01T00:00:00Z",
}
"""A value of each scalar but ID; a new scalar needs one."""

IdFor = Callable[[str], str]
"""From the path of an input ("input.projectId", "id") to a global id for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeOperation:
    """A document with its variables."""

    name: str
    """"Mutation.createApiKey"."""
    document: str
    variables: dict[str, Any]


def operations(schema: GraphQLSchema, id_for: Callable[[str], IdFor]) -> Iterator[MadeOperation]:
    """Each root field once; `id_for(name)` chooses the ids of the operation `name`."""
    for root in (schema.query_type, schema.mutation_type, schema.subscription_type):
        if root is not None:
            for field_name, field in root.fields.items():
                name = f"{root.name}.{field_name}"
                yield _operation(name, field, id_for(name))


def nested(type_name: str, field_name: str, field: GraphQLField, item_id: str) -> MadeOperation:
    """A field of the type `type_name`, asked of the node `item_id`."""
    made = _operation(f"Query.{field_name}", field, lambda _path: item_id)
    head, _, rest = made.document.partition("{")
    variables = head.strip().removeprefix("query").strip().strip("()")
    declared = "$node: ID!" + (f", {variables}" if variables else "")
    document = f"query ({declared}) {{ node(id: $node) {{ ... on {type_name} {{{rest} }} }}"
    return MadeOperation(
        name=f"{type_name}.{field_name}", document=document, variables={"node": item_id, **made.variables}
    )


def beneath(root_field: str, type_name: str, field_name: str, field: GraphQLField) -> MadeOperation:
    """A field of the type `type_name`, asked beneath a root field without arguments; it takes no ids."""
    made = _operation(f"Query.{field_name}", field, lambda path: path)
    head, _, rest = made.document.partition("{")
    document = f"{head}{{ {root_field} {{{rest} }}"
    return MadeOperation(name=f"{type_name}.{field_name}", document=document, variables=made.variables)


def id_paths(arguments: Mapping[str, GraphQLArgument | GraphQLInputField], prefix: str = "") -> Iterator[str]:
    """Paths of all ids in the arguments, optional ones too; of lists the first item's."""
    for name, argument in arguments.items():
        kind = get_named_type(argument.type)
        if isinstance(kind, GraphQLInputObjectType):
            yield from id_paths(kind.fields, f"{prefix}{name}.")
        elif kind.name == "ID":
            yield prefix + name


def _operation(name: str, field: GraphQLField, id_for: IdFor) -> MadeOperation:
    root, _, field_name = name.partition(".")
    chosen = {
        argument: definition
        for argument, definition in field.args.items()
        if argument == "first" or _is_wanted(definition)
    }
    variables = {
        argument: _value(definition.type, argument, id_for) for argument, definition in chosen.items()
    }
    declared = ", ".join(f"${argument}: {definition.type}" for argument, definition in chosen.items())
    passed = ", ".join(f"{argument}: ${argument}" for argument in chosen)
    call = field_name + (f"({passed})" if passed else "")
    selection = "" if is_leaf_type(get_named_type(field.type)) else " { __typename }"
    head = root.lower() + (f" ({declared})" if declared else "")
    return MadeOperation(name=name, document=f"{head} {{ {call}{selection} }}", variables=variables)


def _is_wanted(definition: GraphQLArgument | GraphQLInputField) -> bool:
    """What must be given, and every id: a rule that forgets an optional one is what the matrix is for."""
    must = isinstance(definition.type, GraphQLNonNull) and definition.default_value is Undefined
    return must or get_named_type(definition.type).name == "ID"


def _value(kind: GraphQLInputType, path: str, id_for: IdFor) -> object:
    match kind:
        case GraphQLNonNull():
            return _value(kind.of_type, path, id_for)
        case GraphQLList():
            return [_value(kind.of_type, path, id_for)]
        case GraphQLInputObjectType():
            return {
                name: _value(field.type, f"{path}.{name}", id_for)
                for name, field in kind.fields.items()
                if _is_wanted(field)
            }
        case GraphQLEnumType():
            return next(iter(kind.values))
        case GraphQLScalarType(name="ID"):
            return id_for(path)
        case GraphQLScalarType():
            return SCALARS[kind.name]
    raise AssertionError(f"no value is made for {kind} at {path}")
