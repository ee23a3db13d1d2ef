"""Credit notes: at most what is left of the invoice, paid once, and never changed after."""

import asyncio

import psycopg
import pytest

from raymart_billing import invoices
from raymart_billing.invoices import Correction, CreditNoteState
from raymart_billing.ledger.refusals import AMOUNT_MAX
from raymart_billing.refunds import Bearer, refund_request
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.db.session import session_scope
from support.old_books import OldBooks, in_month, month_start

LAST, BEFORE = month_start(1), month_start(2)


@pytest.fixture
async def used(books: OldBooks):
    """Two requests of 120 nano-USD each."""
    await books.deposit(1_000, at=in_month(LAST, days=1))
    return await books.use(2, arrived=in_month(LAST), posted=in_month(LAST))


@pytest.fixture
async def final(books: OldBooks, used):
    return await books.invoice(LAST)


async def create(books: OldBooks, invoice, *amounts: int, reason="bad images"):
    async with session_scope(books.sessions) as session:
        return await invoices.create_credit_note(
            session,
            invoice_id=invoice.id,
            corrections=[Correction(description="correction", amount=Money(amount)) for amount in amounts],
            reason=reason,
            actor_id=None,
        )


async def issue(books: OldBooks, note):
    async with session_scope(books.sessions) as session:
        return await invoices.issue_credit_note(session, note.id, actor_id=None)


async def left(books: OldBooks, invoice) -> int:
    async with session_scope(books.sessions) as session:
        return (await invoices.creditable(session, invoice.id)).amount


class TestIssue:
    async def test_is_numbered_and_paid_into_the_balance(self, books: OldBooks, final):
        before = (await books.columns("platform_refund")).balance
        note = await create(books, final, 50, 7)
        assert note.state is CreditNoteState.DRAFT
        assert (await books.columns("customer_balance")).balance == 760
        issued = await issue(books, note)
        assert issued.number.startswith("RMC-")
        assert (await books.columns("customer_balance")).balance == 760 + 57
        assert (await books.columns("platform_refund")).balance == before - 57
        assert await left(books, final) == 240 - 57

    async def test_repeat_pays_once(self, books: OldBooks, final):
        note = await create(books, final, 50)
        numbers = {(await issue(books, note)).number for _ in range(3)}
        assert len(numbers) == 1
        assert (await books.columns("customer_balance")).balance == 760 + 50

    async def test_six_at_once_pay_once(self, books: OldBooks, final):
        note = await create(books, final, 50)
        await asyncio.gather(*(issue(books, note) for _ in range(6)))
        assert (await books.columns("customer_balance")).balance == 760 + 50

    async def test_notes_that_race_do_not_exceed_the_invoice(self, books: OldBooks, final):
        notes = [await create(books, final, 100) for _ in range(4)]
        done = await asyncio.gather(*(issue(books, note) for note in notes), return_exceptions=True)
        assert sum(isinstance(each, Conflict) for each in done) == 2
        assert (await books.columns("customer_balance")).balance == 760 + 200

    async def test_more_than_is_left_is_refused(self, books: OldBooks, final):
        note = await create(books, final, 241)
        with pytest.raises(Conflict, match="241 exceeds what is left of the invoice, 240"):
            await issue(books, note)
        assert (await books.columns("customer_balance")).balance == 760

    async def test_what_was_refunded_before_and_since_is_not_left(self, books: OldBooks, used):
        async def refund(request, amount):
            async with session_scope(books.sessions) as session:
                await refund_request(
                    session,
                    request_id=request.id,
                    amount=Money(amount),
                    bearer=Bearer.PLATFORM,
                    reason="r",
                    key=new_id().hex,
                    actor_id=None,
                )

        await refund(used[0], 20)
        await books.move(in_month(LAST, days=15))
        final = await books.invoice(LAST)
        assert await left(books, final) == 220
        await refund(used[1], 120)
        assert await left(books, final) == 100

    async def test_refund_of_an_older_month_takes_nothing_from_this_one(self, books: OldBooks):
        await books.deposit(1_000, at=in_month(BEFORE, days=1))
        [older] = await books.use(1, arrived=in_month(BEFORE), posted=in_month(BEFORE))
        first = await books.invoice(BEFORE)
        await books.use(1, arrived=in_month(LAST), posted=in_month(LAST))
        second = await books.invoice(LAST)
        async with session_scope(books.sessions) as session:
            await refund_request(
                session,
                request_id=older.id,
                amount=Money(70),
                bearer=Bearer.PLATFORM,
                reason="r",
                key=new_id().hex,
                actor_id=None,
            )
        assert (await left(books, first), await left(books, second)) == (50, 120)

    async def test_invoice_with_a_note_cannot_be_voided(self, books: OldBooks, final):
        await issue(books, await create(books, final, 5))
        async with session_scope(books.sessions) as session:
            with pytest.raises(Conflict, match="credit note"):
                await invoices.void_invoice(session, final.id, reason="r", actor_id=None)

    async def test_refund_of_it_is_a_line_of_the_next_invoice(self, books: OldBooks, final):
        await issue(books, await create(books, final, 5))
        last_code = await books.value("select code from transfer order by id desc limit 1")
        assert last_code == "refund"


