"""A customer with a card, our side of the card rail, and a Stripe that does as it is told."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from raymart_billing.deposits import (
    CardRail,
    CardRules,
    Deposit,
    Dispute,
    Event,
    TooEarly,
    apply_event,
    create_deposit,
    receive,
)
from raymart_billing.deposits.stripe_client import StripeProcessor
from raymart_billing.ledger import (
    AccountKind,
    LedgerAccount,
    Movement,
    TransferCode,
    open_account,
    post,
    trial_balance,
)
from raymart_core.ids import new_id
from raymart_core.money import Money
from raymart_marketplace.accounts import service as accounts
from raymart_marketplace.accounts.models import OrganizationKind, User
from raymart_marketplace.db.session import Sessions, session_scope
from support.fake_stripe import API_KEY, FakeStripe

CENT = 10_000_000
RULES = CardRules(
    amount_min=Money.parse("5"),
    amount_max=Money.parse("10000"),
    return_url="http://127.0.0.1:8000/console/",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CardCustomer:
    """An organization and its owner."""

    organization_id: UUID
    user_id: UUID


class CardMarket:
    """Shorthand for what happens between a customer, Stripe and us."""

    def __init__(self, sessions: Sessions, stripe: FakeStripe, *, owner_url: str = "") -> None:
        self.sessions = sessions
        self.owner_url = owner_url
        """The same database as its superuser, for what only a test can do to a row."""
        self.stripe = stripe
        self.rail = CardRail(processor=StripeProcessor(API_KEY, api_base=stripe.url), rules=RULES)

    def close(self) -> None:
        self.rail.processor.close()

    async def customer(self) -> CardCustomer:
        async with session_scope(self.sessions) as session:
            unique = new_id().hex[-12:]
            organization = await accounts.create_organization(
                session, name=f"Org {unique}", kind=OrganizationKind.CUSTOMER
            )
            user = User(id=new_id(), email=f"{unique}@example.com", name="Owner", password_hash="x")
            session.add(user)
        return CardCustomer(organization_id=organization.id, user_id=user.id)

    def use_key(self, api_key: str) -> None:
        """Talk to Stripe with another key."""
        self.rail = CardRail(processor=StripeProcessor(api_key, api_base=self.stripe.url), rules=RULES)

    async def ask(self, customer: CardCustomer, amount: Money) -> Deposit:
        """A deposit of any amount."""
        return await create_deposit(
            self.sessions,
            self.rail.processor,
            RULES,
            organization_id=customer.organization_id,
            amount=amount,
            key=new_id().hex,
            actor_id=customer.user_id,
        )

    async def forget_page(self, owner_url: str, deposit: Deposit) -> Deposit:
        """The deposit as a crash before our second commit leaves it, made by the superuser; returns it as it was."""
        async with await psycopg.AsyncConnection.connect(owner_url) as connection:
            await connection.execute("alter table deposit disable trigger refuse_rewrite")
            await connection.execute(
                "update deposit set session_id = null, session_url = null, state = 'created' where id = %s",
                (deposit.id,),
            )
            await connection.execute("alter table deposit enable trigger refuse_rewrite")
        return deposit

    async def apply(self, event_id: str) -> None:
        async with session_scope(self.sessions) as session:
            await apply_event(session, event_id)

    async def refusal(self, statement: str) -> bool:
        """Whether the database refuses `statement`; it is undone in any case."""
        async with self.sessions() as session:
            try:
                await session.execute(text(statement.replace(":", r"\:")))
            except DBAPIError:
                return True
            finally:
                await session.rollback()
        return False

    async def deposit(self, customer: CardCustomer, cents: int = 2_000, key: str | None = None) -> Deposit:
        """A deposit with its page."""
        return await create_deposit(
            self.sessions,
            self.rail.processor,
            RULES,
            organization_id=customer.organization_id,
            amount=Money(cents * CENT),
            key=key or new_id().hex,
            actor_id=customer.user_id,
        )

    async def paid(self, customer: CardCustomer, cents: int = 2_000) -> Deposit:
        """A deposit that was paid and credited."""
        deposit = await self.deposit(customer, cents)
        await self.hear(self.stripe.pay(deposit.session_id))
        return await self.now(deposit)

    async def hear(self, event: dict[str, Any]) -> bool:
        """Receive and apply an event as the webhook does; returns whether it was new."""
        async with session_scope(self.sessions) as session:
            is_new = await receive(session, read(event))
        if is_new:
            try:
                async with session_scope(self.sessions) as session:
                    await apply_event(session, event["id"])
            except TooEarly:
                pass
        return is_new

    async def now(self, deposit: Deposit) -> Deposit:
        async with session_scope(self.sessions) as session:
            return await session.get_one(Deposit, deposit.id)

    async def dispute(self, provider_id: str) -> Dispute:
        async with session_scope(self.sessions) as session:
            return (await session.scalars(select(Dispute).where(Dispute.provider_id == provider_id))).one()

    async def balances(self, customer: CardCustomer) -> dict[str, int]:
        """Cents by kind of the customer's accounts, without those that are empty."""
        async with session_scope(self.sessions) as session:
            rows = await session.scalars(
                select(LedgerAccount).where(LedgerAccount.owner_id == customer.organization_id)
            )
            found = {row.kind.value: (row.credits_posted - row.debits_posted) / CENT for row in rows}
        return {kind: int(cents) for kind, cents in found.items() if cents}

    async def spend(self, customer: CardCustomer, cents: int) -> None:
        """Use money as requests do, as far as the books are concerned."""
        async with session_scope(self.sessions) as session:
            fee = await open_account(session, AccountKind.PLATFORM_FEE)
            balance = await open_account(session, AccountKind.CUSTOMER_BALANCE, customer.organization_id)
            clearing = await open_account(session, AccountKind.USAGE_CLEARING, customer.organization_id)
            key, amount = f"test-usage:{new_id()}", Money(cents * CENT)
            charge = Movement(
                key=key,
                debit_account_id=balance,
                credit_account_id=clearing,
                amount=amount,
                code=TransferCode.USAGE_CHARGE,
            )
            earning = Movement(
                key=f"{key}/fee",
                debit_account_id=clearing,
                credit_account_id=fee,
                amount=amount,
                code=TransferCode.USAGE_FEE,
            )
            await post(session, [charge, earning])

    async def hold(self, customer: CardCustomer, cents: int) -> str:
        """Hold money as running requests do; the hold's key."""
        key = f"hold:{new_id()}"
        async with session_scope(self.sessions) as session:
            await session.execute(
                text(
                    "select ledger_hold(:key, ledger_open_account('customer_balance', :owner, 'usd'),"
                    " ledger_open_account('usage_clearing', :owner, 'usd'), :amount, 'usage_hold', interval '1 hour')"
                ),
                {"key": key, "amount": cents * CENT, "owner": customer.organization_id},
            )
        return key

    async def release(self, key: str) -> None:
        async with session_scope(self.sessions) as session:
            await session.execute(text("select ledger_void_hold(:key)"), {"key": key})

    async def transfers(self, customer: CardCustomer) -> list[tuple[str, int]]:
        """Code and cents of everything posted to or from the customer's accounts, in order."""
        query = text(
            "select t.code, t.amount from transfer t where t.state = 'posted' and exists (select from ledger_account a"
            " where a.id in (t.debit_account_id, t.credit_account_id) and a.owner_id = :owner) order by t.id"
        )
        async with session_scope(self.sessions) as session:
            rows = await session.execute(query, {"owner": customer.organization_id})
            return [(row.code, row.amount // CENT) for row in rows]

    async def books_balance(self) -> bool:
        async with session_scope(self.sessions) as session:
            return (await trial_balance(session)).balanced

    async def cash(self) -> int:
        """Cents that the card rail's mirror says are at Stripe."""
        async with session_scope(self.sessions) as session:
            found = await session.scalar(
                select(func.sum(LedgerAccount.debits_posted - LedgerAccount.credits_posted)).where(
                    LedgerAccount.kind == AccountKind.EXTERNAL_CARD
                )
            )
            return int(found or 0) // CENT


def read(event: dict[str, Any]) -> Event:
    return Event(id=event["id"], type=event["type"], created=event["created"], data=event["data"])
