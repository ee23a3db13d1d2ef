"""A part of a batch as the engine loads it, before its first attempt."""

from uuid import UUID

from solders.keypair import Keypair

from raymart_billing.payouts.models import BatchKind, PartState
from raymart_billing.payouts.sending.facts import Part, Payee

WALLET = Keypair().pubkey()


def part(*, is_quarantined: bool = False, payees: int = 1) -> Part:
    """Items have the ids 10, 11 and so on, and the accounts "account 0", "account 1"."""
    return Part(
        id=UUID(int=1),
        batch_id=UUID(int=2),
        batch_number=1,
        kind=BatchKind.EARNINGS,
        fence=1,
        generation=0,
        state=PartState.PLANNED,
        reason=None,
        attempts=0,
        number_next=1,
        openings=0,
        may_sign=True,
        is_too_old=False,
        payees=[
            Payee(
                item_id=UUID(int=10 + number),
                wallet=str(WALLET),
                token_account=f"account {number}",
                amount_micro_usdc=10,
                is_quarantined=is_quarantined,
            )
            for number in range(payees)
        ],
        live=[],
        resolved=[],
    )
