"""The quick executor answers exactly as graphql-core does, and loads what a list refers to in one go."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
import strawberry
from strawberry.dataloader import DataLoader
from strawberry.extensions import SchemaExtension
from strawberry.extensions.field_extension import FieldExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.types.base import StrawberryObjectDefinition

from raymart_graphql.documents import ParsedDocuments
from raymart_graphql.execution import PlainExecution
from raymart_graphql.fields import REFERENCE, Reference, reference, resolved
from raymart_graphql.loaders import Loaders
from raymart_graphql.plans import OPERATIONS_MAX, REMEMBERED, Planner, RememberedPlans
from raymart_graphql.scalars import SCALARS, BigInt, Money
from raymart_graphql.schema import build_schema

MAKERS = {UUID(int=number): number for number in range(3)}


@strawberry.enum
class Colour(Enum):
    RED = "red"


@strawberry.interface(description="Named.")
class Named:
    name: str


@strawberry.type(description="A country.")
class Country(Named):
    code: str


@strawberry.type(description="A maker.")
class Maker(Named):
    country_id: strawberry.Private[UUID]
    country: Country = reference("Where it is.", key="country_id", loader="countries")


@strawberry.type(description="Part of a car.")
class Part:
    label: str | None
    maker_id: strawberry.Private[UUID | None]
    maker: Maker | None = reference("Who made it.", key="maker_id", loader="makers")


@strawberry.type(description="A car.")
class Car(Named):
    maker_id: strawberry.Private[UUID]
    colour: Colour
    doors: int
    serial: BigInt
    owners: list[BigInt]
    tags: list[str]
    built_at: datetime | None
    price: Money
    first_part: Part | None
    parts: list[Part]
    maker: Maker = reference("Who made it.", key="maker_id", loader="makers")

    @resolved("Twice the doors.")
    def windows(self) -> int:
        """Fails for a car without doors."""
        if self.doors == 0:
            raise LookupError("no doors")
        return 2 * self.doors

    @resolved("Doors times.")
    def doors_times(self, factor: int = 1) -> int:
        """With an argument."""
        return self.doors * factor

    @resolved("Later.")
    async def later(self) -> str:
        """Waits."""
        await asyncio.sleep(0)
        return self.name

    @resolved("A name that may be missing.")
    def nickname(self) -> str | None:
        """Null for short names, wrong for one."""
        return cast("str", object()) if self.name == "odd" else None


def car(name: str, maker: int, **changes: Any) -> Car:
    values: dict[str, Any] = {
        "maker_id": UUID(int=maker),
        "colour": Colour.RED,
        "doors": 4,
        "serial": 2**60,
        "owners": [1, 2],
        "tags": ["a", "b"],
        "built_at": datetime(2026, 1, 2, tzinfo=UTC),
        "price": Money.of_nano_usd(1_500_000_000),
        "first_part": Part(label="door", maker_id=UUID(int=2)),
        "parts": [Part(label=None, maker_id=None), Part(label="wheel", maker_id=UUID(int=1))],
    }
    return Car(name=name, **(values | changes))


GOOD = [car("one", 0), car("two", 1), car("three", 0)]
ODD: Sequence[Any] = [
    car("doorless", 0, doors=0),
    car("many", 0, doors=2**40),
    car("nulls", 1, tags=None, price=None),
    car("null in a list", 1, tags=["a", None]),
    car("colourless", 1, colour="green"),
    car("odd", 1, first_part="no part", parts=[None]),
    car("unknown maker", 9),
    car("failing maker", 7, first_part=Part(label="x", maker_id=UUID(int=7))),
    car("unnumbered", 1, serial=None),
    car("disowned", 1, owners=[1, None]),
    SimpleNamespace(**vars(car("lookalike", 1))),
    car("future", 1, doors=cast("int", None)),
    "no car at all",
    None,
]


@strawberry.type
class Query:
    @strawberry.field
    def cars(self, info: strawberry.Info) -> list[Car | None]:
        return list(info.context.cars)

    @strawberry.field
    def solid_cars(self, info: strawberry.Info) -> list[Car]:
        return list(info.context.cars)

    @strawberry.field
    def car(self, info: strawberry.Info) -> Car:
        return cast("Car", info.context.cars[0])

    @strawberry.field
    def named(self, info: strawberry.Info) -> list[Named]:
        return [item for item in info.context.cars if isinstance(item, Named)]


@dataclass
class Context:
    """What the resolvers of this file need of an operation."""

    cars: Sequence[Any]

    def __post_init__(self) -> None:
        self.batches: list[list[UUID]] = []
        self.loaders = SimpleNamespace(
            makers=DataLoader(load_fn=self._makers), countries=DataLoader(load_fn=self._countries)
        )

    async def _makers(self, keys: list[UUID]) -> list[Any]:
        self.batches.append(keys)
        await asyncio.sleep(0)
        return [
            LookupError("the database is away")
            if key.int == 7
            else Maker(name=f"maker {key.int}", country_id=key)
            if key in MAKERS
            else None
            for key in keys
        ]

    async def _countries(self, keys: list[UUID]) -> list[Country]:
        self.batches.append(keys)
        await asyncio.sleep(0)
        return [Country(name=f"country {key.int}", code=str(key.int)) for key in keys]


class Everything(SchemaExtension):
    """Looks at every field."""

    def resolve(self, next_: Any, root: Any, info: Any, *args: Any, **kwargs: Any) -> Any:
        found = next_(root, info, *args, **kwargs)
        return found.upper() if isinstance(found, str) else found


CONFIG = StrawberryConfig(scalar_map=SCALARS, enable_experimental_incremental_execution=True)
QUICK = strawberry.Schema(
    Query,
    types=[Car],
    config=CONFIG,
    execution_context_class=PlainExecution,
    # As the product's: what is asked again has the same parsed document, and so the plans of before.
    extensions=[ParsedDocuments],
)
SLOW = strawberry.Schema(Query, types=[Car], config=CONFIG)

FIELDS = """
  __typename name colour doors serial owners tags builtAt price { amount currency } windows nickname
  firstPart { label maker { name country { code } } }
  parts { label maker { country { name code } } }
  maker { name again: name country { code name } }
