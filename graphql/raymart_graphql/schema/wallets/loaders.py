"""Loaders of wallets."""

from raymart_graphql.keyset import Listing
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.wallets.types import WalletProof
from raymart_marketplace.accounts import wallet_proofs as rows

LIVE = Listing(
    name="wallets",
    entity=rows.WalletProof,
    key=rows.WalletProof.id,
    show=WalletProof.of,
    where=(rows.WalletProof.withdrawn_at.is_(None),),
)


class WalletLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.of_organization = self._pages(LIVE, rows.WalletProof.organization_id)
