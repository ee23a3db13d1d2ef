"""Whose fault a failed attempt was: a pure reading of the chain's error."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from raymart_billing.payouts.models import Purpose
from raymart_billing.payouts.sending.facts import Part
from raymart_billing.solana.failures import Cause, TransactionFailure, explain
from raymart_billing.solana.transactions import Version, payout_layout

PAYEES_FAULT = frozenset({
    Cause.ACCOUNT_FROZEN, Cause.WRONG_MINT, Cause.WRONG_OWNER, Cause.ACCOUNT_MISSING, Cause.UNKNOWN,
})  # fmt: skip
"""What one payee's account causes, if it is not the treasury's own that is frozen: the preflight looks at that first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blame:
    """What an error says."""

    cause: Cause
    quarantined: Mapping[UUID, str]
    """The item at fault with the reason; empty when no payee is to blame."""


def blame(part: Part, purpose: Purpose, failure: TransactionFailure, *, version: Version) -> Blame:
    """Whose fault `failure` of an attempt of `part` was.

    A payee is to blame only when its own transfer failed, for a reason that lies in its account. A false blame costs that
    payee a delay, never money: nothing is given back before the marker is burnt.
    """
    if purpose is not Purpose.PAY:
        return Blame(cause=Cause.UNKNOWN, quarantined={})
    explained = explain(failure, payout_layout(len(part.payees), version=version))
    index = explained.item
    if index is None or explained.cause not in PAYEES_FAULT:
        return Blame(cause=explained.cause, quarantined={})
    return Blame(
        cause=explained.cause,
        quarantined={part.payees[index].item_id: f"{explained.cause.value}: {failure.text}"},
    )
