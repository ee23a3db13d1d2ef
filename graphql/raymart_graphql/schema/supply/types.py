"""Providers, their machines, and what they ask."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import strawberry

from raymart_billing.rollups import Dimension, Scope
from raymart_core.ids import Prefix
from raymart_core.units import Unit
from raymart_graphql.context import Info, Operation
from raymart_graphql.enums import (
    DriftKind,
    NodeRole,
    NodeState,
    OfferState,
    PlacementState,
    PoolKind,
    ProviderState,
    Step,
)
from raymart_graphql.fields import listed, resolved
from raymart_graphql.relay import Connection, Node, Page, global_id
from raymart_graphql.routing_enums import DataPolicy
from raymart_graphql.scalars import BigInt
from raymart_graphql.schema.billing.types import Earnings
from raymart_graphql.schema.catalog.types import LiveEndpoint, ModelRevision, live_endpoint_page
from raymart_graphql.schema.machines.fields import MachineFields
from raymart_graphql.schema.prices import TokenPrices
from raymart_graphql.schema.pricing.types import OfferPrice, OfferWindow
from raymart_graphql.schema.pricing.units import UnitPrice, priced_units, unit_prices
from raymart_graphql.schema.provider_payouts.fields import ProviderPayouts
from raymart_graphql.schema.supply.life_fields import NodeLife, ProviderLife
from raymart_graphql.schema.supply.placing import OfferPlacement, PlacementRejection
from raymart_graphql.schema.usage.arguments import ByStep, Since, SinceMoment, Until, UntilMoment
from raymart_graphql.schema.usage.filters import Attempts, ProviderAttemptFilter
from raymart_marketplace.pricing import effective
from raymart_marketplace.supply import drift, models
from raymart_marketplace.supply.planning.choices import Choices
from raymart_marketplace.supply.planning.loading import choices_of

if TYPE_CHECKING:
    from raymart_graphql.schema.oversight.types import Suspension
    from raymart_graphql.schema.usage.provider_attempts import ProviderAttempt
    from raymart_graphql.schema.usage.rollups import EarningsBucket
    from raymart_graphql.schema.usage.series import EarningsSeries

LazySuspension = Annotated["Suspension", strawberry.lazy("raymart_graphql.schema.oversight.types")]
LazyEarningsSeries = Annotated["EarningsSeries", strawberry.lazy("raymart_graphql.schema.usage.series")]
LazyProviderAttempt = Annotated[
    "ProviderAttempt", strawberry.lazy("raymart_graphql.schema.usage.provider_attempts")
]
LazyEarningsBucket = Annotated["EarningsBucket", strawberry.lazy("raymart_graphql.schema.usage.rollups")]


@strawberry.type(description="An organization that sells inference.")
class Provider(ProviderPayouts, ProviderLife, Node):
    """Its name and offers are public; machines and earnings are for its members."""

    uuid: strawberry.Private[UUID]
    organization_uuid: strawberry.Private[UUID]
    slug: str = strawberry.field(description="Unique name; what a request's provider preference lists.")
    name: str = strawberry.field(description="Name for people.")
    state: ProviderState = strawberry.field(description="Where it stands.")
    data_policy: DataPolicy = strawberry.field(
        description="What it says that becomes of prompts and answers."
    )

    @classmethod
    def of(cls, row: models.Provider) -> "Provider":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.PROVIDER, row.id),
            uuid=row.id,
            organization_uuid=row.organization_id,
            slug=row.slug,
            name=row.name,
            state=row.state,
            data_policy=row.data_policy,
        )

    async def owner(self, _operation: Operation) -> UUID:
        """Its organization."""
        return self.organization_uuid

    @listed("Its open and paused offers, oldest first.")
    async def offers(self, info: Info, page: Page) -> "Connection[Offer]":
        """Offers that are not closed, by id."""
        return await info.context.loaders.supply.offers_of_provider.load((self.uuid, page))

    @listed("Its machines, oldest first. For its members.")
    async def nodes(self, info: Info, page: Page) -> "Connection[ProviderNode]":
        """Nodes by id."""
        return await info.context.loaders.supply.nodes_of_provider.load((self.uuid, page))

    @listed("Pools its machines may join. For its members.")
    async def pools(self, info: Info, page: Page) -> "Connection[Pool]":
        """The house pools and the provider's own, by id."""
        return await info.context.loaders.supply.pools_of_provider.load((self.uuid, page))

    @resolved("What it has earned; null while the ledger is away. For its members.")
    async def earnings(self, info: Info) -> Earnings | None:
        """Balance of the provider's payable account."""
        return await info.context.loaders.billing.earnings_of_provider.load(self.uuid)

    @resolved("Why it gets no requests and is not paid; null while it is not suspended. For its members.")
    async def suspension(self, info: Info) -> LazySuspension | None:
        """The one that stands."""
        return await info.context.loaders.oversight.suspension_of.load(self.uuid)

    @resolved("What it earned by day and model, oldest first; at most 400 sums. For its members.")
    async def earnings_by_day(self, info: Info, since: Since, until: Until) -> list[LazyEarningsBucket]:
        """From the rollups."""
        asked = (Scope(provider_id=self.uuid), since, until, Dimension.MODEL)
        return await info.context.loaders.usage.earnings_by_day.load(asked)

    @resolved("What it earned over a range with nothing left out, for charts. For its members.")
    async def earnings_series(
        self,
        info: Info,
        since: SinceMoment,
        until: UntilMoment,
        step: ByStep = Step.DAY,
        *,
        by_model: Annotated[bool, strawberry.argument(description="A line for each model.")] = False,
    ) -> LazyEarningsSeries:
        """From the rollups."""
        asked = (Scope(provider_id=self.uuid), since, until, step, Dimension.MODEL if by_model else None)
        return await info.context.loaders.usage.earnings_series.load(asked)

    @listed("What was tried on its machines, newest first, without whose it was. For its members.")
    async def attempts(
        self, info: Info, page: Page, filter_: Attempts = None
    ) -> Connection[LazyProviderAttempt]:
        """Attempts by id."""
        wish = (filter_ or ProviderAttemptFilter()).wish()
        return await info.context.loaders.usage.attempts_of_provider.load((self.uuid, page, wish))


