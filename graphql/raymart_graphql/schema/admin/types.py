"""The ledger as administrators see it."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import strawberry

from raymart_billing import ledger
from raymart_billing.ledger import models
from raymart_billing.ledger.models import AccountKind, TransferCode, TransferState
from raymart_core.ids import Prefix
from raymart_core.money import Money as Amount
from raymart_graphql.context import Info, Operation
from raymart_graphql.enums import GrantSource, expose
from raymart_graphql.fields import listed, resolved
from raymart_graphql.relay import Connection, Node, Page, global_id
from raymart_graphql.scalars import Money
from raymart_graphql.schema.identity.types import Organization
from raymart_graphql.schema.ledger.types import AccountSnapshot, StatementLine, snapshots_of, statement_of
from raymart_graphql.schema.supply.types import Provider
from raymart_graphql.schema.user_error import Payload

expose(
    AccountKind,
    name="LedgerAccountKind",
    description="The chart of accounts. Every balance is credits less debits.",
    values={
        "CUSTOMER_BALANCE": "What an organization has paid or was granted and has not used; a debt of the platform. May not overdraw.",
        "CUSTOMER_RECEIVABLE": "What an organization owes: a lost dispute or a correction that its balance did not cover. Zero or negative.",
        "CUSTOMER_DISPUTE": "An organization's money under dispute with its bank, out of reach until the bank has decided.",
        "USAGE_CLEARING": "Where an organization's usage passes through on its way to those who earn it. Zero after each statement.",
        "PROVIDER_PAYABLE": "What a provider has earned and was not paid; a debt of the platform. May not overdraw.",
        "PROVIDER_RESERVE": "The holdback: earnings kept back until the trust in them has matured.",
        "PAYOUT_CLEARING": "A provider's money on its way out: sent and not yet seen as final. An old non-zero balance is an alarm.",
        "PLATFORM_FEE": "The platform's revenue: its share of what customers pay.",
        "PLATFORM_REVENUE": "The platform's other revenue: adjustments in its favour.",
        "PLATFORM_REFUND": "The expense of refunds and of corrections in a customer's or provider's favour.",
        "PROMOTIONAL_CREDIT": "The expense of granted credit. Its balance is negative: it is where grants come from.",
        "PLATFORM_LOSS": "The expense of usage that neither a hold nor a balance covered, and of debts written off.",
        "PAYMENT_COST": "The expense of moving money: what card networks and chains keep.",
        "EXTERNAL_CARD": "Cash on the card rail. Negative by what came in and has not gone out: the mirror of the processor's account.",
        "EXTERNAL_USDC": "Cash on the Solana rail, in dollars; the mirror of the treasury.",
        "USDC_SUSPENSE": "USDC that arrived and is nobody's balance: nobody knows whose it is, it is held, or it is on its way back.",
        "PLATFORM_CAPITAL": "What the platform itself put into its treasury.",
    },
)
expose(
    TransferState,
    name="TransferState",
    description="What a transfer does to its accounts.",
    values={"PENDING": "Reserves.", "POSTED": "Moves.", "VOIDED": "Gives a reservation back."},
)


@strawberry.type(description="A pot of money in the double-entry ledger.")
class LedgerAccount(Node):
    """Visible to administrators."""

    owner_uuid: strawberry.Private[UUID | None]
    number: strawberry.Private[int]
    kind: AccountKind = strawberry.field(description="What it is for.")
    debits_posted: Money = strawberry.field(description="What has left it.")
    credits_posted: Money = strawberry.field(description="What has come in.")
    debits_pending: Money = strawberry.field(description="What is held in it.")
    credits_pending: Money = strawberry.field(description="What is held for it.")
    balance: Money = strawberry.field(description="Posted credits less posted debits.")
    created_at: datetime = strawberry.field(description="When it was made.")

    @classmethod
    def of(cls, row: models.LedgerAccount) -> "LedgerAccount":
        """`row` as the API shows it."""
        return cls(
            id=ledger_account_id(row.id),
            owner_uuid=row.owner_id,
            number=row.id,
            kind=row.kind,
            debits_posted=Money.of(Amount(row.debits_posted, row.asset)),
            credits_posted=Money.of(Amount(row.credits_posted, row.asset)),
            debits_pending=Money.of(Amount(row.debits_pending, row.asset)),
            credits_pending=Money.of(Amount(row.credits_pending, row.asset)),
            balance=Money.of(Amount(row.credits_posted - row.debits_posted, row.asset)),
            created_at=row.created_at,
        )

    async def owner(self, _operation: Operation) -> UUID | None:
        """Nobody but the platform sees the ledger."""
        return None

    @listed("What was posted on it, newest first, with the balance after each line.")
    async def statement(self, info: Info, page: Page) -> Connection[StatementLine]:
        """Lines by transfer."""
        return await statement_of(info, self.number, page)

    @listed("Its daily snapshots, newest first; a day on which nothing had changed has none.")
    async def snapshots(self, info: Info, page: Page) -> Connection[AccountSnapshot]:
        """Snapshots by day."""
        return await snapshots_of(info, self.number, page)

    @resolved("The customer it belongs to; null for other kinds.")
    async def organization(self, info: Info) -> Organization | None:
        """Owner of a customer's account."""
        if self.owner_uuid is None or self.kind is AccountKind.PROVIDER_PAYABLE:
            return None
        return await info.context.loaders.identity.organization.load(self.owner_uuid)

    @resolved("The provider it belongs to; null for other kinds.")
    async def provider(self, info: Info) -> Provider | None:
        """Owner of a provider's account."""
        if self.owner_uuid is None or self.kind is not AccountKind.PROVIDER_PAYABLE:
            return None
        return await info.context.loaders.supply.provider.load(self.owner_uuid)


