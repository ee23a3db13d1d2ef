"""The ledger: accounts, immutable transfers, and what can be read from them. Written by the database's functions only."""

from raymart_billing.ledger.models import (
    AccountKind,
    LedgerAccount,
    OpenHold,
    Transfer,
    TransferCode,
    TransferState,
)
from raymart_billing.ledger.posting import Movement, open_account, post, transfer_by_key
from raymart_billing.ledger.service import (
    Balance,
    accounts_page,
    balance,
    balance_of,
    earnings,
    grant_credit,
)
from raymart_billing.ledger.statement import StatementLine, statement
from raymart_billing.ledger.trial_balance import Drift, TrialBalance, TrialBalanceRow, trial_balance

__all__ = [
    "AccountKind",
    "Balance",
    "Drift",
    "LedgerAccount",
    "Movement",
    "OpenHold",
    "StatementLine",
    "Transfer",
    "TransferCode",
    "TransferState",
    "TrialBalance",
    "TrialBalanceRow",
    "accounts_page",
    "balance",
    "balance_of",
    "earnings",
    "grant_credit",
    "open_account",
    "post",
    "statement",
    "transfer_by_key",
    "trial_balance",
]