class TestCreate:
    async def test_amount_out_of_range_is_refused(self, books: OldBooks, final):
        for amount in (0, -1, -AMOUNT_MAX):
            with pytest.raises(InvalidRequest, match="cannot be credited"):
                await create(books, final, amount)

    async def test_lines_beyond_a_bigint_together_are_refused(self, books: OldBooks, final):
        with pytest.raises(InvalidRequest, match="more than a ledger can hold"):
            await create(books, final, AMOUNT_MAX, 1)

    async def test_wrong_currency_is_refused(self, books: OldBooks, final):
        async with session_scope(books.sessions) as session:
            with pytest.raises(InvalidRequest, match="USDC"):
                await invoices.create_credit_note(
                    session,
                    invoice_id=final.id,
                    corrections=[Correction(description="c", amount=Money(5, Asset.USDC))],
                    reason="r",
                    actor_id=None,
                )

    @pytest.mark.parametrize("amount", [1.5, float("nan"), "5", AMOUNT_MAX + 1, 10**30])
    def test_float_or_more_than_a_bigint_is_no_money(self, amount):
        with pytest.raises((AssertionError, TypeError, ValueError)):
            Money(amount)

    async def test_reason_is_needed(self, books: OldBooks, final):
        with pytest.raises(InvalidRequest, match="reason"):
            await create(books, final, 5, reason=" ")

    async def test_draft_invoice_cannot_be_corrected(self, books: OldBooks, used):
        draft = await books.draft(LAST)
        with pytest.raises(Conflict, match="draft"):
            await create(books, draft, 5)

    async def test_unknown_invoice_is_not_found(self, books: OldBooks, final):
        final.id = new_id()
        with pytest.raises(NotFound):
            await create(books, final, 5)


class TestVoid:
    async def test_dropped_draft_pays_nothing(self, books: OldBooks, final):
        note = await create(books, final, 5)
        async with session_scope(books.sessions) as session:
            assert (await invoices.void_credit_note(session, note.id)).state is CreditNoteState.VOID
        with pytest.raises(Conflict, match="void"):
            await issue(books, note)

    async def test_issued_note_stays(self, books: OldBooks, final):
        note = await issue(books, await create(books, final, 5))
        async with session_scope(books.sessions) as session:
            with pytest.raises(Conflict, match="issued and paid"):
                await invoices.void_credit_note(session, note.id)


class TestGuards:
    async def test_issued_note_does_not_change(self, books: OldBooks, final):
        note = await issue(books, await create(books, final, 5))
        for change in (
            "update credit_note set amount_nano_usd = 6 where id = %s",
            "update credit_note set state = 'void', number = null, content_sha256 = null, issued_at = null where id = %s",
            "delete from credit_note where id = %s",
            "update credit_note_line set amount_nano_usd = 6 where credit_note_id = %s",
            "delete from credit_note_line where credit_note_id = %s",
            (
                "insert into credit_note_line (id, credit_note_id, position, description, amount_nano_usd)"
                " select gen_random_uuid(), id, 9, 'x', 1 from credit_note where id = %s"
            ),
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await books.fetch(change, note.id)

    async def test_lines_must_add_up(self, books: OldBooks, final):
        note = await create(books, final, 5)
        await books.fetch(
            "insert into credit_note_line (id, credit_note_id, position, description, amount_nano_usd)"
            " values (%s, %s, 9, 'x', 1)",
            new_id(),
            note.id,
        )
        with pytest.raises(Exception, match="sum to 6, not 5"):
            await issue(books, note)
