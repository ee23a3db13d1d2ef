"""Statements of accounts, snapshots, checks and the head of the seals."""

from datetime import date, datetime
from uuid import UUID

import strawberry

from raymart_billing import ledger
from raymart_billing.ledger import models, proof_models
from raymart_billing.ledger.models import TransferCode
from raymart_billing.ledger.proof_models import LedgerCheckKind
from raymart_core.errors import InvalidRequest
from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.enums import expose
from raymart_graphql.keyset import DIGITS_MAX, Listing, page_of
from raymart_graphql.relay import Connection, Page, global_id, make_connection, read_cursor
from raymart_graphql.scalars import Money

expose(
    LedgerCheckKind,
    name="LedgerCheckKind",
    description="Which check of the books it was.",
    values={
        "RECONCILE": "The last snapshot and the transfers since, against the balances; every few minutes.",
        "VERIFY": "All transfers, holds, snapshots and seals: `raymart ledger verify`.",
        "SEAL": "The sealer met a chain that is not the one it made; kept only when that changes.",
    },
)
expose(
    TransferCode,
    name="TransferCode",
    description="Why money moved.",
    values={
        "CREDIT_GRANT": "An administrator or a rule gave credit. promotional_credit -> customer_balance.",
        "CREDIT_EXPIRED": "What was left of a grant at its end. customer_balance -> promotional_credit.",
        "USAGE_HOLD": "A request's upper bound, or a gateway's lease, reserved before dispatch. Pending, customer_balance -> usage_clearing.",
        "USAGE_CHARGE": "What requests used, from their hold or lease or else from the balance. customer_balance -> usage_clearing.",
        "USAGE_SHORTFALL": "The same where neither hold nor balance covered it. platform_loss -> usage_clearing.",
        "USAGE_EARNING": "The provider's part of a usage. usage_clearing -> provider_payable.",
        "USAGE_FEE": "The platform's part of a usage. usage_clearing -> platform_fee.",
        "HOLD_RELEASED": "A hold given back because nothing was delivered, or a lease that was returned. Voids a usage_hold.",
        "HOLD_EXPIRED": "A hold given back by the sweeper because its time was over. Voids a usage_hold.",
        "REFUND": "Money back for a request that was not what was sold. platform_refund -> customer_balance.",
        "REFUND_CLAWBACK": "The provider's part of a refund that was the provider's fault. provider_payable -> platform_refund.",
        "REFUND_FEE": "The platform's part of a refund. platform_fee -> platform_refund.",
        "ADJUSTMENT_CREDIT": "A correction in a customer's favour, by an administrator with a reason. platform_refund -> customer_balance.",
        "ADJUSTMENT_DEBIT": "A correction against a customer. customer_balance -> platform_revenue.",
        "DEPOSIT_CARD": "A top-up by card. external_card -> customer_balance.",
        "DEPOSIT_USDC": "A top-up in USDC. external_usdc -> customer_balance.",
        "DEPOSIT_UNATTRIBUTED": "USDC arrived, and nobody knows whose it is, or it is held. external_usdc -> usdc_suspense.",
        "DEPOSIT_ASSIGNED": "It was told whose it is, or a refund of it could not land. usdc_suspense -> customer_balance.",
        "DEPOSIT_WITHDRAWN": "A top-up in USDC leaves the balance, to be paid back. customer_balance -> usdc_suspense.",
        "DEPOSIT_USDC_REFUND": "USDC that was paid back is final on the chain. usdc_suspense -> external_usdc.",
        "TREASURY_FUNDING": "USDC that arrived is the platform's own, for its treasury. usdc_suspense -> platform_capital.",
        "TREASURY_WITHDRAWN": "USDC that the platform took out of its treasury again. platform_capital -> external_usdc.",
        "DEPOSIT_REFUND": "A top-up by card that was paid back. customer_balance -> external_card.",
        "PAYMENT_FEE": "What a rail kept of a deposit or payout. payment_cost -> external_card.",
        "DISPUTE_OPENED": "A bank took a deposit back for the time being. customer_balance -> customer_dispute.",
        "DISPUTE_SHORTFALL": "The part of it that was spent already: the customer owes it. customer_receivable -> customer_dispute.",
        "DISPUTE_WON": "The bank decided for us. customer_dispute -> customer_balance.",
        "DISPUTE_LOST": "The bank decided for the customer: the money is gone. customer_dispute -> external_card.",
        "RECEIVABLE_SETTLED": "A customer paid what it owed. customer_balance -> customer_receivable.",
        "RECEIVABLE_WRITTEN_OFF": "A debt nobody will pay. platform_loss -> customer_receivable.",
        "RESERVE_KEPT": "Part of the earnings kept back. provider_payable -> provider_reserve.",
        "RESERVE_RELEASED": "The holdback has matured. provider_reserve -> provider_payable.",
        "PAYOUT_SENT": "A payout has left for the chain. provider_payable -> payout_clearing.",
        "PAYOUT_SETTLED": "It is final on the chain. payout_clearing -> external_usdc.",
        "PAYOUT_RETURNED": "It can never land. payout_clearing -> provider_payable.",
        "REVERSAL": "The mirror of an earlier transfer that was a mistake: its accounts swapped, its amount, `reverses_id` naming it.",
    },
)
STATEMENT = "statement"


