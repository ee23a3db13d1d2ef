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
from raymart_billing.ledger.proof_models import (
    AccountSnapshot,
    LedgerCheck,
    LedgerCheckKind,
    LedgerSnapshot,
    TransferRule,
    TransferSeal,
)
from raymart_billing.ledger.refusals import LedgerBroken
from raymart_billing.ledger.reversal import reverse
from raymart_billing.ledger.service import (
    Balance,
    account_number,
    accounts_page,
    balance,
    balance_of,
    earnings,
    grant_credit,
)
from raymart_billing.ledger.snapshots import (
    Reconciliation,
    check_drift,
    latest_checks,
    latest_seal,
    reconcile,
    record_check,
    take_snapshot,
)
from raymart_billing.ledger.statement import StatementLine, statement
from raymart_billing.ledger.trial_balance import Drift, TrialBalance, TrialBalanceRow, trial_balance

__all__ = [
    "AccountKind",
    "AccountSnapshot",
    "Balance",
    "Drift",
    "LedgerAccount",
    "LedgerBroken",
    "LedgerCheck",
    "LedgerCheckKind",
    "LedgerSnapshot",
    "Movement",
    "OpenHold",
    "Reconciliation",
    "StatementLine",
    "Transfer",
    "TransferCode",
    "TransferRule",
    "TransferSeal",
    "TransferState",
    "TrialBalance",
    "TrialBalanceRow",
    "account_number",
    "accounts_page",
    "balance",
    "balance_of",
    "check_drift",
    "earnings",
    "grant_credit",
    "latest_checks",
    "latest_seal",
    "open_account",
    "post",
    "reconcile",
    "record_check",
    "reverse",
    "statement",
    "take_snapshot",
    "transfer_by_key",
    "trial_balance",
]
