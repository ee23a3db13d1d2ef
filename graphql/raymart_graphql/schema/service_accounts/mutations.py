"""Making and disabling service accounts."""

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.enums import Role
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.service_accounts.types import ServiceAccount
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.accounts import service_accounts


@strawberry.input(description="A service account to make.")
class CreateServiceAccountInput:
    """For an organization of the viewer."""

    organization_id: strawberry.ID = strawberry.field(description="Whose member it becomes.")
    name: str = strawberry.field(description="Name for people.")
    role: Role = strawberry.field(
        description="Bounds what its keys may do; never more than the viewer may give."
    )


@strawberry.type(description="What createServiceAccount gives back.")
class CreateServiceAccountPayload(Payload):
    """The account, or why there is none."""

    service_account: ServiceAccount | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.input(description="A service account to end.")
class DisableServiceAccountInput:
    """One of the viewer's organization."""

    service_account_id: strawberry.ID = strawberry.field(description="Which account.")


@strawberry.type(description="What disableServiceAccount gives back.")
class DisableServiceAccountPayload(Payload):
    """The ended account, or why it is not."""

    service_account: ServiceAccount | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.type
class ServiceAccountMutation:
    """Root fields of the domain."""

    @mutation("Make a service account; its keys are made with `createApiKey`.")
    async def create_service_account(
        self, info: Info, input_: CreateServiceAccountInput
    ) -> CreateServiceAccountPayload:
        """A member that is no person."""
        principal = await info.context.principal()
        assert principal.user_id is not None, "the rule lets only people in"
        async with info.context.writing() as session:
            row = await service_accounts.create_service_account(
                session,
                organization_id=parse_global_id(
                    Prefix.ORGANIZATION, input_.organization_id, field="organization_id"
                ),
                user_id=principal.user_id,
                name=input_.name,
                role=input_.role,
            )
        return CreateServiceAccountPayload(service_account=ServiceAccount.of(row))

    @mutation("End a service account and all its keys at once; a repeat changes nothing.")
    async def disable_service_account(
        self, info: Info, input_: DisableServiceAccountInput
    ) -> DisableServiceAccountPayload:
        """For good: who needs it again makes another."""
        account_id = parse_global_id(
            Prefix.SERVICE_ACCOUNT, input_.service_account_id, field="service_account_id"
        )
        async with info.context.writing() as session:
            row = await service_accounts.disable_service_account(session, service_account_id=account_id)
            keys = await service_accounts.keys_of(session, account_id)
        for key_id in keys:
            await info.context.services.forgetting.key(key_id)
        return DisableServiceAccountPayload(service_account=ServiceAccount.of(row))
