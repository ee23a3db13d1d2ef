"""Enums of payouts as the schema shows them. Types import these from here: they must be exposed before they are used."""

from raymart_billing.payouts.models import (
    AttemptState,
    BatchKind,
    BatchState,
    ItemState,
    PartState,
    UnpaidReason,
)
from raymart_billing.payouts.outliers import OutlierKind
from raymart_billing.payouts.policy_models import SwitchSource
from raymart_graphql.enums import expose

expose(
    BatchKind,
    name="PayoutBatchKind",
    description="What a batch pays.",
    values={
        "EARNINGS": "Providers, for an epoch and what was carried over into it.",
        "DEPOSIT_REFUND": "Top-ups in USDC, back to who paid them.",
    },
)
expose(
    BatchState,
    name="PayoutBatchState",
    description="How far a batch has come.",
    values={
        "PLANNED": "Waits for approval.",
        "REVIEWED": "Approved by one person, and needs a second one.",
        "APPROVED": "About to be sent; nothing of it changes any more.",
        "SENDING": "Some of it was signed.",
        "FINALIZED": "All of it is final on the chain.",
        "HELD": "Stopped by a person, or because it is being planned or cancelled; `holdReason` says why.",
        "CANCELLED": "Given up before anything was signed; the money is on the payees' balances again.",
    },
)
expose(
    PartState,
    name="PayoutPartState",
    description="How far one transaction of a batch has come.",
    values={
        "PLANNED": "Not signed yet.",
        "SIGNED": "Signed, and about to be broadcast.",
        "SUBMITTED": "Broadcast, and not final yet.",
        "FINALIZED": "Final on the chain.",
        "FAILED": "It can never land as it is.",
        "HELD": "Waits for a person; `stateReason` says why.",
        "WAITING_FUNDS": "The treasury does not cover it, in USDC or in SOL for fees.",
    },
)
expose(
    ItemState,
    name="PayoutItemState",
    description="What became of one payee's money.",
    values={
        "PLANNED": "On its way.",
        "PAID": "Final on the chain.",
        "QUARANTINED": "Kept out of its transaction, because the account refuses it.",
        "RETURNED": "On the payee's balance again.",
    },
)
expose(
    AttemptState,
    name="PayoutAttemptState",
    description="What became of one signed transaction.",
    values={
        "LIVE": "It may still land.",
        "LANDED": "It has landed, and is final.",
        "FAILED": "It landed with an error, and did nothing.",
        "EXPIRED": "Its time is over without it.",
    },
)
expose(
    UnpaidReason,
    name="UnpaidReason",
    description="Why a provider's earnings are in no batch.",
    values={
        "NO_WALLET": "No wallet was chosen, or its proof was withdrawn.",
        "WALLET_COOLING_DOWN": "The wallet was changed lately.",
        "WALLET_UNUSABLE": "The wallet cannot be paid, or the chain was not asked yet.",
        "SUSPENDED": "The provider is suspended.",
        "FLAGGED_USAGE": "Usage of the provider is under review.",
        "BELOW_MINIMUM": "It is less than the least that is paid, and carried over.",
        "BALANCE_OWED": "Refunds have taken more than was earned.",
    },
)
expose(
    OutlierKind,
    name="PayoutOutlierKind",
    description="What is unusual about a payee.",
    values={
        "FIRST_PAYOUT": "Nothing was paid to the provider before.",
        "NEW_WALLET": "None of the last payouts went to this wallet.",
        "WALLET_CHANGED": "It is not the provider's wallet any more.",
        "WALLET_WARNING": "The provider was warned of the wallet.",
        "JUMP": "Over three times what was paid before on average.",
        "LOW_TRUST": "Trusted by less than 40 of 100.",
        "FLAGGED_USAGE": "Usage of the provider is under review.",
        "REFUND_SHARE": "Over a tenth of the epoch's earnings was taken back.",
    },
)
expose(
    SwitchSource,
    name="PayoutStopSource",
    description="Who stopped payouts.",
    values={
        "ADMIN": "One of the marketplace's people.",
        "RECONCILIATION": "The check of chain against books, which found a difference.",
    },
)

__all__ = [
    "AttemptState",
    "BatchKind",
    "BatchState",
    "ItemState",
    "OutlierKind",
    "PartState",
    "SwitchSource",
    "UnpaidReason",
]
