"""Enums of top-ups in USDC as the schema shows them. Types import these from here: they must be exposed before they are used."""

from enum import StrEnum

from raymart_billing.usdc_deposits.models import Attribution, SenderMark, UsdcDepositState
from raymart_graphql.enums import expose


class UsdcTopUpStatus(StrEnum):
    """How a request to pay stands; derived from its deposits and its end."""

    OPEN = "open"
    SEEN = "seen"
    PAID = "paid"
    EXPIRED = "expired"


expose(
    UsdcTopUpStatus,
    name="UsdcTopUpStatus",
    description="How a request to pay in USDC stands.",
    values={
        "OPEN": "Waits to be paid.",
        "SEEN": "A payment is on the chain and not final yet; it is credited within about half a minute, or is held.",
        "PAID": "At least one payment was credited.",
        "EXPIRED": "Nobody paid in time. A payment that still comes is credited all the same.",
    },
)
expose(
    UsdcDepositState,
    name="UsdcDepositState",
    description="Where a payment in USDC stands.",
    values={
        "SEEN": "On the chain and not final: it moves no money yet, and may vanish.",
        "DROPPED": "Was seen, and is on no fork any more.",
        "FINAL": "Final, and not credited: nobody knows whose it is, or it is held.",
        "CREDITED": "In the balance.",
        "REFUNDING": "On its way back to who paid it; it has left the balance.",
        "REFUNDED": "Paid back.",
        "FUNDING": "The marketplace's own, for its treasury.",
    },
)
expose(
    Attribution,
    name="UsdcAttribution",
    description="How a payment was told whose it is.",
    values={
        "REFERENCE": "By the public key of its request, among the transaction's accounts.",
        "MEMO": "By the same key in the transaction's memo.",
        "PERSON": "By an administrator.",
    },
)
expose(
    SenderMark,
    name="UsdcSenderMark",
    description="What is known of a wallet that pays.",
    values={
        "BLOCKED": "Known to be bad: what it pays is held.",
        "EXCHANGE": "An exchange's own, which pays for many customers.",
    },
)

__all__ = ["Attribution", "SenderMark", "UsdcDepositState", "UsdcTopUpStatus"]
