"""The fields of `Provider` about its payouts. For its members; the rules are in `rules/wallets.py`."""

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from raymart_graphql.context import Info
from raymart_graphql.fields import listed, resolved
from raymart_graphql.relay import Connection, Page

if TYPE_CHECKING:
    from raymart_graphql.schema.payout_wallets.types import PayoutWallet

LazyPayoutWallet = Annotated["PayoutWallet", strawberry.lazy("raymart_graphql.schema.payout_wallets.types")]


@strawberry.type
class ProviderPayouts:
    """Part of `Provider`."""

    uuid: strawberry.Private[UUID]

    @resolved("The wallet that its earnings go to, chosen and perhaps cooling down. For its members.")
    async def payout_wallet(self, info: Info) -> LazyPayoutWallet | None:
        """The choice that stands."""
        return await info.context.loaders.payout_wallets.current_of_provider.load(self.uuid)

    @listed("Every choice of a payout wallet, newest first. For its members.")
    async def payout_wallets(self, info: Info, page: Page) -> Connection[LazyPayoutWallet]:
        """The history, by id."""
        return await info.context.loaders.payout_wallets.history_of_provider.load((self.uuid, page))
