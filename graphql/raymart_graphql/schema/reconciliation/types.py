"""Runs of reconciliation and what they found, as administrators see them."""

from datetime import datetime

import strawberry

from raymart_billing.payouts.reconciliation import models
from raymart_billing.payouts.reconciliation.differences import DifferenceKind
from raymart_billing.payouts.reconciliation.models import RunTrigger
from raymart_graphql.enums import expose
from raymart_graphql.keyset import Listing
from raymart_graphql.scalars import BigInt
from raymart_graphql.schema.user_error import Payload

expose(
    RunTrigger,
    name="ReconciliationTrigger",
    description="Who wanted a reconciliation.",
    values={
        "NIGHTLY": "The marketplace itself, every night.",
        "ADMIN": "Somebody of the platform, over this API.",
        "OPERATOR": "An operator, at the command line.",
    },
)
expose(
    DifferenceKind,
    name="DifferenceKind",
    description="What does not agree between the chain and the ledger.",
    values={
        "FINALIZED_NOT_LANDED": "A row says paid, and the chain has no such payment: an endpoint lied, or the row was edited.",
        "LANDED_NOT_FINALIZED": "The chain has paid, and the row does not say so.",
        "LANDED_TWICE": "Two transactions have paid one part. The marker forbids it.",
        "MARKER": "The marker's address is not the part's, or the account is missing or there without a payment.",
        "SIGNATURE": "The row names another transaction than the one that paid.",
        "CHAIN_FACTS": "Slot or fee of the row are not the transaction's.",
        "AMOUNT": "A payee got another amount than its item says.",
        "WALLET": "The token account that was paid belongs to another wallet than the item says.",
        "PAYEE": "The transaction pays somebody who is no item of the part, or leaves an item out.",
        "PART_TOTAL": "A part's total is not the sum of its items.",
        "BATCH_TOTAL": "A batch's total or number of payees is not that of its items.",
        "ITEM_STATE": "An item's state does not fit its part's.",
        "ATTEMPT": "An attempt's bytes, signature or state are not those of what was signed and landed.",
        "LEDGER": "An item's transfers are not those of its state and amount.",
        "UNEXPLAINED_PAYMENT": "Money left the treasury for nothing that the rows know.",
        "UNEXPLAINED_RECEIPT": "Money came that is no deposit.",
        "NOT_ON_CHAIN": "A deposit or recorded withdrawal whose transaction the chain does not have, or has with another amount.",
        "TREASURY_BALANCE": "The balance is not what it was and what has changed it since.",
        "CLEARING": "Money that is on its way out by the ledger is not that of the items on their way.",
        "MIRROR": "The ledger's cash on chain is not the treasury's balance.",
        "ENDPOINTS": "Two endpoints say different things at finalized: one of them lies or is on another fork.",
    },
)


@strawberry.type(description="One comparison of the chain with the ledger.")
class ReconciliationRun:
    """For administrators."""

    number: BigInt = strawberry.field(description="What people call it.")
    trigger: RunTrigger = strawberry.field(description="Who wanted it.")
    since: datetime | None = strawberry.field(
        description="What was final before was not looked at; null when everything was."
    )
    created_at: datetime = strawberry.field(description="When it was asked for.")
    finished_at: datetime | None = strawberry.field(description="When it ended; null while it waits or runs.")
    error: str | None = strawberry.field(
        description="Why it could not be done; nothing is then known, neither good nor bad."
    )
    treasury: str | None = strawberry.field(description="Wallet whose USDC was looked at.")
    genesis_hash: str | None = strawberry.field(description="Which chain it was.")
    endpoints: int | None = strawberry.field(
        description="How many endpoints were asked; with one there is no second opinion."
    )
    slot: BigInt | None = strawberry.field(description="The last slot that was looked at.")
    opening_micro_usdc: BigInt | None = strawberry.field(description="The treasury's balance at its start.")
    balance_micro_usdc: BigInt | None = strawberry.field(description="The treasury's balance at its end.")
    lamports: BigInt | None = strawberry.field(description="What the treasury had for fees, in lamports.")
    fees_lamports: BigInt = strawberry.field(description="What payouts that were looked at cost in fees.")
    parts: int = strawberry.field(description="Parts of batches that were compared.")
    transactions: int = strawberry.field(description="Transactions of the treasury that were compared.")
    differences: int = strawberry.field(description="What did not agree, that which was known already too.")

    @classmethod
    def of(cls, row: models.ReconciliationRun) -> "ReconciliationRun":
        """`row` as the API shows it."""
        return cls(
            number=BigInt(row.number),
            trigger=row.trigger,
            since=row.since,
            created_at=row.created_at,
            finished_at=row.finished_at,
            error=row.error,
            treasury=row.treasury,
            genesis_hash=row.genesis,
            endpoints=row.endpoints,
            slot=_big(row.slot),
            opening_micro_usdc=_big(row.opening_micro_usdc),
            balance_micro_usdc=_big(row.balance_micro_usdc),
            lamports=_big(row.lamports),
            fees_lamports=BigInt(row.fees_lamports),
            parts=row.parts,
            transactions=row.transactions,
            differences=row.differences,
        )


