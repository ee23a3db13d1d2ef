"""What one operation may ask for: depth, aliases, tokens, and cost.

Cost is counted before anything runs, in GitHub's manner: a connection costs its page size times (one, plus the cost
of an item), so nesting lists multiplies. A few fields that are dear by themselves carry a price of their own. The cost
bounds one operation, and in points (`points`) what a caller may ask in an hour.
Source: facts of our probes (a 150-byte query could ask for 160,000 objects), GitHub's "node limit".
"""

import math
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FloatValueNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    Visitor,
    get_named_type,
    get_nullable_type,
    is_list_type,
    visit,
)
from strawberry.extensions import SchemaExtension

from raymart_graphql.context import Operation
from raymart_graphql.errors import ErrorCode
from raymart_graphql.relay import PAGE_DEFAULT, PAGE_MAX
from raymart_graphql.scalars import DIGITS_MAX
from raymart_graphql.validation import validated

DEPTH_MAX = 12
ALIASES_MAX = 15
TOKENS_MAX = 1_000
COST_MAX = 5_000
DOCUMENTS_MAX = 128
"""Documents, with the sizes in their variables, whose weights are remembered."""
REMEMBERED = "raymart.weights"
"""Key of a schema's `RememberedWeights` in its extensions."""
COST_PER_POINT = 100
"""A full page is a point, as with GitHub."""
ROOT_COSTS = {"Mutation": 500, "Subscription": 500}
"""Price of a root field that has none of its own: writing, and being served for as long as one likes, weigh more."""
LIST_ITEMS = 10
"""Items that a list which is no connection is taken to have; those are short by nature."""
FIELD_COSTS = {
    "Mutation.login": 1_000,  # One argon2 verification; guessing is not made cheaper by batching.
    "Mutation.completeLogin": 1_000,
    "Mutation.confirmSecondFactor": 500,
    "Mutation.signUp": 1_000,
    "Mutation.verifyEmail": 1_000,
    "Mutation.resetPassword": 1_000,
    "Mutation.changePassword": 1_500,
    "Mutation.requestPasswordReset": 500,
    "Mutation.resendVerification": 500,
    "Mutation.refreshSession": 100,
    "Organization.usageByDay": 400,  # As many sums at most.
    "Organization.usageByHour": 400,
    "Organization.usageSummary": 400,
    "Organization.usageSeries": 800,
    "Project.usageSeries": 800,
    "Provider.earningsSeries": 800,
    "Query.marketUsageSeries": 1_000,
    "Provider.earningsByDay": 400,
    "Query.offers": 1_000,  # Looks at every place of the market.
    "Query.offerSearch": 1_000,
    "Query.explainRoute": 1_000,
    "Query.marketUsageByDay": 1_000,
    "Query.marketUsageSummary": 1_000,
    "Query.trialBalance": 1_000,  # Reads the whole ledger.
}
"""Fields that cost more than the objects they give."""
_LONG_NUMBER = re.compile(rf"\d{{{DIGITS_MAX}}}")
_STRUCTURE = frozenset({"edges", "nodes", "userErrors"})
"""Lists that count for nothing: a connection's own, whose page size has counted, and what was wrong."""


@dataclass(frozen=True, slots=True)
class Weight:
    """What a selection asks for."""

    depth: int = 0
    aliases: int = 0
    nodes: int = 0
    """Objects that lists may give."""
    cost: int = 0
    """The same, with the prices of dear fields."""

    @property
    def points(self) -> int:
        """What the operation takes of its caller's hour."""
        return max(1, math.ceil(self.cost / COST_PER_POINT))

    def beside(self, other: "Weight") -> "Weight":
        """Both selections side by side."""
        return Weight(
            depth=max(self.depth, other.depth),
            aliases=self.aliases + other.aliases,
            nodes=self.nodes + other.nodes,
            cost=self.cost + other.cost,
        )


_BOTTOMLESS = Weight(depth=TOKENS_MAX)
"""A document that nests deeper than Python can walk."""


