"""A part against its transaction: what agrees is silent, and each edit is named with its row."""

from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_billing.payouts.reconciliation.compare_parts import GRACE, compare_part
from raymart_billing.payouts.reconciliation.differences import Difference, DifferenceKind
from raymart_billing.payouts.reconciliation.facts import BookedPart, Purpose, TreasuryTransaction
from support.payout_books import LONG_AGO, NOW, landing_of, paid_part, transfers, unsent

amounts = st.lists(st.integers(1, 10**12), min_size=1, max_size=57)


def found(
    part: BookedPart, *landings: TreasuryTransaction, has_marker: bool = True
) -> list[tuple[DifferenceKind, str]]:
    return [(each.kind, each.row) for each in compare(part, *landings, has_marker=has_marker)]


def compare(part: BookedPart, *landings: TreasuryTransaction, has_marker: bool = True) -> list[Difference]:
    return list(compare_part(part, landings, has_marker=has_marker, now=NOW))


class TestAgreement:
    @given(amounts)
    def test_a_part_that_was_paid_as_booked_has_no_difference(self, paid: list[int]):
        part = paid_part(paid)
        assert compare(part, landing_of(part)) == []

    @given(amounts)
    def test_a_part_on_its_way_has_no_difference(self, paid: list[int]):
        assert compare(unsent(paid_part(paid)), has_marker=False) == []

    def test_a_landing_within_the_grace_may_not_be_booked_yet(self):
        part = paid_part([5])
        young = landing_of(part, at=NOW - GRACE / 2)
        assert compare(unsent(part), young, has_marker=False) == []

    def test_a_reclaimed_marker_is_gone(self):
        part = replace(paid_part([5]), is_marker_reclaimed=True)
        assert compare(part, landing_of(part), has_marker=False) == []

    def test_two_items_of_one_wallet_are_one_sum(self):
        part = paid_part([5, 7])
        first, second = part.items
        same = replace(second, wallet=first.wallet, token_account=first.token_account)
        landing = landing_of(part)
        received = {first.token_account: replace(landing.received[first.token_account], amount_micro_usdc=12)}
        assert compare(replace(part, items=[first, same]), replace(landing, received=received)) == []


class TestChain:
    def test_finalized_without_a_transaction_is_named(self):
        part = paid_part([5])
        assert (DifferenceKind.FINALIZED_NOT_LANDED, str(part.id)) in found(part, has_marker=False)

    def test_a_transaction_that_our_rows_missed_is_named(self):
        part = paid_part([5])
        assert (DifferenceKind.LANDED_NOT_FINALIZED, str(part.id)) in found(unsent(part), landing_of(part))

    def test_a_block_without_a_time_counts_as_old(self):
        part = paid_part([5])
        assert (DifferenceKind.LANDED_NOT_FINALIZED, str(part.id)) in found(
            unsent(part), landing_of(part, at=None)
        )

    def test_two_transactions_of_one_part_are_named(self):
        part = paid_part([5])
        landing = landing_of(part)
        assert (DifferenceKind.LANDED_TWICE, str(part.id)) in found(
            part, landing, replace(landing, signature="again")
        )

    def test_a_marker_without_a_payment_is_named(self):
        part = unsent(paid_part([5]))
        assert found(part) == [(DifferenceKind.MARKER, str(part.id))]

    def test_a_burnt_marker_stands_for_no_payment(self):
        burnt = replace(unsent(paid_part([5])), state="failed", items=[], has_successor=True)
        assert found(burnt) == []

    def test_a_marker_that_is_being_burnt_may_stand_before_our_rows_know(self):
        part = unsent(paid_part([5]))
        burning = replace(part.attempts[1], purpose=Purpose.BURN)
        assert found(replace(part, attempts=[burning])) == []

    def test_an_account_opened_for_a_payee_is_no_payment(self):
        part = paid_part([5])
        opened = replace(part.attempts[1], id=uuid4(), signature="opened", purpose=Purpose.OPEN)
        assert found(replace(part, attempts=[*part.attempts, opened]), landing_of(part)) == []

    def test_a_payment_without_its_marker_is_named(self):
        part = paid_part([5])
        assert found(part, landing_of(part), has_marker=False) == [(DifferenceKind.MARKER, str(part.id))]

    @given(amounts, st.data())
    def test_any_other_amount_names_the_item(self, paid: list[int], data: st.DataObject):
        part = paid_part(paid)
        landing = landing_of(part)
        item = data.draw(st.sampled_from(part.items))
        other = data.draw(st.integers(1, 10**12).filter(lambda n: n != item.amount_micro_usdc))
        received = dict(landing.received)
        received[item.token_account] = replace(received[item.token_account], amount_micro_usdc=other)
        assert found(part, replace(landing, received=received)) == [(DifferenceKind.AMOUNT, str(item.id))]

    def test_an_item_that_got_nothing_and_a_stranger_that_got_something_are_named(self):
        part = paid_part([5, 6])
        landing, item = landing_of(part), part.items[0]
        received = dict(landing.received)
        received["stranger"] = received.pop(item.token_account)
        assert found(part, replace(landing, received=received)) == [
            (DifferenceKind.PAYEE, str(item.id)),
            (DifferenceKind.PAYEE, str(part.id)),
        ]


