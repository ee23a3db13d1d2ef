"""A schema that does not build while an operation has no permission rule."""

from typing import Any

import strawberry
from strawberry.extensions.field_extension import AsyncExtensionResolver, FieldExtension
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField

from raymart_core.errors import DomainError, InvalidRequest
from raymart_graphql.permissions import RULES, Guard
from raymart_graphql.schema.user_error import Payload, UserError

ROOTS = frozenset({"Query", "Mutation", "Subscription"})


class GuardedSchema(strawberry.Schema):
    """Puts its rule before every field that has one in `RULES`. Raises LookupError for a root field without."""

    def get_fields(self, type_definition: StrawberryObjectDefinition) -> list[StrawberryField]:
        """The type's fields, guarded."""
        type_name = self.config.name_converter.from_type(type_definition)
        for field in type_definition.fields:
            name = f"{type_name}.{self.config.name_converter.get_graphql_name(field)}"
            if type_name in ROOTS and name not in RULES:
                raise LookupError(f"{name} has no rule in permissions.RULES; say there who may use it")
            # A field is shared by every schema that is built of its class.
            if name in RULES and not any(isinstance(extension, Guard) for extension in field.extensions):
                _guard(field, name, is_mutation=type_name == "Mutation")
        return type_definition.fields


def _guard(field: StrawberryField, name: str, *, is_mutation: bool) -> None:
    """Each extension runs around the ones before it: the rule comes last, so that it refuses first."""
    if is_mutation:
        payload = field.type
        assert isinstance(payload, type) and issubclass(payload, Payload), f"{name} must return a Payload"
        field.extensions.append(ExpectedFailures(payload))
    field.extensions.append(PlainText())
    field.extensions.append(Guard(RULES[name]))


class ExpectedFailures(FieldExtension):
    """Turns a DomainError of a mutation's resolver into the `userErrors` of its payload."""

    def __init__(self, payload: type[Payload]) -> None:
        self._payload = payload

    async def resolve_async(
        self, next_: AsyncExtensionResolver, source: Any, info: strawberry.Info, **kwargs: Any
    ) -> Any:
        """Run the resolver; its transaction has been rolled back when it raises."""
        try:
            return await next_(source, info, **kwargs)
        except DomainError as error:
            return self._payload(user_errors=[UserError.of(error)])


class PlainText(FieldExtension):
    """Refuses NUL in any text argument: PostgreSQL cannot hold it, and no name, slug or message needs it."""

    async def resolve_async(
        self, next_: AsyncExtensionResolver, source: Any, info: strawberry.Info, **kwargs: Any
    ) -> Any:
        """Check the arguments, then go on."""
        for name, value in kwargs.items():
            if _holds_nul(value):
                raise InvalidRequest("text may not contain the NUL character", param=name)
        return await next_(source, info, **kwargs)


def _holds_nul(value: object) -> bool:
    """Whether any text in an argument, an input object or a list holds NUL. Inputs nest a few levels only."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, list):
        return any(_holds_nul(item) for item in value)
    if hasattr(value, "__strawberry_definition__"):
        return any(_holds_nul(item) for item in vars(value).values())
    return False
