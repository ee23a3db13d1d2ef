"""Requests, their attempts, and what they were billed."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from raymart_billing.rating import lines_of
from raymart_core.ids import Prefix
from raymart_graphql.context import Info, Operation
from raymart_graphql.enums import AttemptOutcome, Fault, FinishReason, RequestState, Surface
from raymart_graphql.fields import reference, resolved
from raymart_graphql.relay import Node, global_id
from raymart_graphql.scalars import Money
from raymart_graphql.schema.catalog.types import Model, ModelRevision
from raymart_graphql.schema.identity.types import ApiKey, Project
from raymart_graphql.schema.prices import TokenPrices
from raymart_graphql.schema.pricing.types import RateCard
from raymart_graphql.schema.pricing.units import PriceLine
from raymart_graphql.schema.retention.types import RetainedExchange
from raymart_graphql.schema.supply.types import Offer, Provider
from raymart_marketplace.accounts.permissions import Permission
from raymart_marketplace.metering import models
from raymart_marketplace.metering.arrival import arrival_of
from raymart_marketplace.metering.priced import prices_of, quantities_of

if TYPE_CHECKING:
    from raymart_graphql.schema.oversight.types import UsageFlag

LazyFlag = Annotated["UsageFlag", strawberry.lazy("raymart_graphql.schema.oversight.types")]


@strawberry.type(description="Tokens of a request.")
class TokenUsage:
    """By the gateway's count."""

    tokens_prompt: int = strawberry.field(description="Tokens of the prompt, after the chat template.")
    tokens_completion: int = strawberry.field(description="Generated tokens that were delivered.")
    tokens_total: int = strawberry.field(description="Both together.")

    @classmethod
    def of(cls, *, tokens_prompt: int, tokens_completion: int) -> "TokenUsage":
        """Both counts with their sum."""
        return cls(
            tokens_prompt=tokens_prompt,
            tokens_completion=tokens_completion,
            tokens_total=tokens_prompt + tokens_completion,
        )


@strawberry.type(description="What a request was billed for what one provider delivered of it.")
class UsageRecord(Node):
    """Visible to the customer's members; one per request, and one more for each provider that went on with it."""

    row: strawberry.Private[models.UsageRecord]
    request_uuid: strawberry.Private[UUID]
    part: int = strawberry.field(
        description="0 for the request's first part, which pays the prompt; later ones pay their completion tokens."
    )
    exact: bool = strawberry.field(description="Whether every token was known by its id.")
    created_at: datetime = strawberry.field(description="When it was recorded.")
    posted_at: datetime | None = strawberry.field(
        description="When the ledger took it; null for a moment after the request."
    )

    @classmethod
    def of(cls, row: models.UsageRecord) -> "UsageRecord":
        """`row` as the API shows it; what takes making is made when it is asked for."""
        return cls(
            id=global_id(Prefix.USAGE_RECORD, row.id),
            row=row,
            request_uuid=row.continues_id or row.id,
            part=row.part,
            exact=row.exact,
            created_at=row.created_at,
            posted_at=row.posted_at,
        )

    @resolved("What was used.")
    def usage(self) -> TokenUsage:
        """Tokens by the gateway's count."""
        row = self.row
        return TokenUsage.of(tokens_prompt=row.tokens_prompt, tokens_completion=row.tokens_completion)

    @resolved("What it was billed at.")
    def prices(self) -> TokenPrices:
        """Prices of tokens."""
        row = self.row
        return TokenPrices.of_nano_usd(
            prompt=row.price_prompt_nano_usd, completion=row.price_completion_nano_usd
        )

    @resolved("The amount by unit, without what was free.")
    def lines(self) -> list[PriceLine]:
        """By unit."""
        return [PriceLine.of(line) for line in lines_of(quantities_of(self.row), prices_of(self.row))]

    @resolved("What the customer pays: usage times prices.")
    def amount(self) -> Money:
        """The charge."""
        return Money.of_nano_usd(self.row.customer_nano_usd)

    @resolved("The provider's part of it.")
    def provider_amount(self) -> Money:
        """What the provider earns."""
        return Money.of_nano_usd(self.row.provider_nano_usd)

    @resolved("The marketplace's part of it.")
    def fee_amount(self) -> Money:
        """The rest."""
        return Money.of_nano_usd(self.row.fee_nano_usd)

    async def owner(self, _operation: Operation) -> UUID:
        """The customer's organization."""
        return self.row.organization_id

    @resolved("Why it is under review; null while it is not, and for everybody but administrators.")
    async def flag(self, info: Info) -> LazyFlag | None:
        """The flag that stands."""
        if not (await info.context.principal()).may_in_market(Permission.PLATFORM_BILLING_READ):
            return None
        return await info.context.loaders.oversight.flag_of_usage.load(self.row.id)

    request: "Request" = reference("The request that was billed.", key="request_uuid", loader="usage.request")
    project: Project = reference(
        "The project it belongs to.", key="row.project_id", loader="identity.project"
    )
    api_key: ApiKey | None = reference(
        "The key that asked; null when a person's token did.",
        key="row.api_key_id",
        loader="identity.api_key",
    )
    provider: Provider = reference("Who served it.", key="row.provider_id", loader="supply.provider")
    revision: ModelRevision = reference(
        "The revision that served it.",
        key="row.revision_id",
        loader="catalog.revision",
    )
    model: Model = reference(
        "The model that served it.",
        key="row.revision_id",
        loader="catalog.model_of_revision",
    )
    offer: Offer = reference("The offer that it was billed by.", key="row.offer_id", loader="supply.offer")

    @resolved(
        "The version of the rate card that priced what the offer left open when the request arrived; null without one."
    )
    async def rate_card(self, info: Info) -> RateCard | None:
        """The revision's own card, else the model's."""
        loaders = info.context.loaders
        revision_id = self.row.revision_id
        revision = await loaders.catalog.revision.load_known(revision_id)
        at = arrival_of(self.row.id)
        return await loaders.pricing.rate_card_at.load((revision.model_uuid, revision_id, at))