class OperationLimits(SchemaExtension):
    """Refuses an operation that asks for too much, before it is validated or run; remembers what was valid.

    What is allowed is charged to its caller, by what it may cost and not by what it did: also when it fails.
    """

    def on_operation(self) -> Iterator[None]:
        """Stop the parser at the token limit."""
        self.execution_context.parse_options["max_tokens"] = TOKENS_MAX
        yield

    async def on_validate(self) -> AsyncIterator[None]:
        """Weigh the document; an unknown name in it weighs nothing and is refused by the validation after."""
        context = self.execution_context
        assert context.graphql_document is not None
        schema = context.schema._schema  # noqa: SLF001 - Strawberry has no public way to graphql-core's schema.
        weights = weighed(schema, context.graphql_document, context.variables or {})
        refusal = self._refusal(context.graphql_document, weights)
        # What is refused for its size took no more than being read.
        weight = Weight() if refusal else weights[context.operation_name]
        refusal = await self._charge(weight) or refusal
        context.pre_execution_errors = (
            validated(schema, context.graphql_document, context.validation_rules)
            if refusal is None
            else [refusal]
        )
        yield

    def _refusal(self, document: DocumentNode, weights: Mapping[str | None, "Weight"]) -> GraphQLError | None:
        """Why the document is refused whoever sends it."""
        context = self.execution_context
        name = context._provided_operation_name  # noqa: SLF001 - the public name falls back to the first operation's.
        if name is None and len(weights) > 1:
            # Strawberry would run the first; the specification has the client say which.
            return GraphQLError(
                f"the document has {len(weights)} operations; say which one to run with `operationName`",
                extensions={"code": ErrorCode.BAD_REQUEST.value},
            )
        refusal = over(weights)
        if refusal is None and _LONG_NUMBER.search(context.query or ""):
            refusal = _refuse_long_numbers(document)
        return refusal

    async def _charge(self, weight: "Weight") -> GraphQLError | None:
        """Take the operation's points; why it is refused when there are too few."""
        operation = self.execution_context.context
        assert isinstance(operation, Operation)
        allowance = await operation.client.charge(cost=weight.points, nodes=weight.nodes)
        operation.allowance = allowance
        if allowance.taken:
            return None
        return GraphQLError(
            f"this operation costs {allowance.cost} points and {allowance.remaining} of {allowance.limit} are left;"
            f" try again in {allowance.retry_after_s} s, or ask for smaller pages",
            extensions={
                "code": ErrorCode.RATE_LIMITED.value,
                "limit": allowance.limit,
                "remaining": allowance.remaining,
                "resetAt": allowance.reset_at.isoformat(),
                "retryAfter": allowance.retry_after_s,
            },
        )


class RememberedWeights:
    """Weights of the documents that came last. A document that is parsed already is one object, whoever sends it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Any, ...], tuple[DocumentNode, Mapping[str | None, Weight]]] = (
            OrderedDict()
        )
        """By the document's identity, which is its own while it is kept here, and by what counts of the variables."""

    def __len__(self) -> int:
        return len(self._kept)

    def of(
        self, schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, Any]
    ) -> Mapping[str | None, Weight]:
        """What `weigh` says, or has said."""
        key = (id(document), *((name, _size(value)) for name, value in variables.items()))
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = (document, weigh(schema, document, variables))
            if len(self._kept) > DOCUMENTS_MAX:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return kept[1]


def _size(value: object) -> object:
    """All that may count of a variable: a number as a page's size, a list's length, and whether it is null."""
    if value is None or isinstance(value, int):
        return value
    return ("items", len(value)) if isinstance(value, list) else "something"


def weighed(
    schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, Any]
) -> Mapping[str | None, Weight]:
    """`weigh`, remembered with the schema."""
    remembered: RememberedWeights = schema.extensions.setdefault(REMEMBERED, RememberedWeights())
    return remembered.of(schema, document, variables)


def weigh(
    schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, Any]
) -> Mapping[str | None, Weight]:
    """What each operation of a document asks for, by its name. Works on documents that are not validated yet."""
    scale = _Scale(schema, document, variables)
    weights: dict[str | None, Weight] = {}
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            try:
                weight = scale.operation(definition)
            except RecursionError:
                weight = _BOTTOMLESS
            weights[definition.name.value if definition.name else None] = weight
    return weights


def over(weights: Mapping[str | None, Weight]) -> GraphQLError | None:
    """Which limit one of a document's operations exceeds, if one does."""
    for weight in weights.values():
        for name, value, limit in (
            ("depth", weight.depth, DEPTH_MAX),
            ("aliases", weight.aliases, ALIASES_MAX),
            ("cost", weight.cost, COST_MAX),
        ):
            if value > limit:
                return _refusal(name, str(value), limit)
    return None


def _refusal(name: str, value: str, limit: int) -> GraphQLError:
    return GraphQLError(
        f"the operation's {name} is {value}; the limit is {limit}. Ask for less at once, or for smaller pages",
        extensions={"code": ErrorCode.LIMIT_EXCEEDED.value, "limit": name, "value": value, "max": limit},
    )


def _refuse_long_numbers(document: DocumentNode) -> GraphQLError | None:
    """Python itself gives up on numbers of thousands of digits, and graphql-core does not expect it to."""
    finder = _LongNumbers()
    visit(document, finder)
    return finder.refusal


