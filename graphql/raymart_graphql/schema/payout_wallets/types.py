"""Payout wallets as the API shows them."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from raymart_billing.payout_wallets import models
from raymart_billing.payout_wallets.models import CheckState, EndReason, WalletWarning
from raymart_billing.payout_wallets.payable import NotPayable, judge
from raymart_core.clock import now
from raymart_graphql.context import Info
from raymart_graphql.enums import expose
from raymart_graphql.fields import resolved
from raymart_marketplace.accounts.permissions import Permission

if TYPE_CHECKING:
    from raymart_graphql.schema.identity.types import Organization, User

LazyUser = Annotated["User", strawberry.lazy("raymart_graphql.schema.identity.types")]
LazyOrganization = Annotated["Organization", strawberry.lazy("raymart_graphql.schema.identity.types")]

expose(
    WalletWarning,
    name="PayoutWalletWarning",
    description="What is to be known of a wallet before it is chosen for payouts.",
    values={
        "EXCHANGE": "It is an exchange's own: what arrives there may be credited to nobody.",
        "SHARED": "Another organization has proven it too.",
    },
)
expose(
    CheckState,
    name="PayoutWalletCheck",
    description="What the chain says of a wallet.",
    values={
        "UNCHECKED": "It was not asked yet, or is away. Nothing is paid.",
        "PASSED": "It can be paid.",
        "FAILED": "It cannot be paid; `checkFinding` says why.",
    },
)
expose(
    EndReason,
    name="PayoutWalletEnd",
    description="Why a choice of a payout wallet is over.",
    values={
        "REPLACED": "Another wallet was chosen.",
        "CANCELLED": "It was taken back within its cool-down.",
        "PROOF_WITHDRAWN": "The proof that the wallet is the organization's was withdrawn.",
    },
)


@strawberry.type(description="A choice of the wallet that a provider's earnings go to.")
class PayoutWallet:
    """Visible to those who see the provider's earnings."""

    organization_uuid: strawberry.Private[UUID]
    chosen_by_uuid: strawberry.Private[UUID]
    blocked: strawberry.Private[NotPayable | None]
    address: str = strawberry.field(description="The wallet's address on Solana, base58.")
    chosen_at: datetime = strawberry.field(description="When it was chosen.")
    payable_from: datetime = strawberry.field(
        description="When its cool-down is over: 72 hours after a change, at once for a provider's first choice."
    )
    warnings: list[WalletWarning] = strawberry.field(description="What was acknowledged; at most two.")
    check: CheckState = strawberry.field(description="What the chain says of it.")
    checked_at: datetime | None = strawberry.field(description="When the chain was last asked.")
    check_finding: str | None = strawberry.field(description="Why it cannot be paid, in words.")
    ended_at: datetime | None = strawberry.field(
        description="When it was over; null for the choice that stands."
    )
    end_reason: EndReason | None = strawberry.field(description="Why it is over.")

    @classmethod
    def of(cls, row: models.PayoutWallet) -> "PayoutWallet":
        """`row` as the API shows it."""
        # That its proof stands, the database sees to: with the proof the choice ends.
        standing = judge(row, now=now(), is_proven=True)
        return cls(
            organization_uuid=row.organization_id,
            chosen_by_uuid=row.chosen_by,
            blocked=standing if isinstance(standing, NotPayable) else None,
            address=row.address,
            chosen_at=row.created_at,
            payable_from=row.payable_from,
            warnings=[WalletWarning(warning) for warning in row.warnings],
            check=row.check_state,
            checked_at=row.checked_at,
            check_finding=row.check_finding,
            ended_at=row.ended_at,
            end_reason=row.end_reason,
        )

    @resolved("Whether it may be paid at this moment.")
    async def is_payable(self) -> bool:
        """By the rules of planning."""
        return self.blocked is None

    @resolved("Why it is not paid at this moment, with the next step; null when it is.")
    async def not_payable_because(self) -> str | None:
        """In words."""
        return None if self.blocked is None else self.blocked.in_words()

    @resolved("Who chose it; null once they are no member any more.")
    async def chosen_by(self, info: Info) -> LazyUser | None:
        """The member."""
        return await info.context.loaders.identity.user.load(self.chosen_by_uuid)

    @resolved(
        "Other organizations that have proven the wallet, at most 20; null unless you are an administrator."
    )
    async def shared_with(self, info: Info) -> list[LazyOrganization] | None:
        """For those who review payouts."""
        principal = await info.context.principal()
        if not principal.may_in_market(Permission.PLATFORM_BILLING_READ):
            return None
        loaders = info.context.loaders
        others = await loaders.payout_wallets.others_with.load((self.address, self.organization_uuid))
        return [await loaders.identity.organization.load_known(other) for other in others]