@strawberry.type(description="One Ray cluster and one trust domain.")
class Pool(Node):
    """Visible to those who may join it."""

    uuid: strawberry.Private[UUID]
    provider_uuid: strawberry.Private[UUID | None]
    slug: str = strawberry.field(description="Unique name.")
    kind: PoolKind = strawberry.field(description="Who is inside.")
    region: str = strawberry.field(description="Where its machines are.")

    @classmethod
    def of(cls, row: models.Pool) -> "Pool":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.POOL, row.id),
            uuid=row.id,
            provider_uuid=row.provider_id,
            slug=row.slug,
            kind=row.kind,
            region=row.region,
        )

    async def owner(self, operation: Operation) -> UUID | None:
        """The organization of its provider; a house pool is the platform's."""
        if self.provider_uuid is None:
            return None
        provider = await operation.loaders.supply.provider.load(self.provider_uuid)
        return None if provider is None else await provider.owner(operation)

    @resolved(
        "Where it is not as the marketplace wants it, the gravest first; at most 200 places. For members of its provider, "
        "and of a house pool for the platform's people."
    )
    async def drift(self, info: Info) -> "list[PoolDrift]":
        """By the last report."""
        return await info.context.loaders.supply.drift_of_pool.load(self.uuid)


@strawberry.type(description="A place where a pool is not as the marketplace wants it.")
class PoolDrift:
    """Computed from the last report of the pool's controller."""

    kind: DriftKind = strawberry.field(description="What is not as it should be.")
    subject: str = strawberry.field(description="Name of the node, model or application it is about.")
    node: str | None = strawberry.field(description="Name of the node; null where it is about none.")
    revision: str | None = strawberry.field(
        description="Digest of the revision; null where it is about none."
    )
    reason: str = strawberry.field(description="What was seen, and the next step where there is one.")

    @classmethod
    def of(cls, found: drift.Drift) -> "PoolDrift":
        """`found` as the API shows it."""
        return cls(
            kind=found.kind,
            subject=found.subject,
            node=found.node,
            revision=found.revision,
            reason=found.reason,
        )


