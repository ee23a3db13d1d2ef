"""What the transaction that created a marker has paid: a pure comparison of the chain's balances with our items."""

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from raymart_billing.payouts.sending.facts import Payee
from raymart_billing.payouts.sending.sights import Landing
from raymart_billing.solana.answers import ChainTransaction


def landing_of(
    transaction: ChainTransaction,
    *,
    marker: str,
    treasury: str,
    treasury_account: str,
    mint: str,
    payees: Sequence[Payee],
) -> Landing | None:
    """What `transaction` did, if it created `marker`; None if it did not.

    It is ours when the treasury signed it. Balances count, not instructions: they are what the chain itself reports.
    """
    if transaction.error is not None or not _created(transaction, marker):
        return None
    gained, spent = _moved(transaction, treasury_account=treasury_account, mint=mint)
    paid = _paid(payees, gained)
    known = sum(payee.amount_micro_usdc for payee in payees if payee.item_id in paid)
    return Landing(
        signature=transaction.signature,
        slot=transaction.slot,
        fee_lamports=transaction.fee_lamports,
        is_ours=treasury in transaction.signers,
        paid=[payee.item_id for payee in payees if payee.item_id in paid],
        unknown_micro_usdc=abs(spent - known),
    )


def _created(transaction: ChainTransaction, marker: str) -> bool:
    """Whether the account was not there before and is there after it."""
    if marker not in transaction.accounts:
        return False
    index = transaction.accounts.index(marker)
    return transaction.lamports_before[index] == 0 < transaction.lamports_after[index]


def _moved(transaction: ChainTransaction, *, treasury_account: str, mint: str) -> tuple[dict[str, int], int]:
    """What each token account gained of `mint`, and what the treasury's lost."""
    changes = {one.account: one.after - one.before for one in transaction.token_balances if one.mint == mint}
    spent = -changes.pop(treasury_account, 0)
    return changes, spent


def _paid(payees: Sequence[Payee], gained: dict[str, int]) -> set[UUID]:
    """Items whose account gained just what all items with this account are owed; two providers may share a wallet."""
    sharing: defaultdict[str, list[Payee]] = defaultdict(list)
    for payee in payees:
        sharing[payee.token_account].append(payee)
    return {
        payee.item_id
        for account, owners in sharing.items()
        if gained.get(account, 0) == sum(owner.amount_micro_usdc for owner in owners)
        for payee in owners
    }
