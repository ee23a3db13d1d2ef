"""Loaders of payout wallets."""

from collections import defaultdict
from uuid import UUID

from sqlalchemy import select
from strawberry.dataloader import DataLoader

from raymart_billing.payout_wallets import models as rows
from raymart_graphql.keyset import Listing, as_rows
from raymart_graphql.loading import LoaderPart, each_of
from raymart_graphql.reading import Reading
from raymart_graphql.schema.payout_wallets.types import PayoutWallet
from raymart_marketplace.accounts.wallet_proofs import WalletProof

HISTORY = Listing(
    name="payout_wallets",
    entity=rows.PayoutWallet,
    key=rows.PayoutWallet.id,
    show=PayoutWallet.of,
    newest_first=True,
)
OTHERS_MAX = 20


class PayoutWalletLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.history_of_provider = self._pages(HISTORY, rows.PayoutWallet.provider_id)
        self.current_of_provider: DataLoader[UUID, PayoutWallet | None] = DataLoader(load_fn=self._current)
        self.others_with: DataLoader[tuple[str, UUID], list[UUID]] = DataLoader(load_fn=self._others)

    async def _current(self, provider_ids: list[UUID]) -> list[PayoutWallet | None]:
        wallet = rows.PayoutWallet
        statement = select(wallet.__table__).where(
            wallet.provider_id == each_of(wallet.provider_id, provider_ids), wallet.ended_at.is_(None)
        )
        async with self._reading.session() as session:
            found = as_rows(wallet, await session.execute(statement))
        by_provider = {row.provider_id: PayoutWallet.of(row) for row in found}
        return [by_provider.get(provider_id) for provider_id in provider_ids]

    async def _others(self, keys: list[tuple[str, UUID]]) -> list[list[UUID]]:
        """Who else has proven an address, for the platform's people; a tenant's session sees its own rows only."""
        proof = WalletProof
        statement = (
            select(proof.address, proof.organization_id)
            .where(
                proof.address == each_of(proof.address, [address for address, _ in keys]),
                proof.withdrawn_at.is_(None),
            )
            .order_by(proof.id)
        )
        async with self._reading.session() as session:
            proven = (await session.execute(statement)).all()
        by_address: dict[str, list[UUID]] = defaultdict(list)
        for address, organization_id in proven:
            by_address[address].append(organization_id)
        return [
            [other for other in by_address[address] if other != organization_id][:OTHERS_MAX]
            for address, organization_id in keys
        ]
