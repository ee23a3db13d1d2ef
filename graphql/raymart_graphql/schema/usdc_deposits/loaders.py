"""Loaders of top-ups in USDC."""

from raymart_billing.usdc_deposits import models
from raymart_graphql.keyset import Listing
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.usdc_deposits.types import TreasuryDeposit, UsdcDeposit, UsdcSender, UsdcTopUp

TOP_UPS = Listing(
    name="usdc_top_ups",
    entity=models.UsdcTopUp,
    key=models.UsdcTopUp.id,
    show=UsdcTopUp.of,
    newest_first=True,
)
DEPOSITS = Listing(
    name="usdc_deposits",
    entity=models.UsdcDeposit,
    key=models.UsdcDeposit.id,
    show=UsdcDeposit.of,
    newest_first=True,
)
TREASURY_DEPOSITS = Listing(
    name="treasury_deposits",
    entity=models.UsdcDeposit,
    key=models.UsdcDeposit.id,
    show=TreasuryDeposit.of,
    newest_first=True,
)
UNDECIDED = Listing(
    name="undecided_usdc_deposits",
    entity=models.UsdcDeposit,
    key=models.UsdcDeposit.id,
    show=TreasuryDeposit.of,
    where=(models.UsdcDeposit.state == models.UsdcDepositState.FINAL,),
)
SENDERS = Listing(
    name="usdc_senders", entity=models.UsdcSender, key=models.UsdcSender.wallet, show=UsdcSender.of
)


class UsdcDepositLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.deposits_of_top_up = self._few(models.UsdcDeposit, models.UsdcDeposit.top_up_id, UsdcDeposit.of)
        self.top_ups_of_organization = self._pages(TOP_UPS, models.UsdcTopUp.organization_id)
        self.deposits_of_organization = self._pages(DEPOSITS, models.UsdcDeposit.organization_id)
