"""How the plain part of a selection is completed: steps that read an attribute and encode it.

Plans are remembered with the parsed operation (`remembered`), so that what is asked again is not planned again; what
belongs to one execution alone, its loaders and what it has completed, is in its `Run`.

A step raises whatever it likes when a value is not what its type promises; `execution` then leaves the field to
graphql-core, which finds the same value again and reports it as it should.
"""

import contextlib
from asyncio import Future
from collections import OrderedDict, defaultdict
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
    Node,
    OperationDefinitionNode,
    Undefined,
    is_leaf_type,
)
from graphql.execution import Executor
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField

from raymart_graphql.context import Operation
from raymart_graphql.fields import REFERENCE, Reference

Fields = Mapping[str, Any]
"""Response name to graphql-core's details of the field: its `GroupedFieldSet`."""
Read = Callable[[Any], Any]
"""Source object to what a field shows of it."""
Step = Callable[[Any, "Run"], Any]
"""Source object, in one execution, to a field's completed value."""
Load = Callable[[Any], "Future[Any]"]
"""Key to an object that is there or will be."""

OPERATIONS_MAX = 128
"""Parsed operations whose plans are remembered; as many documents are."""


class NotPlain(Exception):
    """A value that its step does not expect."""


class Run:
    """What belongs to one execution of an operation."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._loads: dict[int, Load] = {}
        self.made: defaultdict[int, dict[Any, dict[str, Any]]] = defaultdict(dict)
        """Objects that were completed, by the identity of their plan and by their key: many rows refer to the same."""

    def load_of(self, reference: Reference) -> Load:
        """What loads the objects of `reference` in this execution."""
        load = self._loads.get(id(reference))
        if load is None:
            load = self._loads[id(reference)] = reference.load(self._operation)
        return load


@dataclass(slots=True)
class Plan:
    """How one selection on one type is completed."""

    steps: dict[str, Step | None] = field(default_factory=dict)
    """By response name, in the order of the response; None for what graphql-core does."""
    references: list[tuple[Read, Reference, "Plan"]] = field(default_factory=list)
    """What reads the keys of the selected references, the references, and the plans of their objects."""
    parts: list[tuple[Read, bool, "Plan"]] = field(default_factory=list)
    """What reads plain objects, or lists of them (True), below which there are references; and their plans."""

    @property
    def is_plain(self) -> bool:
        """Whether nothing in it is left to graphql-core."""
        return None not in self.steps.values()

    @property
    def waits(self) -> bool:
        """Whether completing it may have to load something."""
        return bool(self.references or self.parts)

    def complete(self, source: object, run: Run) -> dict[str, Any]:
        """The whole of a plain selection. Raises: anything when a value of it is not plain."""
        return {name: step(source, run) for name, step in self.steps.items()}  # type: ignore[misc]  # None of them is None.


Plans = dict[tuple[Any, ...], Plan]
"""By the name of the type and the identities of the nodes that select on it."""


class RememberedPlans:
    """The plans of the operations that were executed last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[OperationDefinitionNode, Any, Plans | None]] = OrderedDict()
        """By the operation's identity. Its nodes and those of its fragments are kept, so that theirs stay their own."""

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, executor: Executor[Any]) -> Plans:
        """Those of the executor's operation, to be added to; forgotten at once where a directive has a say."""
        operation = executor.operation
        kept = self._kept.get(id(operation))
        if kept is None:
            fragments = executor.fragments
            nodes = (operation, *(fragment.definition for fragment in fragments.values()))
            plans: Plans | None = None if any(map(_has_directives, nodes)) else {}
            kept = self._kept[id(operation)] = (operation, fragments, plans)
            if len(self._kept) > OPERATIONS_MAX:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(id(operation))
        return {} if kept[2] is None else kept[2]


def _has_directives(node: Node) -> bool:
    """Whether what is selected below may differ from one execution to the next, by its variables."""
    if getattr(node, "directives", None):
        return True
    selection = getattr(node, "selection_set", None)
    return selection is not None and any(map(_has_directives, selection.selections))


REMEMBERED = "raymart.plans"
"""Key of a schema's `RememberedPlans` in its extensions."""


def remembered(executor: Executor[Any]) -> Plans:
    """The plans of the executor's operation, kept with its schema."""
    kept: RememberedPlans = executor.schema.extensions.setdefault(REMEMBERED, RememberedPlans())
    return kept.of(executor)


