"""A customer's accounts, locked together, and the movements that one transaction makes between them."""

from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.credits.locking import available_in, lock_accounts
from raymart_billing.ledger import AccountKind, Movement, TransferCode, open_account, post
from raymart_core.money import Money


@dataclass(slots=True, kw_only=True)
class Funds:
    """What a customer has and owes, in nano-USD, while its accounts are locked; `move` plans, `post` posts.

    The numbers follow the plan, so that each step of one batch sees what the steps before it did.
    """

    organization_id: UUID
    accounts: dict[AccountKind, int]
    available: int
    """Posted and not held. What running requests hold cannot be taken from them."""
    owed: int
    planned: list[Movement] = field(default_factory=list)

    def move(
        self, key: str, code: TransferCode, debit: AccountKind, credit: AccountKind, amount: int
    ) -> None:
        """Plan a movement; one of nothing is none."""
        assert amount >= 0, f"{key} of {amount}"
        if amount == 0:
            return
        self.planned.append(
            Movement(
                key=key,
                debit_account_id=self.accounts[debit],
                credit_account_id=self.accounts[credit],
                amount=Money(amount),
                code=code,
            )
        )
        self.available += amount * _sign(AccountKind.CUSTOMER_BALANCE, debit, credit)
        self.owed -= amount * _sign(AccountKind.CUSTOMER_RECEIVABLE, debit, credit)
        assert self.available >= 0, f"{key} takes more than there is"

    def settle_debt(self, key: str) -> None:
        """Plan to pay what the customer owes, as far as what it has goes. New money does this before anything else."""
        self.move(
            key,
            TransferCode.RECEIVABLE_SETTLED,
            AccountKind.CUSTOMER_BALANCE,
            AccountKind.CUSTOMER_RECEIVABLE,
            min(self.available, self.owed),
        )

    async def post(self, session: AsyncSession, *, actor_id: UUID | None = None) -> int:
        """Post the plan as one batch; returns how many transfers were new."""
        planned, self.planned = self.planned, []
        return await post(session, planned, actor_id=actor_id) if planned else 0


OWN = (
    AccountKind.CUSTOMER_BALANCE,
    AccountKind.CUSTOMER_RECEIVABLE,
    AccountKind.CUSTOMER_DISPUTE,
    AccountKind.USAGE_CLEARING,
)
COUNTERPARTS = (
    AccountKind.EXTERNAL_CARD,
    AccountKind.EXTERNAL_USDC,
    AccountKind.USDC_SUSPENSE,
    AccountKind.PAYMENT_COST,
)


async def lock_funds(session: AsyncSession, organization_id: UUID) -> Funds:
    """The customer's accounts, opened if they are new and locked until the transaction ends.

    Locks them all by id in one call, with the cash accounts that money comes from: what `Funds.post` locks afterwards
    is among them, so that this is one round of locks and two writers cannot wait for each other in a circle.
    """
    accounts = {kind: await open_account(session, kind) for kind in COUNTERPARTS}
    accounts |= {kind: await open_account(session, kind, organization_id) for kind in OWN}
    rows = await lock_accounts(session, accounts.values())
    receivable = rows[accounts[AccountKind.CUSTOMER_RECEIVABLE]]
    return Funds(
        organization_id=organization_id,
        accounts=accounts,
        available=available_in(rows[accounts[AccountKind.CUSTOMER_BALANCE]]),
        owed=receivable.debits_posted - receivable.credits_posted,
    )


def _sign(kind: AccountKind, debit: AccountKind, credit: AccountKind) -> int:
    return (credit is kind) - (debit is kind)
