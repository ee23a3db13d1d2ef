"""A slice of promise 5: workers die at every place under the faults that cost most; `make chaos-payouts` runs it whole."""

import pytest
from chaos import promise_05_payouts

from support.payout_chaos import Fault


@pytest.mark.slow
def test_every_payee_has_what_the_ledger_says_whatever_dies():
    figures = promise_05_payouts.measure(
        faults=[Fault.HIDDEN, Fault.LOST, Fault.RESTORED], kills_each=1, batches=2
    )
    assert [figure for figure in figures if not figure.holds] == []
