"""A schema that does not build while an operation has no permission rule."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from enum import Enum
from typing import Any

import strawberry
from graphql import GraphQLError
from graphql.execution import MiddlewareManager, SubsequentIncrementalExecutionResult
from strawberry.extensions.field_extension import AsyncExtensionResolver, FieldExtension
from strawberry.extensions.runner import SchemaExtensionsRunner
from strawberry.types import ExecutionContext
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.execution import PreExecutionError
from strawberry.types.field import StrawberryField

from raymart_core.errors import DomainError, InvalidRequest
from raymart_graphql.assurance import assurance_of
from raymart_graphql.context import Client, Operation
from raymart_graphql.errors import shown
from raymart_graphql.permissions import Guard, Public, resolve_next
from raymart_graphql.rules import RULES
from raymart_graphql.schema.audited import NOT_AUDITED, Audited, RefusalsAudited
from raymart_graphql.schema.user_error import Payload, UserError

ROOTS = frozenset({"Query", "Mutation", "Subscription"})


class GuardedSchema(strawberry.Schema):
    """Puts its rule before every field that has one in `RULES`. Building fails for a root field without."""

    def get_fields(self, type_definition: StrawberryObjectDefinition) -> list[StrawberryField]:
        """The type's fields, guarded."""
        type_name = self.config.name_converter.from_type(type_definition)
        for field in type_definition.fields:
            name = f"{type_name}.{self.config.name_converter.get_graphql_name(field)}"
            if type_name in ROOTS and name not in RULES:
                raise LookupError(f"{name} has no rule in raymart_graphql.rules; say there who may use it")
            # A field is shared by every schema that is built of its class.
            if name in RULES and not any(isinstance(extension, Guard) for extension in field.extensions):
                _guard(field, name, is_mutation=type_name == "Mutation")
        return type_definition.fields

    async def _handle_execution_result(
        self,
        context: ExecutionContext,
        result: Any,  # noqa: ANN401 - graphql-core's results have no common type
        extensions_runner: SchemaExtensionsRunner,
        *,
        skip_process_errors: bool = False,
    ) -> Any:  # noqa: ANN401 - Strawberry's own signature
        """Every result passes here on its way out, whatever the transport: code its errors, mask faults of ours."""
        before_execution = isinstance(result, PreExecutionError)
        final = await super()._handle_execution_result(
            context, result, extensions_runner, skip_process_errors=skip_process_errors
        )
        if final.errors:
            request_id = _request_id(context.context)
            final.errors = [
                shown(error, request_id=request_id, before_execution=before_execution)
                for error in final.errors
            ]
        return final

    async def _stream_non_subscription(
        self,
        execution_context: ExecutionContext,
        extensions_runner: SchemaExtensionsRunner,
        middleware_manager: MiddlewareManager,
        operation_extensions: dict[str, Any] | None = None,
    ) -> AsyncGenerator[Any, None]:
        """The parts of `@defer` and `@stream` do not pass through `_handle_execution_result`: code their errors here."""
        request_id = _request_id(execution_context.context)
        results = super()._stream_non_subscription(
            execution_context, extensions_runner, middleware_manager, operation_extensions
        )
        async with aclosing(results) as frames:
            async for frame in frames:
                if isinstance(frame, SubsequentIncrementalExecutionResult):
                    for part in (*(frame.incremental or ()), *(frame.completed or ())):
                        part.errors = part.errors and [
                            shown(error, request_id=request_id, before_execution=False)
                            for error in part.errors
                        ]
                yield frame

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        """Nothing here: `errors.shown` logs what is a fault of ours, and only that."""


def _request_id(context: object) -> str:
    """From the operation, or from the transport's client when the operation has not begun."""
    if isinstance(context, Operation):
        return context.client.request_id
    assert isinstance(context, Client)
    return context.request_id


def _guard(field: StrawberryField, name: str, *, is_mutation: bool) -> None:
    """Each extension runs around the ones before it: the rule comes late, so that it refuses first.

    A mutation is audited unless `NOT_AUDITED` says why not; only what notes refusals is around the rule.
    """
    action = name.partition(".")[2]
    is_audited = is_mutation and action not in NOT_AUDITED
    if is_audited:
        field.extensions.append(Audited(action, is_public=isinstance(RULES[name], Public)))
    if is_mutation:
        payload = field.type
        assert isinstance(payload, type), f"{name} must return a Payload"
        assert issubclass(payload, Payload), f"{name} must return a Payload"
        field.extensions.append(ExpectedFailures(payload))
    field.extensions.append(PlainText())
    assurance = assurance_of(name, RULES[name])
    if assurance is not None:
        field.extensions.append(assurance)
    field.extensions.append(Guard(RULES[name], is_mutation=is_mutation))
    if is_audited:
        field.extensions.append(RefusalsAudited(action))


class ExpectedFailures(FieldExtension):
    """Turns a DomainError of a mutation's resolver into the `userErrors` of its payload."""

    def __init__(self, payload: type[Payload]) -> None:
        self._payload = payload

    async def resolve_async(
        self, next_: AsyncExtensionResolver, source: object, info: strawberry.Info, **kwargs: object
    ) -> object:
        """Run the resolver; its transaction has been rolled back when it raises."""
        try:
            return await next_(source, info, **kwargs)
        except DomainError as error:
            return self._payload(user_errors=[UserError.of(error)])


class PlainText(FieldExtension):
    """Refuses NUL in any text argument: PostgreSQL cannot hold it, and no name, slug or message needs it."""

    async def resolve_async(
        self, next_: AsyncExtensionResolver, source: object, info: strawberry.Info, **kwargs: object
    ) -> object:
        """Check the arguments, then go on."""
        for name, value in kwargs.items():
            if _holds_nul(value):
                raise InvalidRequest("text may not contain the NUL character", param=name)
        return await resolve_next(next_(source, info, **kwargs))


def _holds_nul(value: object) -> bool:
    """Whether any text in an argument, an input object or a list holds NUL. Inputs nest a few levels only."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, list):
        return any(_holds_nul(item) for item in value)
    if hasattr(value, "__strawberry_definition__") and not isinstance(value, Enum):
        return any(_holds_nul(item) for item in vars(value).values())
    return False