@strawberry.type(description="One slice of a partitioned GPU.")
class GpuSlice:
    """From NVML."""

    uuid: str = strawberry.field(description="The driver's id of the slice.")
    profile: str = strawberry.field(description="Such as '1g.18gb'.")
    memory_bytes: BigInt = strawberry.field(description="Memory of the slice, in bytes.")


@strawberry.type(description="One GPU as its driver reports it.")
class Gpu:
    """From NVML."""

    uuid: str = strawberry.field(description="The driver's id of the card.")
    model: str = strawberry.field(description="Such as 'NVIDIA H200'.")
    memory_bytes: BigInt = strawberry.field(description="Memory of the card, in bytes.")
    driver: str = strawberry.field(description="Version of the driver.")
    compute_capability: str = strawberry.field(description="Such as '9.0'; empty where it is not told.")
    multiprocessors: int = strawberry.field(description="Streaming multiprocessors; 0 where not told.")
    ecc: bool | None = strawberry.field(
        description="Whether memory errors are corrected; null where there is no such thing."
    )
    slices: list[GpuSlice] = strawberry.field(description="Of a partitioned card; at most seven.")


@strawberry.type(description="What a machine is made of, as its agent reported it.")
class Hardware:
    """Not verified."""

    hostname: str = strawberry.field(description="The machine's own name.")
    cpu_model: str = strawberry.field(description="Such as 'AMD EPYC 9654'.")
    cpu_count: int = strawberry.field(description="Logical processors.")
    memory_bytes: BigInt = strawberry.field(description="Main memory, in bytes.")
    gpus: list[Gpu] = strawberry.field(description="Its GPUs; at most a few.")
    os: str = strawberry.field(description="Its operating system; empty where it is not told.")
    kernel: str = strawberry.field(description="Version of the kernel; empty where it is not told.")
    cuda: str = strawberry.field(description="Highest CUDA version of the driver; empty without GPUs.")
    disk_bytes: BigInt = strawberry.field(description="Size of the disk that models are kept on, in bytes.")


@strawberry.type(description="A provider's machine (Relay's interface already has the name Node).")
class ProviderNode(MachineFields, NodeLife, Node):
    """Visible to the provider's members."""

    uuid: strawberry.Private[UUID]
    provider_uuid: strawberry.Private[UUID | None]
    pool_uuid: strawberry.Private[UUID]
    name: str = strawberry.field(description="Unique in the pool.")
    role: NodeRole = strawberry.field(description="What it does in its pool.")
    state: NodeState = strawberry.field(description="Where it stands.")
    hardware: Hardware = strawberry.field(description="What it is made of.")
    created_at: datetime = strawberry.field(description="When it enrolled.")
    last_seen_at: datetime | None = strawberry.field(
        description="When its link was last up; null before the first time."
    )
    revoked_at: datetime | None = strawberry.field(
        description="When its key was revoked; null while it works."
    )

    @classmethod
    def of(cls, row: models.Node) -> "ProviderNode":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.NODE, row.id),
            uuid=row.id,
            provider_uuid=row.provider_id,
            pool_uuid=row.pool_id,
            name=row.name,
            role=row.role,
            state=row.state,
            hardware=_hardware(row.hardware),
            created_at=row.created_at,
            last_seen_at=row.last_seen_at,
            revoked_at=row.revoked_at,
        )

    async def owner(self, operation: Operation) -> UUID | None:
        """The provider's organization; None for a house controller."""
        if self.provider_uuid is None:
            return None
        provider = await operation.loaders.supply.provider.load_known(self.provider_uuid)
        return provider.organization_uuid

    @resolved(
        "The share, 0 to 1, of the last 24 hours in which it was linked; null before it was looked for."
    )
    async def uptime(self, info: Info) -> float | None:
        """By samples of a minute."""
        return await info.context.loaders.statistics.uptime_of_node.load(self.uuid)

    @resolved("The pool it is in.")
    async def pool(self, info: Info) -> Pool:
        """Its pool."""
        return await info.context.loaders.supply.pool.load_known(self.pool_uuid)

    @listed("What it serves at this moment.")
    async def live_endpoints(self, info: Info, page: Page) -> Connection[LiveEndpoint]:
        """From the directory in memory, by id."""
        endpoints = info.context.services.directory.all_live()
        return live_endpoint_page([endpoint for endpoint in endpoints if endpoint.node_id == self.uuid], page)

    @listed("What should run on it, oldest first.")
    async def placements(self, info: Info, page: Page) -> "Connection[Placement]":
        """Placements by id."""
        return await info.context.loaders.supply.placements_of_node.load((self.uuid, page))