@strawberry.type(description="Something that does not agree, once for as long as it does not.")
class ReconciliationDifference:
    """For administrators."""

    number: BigInt = strawberry.field(description="What people call it.")
    kind: DifferenceKind = strawberry.field(description="What does not agree.")
    table: str = strawberry.field(description="Table of its row; `treasury` for the account on chain.")
    row: str = strawberry.field(description="The row's id, or a signature or address.")
    expected: str = strawberry.field(description="What it should be.")
    found: str = strawberry.field(description="What was found instead.")
    created_at: datetime = strawberry.field(description="When it was found first.")
    gone_at: datetime | None = strawberry.field(
        description="When a run that would have found it did not any more."
    )
    resolved_at: datetime | None = strawberry.field(
        description="When somebody gave it a reason; null while it is open and stops payouts."
    )
    reason: str | None = strawberry.field(description="The reason.")

    @classmethod
    def of(cls, row: models.ReconciliationDifference) -> "ReconciliationDifference":
        """`row` as the API shows it."""
        return cls(
            number=BigInt(row.number),
            kind=row.kind,
            table=row.subject_table,
            row=row.subject,
            expected=row.expected,
            found=row.found,
            created_at=row.created_at,
            gone_at=row.gone_at,
            resolved_at=row.resolved_at,
            reason=row.reason,
        )


RUNS = Listing(
    name="reconciliation_runs",
    entity=models.ReconciliationRun,
    key=models.ReconciliationRun.number,
    show=ReconciliationRun.of,
    newest_first=True,
)


@strawberry.input(description="What to reconcile.")
class RequestReconciliationInput:
    """Everything unless `since` is given."""

    since: datetime | None = strawberry.field(
        default=None, description="Begin with the newest run before this moment; everything without."
    )


@strawberry.type(description="Answer to requestReconciliation.")
class RequestReconciliationPayload(Payload):
    """The run that a worker will do."""

    run: ReconciliationRun | None = strawberry.field(
        default=None, description="The run; null when there are user errors."
    )


@strawberry.input(description="Which difference has found its reason.")
class ResolveReconciliationDifferenceInput:
    """The last one to be resolved lets payouts go on."""

    number: BigInt = strawberry.field(description="The difference's number.")
    reason: str = strawberry.field(
        description="Why it is none, or what was done about it; kept with your name."
    )


@strawberry.type(description="Answer to resolveReconciliationDifference.")
class ResolveReconciliationDifferencePayload(Payload):
    """The difference as it is now."""

    difference: ReconciliationDifference | None = strawberry.field(
        default=None, description="The difference; null when there are user errors."
    )
    still_open: int | None = strawberry.field(
        default=None, description="Differences that still stop payouts; null when there are user errors."
    )


def _big(value: int | None) -> BigInt | None:
    return None if value is None else BigInt(value)
