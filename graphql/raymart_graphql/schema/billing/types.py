"""Balances and earnings."""

from uuid import UUID

import strawberry

from raymart_billing.credits import EMPTY, Parts
from raymart_billing.ledger import LedgerAccount, balance_of
from raymart_core.money import ZERO
from raymart_core.money import Money as Amount
from raymart_graphql.context import Info
from raymart_graphql.fields import resolved
from raymart_graphql.scalars import Money


@strawberry.type(description="What an organization has to spend.")
class Balance:
    """`available` = `posted` - `pending`."""

    owner_uuid: strawberry.Private[UUID | None]
    posted: Money = strawberry.field(description="Credit that came in less what was billed.")
    pending: Money = strawberry.field(description="Held for requests that are running.")
    available: Money = strawberry.field(description="What new requests may hold.")

    @classmethod
    def of(cls, account: LedgerAccount | None) -> "Balance":
        """The balance of a customer's account; zero without one."""
        posted = balance_of(account) if account else ZERO
        pending = Amount(account.debits_pending, account.asset) if account else ZERO
        return cls(
            owner_uuid=account.owner_id if account else None,
            posted=Money.of(posted),
            pending=Money.of(pending),
            available=Money.of(posted - pending),
        )

    @resolved("The part of `posted` that was granted. It is used before what was paid.")
    async def promotional(self, info: Info) -> Money:
        """What is left of all grants."""
        return Money.of_nano_usd((await self._parts(info)).promotional)

    @resolved("The part of `posted` that was paid, and could be paid back.")
    async def paid(self, info: Info) -> Money:
        """What is no grant."""
        return Money.of_nano_usd((await self._parts(info)).paid)

    @resolved(
        "What is owed after a dispute or refund that the balance did not cover; new money pays it first."
    )
    async def owed(self, info: Info) -> Money:
        """The customer's debt, above zero."""
        if self.owner_uuid is None:
            return Money.of(ZERO)
        return await info.context.loaders.billing.owed_by_organization.load(self.owner_uuid)

    async def _parts(self, info: Info) -> Parts:
        if self.owner_uuid is None:
            return EMPTY
        return await info.context.loaders.billing.parts_of_balance.load(self.owner_uuid)


@strawberry.type(description="What a provider has earned.")
class Earnings:
    """Sums over the provider's accounts in the ledger."""

    provider_uuid: strawberry.Private[UUID | None]
    payable: Money = strawberry.field(description="Earned and not yet paid out.")

    @classmethod
    def of(cls, account: LedgerAccount | None) -> "Earnings":
        """What is in a provider's account; zero without one."""
        return cls(
            provider_uuid=account.owner_id if account else None,
            payable=Money.of(balance_of(account) if account else ZERO),
        )

    @resolved("Earned and kept back until the trust in it has matured.")
    async def reserved(self, info: Info) -> Money:
        """The holdback."""
        loader = info.context.loaders.billing.reserve_of_provider
        return Money.of(ZERO) if self.provider_uuid is None else await loader.load(self.provider_uuid)

    @resolved("On its way to the provider: sent and not yet seen as final.")
    async def in_payout(self, info: Info) -> Money:
        """What payouts have taken."""
        loader = info.context.loaders.billing.payouts_of_provider
        return Money.of(ZERO) if self.provider_uuid is None else await loader.load(self.provider_uuid)

    @resolved("Whether nothing of it is paid for now, because the provider is suspended.")
    async def withheld(self, info: Info) -> bool:
        """By the suspensions that stand."""
        if self.provider_uuid is None:
            return False
        return await info.context.loaders.oversight.is_withheld.load(self.provider_uuid)
