import pytest

from raymart_billing.solana import Cause, Explanation, Item, Layout, explain, items_layout, payout_layout
from raymart_billing.solana.failures import read_failure


def explained(err: object, layout: Layout) -> Explanation:
    failure = read_failure(err)
    assert failure is not None
    return explain(failure, layout)


class TestReadFailure:
    def test_null_is_success(self) -> None:
        assert read_failure(None) is None

    @pytest.mark.parametrize(
        ("err", "name", "instruction", "instruction_error", "custom"),
        [
            ("AccountNotFound", "AccountNotFound", None, None, None),
            ({"InstructionError": [3, {"Custom": 17}]}, "InstructionError", 3, "Custom", 17),
            (
                {"InstructionError": [0, "InvalidAccountData"]},
                "InstructionError",
                0,
                "InvalidAccountData",
                None,
            ),
            ({"InstructionError": [0, {"BorshIoError": "x"}]}, "InstructionError", 0, "BorshIoError", None),
            ({"InstructionError": [0, {"Custom": "17"}]}, "InstructionError", 0, "Custom", None),
            ({"InstructionError": [True, "X"]}, "InstructionError", None, None, None),
            ({"InstructionError": "X"}, "InstructionError", None, None, None),
            (
                {"InsufficientFundsForRent": {"account_index": 1}},
                "InsufficientFundsForRent",
                None,
                None,
                None,
            ),
            ({"Future": 1, "Other": 2}, "Unreadable", None, None, None),
            (["X"], "Unreadable", None, None, None),
            (False, "Unreadable", None, None, None),
        ],
    )
    def test_any_other_shape_is_a_failure_with_what_can_be_read(
        self,
        err: object,
        name: str,
        instruction: int | None,
        instruction_error: str | None,
        custom: int | None,
    ) -> None:
        failure = read_failure(err)
        assert failure is not None
        found = (failure.name, failure.instruction, failure.instruction_error, failure.custom)
        assert found == (name, instruction, instruction_error, custom)

    def test_its_text_is_bounded(self) -> None:
        failure = read_failure("x" * 10_000)
        assert failure is not None
        assert len(failure.text) < 310
        assert len(failure.name) < 310


PAYOUT = payout_layout(3, version=1)


class TestExplain:
    @pytest.mark.parametrize(
        ("err", "cause", "item"),
        [
            ({"InstructionError": [0, {"Custom": 0}]}, Cause.MARKER_USED, None),
            ({"InstructionError": [0, {"Custom": 1}]}, Cause.TREASURY_SHORT_OF_SOL, None),
            ({"InstructionError": [0, "InvalidArgument"]}, Cause.UNKNOWN, None),
            ({"InstructionError": [1, "InvalidArgument"]}, Cause.UNKNOWN, None),
            ({"InstructionError": [2, {"Custom": 17}]}, Cause.ACCOUNT_FROZEN, 0),
            ({"InstructionError": [3, {"Custom": 3}]}, Cause.WRONG_MINT, 1),
            ({"InstructionError": [4, {"Custom": 1}]}, Cause.TREASURY_SHORT_OF_USDC, 2),
            ({"InstructionError": [4, "InvalidAccountData"]}, Cause.ACCOUNT_MISSING, 2),
            ({"InstructionError": [4, {"Custom": 999}]}, Cause.UNKNOWN, 2),
            ({"InstructionError": [5, {"Custom": 17}]}, Cause.UNKNOWN, None),
            ({"InstructionError": [3, "ComputationalBudgetExceeded"]}, Cause.OUT_OF_COMPUTE, None),
            ("AccountNotFound", Cause.TREASURY_SHORT_OF_SOL, None),
            ("InsufficientFundsForFee", Cause.TREASURY_SHORT_OF_SOL, None),
            ({"InsufficientFundsForRent": {"account_index": 0}}, Cause.TREASURY_SHORT_OF_SOL, None),
            ("BlockhashNotFound", Cause.BLOCKHASH_UNKNOWN, None),
            ("AlreadyProcessed", Cause.ALREADY_PROCESSED, None),
            ("SomeFutureError", Cause.UNKNOWN, None),
        ],
    )
    def test_a_payouts_failure_names_cause_and_payee(
        self, err: object, cause: Cause, item: int | None
    ) -> None:
        assert explained(err, PAYOUT) == Explanation(cause=cause, item=item)

    def test_version_0_has_its_budget_before_the_marker(self) -> None:
        layout = payout_layout(3, version=0)
        assert explained({"InstructionError": [2, {"Custom": 0}]}, layout).cause is Cause.MARKER_USED
        assert explained({"InstructionError": [4, {"Custom": 17}]}, layout).item == 0

    def test_the_same_number_means_other_things_elsewhere(self) -> None:
        err = {"InstructionError": [1, {"Custom": 1}]}
        opening = items_layout(3, Item.TOKEN_ACCOUNT, version=1)
        reclaim = items_layout(3, Item.RECLAIM, version=1)
        assert explained(err, opening) == Explanation(cause=Cause.TREASURY_SHORT_OF_SOL, item=1)
        assert explained(err, reclaim) == Explanation(cause=Cause.ACCOUNT_MISSING, item=1)
