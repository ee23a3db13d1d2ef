"""Self-billing invoices: made of the ledger, one for each final payment, joined, numbered and never changed."""

import asyncio
import csv
import io
from collections.abc import Sequence
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import DBAPIError

from raymart_billing.invoices import Party, render_pdf, set_billing_profile
from raymart_billing.invoices.content import content_sha256
from raymart_billing.ledger.models import TransferCode
from raymart_billing.payouts.models import ItemState, PayoutItem
from raymart_billing.self_billing import (
    SelfBillingInvoice,
    due_payments,
    issue_self_billing_invoice,
    readable_self_billing,
    self_billing_content,
    self_billing_csv,
)
from raymart_billing.self_billing.tasks import PERIODICS
from raymart_billing.work.process import open_resources
from raymart_core.errors import Conflict, NotFound
from raymart_core.ids import new_id
from raymart_marketplace.db.session import Sessions, session_scope
from support.background import a_context, control_settings
from support.payout_rows import PaidRow, PayoutRows
from support.payout_wallets import Payee, make_payee
from support.pdf_text import text_of
from support.provider_books import ProviderBooks

MARKET = Party(
    legal_name="Raymart Ltd", address="1 Market Street", country="IE", tax_id="IE123", email="b@r.example"
)


WRONG: Sequence[tuple[dict[str, object], str]] = (
    ({"earned_nano_usd": 1}, "ck_self_billing_invoice_lines_are_the_ledger"),
    ({"closing_nano_usd": 7}, "ck_self_billing_invoice_lines_are_the_ledger"),
    ({"lines": []}, "ck_self_billing_invoice_lines_are_the_ledger"),
    (
        {"lines": [{"day": "2020-01-01", "code": "usage_earning", "amount": 0}]},
        "ck_self_billing_invoice_lines_are_the_ledger",
    ),
    ({"opening_nano_usd": 7}, "ck_self_billing_invoice_joins_previous"),
    ({"after_transfer_id": 1}, "ck_self_billing_invoice_joins_previous"),
    ({"paid_micro_usdc": 1}, "ck_self_billing_invoice_of_final_payment"),
    ({"number": "RMS-2026-999999"}, "ck_self_billing_invoice_number_is_next"),
)
"""What a document may not say, and which guard refuses it."""


@pytest.fixture
async def payee(sessions: Sessions) -> Payee:
    async with session_scope(sessions) as session:
        payee = await make_payee(session)
        await set_billing_profile(
            session,
            organization_id=payee.organization_id,
            party=Party(
                legal_name="Alpha Compute GmbH",
                address="Ring 1\n1010 Wien",
                country="AT",
                tax_id="ATU1",
                email="a@a.example",
            ),
            actor_id=payee.owner_id,
        )
    return payee


@pytest.fixture
def books(sessions: Sessions, payee: Payee) -> ProviderBooks:
    return ProviderBooks(sessions, payee.provider_id)


@pytest.fixture
def rows(owner_url: str) -> PayoutRows:
    return PayoutRows(owner_url)


async def pay(rows: PayoutRows, books: ProviderBooks, payee: Payee, micro_usdc: int) -> PaidRow:
    """A payment that left the account and is final."""
    paid = rows.payment(payee.provider_id, rows.epoch(), micro_usdc=micro_usdc, wallet=payee.address)
    await books.send(paid.item_id, micro_usdc)
    await books.settle(paid.item_id, micro_usdc)
    return paid


async def issue(sessions: Sessions, item_id: UUID) -> SelfBillingInvoice:
    async with session_scope(sessions) as session:
        return await issue_self_billing_invoice(session, item_id, recipient=MARKET)


def constraint_of(error: BaseException | None) -> str | None:
    assert isinstance(error, psycopg.Error)
    return error.diag.constraint_name