@strawberry.type(description="What one endpoint delivered of a request, where others went on.")
class UsagePart:
    """A request has a handful at most."""

    part: int = strawberry.field(description="0 for the first.")
    record: UsageRecord = strawberry.field(description="Who delivered it, how much, and what it was billed.")


@strawberry.type(description="One inference request, kept without its text unless its key asks for that.")
class Request(Node):
    """Visible to the customer's members. Its id is the one that `x-request-id` shows."""

    uuid: strawberry.Private[UUID]
    organization_uuid: strawberry.Private[UUID]
    surface: Surface = strawberry.field(description="Through which API it came.")
    model_asked: str = strawberry.field(description="The model as the customer named it.")
    model_served: str = strawberry.field(description="The model that answered.")
    state: RequestState = strawberry.field(description="How it ended.")
    finish_reason: FinishReason | None = strawberry.field(
        description="Why the generation ended; null when none began."
    )
    error_code: str | None = strawberry.field(description="Code of the failure, when it failed.")
    streamed: bool = strawberry.field(description="Whether the answer was streamed.")
    created_at: datetime = strawberry.field(description="When it arrived.")
    first_token_ms: int | None = strawberry.field(
        description="Milliseconds to the first token; null without one, and for most answers that are not streamed."
    )
    duration_ms: int = strawberry.field(description="Milliseconds to its end.")

    @classmethod
    def of(cls, row: models.Request) -> "Request":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.REQUEST, row.id),
            uuid=row.id,
            organization_uuid=row.organization_id,
            surface=row.surface,
            model_asked=row.model_asked,
            model_served=row.model_served,
            state=row.state,
            finish_reason=row.finish_reason,
            error_code=row.error_code,
            streamed=row.streamed,
            created_at=row.created_at,
            first_token_ms=row.first_token_ms,
            duration_ms=row.duration_ms,
        )

    async def owner(self, _operation: Operation) -> UUID:
        """The customer's organization."""
        return self.organization_uuid

    @resolved("Its tries in order; a request has a handful at most.")
    async def attempts(self, info: Info) -> "list[Attempt]":
        """Attempts by position."""
        return await info.context.loaders.usage.attempts_of_request.load(self.uuid)

    @resolved(
        "Its prompt and completion, where its key asked for them to be kept; null otherwise and once they expired."
    )
    async def retained(self, info: Info) -> RetainedExchange | None:
        """Decrypted for this answer."""
        found = await info.context.loaders.retention.of_request.load(self.uuid)
        return None if found is None else RetainedExchange.of(found, info.context.services.people.box)

    @resolved(
        "What it was billed, or its first part where several providers delivered it; null when nothing was delivered."
    )
    async def usage_record(self, info: Info) -> UsageRecord | None:
        """Its first usage record; both have one id."""
        return await info.context.loaders.usage.usage_record.load(self.uuid)

    @resolved("What it was billed by each endpoint that delivered a part of it, in the order of delivery.")
    async def usage_parts(self, info: Info) -> list[UsagePart]:
        """None when nothing was delivered."""
        records = await info.context.loaders.usage.usage_of_request.load(self.uuid)
        return [UsagePart(part=record.part, record=record) for record in records]


@strawberry.type(description="One try of a request on one endpoint.")
class Attempt:
    """Part of a request."""

    id: strawberry.ID = strawberry.field(description="Id of the attempt.")
    provider_uuid: strawberry.Private[UUID]
    endpoint_id: strawberry.ID = strawberry.field(description="Id of the endpoint that was tried.")
    node_id: strawberry.ID = strawberry.field(
        description="Id of the provider's machine, for support; only its provider sees more of it."
    )
    position: int = strawberry.field(description="0 for the first try.")
    outcome: AttemptOutcome = strawberry.field(description="How it ended.")
    fault: Fault = strawberry.field(description="Whose failure ended it.")
    reason: str = strawberry.field(description="What went wrong, for people; empty when nothing did.")
    tokens_delivered: int = strawberry.field(description="Tokens that reached the customer.")
    created_at: datetime = strawberry.field(description="When it began.")
    first_token_ms: int | None = strawberry.field(
        description="Milliseconds to its first token; null without one, and for most answers that are not streamed."
    )
    duration_ms: int = strawberry.field(description="Milliseconds to its end.")

    @classmethod
    def of(cls, row: models.Attempt) -> "Attempt":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.ATTEMPT, row.id),
            provider_uuid=row.provider_id,
            endpoint_id=global_id(Prefix.ENDPOINT, row.endpoint_id),
            node_id=global_id(Prefix.NODE, row.node_id),
            position=row.position,
            outcome=row.outcome,
            fault=row.fault,
            reason=row.reason,
            tokens_delivered=row.tokens_delivered,
            created_at=row.created_at,
            first_token_ms=row.first_token_ms,
            duration_ms=row.duration_ms,
        )

    @resolved("Whose endpoint was tried.")
    async def provider(self, info: Info) -> Provider:
        """Its provider."""
        return await info.context.loaders.supply.provider.load_known(self.provider_uuid)
