"""Becoming a provider: applying, being reached, and what the marketplace's people decide."""

from typing import Annotated

import strawberry
from sqlalchemy import ColumnElement, or_
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.mail import confirm_later
from raymart_core.errors import InvalidRequest
from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.enums import NodeState, ProviderState
from raymart_graphql.fields import listed, mutation
from raymart_graphql.keyset import Listing, page_of
from raymart_graphql.relay import Connection, Page, parse_global_id
from raymart_graphql.schema.pricing.reprice import reprice
from raymart_graphql.schema.supply.types import Provider, ProviderNode
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.accounts.models import Organization, OrganizationKind
from raymart_marketplace.db.tenancy import unconfined
from raymart_marketplace.supply import models, provider_life, service
from raymart_marketplace.supply.life_models import ProviderContact

NULL = "Null when there are user errors."
SEARCH_CHARACTERS_MAX = 200
Search = Annotated[
    str | None,
    strawberry.argument(description="A part of the name or slug, whatever the case; without it, all."),
]
OfState = Annotated[ProviderState | None, strawberry.argument(description="Only those that stand so.")]
OfNodeState = Annotated[NodeState | None, strawberry.argument(description="Only those that stand so.")]
OfProvider = Annotated[strawberry.ID | None, strawberry.argument(description="Only this provider's.")]


@strawberry.input(description="An organization that wants to sell.")
class RegisterProviderInput:
    """One application of each organization."""

    organization_id: strawberry.ID = strawberry.field(description="Which organization; one for providers.")
    slug: str = strawberry.field(description="Unique name, 1 to 40 of a-z, 0-9 and '-'; it stays.")
    name: str = strawberry.field(description="Name for people.")
    contact_email: str = strawberry.field(
        description="Where it is reached; a mail there asks to confirm that."
    )
    website: str = strawberry.field(default="", description="An https URL to read about it; may be empty.")
    about: str = strawberry.field(default="", description="What it offers, at most 2,000 characters.")


@strawberry.input(description="Another address to reach a provider by.")
class SetProviderContactInput:
    """The confirmed one stays until this one is confirmed."""

    provider_id: strawberry.ID = strawberry.field(description="Which provider.")
    email: str = strawberry.field(description="Where a mail asks to confirm it.")


@strawberry.input(description="The token of a mail to a provider's contact.")
class VerifyProviderContactInput:
    """Good once, for a day."""

    token: str = strawberry.field(description="As in the mail.")


@strawberry.input(description="An application to grant.")
class ApproveProviderInput:
    """It needs a verified contact and a payout wallet."""

    provider_id: strawberry.ID = strawberry.field(description="Whose.")
    reason: str = strawberry.field(default="", description="Why, for the provider's history.")


@strawberry.input(description="An application to turn down.")
class DeclineProviderInput:
    """For good."""

    provider_id: strawberry.ID = strawberry.field(description="Whose.")
    reason: str = strawberry.field(description="Why; the applicant reads it.")


@strawberry.input(description="A provider to end the business of.")
class CloseProviderInput:
    """For good; what it earned is still paid."""

    provider_id: strawberry.ID = strawberry.field(description="Which provider.")
    reason: str = strawberry.field(default="", description="Why, for the provider's history.")


@strawberry.type(description="What registerProvider gives back.")
class RegisterProviderPayload(Payload):
    """The applicant, or why there is none."""

    provider: Provider | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What setProviderContact gives back.")
class SetProviderContactPayload(Payload):
    """The provider, or why no mail is sent."""

    provider: Provider | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What verifyProviderContact gives back.")
class VerifyProviderContactPayload(Payload):
    """The provider, or why nothing was confirmed."""

    provider: Provider | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What approveProvider gives back.")
class ApproveProviderPayload(Payload):
    """The active provider, or what it lacks."""

    provider: Provider | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What declineProvider gives back.")
class DeclineProviderPayload(Payload):
    """The closed provider, or why it is not."""

    provider: Provider | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What closeProvider gives back.")
class CloseProviderPayload(Payload):
    """The closed provider, or why it is not."""

    provider: Provider | None = strawberry.field(default=None, description=NULL)


@strawberry.type
class ApplicationQuery:
    """Root fields of the domain."""

    @listed("Providers, by name or slug, oldest first. For administrators.")
    async def providers(
        self, info: Info, page: Page, search: Search = None, state: OfState = None
    ) -> Connection[Provider]:
        """By id."""
        row = models.Provider
        where = _part_of(search)
        if state is not None:
            where = (*where, row.state == state)
        listing = Listing(name="all_providers", entity=row, key=row.id, show=Provider.of, where=where)
        async with info.context.reading.session() as session:
            return await page_of(session, listing, page)

    @listed("Machines of all providers, oldest first. For administrators.")
    async def provider_nodes(
        self, info: Info, page: Page, state: OfNodeState = None, provider_id: OfProvider = None
    ) -> Connection[ProviderNode]:
        """By id."""
        row = models.Node
        where = [] if state is None else [row.state == state]
        if provider_id is not None:
            where.append(
                row.provider_id == parse_global_id(Prefix.PROVIDER, provider_id, field="provider_id")
            )
        listing = Listing(name="all_nodes", entity=row, key=row.id, show=ProviderNode.of, where=tuple(where))
        async with info.context.reading.trusted_session() as session:
            return await page_of(session, listing, page)


