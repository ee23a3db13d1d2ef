"""Money in, by administrators."""

from decimal import Decimal

import strawberry

from raymart_billing import ledger
from raymart_billing.credits import grant
from raymart_core.errors import InvalidRequest, NotFound
from raymart_core.ids import Prefix
from raymart_core.money import Money as Amount
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.admin.types import GrantCreditInput, GrantCreditPayload, Transfer

KEY_CHARACTERS_MAX = 128


@strawberry.type
class AdminMutation:
    """Root fields of the domain."""

    @mutation("Give credit to an organization. For administrators.")
    async def grant_credit(self, info: Info, input_: GrantCreditInput) -> GrantCreditPayload:
        """One transfer, once per idempotency key."""
        organization_id = parse_global_id(
            Prefix.ORGANIZATION, input_.organization_id, field="organization_id"
        )
        amount = _amount(input_.amount)
        if not 1 <= len(input_.idempotency_key) <= KEY_CHARACTERS_MAX:
            raise InvalidRequest(
                f"an idempotency key has 1 to {KEY_CHARACTERS_MAX} characters", param="idempotency_key"
            )
        if await info.context.loaders.identity.organization.load(organization_id) is None:
            raise NotFound(f"there is no organization {input_.organization_id!r}", param="organization_id")
        principal = await info.context.principal()
        assert principal.user_id is not None, "the rule lets only people in"
        async with info.context.writing() as session:
            given = await grant(
                session,
                organization_id=organization_id,
                amount=amount,
                key=input_.idempotency_key,
                actor_id=principal.user_id,
                expires_at=input_.expires_at,
                reason=input_.reason,
                source=input_.source,
            )
            transfer = await session.get_one(ledger.Transfer, given.transfer_id)
        organization = await info.context.loaders.identity.organization.load(organization_id)
        return GrantCreditPayload(transfer=Transfer.of(transfer), organization=organization)


def _amount(value: Decimal) -> Amount:
    try:
        amount = Amount.parse(str(value))
    except ValueError as error:
        raise InvalidRequest(str(error), param="amount") from None
    if amount.amount <= 0:
        raise InvalidRequest(f"{value:f} is not above 0", param="amount")
    return amount
