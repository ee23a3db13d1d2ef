"""Loaders of deposits, disputes, grants and alerts."""

from raymart_billing.alerts import models as alerts
from raymart_billing.credits import models as credits_
from raymart_billing.deposits import models as deposits
from raymart_billing.holds.models import BillingBlock as BlockRow
from raymart_graphql.keyset import Listing
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.scalars import Money
from raymart_graphql.schema.deposits.types import (
    Alert,
    BillingBlock,
    CreditGrant,
    Deposit,
    DepositRefund,
    Dispute,
)


class DepositLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.deposit = self._known(deposits.Deposit, Deposit.of)
        self.dispute = self._known(deposits.Dispute, Dispute.of)
        self.credit_grant = self._known(credits_.CreditGrant, CreditGrant.of)
        self.alert = self._known(alerts.Alert, Alert.of)
        self.block_of_organization = self._by(BlockRow, BlockRow.organization_id, _block)
        self.threshold_of_organization = self._by(
            alerts.AlertThreshold, alerts.AlertThreshold.organization_id, _threshold
        )
        self.refunds_of_deposit = self._few(
            deposits.DepositRefund, deposits.DepositRefund.deposit_id, DepositRefund.of
        )
        self.disputes_of_payment = self._few(deposits.Dispute, deposits.Dispute.payment_id, Dispute.of)
        self.deposits_of_organization = self._pages(DEPOSITS, deposits.Deposit.organization_id)
        self.grants_of_organization = self._pages(CREDIT_GRANTS, credits_.CreditGrant.organization_id)
        self.alerts_of_organization = self._pages(ALERTS, alerts.Alert.organization_id)


DEPOSITS = Listing(
    name="deposits",
    entity=deposits.Deposit,
    key=deposits.Deposit.id,
    show=Deposit.of,
    newest_first=True,
)
CREDIT_GRANTS = Listing(
    name="credit_grants",
    entity=credits_.CreditGrant,
    key=credits_.CreditGrant.id,
    show=CreditGrant.of,
    newest_first=True,
)
ALERTS = Listing(name="alerts", entity=alerts.Alert, key=alerts.Alert.id, show=Alert.of, newest_first=True)


def _block(row: BlockRow) -> BillingBlock:
    return BillingBlock(reason=row.reason, by_rule=row.actor_id is None, created_at=row.created_at)


def _threshold(row: alerts.AlertThreshold) -> Money:
    return Money.of_nano_usd(row.low_balance_nano_usd)