@strawberry.type(description="A revision that should run on a machine.")
class Placement(Node):
    """Visible to the provider's members."""

    uuid: strawberry.Private[UUID]
    node_uuid: strawberry.Private[UUID]
    revision_uuid: strawberry.Private[UUID]
    desired: bool = strawberry.field(description="False once it should be gone.")
    state: PlacementState = strawberry.field(description="Where it stands.")
    reason: str = strawberry.field(description="Why it failed; empty otherwise.")
    replicas_min: int = strawberry.field(description="Fewest replicas.")
    replicas_max: int = strawberry.field(description="Most replicas.")
    replicas_running: int = strawberry.field(description="Replicas that serve now.")
    slots: int = strawberry.field(description="Generations at once per replica.")
    restarts: int = strawberry.field(description="Replicas that died since it was applied.")
    confirm_by: datetime | None = strawberry.field(
        description="When the reservation ends unless the pool's controller confirms it; null once it has."
    )
    cold_start_ms: int | None = strawberry.field(
        description="How long the last replica took from being asked for to being ready, in milliseconds; never billed."
    )

    @classmethod
    def of(cls, row: models.Placement) -> "Placement":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.PLACEMENT, row.id),
            uuid=row.id,
            node_uuid=row.node_id,
            revision_uuid=row.revision_id,
            desired=row.desired,
            state=row.state,
            reason=row.reason,
            replicas_min=row.replicas_min,
            replicas_max=row.replicas_max,
            replicas_running=row.replicas_running,
            slots=row.slots,
            restarts=row.restarts,
            confirm_by=row.confirm_by,
            cold_start_ms=row.cold_start_ms,
        )

    async def owner(self, operation: Operation) -> UUID | None:
        """The organization of the machine's provider."""
        node = await operation.loaders.supply.node.load_known(self.node_uuid)
        return await node.owner(operation)

    @resolved("What should run.")
    async def revision(self, info: Info) -> ModelRevision:
        """Its revision."""
        return await info.context.loaders.catalog.revision.load_known(self.revision_uuid)