class _LongNumbers(Visitor):
    """Finds a number literal that is too long; digits within text are none of its business."""

    refusal: GraphQLError | None = None

    def enter_int_value(self, node: IntValueNode, *_: object) -> None:
        """Check an integer."""
        self._check(node.value)

    def enter_float_value(self, node: FloatValueNode, *_: object) -> None:
        """Check a float."""
        self._check(node.value)

    def _check(self, digits: str) -> None:
        if len(digits) > DIGITS_MAX:
            self.refusal = _refusal("digits of a number", str(len(digits)), DIGITS_MAX)


class _Scale:
    """Weighs the operations of one document. A fragment is weighed once, however often it is spread."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        self._schema = schema
        self._variables = variables
        self._fragments = {
            definition.name.value: definition
            for definition in document.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }
        # None marks a fragment that is being weighed: a cycle weighs nothing here, validation refuses it.
        self._weighed: dict[str, Weight | None] = {}

    def operation(self, definition: OperationDefinitionNode) -> Weight:
        root = self._schema.get_root_type(OperationType(definition.operation))
        return self._selection(definition.selection_set, root)

    def _part(self, weight: Weight, node: SelectionNode) -> Weight:
        """A part of its own is an answer of its own, and weighs as much as an object."""
        if any(found.name.value == "defer" for found in node.directives or ()):
            return weight.beside(Weight(nodes=1, cost=1))
        return weight

    def _selection(self, selection: SelectionSetNode, parent: GraphQLNamedType | None) -> Weight:
        total = Weight()
        for node in selection.selections:
            if isinstance(node, FieldNode):
                weight = self._field(node, parent)
            elif isinstance(node, InlineFragmentNode):
                condition = node.type_condition
                narrowed = self._schema.get_type(condition.name.value) if condition else parent
                weight = self._selection(node.selection_set, narrowed)
            else:
                assert isinstance(node, FragmentSpreadNode)
                weight = self._fragment(node.name.value)
            total = total.beside(self._part(weight, node))
        return total

    def _fragment(self, name: str) -> Weight:
        definition = self._fragments.get(name)
        if definition is None:
            return Weight()
        if name not in self._weighed:
            self._weighed[name] = None
            condition = self._schema.get_type(definition.type_condition.name.value)
            self._weighed[name] = self._selection(definition.selection_set, condition)
        return self._weighed[name] or Weight()

    def _field(self, node: FieldNode, parent: GraphQLNamedType | None) -> Weight:
        name = node.name.value
        aliases = 1 if node.alias else 0
        if name.startswith("__"):
            # Introspection has a depth rule of its own in graphql-core, and none at all outside development.
            return Weight(depth=1, aliases=aliases)
        field = None
        if isinstance(parent, GraphQLObjectType | GraphQLInterfaceType):
            field = parent.fields.get(name)
        child = get_named_type(field.type) if field else None
        below = self._selection(node.selection_set, child) if node.selection_set else Weight()
        own = FIELD_COSTS.get(f"{parent.name}.{name}", ROOT_COSTS.get(parent.name, 0)) if parent else 0
        items = self._items(node, field) if field and node.selection_set else 0
        nodes = items * (1 + below.nodes) if items else below.nodes
        cost = own + (items * (1 + below.cost) if items else below.cost)
        return Weight(depth=below.depth + 1, aliases=below.aliases + aliases, nodes=nodes, cost=cost)

    def _items(self, node: FieldNode, field: GraphQLField) -> int:
        """How many objects a list gives; 0 for what is no list, so that only its children count."""
        if "first" in field.args and "last" in field.args:
            sizes = [
                self._number(argument.value)
                for argument in node.arguments or ()
                if argument.name.value in {"first", "last"}
            ]
            return max(sizes, default=PAGE_DEFAULT)
        if not is_list_type(get_nullable_type(field.type)) or (
            node.name.value in _STRUCTURE and "ids" not in field.args
        ):
            return 0
        for argument in node.arguments or ():
            if argument.name.value == "ids":
                return self._length(argument.value)
        return LIST_ITEMS

    def _number(self, value: ValueNode) -> int:
        """A page size; the resolver refuses one out of range, so it is only bounded here."""
        if isinstance(value, IntValueNode):
            number: Any = int(value.value) if len(value.value) < 10 else PAGE_MAX
        elif isinstance(value, VariableNode):
            number = self._variables.get(value.name.value)
            if number is None:
                # Its default is in the operation, which a shared fragment does not know: assume the worst.
                number = PAGE_MAX
        else:
            number = PAGE_DEFAULT
        return max(0, min(number, PAGE_MAX)) if isinstance(number, int) else PAGE_MAX

    def _length(self, value: ValueNode) -> int:
        if isinstance(value, ListValueNode):
            return len(value.values)
        given = self._variables.get(value.name.value) if isinstance(value, VariableNode) else None
        return len(given) if isinstance(given, list) else 1