class TestIssue:
    async def test_document_says_what_the_ledger_says(
        self, sessions: Sessions, payee: Payee, books: ProviderBooks, rows: PayoutRows
    ):
        await books.earn(5_000_000_123)
        await books.earn(1_000_000_000)
        await books.move(TransferCode.REFUND_CLAWBACK, 500_000_000)
        await books.move(TransferCode.RESERVE_KEPT, 550_000_000)
        paid = await pay(rows, books, payee, 4_950_000)
        made = await issue(sessions, paid.item_id)
        assert made.number.startswith("RMS-")
        assert (made.opening_nano_usd, made.earned_nano_usd, made.closing_nano_usd) == (0, 5_500_000_123, 123)
        assert [(line["code"], line["transfers"], line["amount"]) for line in made.lines] == [
            ("payout_sent", 1, -4_950_000_000),
            ("refund_clawback", 1, -500_000_000),
            ("reserve_kept", 1, -550_000_000),
            ("usage_earning", 2, 6_000_000_123),
        ]
        assert made.payment["signature"] == paid.signature
        assert made.payment["wallet"] == payee.address
        assert (made.supplier["legal_name"], made.recipient["legal_name"]) == (
            "Alpha Compute GmbH",
            "Raymart Ltd",
        )

    async def test_hash_covers_the_content_as_it_is_stored(
        self, sessions: Sessions, payee: Payee, books: ProviderBooks, rows: PayoutRows
    ):
        await books.earn(2_000_000_000)
        made = await issue(sessions, (await pay(rows, books, payee, 2_000_000)).item_id)
        async with session_scope(sessions) as session:
            stored = await session.get_one(SelfBillingInvoice, made.id)
            assert content_sha256(self_billing_content(stored)) == stored.content_sha256
            stored_content = self_billing_content(stored)
        assert content_sha256(stored_content | {"earned": 1}) != made.content_sha256

    async def test_documents_join_and_the_next_begins_where_the_last_ended(
        self, sessions: Sessions, payee: Payee, books: ProviderBooks, rows: PayoutRows
    ):
        await books.earn(2_000_000_500)
        first = await issue(sessions, (await pay(rows, books, payee, 2_000_000)).item_id)
        await books.move(TransferCode.RESERVE_KEPT, 500)
        await books.earn(3_000_000_000)
        await books.move(TransferCode.RESERVE_RELEASED, 500)
        second = await issue(sessions, (await pay(rows, books, payee, 3_000_000)).item_id)
        assert second.after_transfer_id == first.up_to_transfer_id
        assert (second.opening_nano_usd, second.closing_nano_usd) == (500, 500)
        assert second.earned_nano_usd == 3_000_000_000
        assert int(second.number[-6:]) == int(first.number[-6:]) + 1

    async def test_payment_that_is_final_after_a_later_one_has_its_document_too(
        self, sessions: Sessions, payee: Payee, books: ProviderBooks, rows: PayoutRows
    ):
        """Both left the account; the second was final first and its document has both."""
        await books.earn(5_000_000_000)
        late = rows.payment(
            payee.provider_id, rows.epoch(), micro_usdc=2_000_000, wallet=payee.address, item="planned",
            batch="sending", part="submitted",
        )  # fmt: skip
        await books.send(late.item_id, 2_000_000)
        early = await issue(sessions, (await pay(rows, books, payee, 3_000_000)).item_id)
        assert early.closing_nano_usd == 0
        with pytest.raises(Conflict, match="once it is final"):
            await issue(sessions, late.item_id)
        await books.settle(late.item_id, 2_000_000)
        rows.change("payout_item", late.item_id, state="paid")
        made = await issue(sessions, late.item_id)
        assert (made.earned_nano_usd, made.lines, made.paid_micro_usdc) == (0, [], 2_000_000)

    async def test_repeats_and_races_make_one(
        self, sessions: Sessions, payee: Payee, books: ProviderBooks, rows: PayoutRows
    ):
        await books.earn(2_000_000_000)
        paid = await pay(rows, books, payee, 2_000_000)
        made = await asyncio.gather(*(issue(sessions, paid.item_id) for _ in range(4)))
        assert len({each.number for each in made}) == 1
        with pytest.raises(NotFound):
            await issue(sessions, new_id())

    async def test_periodic_issues_what_is_due(
        self, sessions: Sessions, payee: Payee, books: ProviderBooks, rows: PayoutRows, database_url: str
    ):
        await books.earn(2_000_000_000)
        paid = await pay(rows, books, payee, 2_000_000)
        async with session_scope(sessions) as session:
            assert paid.item_id in await due_payments(session)
        async with open_resources(control_settings(database_url)) as resources:
            await PERIODICS[0].handle(a_context(resources))
        async with session_scope(sessions) as session:
            assert await due_payments(session) == []
            assert await session.scalar(
                select(SelfBillingInvoice.number).where(SelfBillingInvoice.payout_item_id == paid.item_id)
            )


