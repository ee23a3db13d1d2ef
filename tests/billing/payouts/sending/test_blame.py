"""Whose fault an error of the chain was."""

from uuid import UUID

import pytest

from raymart_billing.payouts.models import Purpose
from raymart_billing.payouts.sending.blame import blame
from raymart_billing.solana.failures import Cause, read_failure
from support.planned_part import part

FIRST = {1: 2, 0: 4}
"""Index of the first payment, by version: after marker and memo, and in version 0 after two limits."""


def at(instruction: int, error: object):
    failure = read_failure({"InstructionError": [instruction, error]})
    assert failure is not None
    return failure


class TestBlame:
    @pytest.mark.parametrize("version", [0, 1])
    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_failing_instruction_is_mapped_to_its_payee(self, version, place):
        found = blame(
            part(payees=3), Purpose.PAY, at(FIRST[version] + place, {"Custom": 17}), version=version
        )
        assert list(found.quarantined) == [UUID(int=10 + place)]
        assert found.cause is Cause.ACCOUNT_FROZEN

    @pytest.mark.parametrize(
        ("error", "cause"),
        [
            ({"Custom": 3}, Cause.WRONG_MINT),
            ("InvalidAccountData", Cause.ACCOUNT_MISSING),
            ({"Custom": 4711}, Cause.UNKNOWN),
        ],
    )
    def test_what_lies_in_the_account_is_the_payees(self, error, cause):
        found = blame(part(), Purpose.PAY, at(2, error), version=1)
        assert found.cause is cause
        assert len(found.quarantined) == 1

    def test_empty_treasury_is_nobodys_fault(self):
        found = blame(part(), Purpose.PAY, at(2, {"Custom": 1}), version=1)
        assert (found.cause, dict(found.quarantined)) == (Cause.TREASURY_SHORT_OF_USDC, {})

    def test_used_marker_is_nobodys_fault(self):
        found = blame(part(), Purpose.PAY, at(0, {"Custom": 0}), version=1)
        assert (found.cause, dict(found.quarantined)) == (Cause.MARKER_USED, {})

    @pytest.mark.parametrize("purpose", [Purpose.BURN, Purpose.OPEN])
    def test_attempt_that_pays_nobody_blames_nobody(self, purpose):
        assert not blame(part(), purpose, at(2, {"Custom": 17}), version=1).quarantined

    def test_whole_transaction_blames_nobody(self):
        failure = read_failure("InsufficientFundsForFee")
        assert failure is not None
        assert not blame(part(), Purpose.PAY, failure, version=1).quarantined
