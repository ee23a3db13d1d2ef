"""Whether a part can be sent now: a pure look at the accounts of its payees and at what the treasury has left.

What would fail on the chain is found here, where it costs nothing: a payee that cannot be paid is quarantined, a missing
token account is opened, an empty treasury is waited for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from solders.pubkey import Pubkey

from raymart_billing.payouts.models import Purpose
from raymart_billing.payouts.sending.facts import Part, Payee
from raymart_billing.payouts.sending.rules import SendingRules
from raymart_billing.solana.answers import ChainAccount
from raymart_billing.solana.failures import Cause
from raymart_billing.solana.fees import Funds, Shortage, payout_cost_lamports
from raymart_billing.solana.token_accounts import CREATED_MAX, why_unpayable
from raymart_billing.solana.transactions import FEE_LAMPORTS_PER_SIGNATURE

CLOSED_AGAIN = "account_closed_again"
"""Its token account was opened at our cost before; the owner has to open the next one."""
SHORTAGES: Mapping[Shortage, str] = {
    Shortage.USDC: "the treasury has {micro_usdc} micro-USDC for it and {needed_micro_usdc} are needed",
    Shortage.SOL: "the treasury has {lamports} lamports for it and {needed_lamports} are needed",
    Shortage.NO_TOKEN_ACCOUNT: "the treasury has no token account of the mint",
    Shortage.FROZEN: "the treasury's token account is frozen by the mint's issuer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rents:
    """What accounts must hold, in lamports."""

    marker: int
    token_account: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Everything is there: sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """These payees cannot be paid, with the reason of each."""

    reasons: Mapping[UUID, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAccounts:
    """These payees have no token account yet; we pay for it, once."""

    payees: Sequence[Payee]


@dataclass(frozen=True, slots=True, kw_only=True)
class Short:
    """The treasury cannot afford it: of what, and how much."""

    reason: str


Verdict = Ready | Quarantine | OpenAccounts | Short


def inspect(
    part: Part,
    accounts: Mapping[str, ChainAccount | None],
    *,
    mint: Pubkey,
    opened: Mapping[str, int],
    rules: SendingRules,
) -> Ready | Quarantine | OpenAccounts:
    """What is to be done about the payees of `part`. `opened`: how often we paid for each token account already."""
    if part.purpose is Purpose.BURN:
        return Ready()
    problems = {
        payee.item_id: problem
        for payee in part.payees
        if (
            problem := why_unpayable(
                accounts[payee.token_account], owner=Pubkey.from_string(payee.wallet), mint=mint
            )
        )
    }
    missing = [
        payee
        for payee in part.payees
        # Something that is no token account lies at the address: opening it would fail.
        if problems.get(payee.item_id) == Cause.ACCOUNT_MISSING and accounts[payee.token_account] is None
    ]
    reasons = {
        item: problem for item, problem in problems.items() if item not in {p.item_id for p in missing}
    }
    for payee in missing:
        if opened.get(payee.token_account, 0) >= rules.openings_per_account_max:
            reasons[payee.item_id] = CLOSED_AGAIN
    if reasons:
        return Quarantine(reasons=reasons)
    return OpenAccounts(payees=missing) if missing else Ready()


def cost_lamports(part: Part, opening: int, *, rents: Rents, rules: SendingRules) -> int:
    """The most that the next attempts of `part` take out of the treasury, if `opening` token accounts are opened first."""
    fee = FEE_LAMPORTS_PER_SIGNATURE + rules.priority_fee_lamports_max
    if part.purpose is Purpose.PAY and opening:
        return opening * rents.token_account + -(-opening // CREATED_MAX) * fee
    return payout_cost_lamports(
        marker_rent_lamports=rents.marker, priority_fee_lamports=rules.priority_fee_lamports_max
    )


def why_short(funds: Funds, *, lamports: int, micro_usdc: int) -> str | None:
    """What of `funds` does not suffice, with the amounts; None when they do."""
    shortages = funds.shortages(lamports=lamports, micro_usdc=micro_usdc)
    if not shortages:
        return None
    said = {
        "micro_usdc": max(funds.micro_usdc, 0),
        "needed_micro_usdc": micro_usdc,
        "lamports": max(funds.lamports - funds.rent_lamports, 0),
        "needed_lamports": lamports,
    }
    return "; ".join(f"{shortage.value}: {SHORTAGES[shortage].format(**said)}" for shortage in shortages)
