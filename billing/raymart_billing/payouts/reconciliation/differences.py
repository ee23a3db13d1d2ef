"""What a reconciliation finds: a row, what it should say, and what was found instead."""

from dataclasses import dataclass
from enum import StrEnum


class DifferenceKind(StrEnum):
    """What does not agree. The first half is about a part, the second about the treasury and the books."""

    FINALIZED_NOT_LANDED = "finalized_not_landed"
    """Our row says paid, and the chain has no such payment: an endpoint lied, or the row was edited."""
    LANDED_NOT_FINALIZED = "landed_not_finalized"
    """The chain has paid, and our row does not say so."""
    LANDED_TWICE = "landed_twice"
    """Two transactions have paid one part. The marker forbids it."""
    MARKER = "marker"
    """The marker's address is not the part's, or the account is missing or there without a payment."""
    SIGNATURE = "signature"
    """Our row names another transaction than the one that paid."""
    CHAIN_FACTS = "chain_facts"
    """Slot or fee of our row are not the transaction's."""
    AMOUNT = "amount"
    """A payee got another amount than its item says."""
    WALLET = "wallet"
    """The token account that was paid belongs to another wallet than the item says."""
    PAYEE = "payee"
    """The transaction pays somebody who is no item of the part, or leaves an item out."""
    PART_TOTAL = "part_total"
    """A part's total is not the sum of its items."""
    BATCH_TOTAL = "batch_total"
    """A batch's total or number of payees is not that of its items."""
    ITEM_STATE = "item_state"
    """An item's state does not fit its part's."""
    ATTEMPT = "attempt"
    """An attempt's bytes, signature or state are not those of what was signed and landed."""
    LEDGER = "ledger"
    """An item's transfers are not those of its state and amount."""

    UNEXPLAINED_PAYMENT = "unexplained_payment"
    """Money left the treasury for nothing that our rows know."""
    UNEXPLAINED_RECEIPT = "unexplained_receipt"
    """Money came that is no deposit."""
    NOT_ON_CHAIN = "not_on_chain"
    """A deposit or recorded withdrawal whose transaction the chain does not have, or has with another amount."""
    TREASURY_BALANCE = "treasury_balance"
    """The balance is not what it was and what has changed it since."""
    CLEARING = "clearing"
    """Money that is on its way out by the ledger is not that of the items on their way."""
    MIRROR = "mirror"
    """The ledger's cash on chain is not the sum of what its rows settled and credited."""
    ENDPOINTS = "endpoints"
    """Two endpoints say different things at finalized: one of them lies or is on another fork."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that does not agree."""

    kind: DifferenceKind
    table: str
    """Of the row that it is about; `treasury` for the account on chain."""
    row: str
    """Its id, or a signature or address."""
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.table} {self.row}: expected {self.expected}, found {self.found}"