"""
DOCUMENTS = {
    "everything": f"{{ cars {{ {FIELDS} }} }}",
    "no nulls allowed": f"{{ solidCars {{ {FIELDS} }} }}",
    "no list": f"{{ car {{ {FIELDS} later doorsTimes(factor: 3) }} }}",
    "with what waits": "{ cars { a: later name later maker { name } doorsTimes(factor: 2) firstPart { label } } }",
    "fragments": "{ cars { ...F name @skip(if: true) } } fragment F on Car { n: name ... on Named { name } maker { ...M } }"
    " fragment M on Maker { country { ... on Country { code } } }",
    "an interface": "{ named { name __typename ... on Car { doors maker { name } } } }",
    "variables": "query ($with: Boolean = false) { cars { name @include(if: $with) doors } }",
}


async def answer(
    schema: strawberry.Schema, document: str, cars: Sequence[Any], **variables: Any
) -> tuple[Any, Any]:
    found = await schema.execute(document, context_value=Context(cars), variable_values=variables)
    errors = sorted((str(error.path), error.message) for error in found.errors or [])
    return found.data, errors


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestPlainExecution:
    @pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
    @pytest.mark.parametrize("odd", [False, True], ids=["good", "odd"])
    async def test_answers_as_graphql_core_does(self, document: str, odd: bool) -> None:
        """Data, errors, their texts and their paths: for each wrong value by itself too, as one may hide another."""
        for cars in [ODD, *([item] for item in ODD)] if odd else [GOOD, []]:
            if document == DOCUMENTS["no list"] and (not cars or cars is ODD):
                continue
            quick, slow = await answer(QUICK, document, cars), await answer(SLOW, document, cars)
            assert quick == slow
            if not odd:
                assert quick[1] == []
                assert list(quick[0]) == list(slow[0])

    async def test_fields_come_in_the_order_that_was_asked_for(self) -> None:
        data, _ = await answer(QUICK, "{ car { doors later name maker { name } colour } }", GOOD)
        assert list(data["car"]) == ["doors", "later", "name", "maker", "colour"]

    async def test_references_of_a_list_are_loaded_together_level_by_level(self) -> None:
        context = Context(GOOD)
        found = await QUICK.execute(DOCUMENTS["everything"], context_value=context)
        assert found.errors is None
        assert [sorted(key.int for key in batch) for batch in context.batches] == [[0, 1, 2], [0, 1, 2]]

    async def test_an_operation_is_planned_once_and_loads_its_own_every_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        planned = 0
        plan = Planner._step

        def count(*given: Any) -> Any:
            nonlocal planned
            planned += 1
            return plan(*given)

        monkeypatch.setattr(Planner, "_step", count)
        document = "{ cars { maker { name country { name } } planned: name } }"
        for _ in range(3):
            context = Context(GOOD)
            found = await QUICK.execute(document, context_value=context)
            assert [item["maker"]["name"] for item in found.data["cars"]] == [
                f"maker {car.maker_id.int}" for car in GOOD
            ]
            assert len(context.batches) == 2
        assert planned == 6

    async def test_directives_are_asked_anew_each_time(self) -> None:
        document = DOCUMENTS["variables"].replace("doors", "doors maker { name @skip(if: $with) code: name }")
        for with_ in (False, True, False):
            quick, slow = [
                await answer(schema, document, GOOD, **{"with": with_}) for schema in (QUICK, SLOW)
            ]
            assert quick == slow
            assert ("name" in quick[0]["cars"][0]) is with_

    async def test_no_more_operations_are_remembered_than_documents(self) -> None:
        for number in range(OPERATIONS_MAX + 10):
            await answer(QUICK, f"{{ cars {{ a{number}: name }} }}", GOOD[:1])
        kept: RememberedPlans = QUICK._schema.extensions[REMEMBERED]
        assert len(kept) == OPERATIONS_MAX

    async def test_a_list_of_plain_items_takes_no_task_for_each(self) -> None:
        made = 0

        def factory(loop: asyncio.AbstractEventLoop, work: Any, **kwargs: Any) -> "asyncio.Task[Any]":
            nonlocal made
            made += 1
            return asyncio.Task(work, loop=loop, **kwargs)

        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        try:
            tasks = []
            for count in (1, 50):
                made = 0
                await answer(QUICK, DOCUMENTS["everything"], GOOD[:1] * count)
                tasks.append(made)
        finally:
            loop.set_task_factory(None)
        # The collector may meet an async generator meanwhile and end it in a task of this loop.
        assert tasks[1] - tasks[0] < 10

    async def test_deferred_and_streamed_parts_are_left_to_graphql_core(self) -> None:
        for document in (
            '{ cars { name ... @defer(label: "d") { doors maker { name } } } }',
            "{ cars { name price { amount } ... @defer { doors price { currency } } } }",
            "{ cars { name parts @stream(initialCount: 1) { label } } }",
        ):
            frames = [await frames_of(schema, document) for schema in (QUICK, SLOW)]
            assert frames[0] == frames[1]
            assert len(frames[0]) > 1

    async def test_an_extension_that_looks_at_fields_sees_every_field(self) -> None:
        schema = strawberry.Schema(
            Query, types=[Car], config=CONFIG, execution_context_class=PlainExecution, extensions=[Everything]
        )
        data, _ = await answer(schema, "{ cars { name firstPart { label } } }", GOOD[:1])
        assert data == {"cars": [{"name": "ONE", "firstPart": {"label": "DOOR"}}]}

    async def test_extensions_of_a_field_run(self) -> None:
        """As rules are: a guarded attribute, method or reference is not plain."""

        class Refuse(FieldExtension):
            async def resolve_async(self, next_: Any, source: Any, info: Any, **kwargs: Any) -> Any:
                raise PermissionError("no")

        @strawberry.type
        class Guarded:
            maker_id: strawberry.Private[UUID]
            plain: str | None = strawberry.field(extensions=[Refuse()])
            maker: Maker | None = reference("Its maker.", key="maker_id", loader="makers")

            @strawberry.field(extensions=[Refuse()])
            def method(self) -> str | None:
                return "secret"

        next(f for f in definition(Guarded).fields if f.python_name == "maker").extensions.append(Refuse())

        @strawberry.type
        class Root:
            @strawberry.field
            def guarded(self) -> list[Guarded]:
                return [Guarded(maker_id=UUID(int=1), plain="secret")]

        schema = strawberry.Schema(Root, config=CONFIG, execution_context_class=PlainExecution)
        data, errors = await answer(schema, "{ guarded { plain method maker { name } } }", [])
        assert data == {"guarded": [{"plain": None, "method": None, "maker": None}]}
        assert len(errors) == 3


async def frames_of(schema: strawberry.Schema, document: str) -> list[Any]:
    result: Any = await schema.execute(document, context_value=Context(GOOD[:2]))
    frames = [result.initial_result.formatted]
    frames.extend([frame.formatted async for frame in result.subsequent_results])
    return frames


def definition(kind: type) -> StrawberryObjectDefinition:
    return cast("Any", kind).__strawberry_definition__


class TestReferences:
    async def test_each_reference_of_the_schema_names_a_loader(self) -> None:
        """They are named by text, because types and loaders refer to each other."""
        loaders = Loaders(cast("Any", None))
        operation = cast("Any", SimpleNamespace(loaders=loaders))
        found: list[Reference] = [
            field.metadata[REFERENCE]
            for concrete in build_schema().schema_converter.type_map.values()
            if isinstance(concrete.definition, StrawberryObjectDefinition)
            for field in concrete.definition.fields
            if REFERENCE in field.metadata
        ]
        assert len(found) >= 6
        for refers in found:
            assert callable(refers.load(operation))