@strawberry.type(description="A provider's ask for one revision of a model.")
class Offer(Node):
    """Public while it is not closed."""

    uuid: strawberry.Private[UUID]
    provider_uuid: strawberry.Private[UUID]
    revision_uuid: strawberry.Private[UUID]
    choices: strawberry.Private[Choices]
    state: OfferState = strawberry.field(description="Whether it sells.")
    created_at: datetime = strawberry.field(description="When it was made.")

    @classmethod
    def of(cls, row: models.Offer) -> "Offer":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.OFFER, row.id),
            uuid=row.id,
            provider_uuid=row.provider_id,
            revision_uuid=row.revision_id,
            choices=choices_of(row),
            state=row.state,
            created_at=row.created_at,
        )

    async def owner(self, operation: Operation) -> UUID:
        """The provider's organization."""
        provider = await operation.loaders.supply.provider.load_known(self.provider_uuid)
        return provider.organization_uuid

    @resolved(
        "Of tokens outside of windows: what the provider asks, or the rate card's price where it asks nothing; "
        "zero where there is neither, and then it cannot be sold."
    )
    async def asks(self, info: Info) -> TokenPrices:
        """Base prices of tokens."""
        terms, _, cards = await self._pricing(info)
        base = {**cards, **terms.asks}
        return TokenPrices.of_nano_usd(
            prompt=base.get(Unit.TOKEN_PROMPT, 0), completion=base.get(Unit.TOKEN_COMPLETION, 0)
        )

    @resolved("What the provider asks, by unit, outside of windows; the rate card prices the others.")
    async def unit_asks(self, info: Info) -> list[UnitPrice]:
        """Its own asks."""
        return unit_prices((await info.context.loaders.pricing.terms_of_offer.load(self.uuid)).asks)

    @resolved("What its provider chose of where and when it runs. For the provider's members.")
    async def placement(self, _info: Info) -> OfferPlacement:
        """Its choices."""
        return OfferPlacement.of(self.choices)

    @listed("The provider's machines on which it is not placed, and why. For the provider's members.")
    async def rejections(self, info: Info, page: Page) -> Connection[PlacementRejection]:
        """By id."""
        return await info.context.loaders.supply.rejections_of_offer.load((self.uuid, page))

    @resolved("The least it sells at, by unit. For the provider's members.")
    async def floors(self, info: Info) -> list[UnitPrice]:
        """Its floors."""
        return unit_prices((await info.context.loaders.pricing.terms_of_offer.load(self.uuid)).floors)

    @resolved("The hours in which it asks other prices.")
    async def windows(self, info: Info) -> list[OfferWindow]:
        """Its windows, in the order in which they were set."""
        terms = await info.context.loaders.pricing.terms_of_offer.load(self.uuid)
        return [OfferWindow.of(window) for window in terms.windows]

    @resolved("What it costs at this moment, by windows, rate cards, floors and caps together.")
    async def current_price(self, info: Info) -> OfferPrice:
        """What the next request would pay."""
        price = await self._price(info)
        return OfferPrice(
            prices=priced_units(price.prices) if price.prices is not None else [],
            sellable=price.prices is not None,
            until=price.until,
        )

    @resolved("Why it cannot be sold at this moment; null when it can. For the provider's members.")
    async def unsellable_reason(self, info: Info) -> str | None:
        """Such as a floor above the cap."""
        return (await self._price(info)).reason or None

    async def _price(self, info: Info) -> effective.OfferPrice:
        terms, sold, _ = await self._pricing(info)
        book, now = await info.context.loaders.pricing.book()
        return effective.price_offer(terms, sold, book, now)

    async def _pricing(self, info: Info) -> tuple[effective.OfferTerms, effective.Sold, Mapping[Unit, int]]:
        """What it asks, what it sells, and the rate cards' prices of that."""
        loaders = info.context.loaders
        terms = await loaders.pricing.terms_of_offer.load(self.uuid)
        model = await loaders.catalog.model_of_revision.load_known(self.revision_uuid)
        book, now = await loaders.pricing.book()
        sold = effective.Sold(
            model_id=model.uuid,
            revision_id=self.revision_uuid,
            provider_id=self.provider_uuid,
            modality=model.modality,
        )
        cards = effective.card_prices(book, model_id=model.uuid, revision_id=self.revision_uuid, at=now)
        return terms, sold, cards

    @resolved("Who asks.")
    async def provider(self, info: Info) -> Provider:
        """Its provider."""
        return await info.context.loaders.supply.provider.load_known(self.provider_uuid)

    @resolved("What is offered.")
    async def revision(self, info: Info) -> ModelRevision:
        """Its revision."""
        return await info.context.loaders.catalog.revision.load_known(self.revision_uuid)


def _hardware(found: dict[str, Any]) -> Hardware:
    """Hardware as enrolment stored it: `wire.link.Hardware` as JSON. Older agents may have left fields out."""
    return Hardware(
        hostname=str(found.get("hostname", "")),
        cpu_model=str(found.get("cpu_model", "")),
        cpu_count=int(found.get("cpu_count", 0)),
        memory_bytes=BigInt(int(found.get("memory_bytes", 0))),
        os=str(found.get("os", "")),
        kernel=str(found.get("kernel", "")),
        cuda=str(found.get("cuda", "")),
        disk_bytes=BigInt(int(found.get("disk_bytes", 0))),
        gpus=[
            Gpu(
                uuid=str(gpu.get("uuid", "")),
                model=str(gpu.get("model", "")),
                memory_bytes=BigInt(int(gpu.get("memory_bytes", 0))),
                driver=str(gpu.get("driver", "")),
                compute_capability=str(gpu.get("compute_capability", "")),
                multiprocessors=int(gpu.get("multiprocessors", 0)),
                ecc=gpu.get("ecc"),
                slices=[
                    GpuSlice(
                        uuid=str(part["uuid"]),
                        profile=str(part["profile"]),
                        memory_bytes=BigInt(int(part["memory_bytes"])),
                    )
                    for part in gpu.get("mig", ())
                ],
            )
            for gpu in found.get("gpus", ())
        ],
    )
