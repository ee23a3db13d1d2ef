"""How the plain part of a selection is completed: steps that read an attribute and encode it, made once per operation.

A step raises whatever it likes when a value is not what its type promises; `execution` then leaves the field to
graphql-core, which finds the same value again and reports it as it should.
"""

import contextlib
from asyncio import Future
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, cast

from graphql import (
    GraphQLField,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    Undefined,
    is_leaf_type,
)
from graphql.execution import Executor
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField

from raymart_graphql.fields import REFERENCE, Reference

Fields = Mapping[str, Any]
"""Response name to graphql-core's details of the field: its `GroupedFieldSet`."""
Step = Callable[[Any], Any]
"""Source object to a field's completed value."""
Load = Callable[[Any], "Future[Any]"]
"""Key to an object that is there or will be."""


class NotPlain(Exception):
    """A value that its step does not expect."""


@dataclass(slots=True)
class Plan:
    """How one selection on one type is completed."""

    fields: Fields
    """Kept so that its identity, by which the plan is found, stays its own."""
    steps: dict[str, Step | None] = field(default_factory=dict)
    """By response name, in the order of the response; None for what graphql-core does."""
    references: list[tuple[Step, Load, "Plan"]] = field(default_factory=list)
    """What reads the keys of the selected references, what loads their objects, and the plans of these."""
    parts: list[tuple[Step, bool, "Plan"]] = field(default_factory=list)
    """What reads plain objects, or lists of them (True), below which there are references; and their plans."""

    @property
    def is_plain(self) -> bool:
        """Whether nothing in it is left to graphql-core."""
        return None not in self.steps.values()

    @property
    def waits(self) -> bool:
        """Whether completing it may have to load something."""
        return bool(self.references or self.parts)

    def complete(self, source: object) -> dict[str, Any]:
        """The whole of a plain selection. Raises: anything when a value of it is not plain."""
        return {name: step(source) for name, step in self.steps.items()}  # type: ignore[misc]  # None of them is None.


class Planner:
    """Makes the plans of one operation, each once."""

    def __init__(self, executor: Executor[Any]) -> None:
        self._executor = executor
        self._plans: dict[tuple[str, int], Plan] = {}

    def plan(self, parent_type: GraphQLObjectType, fields: Fields) -> Plan:
        """The plan of `fields` on an object of `parent_type`."""
        key = (parent_type.name, id(fields))
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = Plan(fields)
            for name, details in fields.items():
                plan.steps[name] = self._step(plan, parent_type, details)
        return plan

    def plan_below(self, kind: GraphQLObjectType, details: Any) -> Plan | None:  # noqa: ANN401 - graphql-core's own
        """The plan of what a field's `details` select on an object of `kind`; None where a part of it is deferred."""
        fields, deferred, _ = self._executor.collect_subfields(kind, details)
        return None if deferred else self.plan(kind, fields)

    def _step(self, plan: Plan, parent_type: GraphQLObjectType, details: Any) -> Step | None:  # noqa: ANN401
        """The step of one field; None when it is more than plain."""
        node = details[0].node
        name = node.name.value
        if name == "__typename":
            return lambda _source: parent_type.name
        definition = self._executor.schema.get_field(parent_type, name)
        own = None if definition is None else _own_field(definition)
        # An extension may be a rule: it must run.
        if definition is None or own is None or own.extensions or node.arguments:
            return None
        reference: Reference | None = own.metadata.get(REFERENCE)
        if reference is not None:
            return self._reference_step(plan, reference, definition.type, details)
        read = _reader(own)
        return None if read is None else self._value_step(plan, read, definition.type, details)

    def _value_step(
        self,
        plan: Plan,
        read: Step,
        kind: GraphQLOutputType,
        details: Any,  # noqa: ANN401
    ) -> Step | None:
        """Read, then complete by type."""
        nullable, kind = _nullable(kind)
        if is_leaf_type(kind):
            return _leaf_step(read, kind.coerce_output_value, nullable=nullable)
        is_list = isinstance(kind, GraphQLList)
        if isinstance(kind, GraphQLList):
            items_nullable, kind = _nullable(kind.of_type)
            if (
                items_nullable or details[0].node.directives
            ):  # Lists of nulls are rare; a directive may stream it.
                return None
            if is_leaf_type(kind):
                return _leaves_step(read, kind.coerce_output_value, nullable=nullable)
        origin = origin_of(kind)
        below = None if origin is None else self.plan_below(cast("GraphQLObjectType", kind), details)
        if origin is None or below is None:
            return None
        if below.waits:
            plan.parts.append((read, is_list, below))
        if not below.is_plain:
            return None
        step = _objects_step if is_list else _object_step
        return step(read, origin, below, nullable=nullable)

    def _reference_step(
        self,
        plan: Plan,
        reference: Reference,
        kind: GraphQLOutputType,
        details: Any,  # noqa: ANN401
    ) -> Step | None:
        """Take what is loaded already. The same object is completed once, however many rows refer to it."""
        nullable, kind = _nullable(kind)
        origin = origin_of(kind)
        below = None if origin is None else self.plan_below(cast("GraphQLObjectType", kind), details)
        if origin is None or below is None:
            return None
        key_of, load = attrgetter(reference.key), reference.load(self._executor.context_value)
        plan.references.append((key_of, load, below))
        return _loaded_step(key_of, load, origin, below, nullable=nullable) if below.is_plain else None