def with_item(part: BookedPart, **changes: object) -> BookedPart:
    first, *rest = part.items
    return replace(part, items=[replace(first, **changes), *rest])


def with_ledger(part: BookedPart, **changes: object) -> BookedPart:
    item = part.items[0]
    return with_item(part, ledger={**item.ledger, "settled": replace(item.ledger["settled"], **changes)})


def with_attempt(part: BookedPart, **changes: object) -> BookedPart:
    return replace(part, attempts=[part.attempts[0], replace(part.attempts[1], **changes)])


EDITS: dict[str, tuple[DifferenceKind, Callable[[BookedPart], BookedPart]]] = {
    "part's state": (DifferenceKind.LANDED_NOT_FINALIZED, lambda part: replace(part, state="held")),
    "part's signature": (DifferenceKind.SIGNATURE, lambda part: replace(part, signature="lost-1")),
    "part's slot": (DifferenceKind.CHAIN_FACTS, lambda part: replace(part, slot=7)),
    "part's fee": (DifferenceKind.CHAIN_FACTS, lambda part: replace(part, fee_lamports=7)),
    "part's total": (DifferenceKind.PART_TOTAL, lambda part: replace(part, total_micro_usdc=7)),
    "part's marker": (DifferenceKind.MARKER, lambda part: replace(part, marker="another")),
    "item's amount": (DifferenceKind.AMOUNT, lambda part: with_item(part, amount_micro_usdc=7)),
    "item's wallet": (DifferenceKind.WALLET, lambda part: with_item(part, wallet="another")),
    "item's token account": (DifferenceKind.PAYEE, lambda part: with_item(part, token_account="another")),
    "item's state": (DifferenceKind.ITEM_STATE, lambda part: with_item(part, state="planned")),
    "item returned": (DifferenceKind.LEDGER, lambda part: with_item(part, state="returned")),
    "item's provider": (DifferenceKind.LEDGER, lambda part: with_item(part, provider_id=uuid4())),
    "item removed": (DifferenceKind.PAYEE, lambda part: replace(part, items=part.items[1:])),
    "ledger's amount": (DifferenceKind.LEDGER, lambda part: with_ledger(part, amount_nano_usd=7_000)),
    "ledger's owner": (DifferenceKind.LEDGER, lambda part: with_ledger(part, owner_id=uuid4())),
    "ledger's row": (DifferenceKind.LEDGER, lambda part: with_item(
        part, ledger=transfers(part.items[0].provider_id, part.items[0].amount_micro_usdc, "sent")
    )),
    "attempt's bytes": (DifferenceKind.ATTEMPT, lambda part: with_attempt(part, are_bytes_sound=False)),
    "attempt's state": (DifferenceKind.ATTEMPT, lambda part: with_attempt(part, state="failed")),
}  # fmt: skip
"""Each edit by hand of a part that was paid, and the kind that must name it."""


class TestEditsByHand:
    @pytest.mark.parametrize("edit", EDITS)
    def test_each_is_named(self, edit: str):
        kind, changed = EDITS[edit]
        part = paid_part([5, 6])
        assert kind in {each.kind for each in compare(changed(part), landing_of(part, at=LONG_AGO))}
