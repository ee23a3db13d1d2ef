"""Promise 2, the fast version: gateway processes race over the last of a balance or a budget."""

from collections import Counter

import pytest

from support.overspend import PRICE, race


class TestRace:
    @pytest.mark.parametrize(
        ("limited_by", "code"), [("balance", "insufficient_funds"), ("organization", "budget_exceeded")]
    )
    async def test_exactly_what_is_covered_is_served(self, database_url: str, limited_by, code):
        ended = await race(database_url, processes=3, requests=150, covered=30, limited_by=limited_by, keys=3)
        assert (ended.served, ended.refused) == (30, Counter({code: 120}))
        assert ended.lowest == 0
        assert (ended.spent, ended.pending, ended.open_leases) == (30 * PRICE, 0, 0)