class Planner:
    """Finds or makes the plans of one execution."""

    def __init__(self, executor: Executor[Any]) -> None:
        self._executor = executor
        self._plans = remembered(executor)
        self._by_fields: dict[int, tuple[Fields, Plan]] = {}
        """Short way to plans of the grouped fields of this execution, kept so that their identities stay their own."""

    def plan(self, parent_type: GraphQLObjectType, fields: Fields) -> Plan:
        """The plan of `fields` on an object of `parent_type`."""
        found = self._by_fields.get(id(fields))
        if found is None:
            nodes = [id(details.node) for group in fields.values() for details in group]
            plan = self._plans.get((parent_type.name, *nodes))
            if plan is None:
                plan = self._plans[parent_type.name, *nodes] = self._made(parent_type, fields)
            found = self._by_fields[id(fields)] = (fields, plan)
        return found[1]

    def _made(self, parent_type: GraphQLObjectType, fields: Fields) -> Plan:
        plan = Plan()
        for name, details in fields.items():
            plan.steps[name] = self._step(plan, parent_type, details)
        return plan

    def plan_below(self, kind: GraphQLObjectType, details: Any) -> Plan | None:  # noqa: ANN401 - graphql-core's own
        """The plan of what a field's `details` select on an object of `kind`; None where a part of it is deferred."""
        key = ("below", kind.name, *[id(each.node) for each in details])
        plan = self._plans.get(key)
        if plan is None:
            fields, deferred, _ = self._executor.collect_subfields(kind, details)
            if deferred:
                return None
            plan = self._plans[key] = self._made(kind, fields)
        return plan

    def _step(self, plan: Plan, parent_type: GraphQLObjectType, details: Any) -> Step | None:  # noqa: ANN401
        """The step of one field; None when it is more than plain."""
        node = details[0].node
        name = node.name.value
        if name == "__typename":
            return lambda _source, _run: parent_type.name
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
        read: Read,
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
        key_of = attrgetter(reference.key)
        plan.references.append((key_of, reference, below))
        return _loaded_step(key_of, reference, origin, below, nullable=nullable) if below.is_plain else None


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


def loads(plan: Plan, sources: Iterable[Any], run: Run) -> Waiting:
    """Begin to load what `sources` refer to, directly or through their plain parts."""
    sources = list(sources)
    waiting: Waiting = []
    for key_of, reference, below in plan.references:
        load = run.load_of(reference)
        waiting.append((below, [load(key) for key in dict.fromkeys(_read_each(key_of, sources))]))
    for read, is_list, below in plan.parts:
        parts = _read_each(read, sources)
        waiting.extend(loads(below, [item for part in parts for item in part] if is_list else parts, run))
    return [(below, begun) for below, begun in waiting if begun]


async def fetched(waiting: Waiting, run: Run) -> None:
    """Wait for loads, then for what their results refer to, level by level. What fails is found again by its field."""
    while waiting:
        following: Waiting = []
        for plan, begun in waiting:
            found = [value for value in [await _settled(load) for load in begun] if value is not None]
            if plan.waits:
                following.extend(loads(plan, found, run))
        waiting = following


async def _settled(load: "Future[Any]") -> object:
    with contextlib.suppress(Exception):  # Kept in the future, for the field that asks.
        return await load
    return None


def _read_each(read: Read, sources: Sequence[Any]) -> list[Any]:
    """What is there. A source that is not what its type promises is reported when it is completed."""
    found = []
    for source in sources:
        with contextlib.suppress(Exception):
            value = read(source)
            if value is not None:
                found.append(value)
    return found


def _leaf_step(read: Read, encode: Callable[[Any], Any], *, nullable: bool) -> Step:
    def step(source: object, _run: Run) -> object:
        value = read(source)
        if value is None and nullable:
            return None
        encoded = encode(value)
        if value is None or encoded is None or encoded is Undefined:
            raise NotPlain
        return encoded

    return step


def _leaves_step(read: Read, encode: Callable[[Any], Any], *, nullable: bool) -> Step:
    def step(source: object, _run: Run) -> list[Any] | None:
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


def _object_step(read: Read, origin: type, below: Plan, *, nullable: bool) -> Step:
    def step(source: object, run: Run) -> dict[str, Any] | None:
        value = read(source)
        if value is None and nullable:
            return None
        if type(value) is not origin:
            raise NotPlain
        return below.complete(value, run)

    return step


def _objects_step(read: Read, origin: type, below: Plan, *, nullable: bool) -> Step:
    def step(source: object, run: Run) -> list[dict[str, Any]] | None:
        values = read(source)
        if values is None and nullable:
            return None
        if type(values) is not list or any(type(value) is not origin for value in values):
            raise NotPlain
        return [below.complete(value, run) for value in values]

    return step


def _loaded_step(key_of: Read, reference: Reference, origin: type, below: Plan, *, nullable: bool) -> Step:
    def step(source: object, run: Run) -> dict[str, Any] | None:
        made, key = run.made[id(below)], key_of(source)
        found = made.get(key)
        if found is None:
            value = (
                None if key is None else run.load_of(reference)(key).result()
            )  # Raises unless it is there.
            if value is None and nullable:
                return None
            if type(value) is not origin:
                raise NotPlain
            found = made[key] = below.complete(value, run)
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


def _reader(own: StrawberryField) -> Read | None:
    """What reads the field of its source: its attribute, or a method that takes nothing and waits for nothing."""
    resolver = own.base_resolver
    if resolver is None:
        return attrgetter(own.python_name) if own.default_resolver is getattr else None
    if own.is_async or resolver.arguments or resolver.info_parameter is not None:
        return None
    return cast("Read", resolver.wrapped_func) if resolver.self_parameter is not None else None