@strawberry.type(description="One posted transfer as its account sees it.")
class StatementLine:
    """Holds are not lines: they move nothing until they are posted."""

    transfer_id: strawberry.ID = strawberry.field(description="The transfer.")
    code: TransferCode = strawberry.field(description="Why money moved.")
    change: Money = strawberry.field(description="Above 0 for what came in.")
    balance: Money = strawberry.field(description="Of the account, after this transfer.")
    created_at: datetime = strawberry.field(description="When it was written.")

    @classmethod
    def of(cls, line: ledger.StatementLine) -> "StatementLine":
        """`line` as the API shows it."""
        return cls(
            transfer_id=global_id(Prefix.TRANSFER, UUID(int=line.transfer_id)),
            code=line.code,
            change=Money.of(line.change),
            balance=Money.of(line.balance),
            created_at=line.created_at,
        )


@strawberry.type(description="An account at the snapshot of a day.")
class AccountSnapshot:
    """Kept for the days on which the account had changed."""

    day: date = strawberry.field(description="Which day, in UTC.")
    debits_posted: Money = strawberry.field(description="What had left it.")
    credits_posted: Money = strawberry.field(description="What had come in.")
    debits_pending: Money = strawberry.field(description="What was held in it.")
    credits_pending: Money = strawberry.field(description="What was held for it.")

    @classmethod
    def of(cls, row: proof_models.AccountSnapshot) -> "AccountSnapshot":
        """`row` as the API shows it."""
        return cls(
            day=row.day,
            debits_posted=Money.of_nano_usd(row.debits_posted),
            credits_posted=Money.of_nano_usd(row.credits_posted),
            debits_pending=Money.of_nano_usd(row.debits_pending),
            credits_pending=Money.of_nano_usd(row.credits_pending),
        )


@strawberry.type(description="All balances of one moment of a day.")
class LedgerSnapshot:
    """Its rows are on the accounts."""

    day: date = strawberry.field(description="Which day, in UTC.")
    taken_at: datetime = strawberry.field(description="When it was taken.")

    @classmethod
    def of(cls, row: proof_models.LedgerSnapshot) -> "LedgerSnapshot":
        """`row` as the API shows it."""
        return cls(day=row.day, taken_at=row.taken_at)


@strawberry.type(description="What one check of the books found.")
class LedgerCheck:
    """The newest of a kind with findings is an alarm that stands."""

    kind: LedgerCheckKind = strawberry.field(description="Which check.")
    checked_at: datetime = strawberry.field(description="When it ended.")
    duration_ms: int = strawberry.field(description="How long it took.")
    findings: int = strawberry.field(description="How many bad rows were found; 0 for sound books.")
    finding: str | None = strawberry.field(description="The first bad row; null for sound books.")

    @classmethod
    def of(cls, row: proof_models.LedgerCheck) -> "LedgerCheck":
        """`row` as the API shows it."""
        return cls(
            kind=row.kind,
            checked_at=row.checked_at,
            duration_ms=row.duration_ms,
            findings=row.findings,
            finding=row.finding,
        )


@strawberry.type(description="What shows that the books are true.")
class LedgerHealth:
    """For administrators."""

    sound: bool = strawberry.field(description="Whether no check stands that found something.")
    seal_position: int = strawberry.field(description="How many transfers are sealed.")
    seal_hash: str | None = strawberry.field(
        description="The newest seal, in hex; keep it, and a cut end of the ledger shows."
    )
    checks: list[LedgerCheck] = strawberry.field(description="The newest check of each kind.")


LEDGER_SNAPSHOTS = Listing(
    name="ledger_snapshots",
    entity=proof_models.LedgerSnapshot,
    key=proof_models.LedgerSnapshot.day,
    show=LedgerSnapshot.of,
    newest_first=True,
)


async def snapshots_of(info: Info, account_id: int, page: Page) -> Connection[AccountSnapshot]:
    """A page of the snapshots of an account, newest first."""
    listing = Listing(
        name="account_snapshots",
        entity=proof_models.AccountSnapshot,
        key=proof_models.AccountSnapshot.day,
        show=AccountSnapshot.of,
        newest_first=True,
        where=(proof_models.AccountSnapshot.account_id == account_id,),
    )
    async with info.context.reading.session() as session:
        return await page_of(session, listing, page)


async def statement_of(info: Info, account_id: int, page: Page) -> Connection[StatementLine]:
    """A page of the statement of an account, newest first; its caller has judged who asks."""
    async with info.context.reading.session() as session:
        lines = await ledger.statement(
            session,
            account_id,
            before=_transfer_at(page.after, "after"),
            after=_transfer_at(page.before, "before"),
            limit=page.size + 1,
            from_the_oldest=page.backward,
        )
    found = [(str(line.transfer_id), StatementLine.of(line)) for line in lines]
    return make_connection(found, page, name=STATEMENT)


async def statement_of_organization(
    info: Info, organization_id: UUID, page: Page
) -> Connection[StatementLine]:
    """The same of a customer's balance; empty before its first credit."""
    async with info.context.reading.session() as session:
        account_id = await ledger.account_number(
            session, models.AccountKind.CUSTOMER_BALANCE, organization_id
        )
    if account_id is None:
        return make_connection([], page, name=STATEMENT)
    return await statement_of(info, account_id, page)


def _transfer_at(cursor: str | None, argument: str) -> int | None:
    if cursor is None:
        return None
    text = read_cursor(STATEMENT, cursor, field=argument)
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX):
        raise InvalidRequest(f"{cursor[:40]!r} is no cursor of this list", param=argument)
    return int(text)
