"""Executes what needs no thought at once: attributes, what hangs on them, and rows that are loaded already.

graphql-core gives every field a path, an info object, a resolver call and a completion by type: some ten microseconds,
for each of a page's thousand fields. Most of them only read an attribute. `PlainExecution` has a plan for each selection
(`plans`), and leaves to graphql-core whatever is more than plain: arguments, rules, resolvers that wait, abstract types,
`@defer`, `@stream`, and above all every value that is not what its type promises. So errors are found, located and
propagated by graphql-core alone.

References (`fields.reference`) of a list's items are loaded before the items are completed, breadth first: one wait for
the whole list in place of a task for each item.
"""

import contextlib
from collections.abc import Awaitable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from graphql import ExecutionResult, GraphQLNonNull, GraphQLObjectType, GraphQLOutputType, GraphQLResolveInfo
from graphql.pyutils import Path
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from raymart_graphql.plans import Plan, Planner, Run, fetched, loads, origin_of


class SharedEvent:
    """An event of a subscription that is shown to many. All of its fields are plain, so that they show the same to all."""

    made: dict[Any, Any]
    """Completed selections of it."""


class PlainExecution(StrawberryGraphQLCoreExecutionContext):
    """Executor of one operation. The methods it overrides are graphql-core's own, whose version is pinned."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - graphql-core's own arguments
        super().__init__(*args, **kwargs)
        self._planner = Planner(self)
        self._run = Run(self.context_value)
        self._selection: Hashable = None
        # An extension that looks at every field must see every field.
        self._is_plain = not (self.middleware_manager and self.middleware_manager.middlewares)

    def build_per_event_executor(self, payload: Any) -> Any:  # noqa: ANN401 - graphql-core's own signature
        """The executor of one event; what others selected of a shared event is not executed again."""
        if not isinstance(payload, SharedEvent) or not self._is_plain:
            return super().build_per_event_executor(payload)
        if self._selection is None:
            self._selection = (id(self.operation), repr(self.variable_values.coerced))
        known = payload.made.get(self._selection)
        if known is None:
            result = super().build_per_event_executor(payload).execute_operation()
            if not isinstance(result, ExecutionResult) or result.errors:
                return _Done(result)
            # Kept with the operation, whose identity must stay its own. Parsed documents are shared by their text.
            known = payload.made[self._selection] = (self.operation, result.data)
        return _Done(ExecutionResult(known[1], None))

    def execute_fields(
        self,
        parent_type: GraphQLObjectType,
        source_value: Any,  # noqa: ANN401 - graphql-core's own signature
        path: Path | None,
        grouped_field_set: Any,  # noqa: ANN401
        position_context: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Complete the plain fields at once, and leave the others to graphql-core."""
        # A context of position means @defer: which fields are wanted then depends on where we are.
        if not self._is_plain or position_context is not None:
            return super().execute_fields(
                parent_type, source_value, path, grouped_field_set, position_context
            )
        completed: dict[str, Any] = {}
        left: dict[str, Any] = {}
        for name, step in self._planner.plan(parent_type, grouped_field_set).steps.items():
            if step is None:
                left[name] = grouped_field_set[name]
                continue
            try:
                completed[name] = step(source_value, self._run)
            except Exception:  # noqa: BLE001 - whatever it is, graphql-core meets it again and reports it.
                left[name] = grouped_field_set[name]
        if not left:
            return completed
        found = super().execute_fields(parent_type, source_value, path, left, position_context)
        if self.is_awaitable(found):
            return _later(grouped_field_set, completed, cast("Awaitable[dict[str, Any]]", found))
        return _in_order(grouped_field_set, completed, cast("dict[str, Any]", found))

    def complete_iterable_value(  # noqa: PLR0917 - graphql-core's own signature
        self,
        item_type: GraphQLOutputType,
        field_details_list: Any,  # noqa: ANN401 - graphql-core's own signature
        info: "GraphQLResolveInfo[Any]",
        path: Path,
        items: Iterable[Any],
        position_context: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Complete a list; what its items refer to is loaded first, for all of them."""
        details, left = field_details_list, super().complete_iterable_value
        kind = item_type.of_type if isinstance(item_type, GraphQLNonNull) else item_type
        plan = None
        if self._is_plain and position_context is None and type(items) is list:
            plan = self._plan_of_items(kind, details, path)

        def complete() -> Any:  # noqa: ANN401
            if plan is not None and plan.is_plain:
                origin = origin_of(kind)
                with contextlib.suppress(Exception):  # As in `execute_fields`.
                    if all(type(item) is origin for item in items):
                        return [plan.complete(item, self._run) for item in items]
            return left(item_type, details, info, path, items, position_context)

        waiting = loads(plan, items, self._run) if plan is not None and plan.waits else []

        async def load_then_complete() -> Any:  # noqa: ANN401
            await fetched(waiting, self._run)
            found = complete()
            return await found if self.is_awaitable(found) else found

        return load_then_complete() if waiting else complete()

    def _plan_of_items(self, kind: object, details: Any, path: Path) -> Plan | None:  # noqa: ANN401
        if origin_of(kind) is None or self.get_stream_usage(details, path) is not None:
            return None
        return self._planner.plan_below(cast("GraphQLObjectType", kind), details)


@dataclass(frozen=True, slots=True)
class _Done:
    """In place of an executor: its result."""

    result: Any

    def execute_operation(self, *_serially: object) -> Any:  # noqa: ANN401 - as graphql-core's
        """The result."""
        return self.result


async def _later(
    fields: Iterable[str], completed: dict[str, Any], found: Awaitable[dict[str, Any]]
) -> dict[str, Any]:
    return _in_order(fields, completed, await found)


def _in_order(fields: Iterable[str], completed: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Both parts of a response in the order that was asked for."""
    both = completed | found
    return {name: both[name] for name in fields if name in both}