class TestGuards:
    """The database adds the ledger up itself, and lets nothing be changed."""

    async def test_document_that_says_something_else_is_refused(
        self,
        sessions: Sessions,
        payee: Payee,
        books: ProviderBooks,
        rows: PayoutRows,
        monkeypatch: pytest.MonkeyPatch,
    ):
        await books.earn(2_000_000_000)
        paid = await pay(rows, books, payee, 2_000_000)
        async with session_scope(sessions) as session:
            stranger = (await make_payee(session)).organization_id
        make = SelfBillingInvoice.__init__
        of_another = ({"organization_id": stranger}, "ck_self_billing_invoice_of_provider")
        for change, constraint in (*WRONG, of_another):

            def wrongly(row: SelfBillingInvoice, change: dict = change, **columns: object) -> None:
                make(row, **(columns | change))

            with monkeypatch.context() as patched:
                patched.setattr(SelfBillingInvoice, "__init__", wrongly)
                with pytest.raises(DBAPIError) as refused:
                    await issue(sessions, paid.item_id)
            assert constraint_of(refused.value.orig) == constraint, change
        assert await issue(sessions, paid.item_id), "as it is, it is issued"

    async def test_payment_that_is_not_settled_in_the_ledger_has_none(
        self, sessions: Sessions, payee: Payee, books: ProviderBooks, rows: PayoutRows
    ):
        """The item's row says paid, and nothing has left the treasury's account."""
        await books.earn(2_000_000_000)
        paid = rows.payment(payee.provider_id, rows.epoch(), micro_usdc=2_000_000, wallet=payee.address)
        await books.send(paid.item_id, 2_000_000)
        with pytest.raises(DBAPIError) as refused:
            await issue(sessions, paid.item_id)
        assert constraint_of(refused.value.orig) == "ck_self_billing_invoice_of_final_payment"
        async with session_scope(sessions) as session:
            assert (await session.get_one(PayoutItem, paid.item_id)).state is ItemState.PAID
        await books.settle(paid.item_id, 2_000_000)
        assert await issue(sessions, paid.item_id)

    async def test_issued_one_never_changes(
        self, sessions: Sessions, payee: Payee, books: ProviderBooks, rows: PayoutRows, owner_url: str
    ):
        await books.earn(2_000_000_000)
        made = await issue(sessions, (await pay(rows, books, payee, 2_000_000)).item_id)
        with pytest.raises(DBAPIError, match="permission denied"):
            async with session_scope(sessions) as session:
                await session.execute(
                    update(SelfBillingInvoice).where(SelfBillingInvoice.id == made.id).values(number="RMS-1")
                )
        for statement in (
            "update self_billing_invoice set earned_nano_usd = 1",
            "delete from self_billing_invoice",
            "truncate self_billing_invoice",
        ):
            with (
                psycopg.connect(owner_url) as owner,
                pytest.raises(psycopg.errors.InsufficientPrivilege) as refused,
            ):
                owner.execute(statement)
            assert refused.value.diag.constraint_name == "ck_self_billing_invoice_immutable"


class TestFiles:
    async def test_pdf_and_csv_hold_parties_lines_and_the_transaction(
        self, sessions: Sessions, payee: Payee, books: ProviderBooks, rows: PayoutRows
    ):
        await books.earn(5_000_000_123)
        await books.move(TransferCode.RESERVE_KEPT, 500_000_000)
        paid = await pay(rows, books, payee, 4_500_000)
        made = await issue(sessions, paid.item_id)
        async with session_scope(sessions) as session:
            readable = await readable_self_billing(session, made.number)
            assert await readable_self_billing(session, "RMS-2020-000001") is None
        assert readable is not None
        assert readable.organization_id == payee.organization_id
        pdf = await asyncio.to_thread(render_pdf, readable.sheet)
        assert pdf == await asyncio.to_thread(render_pdf, readable.sheet), "the same bytes each time"
        shown = "".join(text_of(pdf).split())
        for words in (
            "Self-billing invoice", made.number, "Alpha Compute GmbH", "Raymart Ltd", "ATU1", "Supplied in total",
            "5.000000123", "4.500000 USDC", "Holdback kept", "in the name and for the account of",
        ):  # fmt: skip
            assert words.replace(" ", "") in shown, words
        written = list(csv.DictReader(io.StringIO(self_billing_csv(made).decode())))
        kinds = [row["code"] for row in written]
        assert kinds == [
            "opening_balance",
            "payout_sent",
            "reserve_kept",
            "usage_earning",
            "closing_balance",
            "payment",
        ]
        assert written[-1]["amount"] == "4.500000"
        assert written[3]["amount"] == "5.000000123"
        assert {row["provider_payment"] for row in written} == {paid.signature}
