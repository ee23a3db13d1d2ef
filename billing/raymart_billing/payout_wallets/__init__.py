"""Payout wallets: which wallet a provider's earnings go to, and since when. See README.md beside this file."""

from raymart_billing.payout_wallets.models import CheckState, EndReason, PayoutWallet, WalletWarning
from raymart_billing.payout_wallets.payable import (
    NotPayable,
    NoWallet,
    PayableWallet,
    judge,
    payable_wallet,
    payable_wallets,
)
from raymart_billing.payout_wallets.service import (
    WalletRules,
    WarningsNotAcknowledged,
    cancel_payout_wallet,
    choose_payout_wallet,
    current_wallet,
    tell_of_withdrawal,
    warning_in_words,
)

__all__ = [
    "CheckState",
    "EndReason",
    "NoWallet",
    "NotPayable",
    "PayableWallet",
    "PayoutWallet",
    "WalletRules",
    "WalletWarning",
    "WarningsNotAcknowledged",
    "cancel_payout_wallet",
    "choose_payout_wallet",
    "current_wallet",
    "judge",
    "payable_wallet",
    "payable_wallets",
    "tell_of_withdrawal",
    "warning_in_words",
]
