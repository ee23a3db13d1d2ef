"""Which credit is used first, as a pure function of history."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_billing.credits import EMPTY, Entry, Parts, fold, step
from raymart_billing.credits.consumption import PAID_FIRST
from raymart_billing.ledger import TransferCode

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
IN = (
    TransferCode.DEPOSIT_CARD,
    TransferCode.REFUND,
    TransferCode.ADJUSTMENT_CREDIT,
    TransferCode.DISPUTE_WON,
)
OUT = (
    TransferCode.USAGE_CHARGE, TransferCode.CREDIT_EXPIRED, TransferCode.ADJUSTMENT_DEBIT, TransferCode.DEPOSIT_REFUND,
    TransferCode.DISPUTE_OPENED, TransferCode.RECEIVABLE_SETTLED,
)  # fmt: skip


@st.composite
def histories(draw: st.DrawFn) -> list[Entry]:
    """What the ledger can have written: nothing takes more than there is."""
    entries: list[Entry] = []
    balance = 0
    for number in range(draw(st.integers(0, 30))):
        kind = draw(st.sampled_from(["grant", "in", "out", "out"]))
        amount = draw(st.integers(1, 1_000))
        if kind == "grant":
            days = draw(st.one_of(st.none(), st.integers(1, 5)))
            until = None if days is None else BEGIN + timedelta(days=days)
            entries.append(entry(number, TransferCode.CREDIT_GRANT, amount, until))
        elif kind == "in":
            entries.append(entry(number, draw(st.sampled_from(IN)), amount))
        elif balance:
            amount = min(amount, balance)
            entries.append(entry(number, draw(st.sampled_from(OUT)), -amount))
        else:
            continue
        balance += entries[-1].change
    return entries


def entry(number: int, code: TransferCode, change: int, until: datetime | None = None) -> Entry:
    return Entry(transfer_id=number, code=code, change=change, expires_at=until)


class TestProperties:
    @given(histories())
    def test_parts_are_the_balance_and_none_is_negative(self, history: list[Entry]):
        parts = EMPTY
        for one in history:
            parts = step(parts, one)
            assert parts.paid >= 0
            assert all(grant.left > 0 for grant in parts.grants)
            assert parts.total == parts.paid + parts.promotional
        assert parts.total == sum(one.change for one in history)

    @given(histories(), st.integers(0, 30))
    def test_a_remembered_prefix_gives_the_same(self, history: list[Entry], cut: int):
        remembered = Parts.from_json(fold(history[:cut]).to_json())
        assert fold(history[cut:], remembered) == fold(history)

    @given(histories())
    def test_usage_touches_paid_money_only_when_no_grant_is_left(self, history: list[Entry]):
        parts = EMPTY
        for one in history:
            after = step(parts, one)
            if one.change < 0 and one.code not in PAID_FIRST and after.paid < parts.paid:
                assert after.promotional == 0
            if one.code in PAID_FIRST and after.promotional < parts.promotional:
                assert after.paid == 0
            parts = after

    @given(histories())
    def test_a_grant_is_touched_only_when_those_that_end_before_it_are_used_up(self, history: list[Entry]):
        parts = EMPTY
        for one in history:
            after = step(parts, one)
            if one.change < 0:
                touched = [grant for grant in parts.grants if after.left_of(grant.transfer_id) < grant.left]
                for grant in touched[:-1]:
                    assert after.left_of(grant.transfer_id) == 0
                assert touched == list(parts.grants[: len(touched)])
            ends = [grant.expires_at or datetime.max.replace(tzinfo=UTC) for grant in after.grants]
            assert ends == sorted(ends)
            parts = after

    @given(histories())
    def test_same_history_same_parts(self, history: list[Entry]):
        assert fold(history) == fold(tuple(history))


class TestExamples:
    def test_the_one_that_ends_first_is_used_first_whenever_it_was_given(self):
        late, soon = BEGIN + timedelta(days=9), BEGIN + timedelta(days=2)
        parts = fold(
            [
                entry(1, TransferCode.CREDIT_GRANT, 100),
                entry(2, TransferCode.CREDIT_GRANT, 100, late),
                entry(3, TransferCode.DEPOSIT_CARD, 100),
                entry(4, TransferCode.CREDIT_GRANT, 100, soon),
                entry(5, TransferCode.USAGE_CHARGE, -150),
            ]
        )
        assert [(grant.transfer_id, grant.left) for grant in parts.grants] == [(2, 50), (1, 100)]
        assert parts.paid == 100

    def test_what_a_bank_takes_is_paid_money(self):
        parts = fold(
            [
                entry(1, TransferCode.CREDIT_GRANT, 100),
                entry(2, TransferCode.DEPOSIT_CARD, 100),
                entry(3, TransferCode.DISPUTE_OPENED, -120),
            ]
        )
        assert (parts.paid, parts.promotional) == (0, 80)

    def test_grant_that_is_undone_is_taken_from_that_grant(self):
        parts = fold(
            [
                entry(1, TransferCode.CREDIT_GRANT, 100, BEGIN),
                entry(2, TransferCode.CREDIT_GRANT, 100),
                entry(3, TransferCode.DEPOSIT_CARD, 100),
                entry(4, TransferCode.USAGE_CHARGE, -130),
                Entry(transfer_id=5, code=TransferCode.REVERSAL, change=-100, reverses_id=2),
            ]
        )
        assert (parts.paid, parts.promotional) == (70, 0)

    def test_more_than_there_is_is_a_bug(self):
        with pytest.raises(AssertionError, match="takes 2 of 1"):
            fold([entry(1, TransferCode.DEPOSIT_CARD, 1), entry(2, TransferCode.USAGE_CHARGE, -2)])
