"""`raymart payouts wallet|earnings|history|documents|document`: a provider's view from the shell."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from solders.keypair import Keypair

from raymart_billing.invoices import Party
from raymart_billing.self_billing import issue_self_billing_invoice
from raymart_marketplace.db.session import Sessions, session_scope
from support.command_line import Done, run
from support.own_database import database_url, owner_url
from support.payout_rows import PaidRow, PayoutRows
from support.payout_wallets import Payee, choose, make_paid_payee
from support.provider_books import ProviderBooks

__all__ = ["database_url", "owner_url"]

Shell = Callable[..., Done]
MARKET = Party(legal_name="Raymart", address="", country="", tax_id=None, email="b@r.example")


@pytest.fixture
async def paid(sessions: Sessions) -> Payee:
    return await make_paid_payee(sessions)


@pytest.fixture
async def payment(sessions: Sessions, owner_url: str, paid: Payee) -> PaidRow:
    """One epoch, earned and paid."""
    rows, books = PayoutRows(owner_url), ProviderBooks(sessions, paid.provider_id)
    await books.earn(2_500_000_007)
    epoch = rows.epoch()
    rows.earning(paid.provider_id, epoch, gross_nano_usd=2_500_000_007)
    made = rows.payment(paid.provider_id, epoch, micro_usdc=2_500_000, wallet=paid.address)
    await books.send(made.item_id, 2_500_000)
    await books.settle(made.item_id, 2_500_000)
    return made


async def said(url: str, *arguments: str, status: int = 0) -> Done:
    """In a thread: commands start an event loop of their own."""
    done = await asyncio.to_thread(run, url, "payouts", *arguments)
    assert done.returncode == status, done.stderr
    return done


class TestWallet:
    async def test_lists_choices_and_says_whether_it_can_be_paid(
        self, database_url: str, sessions: Sessions, paid: Payee
    ):
        done = await said(database_url, "wallet", "--provider", paid.id, "-o", "json")
        [row] = json.loads(done.stdout)
        assert (row["address"], row["check"], row["ended"]) == (paid.address, "passed", None)
        assert "can be paid now" in done.stderr
        async with session_scope(sessions) as session:
            await choose(session, paid, Keypair())
        done = await said(database_url, "wallet", "--provider", paid.id, "-o", "json")
        assert [row["ended"] for row in json.loads(done.stdout)] == [None, "replaced"]
        assert "nothing is paid before" in done.stderr

    async def test_unknown_provider_is_named(self, database_url: str):
        done = await said(database_url, "wallet", "--provider", "nobody", status=1)
        assert "there is no provider 'nobody'" in done.stderr


class TestEarningsAndHistory:
    async def test_epochs_show_what_was_paid_and_what_comes(
        self, database_url: str, paid: Payee, payment: PaidRow
    ):
        done = await said(database_url, "earnings", "--provider", paid.id, "-o", "json")
        [row] = json.loads(done.stdout)
        assert (row["gross_usd"], row["paid_usdc"], row["carried_over_usd"]) == (
            "2.500000007",
            "2.500000",
            "0.000000007",
        )
        assert "next payout: at most 0.000000 USDC, but it was less than the least" in done.stderr

    async def test_payments_show_their_transactions(self, database_url: str, paid: Payee, payment: PaidRow):
        done = await said(database_url, "history", "--provider", paid.id, "-o", "json")
        [row] = json.loads(done.stdout)
        assert (row["state"], row["amount_usdc"], row["wallet"]) == ("paid", "2.500000", paid.address)
        assert row["signature"] == payment.signature
        assert row["explorer_url"].endswith(payment.signature)


class TestDocuments:
    async def test_are_listed_and_written(
        self, database_url: str, sessions: Sessions, paid: Payee, payment: PaidRow, tmp_path: Path
    ):
        async with session_scope(sessions) as session:
            made = await issue_self_billing_invoice(session, payment.item_id, recipient=MARKET)
        done = await said(database_url, "documents", "--provider", paid.id, "-o", "json")
        assert [row["number"] for row in json.loads(done.stdout)] == [made.number]
        for name, begins in (("d.pdf", b"%PDF-"), ("d.csv", b"document,")):
            await said(database_url, "document", made.number, "--file", str(tmp_path / name))
            assert (tmp_path / name).read_bytes().startswith(begins)
        for number in ("RMS-2020-000009", "x"):
            await said(database_url, "document", number, "--file", str(tmp_path / "x"), status=1)