@strawberry.type(description="One movement of money. It never changes.")
class Transfer(Node):
    """Visible to administrators."""

    code: TransferCode = strawberry.field(description="Why it moved.")
    state: TransferState = strawberry.field(description="What it does to its accounts.")
    amount: Money = strawberry.field(description="How much.")
    debit_account_id: strawberry.ID = strawberry.field(description="The account it left.")
    credit_account_id: strawberry.ID = strawberry.field(description="The account it went to.")
    idempotency_key: str = strawberry.field(description="The same key moves money once.")
    created_at: datetime = strawberry.field(description="When it was written.")
    reverses_id: strawberry.ID | None = strawberry.field(
        description="The transfer that this reversal undoes."
    )
    reason: str | None = strawberry.field(description="Why a person corrected money.")

    @classmethod
    def of(cls, row: models.Transfer) -> "Transfer":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.TRANSFER, UUID(int=row.id)),
            code=row.code,
            state=row.state,
            amount=Money.of_nano_usd(row.amount),
            debit_account_id=ledger_account_id(row.debit_account_id),
            credit_account_id=ledger_account_id(row.credit_account_id),
            idempotency_key=row.key,
            created_at=row.created_at,
            reverses_id=None
            if row.reverses_id is None
            else global_id(Prefix.TRANSFER, UUID(int=row.reverses_id)),
            reason=row.reason,
        )

    async def owner(self, _operation: Operation) -> UUID | None:
        """Nobody but the platform sees the ledger."""
        return None


@strawberry.type(description="Sums over all accounts of one kind.")
class TrialBalanceRow:
    """One line of the trial balance."""

    kind: AccountKind = strawberry.field(description="Which accounts.")
    accounts: int = strawberry.field(description="How many there are.")
    debits: Money = strawberry.field(description="Posted debits.")
    credits: Money = strawberry.field(description="Posted credits.")
    pending: Money = strawberry.field(description="Held in them.")
    balance: Money = strawberry.field(description="Posted credits less posted debits.")