def origin_of(kind: object) -> type | None:
    """The class whose instances, and no others, are plain values of `kind`."""
    if not isinstance(kind, GraphQLObjectType):
        return None
    definition = kind.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    if not isinstance(definition, StrawberryObjectDefinition) or definition.is_type_of is not None:
        return None
    # Values of a generic type, such as a connection, are instances of the generic class.
    return definition.concrete_of.origin if definition.concrete_of else definition.origin


Waiting = list[tuple[Plan, list["Future[Any]"]]]
"""Loads that began, and the plan of what they give."""


def loads(plan: Plan, sources: Iterable[Any]) -> Waiting:
    """Begin to load what `sources` refer to, directly or through their plain parts."""
    sources = list(sources)
    waiting: Waiting = []
    for key_of, load, below in plan.references:
        waiting.append((below, [load(key) for key in dict.fromkeys(_read_each(key_of, sources))]))
    for read, is_list, below in plan.parts:
        parts = _read_each(read, sources)
        waiting.extend(loads(below, [item for part in parts for item in part] if is_list else parts))
    return [(below, begun) for below, begun in waiting if begun]


async def fetched(waiting: Waiting) -> None:
    """Wait for loads, then for what their results refer to, level by level. What fails is found again by its field."""
    while waiting:
        following: Waiting = []
        for plan, begun in waiting:
            found = [value for value in [await _settled(load) for load in begun] if value is not None]
            if plan.waits:
                following.extend(loads(plan, found))
        waiting = following


async def _settled(load: "Future[Any]") -> object:
    with contextlib.suppress(Exception):  # Kept in the future, for the field that asks.
        return await load
    return None


def _read_each(read: Step, sources: Sequence[Any]) -> list[Any]:
    """What is there. A source that is not what its type promises is reported when it is completed."""
    found = []
    for source in sources:
        with contextlib.suppress(Exception):
            value = read(source)
            if value is not None:
                found.append(value)
    return found


def _leaf_step(read: Step, encode: Callable[[Any], Any], *, nullable: bool) -> Step:
    def step(source: object) -> object:
        value = read(source)
        if value is None and nullable:
            return None
        encoded = encode(value)
        if value is None or encoded is None or encoded is Undefined:
            raise NotPlain
        return encoded

    return step


def _leaves_step(read: Step, encode: Callable[[Any], Any], *, nullable: bool) -> Step:
    def step(source: object) -> list[Any] | None:
        values = read(source)
        if values is None and nullable:
            return None
        if type(values) is not list or None in values:
            raise NotPlain
        encoded = [encode(value) for value in values]
        if None in encoded or Undefined in encoded:
            raise NotPlain
        return encoded

    return step


def _object_step(read: Step, origin: type, below: Plan, *, nullable: bool) -> Step:
    def step(source: object) -> dict[str, Any] | None:
        value = read(source)
        if value is None and nullable:
            return None
        if type(value) is not origin:
            raise NotPlain
        return below.complete(value)

    return step


def _objects_step(read: Step, origin: type, below: Plan, *, nullable: bool) -> Step:
    def step(source: object) -> list[dict[str, Any]] | None:
        values = read(source)
        if values is None and nullable:
            return None
        if type(values) is not list or any(type(value) is not origin for value in values):
            raise NotPlain
        return [below.complete(value) for value in values]

    return step


def _loaded_step(key_of: Step, load: Load, origin: type, below: Plan, *, nullable: bool) -> Step:
    known: dict[Any, dict[str, Any]] = {}

    def step(source: object) -> dict[str, Any] | None:
        key = key_of(source)
        found = known.get(key)
        if found is None:
            value = None if key is None else load(key).result()  # Raises unless it is there.
            if value is None and nullable:
                return None
            if type(value) is not origin:
                raise NotPlain
            found = known[key] = below.complete(value)
        return found

    return step


def _nullable(kind: GraphQLOutputType) -> tuple[bool, GraphQLOutputType]:
    """Whether null is a value of `kind`, and the kind of the others."""
    if isinstance(kind, GraphQLNonNull):
        return False, cast("GraphQLOutputType", kind.of_type)
    return True, kind


def _own_field(definition: GraphQLField) -> StrawberryField | None:
    own = definition.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    return own if isinstance(own, StrawberryField) else None


def _reader(own: StrawberryField) -> Step | None:
    """What reads the field of its source: its attribute, or a method that takes nothing and waits for nothing."""
    resolver = own.base_resolver
    if resolver is None:
        return attrgetter(own.python_name) if own.default_resolver is getattr else None
    if own.is_async or resolver.arguments or resolver.info_parameter is not None:
        return None
    return cast("Step", resolver.wrapped_func) if resolver.self_parameter is not None else None
