"""`raymart deposit`, in this process: each command reads its own settings and connects anew."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from raymart_billing.deposits import Deposit
from raymart_core.errors import DomainError
from raymart_core.ids import Prefix, show
from raymart_graphql.cli import command_line
from raymart_marketplace.accounts.models import Organization, User
from raymart_marketplace.db.session import make_engine, make_sessions, session_scope
from support.card_market import CardCustomer, CardMarket
from support.fake_stripe import API_KEY, WEBHOOK_SECRET, FakeStripe


@pytest.fixture
def stripe_server() -> Iterator[FakeStripe]:
    with FakeStripe() as server:
        yield server


class Shop:
    """A customer with a credited deposit, and the command line."""

    def __init__(self, url: str, stripe: FakeStripe) -> None:
        self.url = url
        self.stripe = stripe
        self.customer, self.deposit, self.slug, self.email = asyncio.run(self._open())

    def __call__(self, *arguments: str) -> str:
        """Standard output of `raymart deposit <arguments>`. Raises: what the command raises."""
        variables = {
            "DATABASE_URL": self.url,
            "RAYMART_TOKEN_SECRET": "7f" * 32,
            "RAYMART_STRIPE_API_KEY": API_KEY,
            "RAYMART_STRIPE_WEBHOOK_SECRETS": WEBHOOK_SECRET,
            "RAYMART_STRIPE_API_BASE": self.stripe.url,
        }
        done = CliRunner().invoke(command_line("deposit"), ["deposit", *arguments], env=variables)
        if isinstance(done.exception, DomainError):
            raise done.exception
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        return json.loads(self(*arguments, "-o", "json"))

    @asynccontextmanager
    async def market(self) -> AsyncIterator[CardMarket]:
        engine = make_engine(self.url, pool_size=2)
        market = CardMarket(make_sessions(engine), self.stripe)
        try:
            yield market
        finally:
            market.close()
            await engine.dispose()

    async def _open(self) -> tuple[CardCustomer, Deposit, str, str]:
        async with self.market() as market:
            customer = await market.customer()
            deposit = await market.paid(customer, 2_000)
            async with session_scope(market.sessions) as session:
                organization = await session.get_one(Organization, customer.organization_id)
                user = await session.get_one(User, customer.user_id)
            return customer, deposit, organization.slug, user.email

    def balances(self) -> dict[str, int]:
        async def read() -> dict[str, int]:
            async with self.market() as market:
                return await market.balances(self.customer)

        return asyncio.run(read())


@pytest.fixture
def shop(database_url: str, stripe_server: FakeStripe) -> Shop:
    return Shop(database_url, stripe_server)


class TestReading:
    def test_list_and_show(self, shop: Shop):
        [row] = shop.rows("list", "--customer", shop.slug)
        assert (row["state"], row["credited"]) == ("credited", "20.000000000 USD")
        assert shop.rows("list", "--customer", shop.slug, "--state", "failed") == []
        assert shop.rows("list", "--customer", shop.slug, "--held") == []
        shown = {row["what"]: row["value"] for row in shop.rows("show", row["id"])}
        assert shown["payment"] == shop.deposit.payment_id
        assert row["id"][:6] in shop("list", "--customer", shop.slug)

    def test_unknown_things_are_named(self, shop: Shop):
        with pytest.raises(DomainError, match="no organization 'nobody-here'"):
            shop("list", "--customer", "nobody-here")
        with pytest.raises(DomainError, match="not an id"):
            shop("show", "org_1")
        with pytest.raises(DomainError, match="no user"):
            shop("block", "--customer", shop.slug, "--reason", "r", "--actor", "nobody@example.com")


class TestWriting:
    def test_refund_and_reconcile(self, shop: Shop):
        deposit_id = show(Prefix.DEPOSIT, shop.deposit.id)
        decided = ("--reason", "asked for", "--actor", shop.email, "--key", "k")
        assert "succeeded" in shop("refund", deposit_id, "--amount", "7.50", *decided)
        assert shop.stripe.charge_of(shop.deposit.session_id or "")["amount_refunded"] == 750
        assert shop.balances() == {"customer_balance": 1_250}
        assert "is credited" in shop("reconcile", deposit_id)
        shop.stripe.refund_in_dashboard(shop.deposit.session_id or "", 250)
        assert "missed events applied" in shop("reconcile")
        assert shop.balances() == {"customer_balance": 1_000}
        with pytest.raises(DomainError, match="more than can be paid back"):
            shop(
                "refund",
                deposit_id,
                "--amount",
                "10.01",
                "--reason",
                "r",
                "--actor",
                shop.email,
                "--key",
                "l",
            )

    def test_adjust_block_and_unblock(self, shop: Shop):
        who = ("--customer", shop.slug, "--reason", "a mistake", "--actor", shop.email)
        shop("adjust", *who, "--amount", "-5", "--key", f"cli-{shop.slug}")
        assert shop.balances() == {"customer_balance": 1_500}
        shop("block", *who)
        shop("unblock", *who)
        with pytest.raises(DomainError, match="not blocked"):
            shop("unblock", *who)

    def test_disputes_events_and_grants_are_listed(self, shop: Shop):
        dispute_id, event = shop.stripe.dispute(shop.deposit.session_id or "")

        async def hear() -> None:
            async with shop.market() as market:
                await market.hear(event)

        asyncio.run(hear())
        assert shop.slug in {row["customer"] for row in shop.rows("disputes")}
        assert event["id"] in {row["id"] for row in shop.rows("events", "--state", "applied")}
        assert shop.rows("grants", "--customer", shop.slug) == []
        assert dispute_id