@strawberry.type
class ApplicationMutation:
    """Root fields of the domain."""

    @mutation("Apply to sell inference. A mail to the contact asks to confirm its address.")
    async def register_provider(self, info: Info, input_: RegisterProviderInput) -> RegisterProviderPayload:
        """Machines may be enrolled at once; they sell once the application is granted."""
        organization_id = parse_global_id(
            Prefix.ORGANIZATION, input_.organization_id, field="organization_id"
        )
        async with info.context.writing() as session:
            organization = await session.get_one(Organization, organization_id)
            if organization.kind is not OrganizationKind.PROVIDER:
                raise InvalidRequest("only an organization for providers sells", param="organization_id")
            row = await service.create_provider(
                session, organization_id=organization_id, slug=input_.slug, name=input_.name
            )
            await provider_life.describe(session, row, website=input_.website, about=input_.about)
            await _name(info, session, row, input_.contact_email, param="contact_email")
        return RegisterProviderPayload(provider=Provider.of(row))

    @mutation("Name another address to reach a provider by; a mail there asks to confirm it.")
    async def set_provider_contact(
        self, info: Info, input_: SetProviderContactInput
    ) -> SetProviderContactPayload:
        """At most five a day."""
        provider_id = parse_global_id(Prefix.PROVIDER, input_.provider_id, field="provider_id")
        async with info.context.writing() as session:
            row = await session.get_one(models.Provider, provider_id)
            await _name(info, session, row, input_.email, param="email")
        return SetProviderContactPayload(provider=Provider.of(row))

    @mutation("Confirm a provider's contact with the token of its mail.")
    async def verify_provider_contact(
        self, info: Info, input_: VerifyProviderContactInput
    ) -> VerifyProviderContactPayload:
        """The token is the credential: who reads mail there need not be one of the provider's people."""
        async with info.context.writing() as session:
            row = await provider_life.verify_contact(session, token=input_.token)
        return VerifyProviderContactPayload(provider=Provider.of(row))

    @mutation("Grant a provider's application. For administrators.")
    async def approve_provider(self, info: Info, input_: ApproveProviderInput) -> ApproveProviderPayload:
        """From the next request on."""
        provider_id = parse_global_id(Prefix.PROVIDER, input_.provider_id, field="provider_id")
        wallet = await info.context.loaders.payout_wallets.current_of_provider.load(provider_id)
        async with info.context.writing() as session:
            row = await provider_life.approve(
                session, provider_id=provider_id, has_wallet=wallet is not None, reason=input_.reason
            )
        await reprice(info.context.services.directory)
        return ApproveProviderPayload(provider=Provider.of(row))

    @mutation("Turn a provider's application down. For administrators.")
    async def decline_provider(self, info: Info, input_: DeclineProviderInput) -> DeclineProviderPayload:
        """For good."""
        async with info.context.writing() as session:
            row = await provider_life.decline(
                session,
                provider_id=parse_global_id(Prefix.PROVIDER, input_.provider_id, field="provider_id"),
                reason=input_.reason,
            )
        return DeclineProviderPayload(provider=Provider.of(row))

    @mutation("End a provider's business; its machines' links end at once. For administrators.")
    async def close_provider(self, info: Info, input_: CloseProviderInput) -> CloseProviderPayload:
        """For good; what it earned is still paid."""
        async with info.context.writing() as session:
            row = await provider_life.close(
                session,
                provider_id=parse_global_id(Prefix.PROVIDER, input_.provider_id, field="provider_id"),
                reason=input_.reason,
            )
        await reprice(info.context.services.directory)
        return CloseProviderPayload(provider=Provider.of(row))


async def _name(
    info: Info, session: AsyncSession, row: models.Provider, email: str, *, param: str
) -> ProviderContact:
    try:
        contact = await provider_life.name_contact(
            session, provider_id=row.id, email=email, tokens=info.context.services.people.mailing.tokens
        )
    except InvalidRequest as error:
        raise InvalidRequest(error.message, param=param) from None
    # The outbox is nobody's tenant's.
    async with unconfined(session):
        await confirm_later(session, contact.id)
    return contact


def _part_of(search: str | None) -> tuple[ColumnElement[bool], ...]:
    """Raises: InvalidRequest when it is too long."""
    if not search:
        return ()
    if len(search) > SEARCH_CHARACTERS_MAX:
        raise InvalidRequest(f"at most {SEARCH_CHARACTERS_MAX} characters", param="search")
    columns = (models.Provider.slug, models.Provider.name)
    return (or_(*(column.icontains(search, autoescape=True) for column in columns)),)
