"""The treasury's account: each change has a row, each row a change, and the balance is their sum."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from raymart_billing.payouts.reconciliation.compare_parts import GRACE
from raymart_billing.payouts.reconciliation.compare_treasury import PartsOfTransactions, compare_treasury
from raymart_billing.payouts.reconciliation.differences import Difference, DifferenceKind
from raymart_billing.payouts.reconciliation.facts import Booked, Treasury, TreasuryTransaction
from support.payout_books import LONG_AGO, NOW, landing_of, paid_part, unsent

OPENING = 10**13
changes = st.lists(st.integers(-(10**9), 10**9), max_size=30)


def changed(number: int, by: int) -> TreasuryTransaction:
    return TreasuryTransaction(
        signature=f"tx-{number}",
        slot=number,
        at=LONG_AGO,
        fee_lamports=5_000,
        is_failed=not by,
        change_micro_usdc=by,
    )


def booked_as(transaction: TreasuryTransaction) -> Booked:
    return Booked(
        table="treasury_withdrawal",
        row=f"row-{transaction.signature}",
        signature=transaction.signature,
        change_micro_usdc=transaction.change_micro_usdc,
    )


def treasury_of(history: list[TreasuryTransaction]) -> Treasury:
    balance = OPENING + sum(transaction.change_micro_usdc for transaction in history)
    return Treasury(opening_micro_usdc=OPENING, history=history, balance_micro_usdc=balance)


def compare(treasury: Treasury, *booked: Booked) -> list[Difference]:
    return list(compare_treasury(treasury, payments=(), booked=booked, now=NOW))


class TestCompareTreasury:
    @given(changes)
    def test_changes_that_all_have_rows_make_no_difference(self, by: list[int]):
        history = [changed(number, change) for number, change in enumerate(by)]
        rows = [booked_as(transaction) for transaction in history if transaction.change_micro_usdc]
        assert compare(treasury_of(history), *rows) == []

    @given(changes.filter(any), st.data())
    def test_any_change_without_its_row_is_named(self, by: list[int], data: st.DataObject):
        history = [changed(number, change) for number, change in enumerate(by)]
        rows = [booked_as(transaction) for transaction in history if transaction.change_micro_usdc]
        missing = data.draw(st.sampled_from(rows))
        kind = (
            DifferenceKind.UNEXPLAINED_RECEIPT
            if missing.change_micro_usdc > 0
            else DifferenceKind.UNEXPLAINED_PAYMENT
        )
        [found] = compare(treasury_of(history), *(row for row in rows if row is not missing))
        assert (found.kind, found.row) == (kind, missing.signature)

    @given(changes.filter(any), st.data())
    def test_any_transaction_that_history_hides_shows_in_the_balance(
        self, by: list[int], data: st.DataObject
    ):
        history = [changed(number, change) for number, change in enumerate(by)]
        hidden = data.draw(st.sampled_from([each for each in history if each.change_micro_usdc]))
        rest = [each for each in history if each is not hidden]
        rows = [booked_as(each) for each in rest if each.change_micro_usdc]
        found = compare(replace(treasury_of(history), history=rest), *rows)
        assert [each.kind for each in found] == [DifferenceKind.TREASURY_BALANCE]

    def test_a_row_that_the_chain_does_not_have_is_named(self):
        [found] = compare(treasury_of([]), booked_as(changed(1, 5)))
        assert (found.kind, found.row) == (DifferenceKind.NOT_ON_CHAIN, "row-tx-1")

    def test_a_row_with_another_amount_is_named(self):
        transaction = changed(1, 5)
        [found] = compare(treasury_of([transaction]), replace(booked_as(transaction), change_micro_usdc=6))
        assert (found.kind, found.expected, found.found) == (DifferenceKind.NOT_ON_CHAIN, "+5", "+6")

    def test_a_receipt_within_the_grace_waits_for_the_scanner_and_a_payment_does_not(self):
        young = NOW - GRACE / 2
        history = [replace(changed(1, 5), at=young), replace(changed(2, -5), at=young)]
        assert [each.kind for each in compare(treasury_of(history))] == [DifferenceKind.UNEXPLAINED_PAYMENT]


class TestPartsOfTransactions:
    def test_a_transaction_is_found_by_its_marker_when_all_attempts_are_lost(self):
        part = paid_part([5])
        lost = replace(unsent(part), attempts=[])
        assert PartsOfTransactions.of([lost]).part_of(landing_of(part)) is lost

    def test_a_marker_that_was_edited_is_found_by_what_it_should_be(self):
        part = paid_part([5])
        edited = replace(part, marker="another", signature=None, attempts=[])
        assert PartsOfTransactions.of([edited]).part_of(landing_of(part)) is edited

    def test_a_stranger_is_no_part(self):
        assert PartsOfTransactions.of([paid_part([5])]).part_of(changed(1, -5)) is None