@strawberry.type(
    description="An account whose balance is not what its transfers add up to: stored less recomputed."
)
class LedgerDrift:
    """A fault in the books."""

    account_id: strawberry.ID = strawberry.field(description="Which account.")
    debits_posted: Money = strawberry.field(description="Difference of the posted debits.")
    credits_posted: Money = strawberry.field(description="Difference of the posted credits.")
    debits_pending: Money = strawberry.field(description="Difference of the held debits.")
    credits_pending: Money = strawberry.field(description="Difference of the held credits.")

    @classmethod
    def of(cls, found: ledger.Drift) -> "LedgerDrift":
        """`found` as the API shows it."""
        return cls(
            account_id=ledger_account_id(found.account_id),
            debits_posted=Money.of_nano_usd(found.debits_posted),
            credits_posted=Money.of_nano_usd(found.credits_posted),
            debits_pending=Money.of_nano_usd(found.debits_pending),
            credits_pending=Money.of_nano_usd(found.credits_pending),
        )


@strawberry.type(description="Whether the books balance, recomputed from every transfer in one snapshot.")
class TrialBalance:
    """Sums over the whole ledger."""

    rows: list[TrialBalanceRow] = strawberry.field(description="One per kind of account.")
    debits: Money = strawberry.field(description="All posted debits.")
    credits: Money = strawberry.field(description="All posted credits.")
    transferred: Money = strawberry.field(description="All posted transfers: what both sums must be.")
    sum: Money = strawberry.field(description="Credits less debits; zero.")
    balanced: bool = strawberry.field(description="Whether everything agrees.")
    drift: Money = strawberry.field(description="By how much accounts and transfers disagree, summed; zero.")
    drifts: list[LedgerDrift] = strawberry.field(
        description="Accounts that disagree with their transfers; empty."
    )
    uncleared_account_ids: list[strawberry.ID] = strawberry.field(
        description="Clearing accounts that hold money; empty."
    )

    @classmethod
    def of(cls, found: ledger.TrialBalance) -> "TrialBalance":
        """`found` as the API shows it."""
        return cls(
            rows=[
                TrialBalanceRow(
                    kind=row.kind,
                    accounts=row.accounts,
                    debits=Money.of(row.debits_posted),
                    credits=Money.of(row.credits_posted),
                    pending=Money.of(row.debits_pending),
                    balance=Money.of(row.balance),
                )
                for row in found.rows
            ],
            debits=Money.of(found.debits),
            credits=Money.of(found.credits),
            transferred=Money.of(found.transferred),
            sum=Money.of(found.credits - found.debits),
            balanced=found.balanced,
            drift=Money.of(found.drift),
            drifts=[LedgerDrift.of(account) for account in found.drifts],
            uncleared_account_ids=[ledger_account_id(number) for number in found.uncleared],
        )


@strawberry.input(description="Credit to give to an organization.")
class GrantCreditInput:
    """Money in, by an administrator."""

    organization_id: strawberry.ID = strawberry.field(description="Who gets it.")
    amount: Decimal = strawberry.field(description="US dollars, above 0, at most 9 decimal places.")
    idempotency_key: str = strawberry.field(
        description="1 to 128 characters of your choice; the same key grants once, however often it is sent."
    )
    expires_at: datetime | None = strawberry.field(
        default=None, description="When what is left is taken back; null for never."
    )
    reason: str = strawberry.field(
        default="", description="Why, for the customer to read; at most 500 characters."
    )
    source: GrantSource = strawberry.field(default=GrantSource.ADMIN, description="Who gives it.")


@strawberry.type(description="What grantCredit gives back.")
class GrantCreditPayload(Payload):
    """The transfer, or why there is none."""

    transfer: Transfer | None = strawberry.field(default=None, description="Null when there are user errors.")
    organization: Organization | None = strawberry.field(
        default=None, description="Who got it; null when there are user errors."
    )


def ledger_account_id(number: int) -> strawberry.ID:
    """Global id of the account with this number."""
    return global_id(Prefix.LEDGER_ACCOUNT, UUID(int=number))
