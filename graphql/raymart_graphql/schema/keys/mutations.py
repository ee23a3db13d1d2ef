"""Making, changing, rotating and revoking API keys."""

from uuid import UUID

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.budgets import BudgetScope, set_budget
from raymart_core.errors import InvalidRequest
from raymart_core.ids import Prefix
from raymart_core.money import Money as Amount
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.identity.types import ApiKey
from raymart_graphql.schema.keys.inputs import (
    BUDGETS_MAX,
    CreateApiKeyInput,
    CreateApiKeyPayload,
    KeyBudgetInput,
    RevokeApiKeyInput,
    RevokeApiKeyPayload,
    RotateApiKeyInput,
    RotateApiKeyPayload,
    UpdateApiKeyInput,
    UpdateApiKeyPayload,
)
from raymart_marketplace.accounts import service
from raymart_marketplace.accounts.key_changes import rotate_api_key, update_api_key
from raymart_marketplace.accounts.scopes import DEFAULT_SCOPES
from raymart_marketplace.accounts.service_accounts import require_service_account


@strawberry.type
class KeyMutation:
    """Root fields of the domain."""

    @mutation("Make an API key. The key itself is shown this once.")
    async def create_api_key(self, info: Info, input_: CreateApiKeyInput) -> CreateApiKeyPayload:
        """A key of the viewer's project, with its budgets, in one transaction."""
        principal = await info.context.principal()
        assert principal.user_id is not None, "the rule lets only people in"
        project_id = parse_global_id(Prefix.PROJECT, input_.project_id, field="project_id")
        project = await info.context.loaders.identity.project.load_known(project_id)
        scopes = DEFAULT_SCOPES if input_.scopes is None else input_.scopes
        account_id = None
        if input_.service_account_id is not None:
            account_id = parse_global_id(
                Prefix.SERVICE_ACCOUNT, input_.service_account_id, field="service_account_id"
            )
        async with info.context.writing() as session:
            if account_id is not None:
                await require_service_account(
                    session,
                    service_account_id=account_id,
                    organization_id=project.organization_uuid,
                    scopes=scopes,
                )
            row, secret = await service.create_api_key(
                session,
                project_id=project_id,
                user_id=principal.user_id,
                name=input_.name,
                expires_at=input_.expires_at,
                scopes=scopes,
                models=input_.models,
                service_account_id=account_id,
            )
            await _limit(session, row.id, input_.budgets or [], actor_id=principal.user_id)
        return CreateApiKeyPayload(api_key=ApiKey.of(row), secret=secret)

    @mutation("Change an API key's name, scopes, models or end; requests follow it at once.")
    async def update_api_key(self, info: Info, input_: UpdateApiKeyInput) -> UpdateApiKeyPayload:
        """What is left out stays; a revoked key is a conflict."""
        api_key_id = parse_global_id(Prefix.API_KEY, input_.api_key_id, field="api_key_id")
        async with info.context.writing() as session:
            row = await update_api_key(session, api_key_id=api_key_id, change=input_.change())
        await info.context.services.forgetting.key(api_key_id)
        return UpdateApiKeyPayload(api_key=ApiKey.of(row))

    @mutation(
        "Give an API key another secret, shown this once; the present one works a while longer. Id, budgets and "
        "usage stay."
    )
    async def rotate_api_key(self, info: Info, input_: RotateApiKeyInput) -> RotateApiKeyPayload:
        """Two secrets work at most: rotating again ends the older one."""
        api_key_id = parse_global_id(Prefix.API_KEY, input_.api_key_id, field="api_key_id")
        async with info.context.writing() as session:
            row, secret = await rotate_api_key(
                session, api_key_id=api_key_id, overlap_s=input_.overlap_seconds
            )
        await info.context.services.forgetting.key(api_key_id)
        return RotateApiKeyPayload(api_key=ApiKey.of(row), secret=secret)

    @mutation("End an API key at once; a repeat changes nothing.")
    async def revoke_api_key(self, info: Info, input_: RevokeApiKeyInput) -> RevokeApiKeyPayload:
        """Requests with the key are refused from now on."""
        api_key_id = parse_global_id(Prefix.API_KEY, input_.api_key_id, field="api_key_id")
        async with info.context.writing() as session:
            row = await service.revoke_api_key(session, api_key_id=api_key_id)
        await info.context.services.forgetting.key(api_key_id)
        return RevokeApiKeyPayload(api_key=ApiKey.of(row))


async def _limit(
    session: AsyncSession, api_key_id: UUID, budgets: list[KeyBudgetInput], *, actor_id: UUID
) -> None:
    """Give a fresh key its budgets. Raises: InvalidRequest for a limit that is none, or two of one period."""
    if len(budgets) > BUDGETS_MAX or len({budget.period for budget in budgets}) < len(budgets):
        raise InvalidRequest("give at most one budget per period", param="budgets")
    for place, budget in enumerate(budgets):
        try:
            limit = Amount.parse(str(budget.limit))
        except ValueError as error:
            raise InvalidRequest(str(error), param=f"budgets[{place}].limit") from None
        await set_budget(
            session,
            scope=BudgetScope.API_KEY,
            scope_id=api_key_id,
            period=budget.period,
            limit=limit,
            actor_id=actor_id,
        )
