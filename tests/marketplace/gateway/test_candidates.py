"""Candidates are looked at when it is their turn, at the prices of the decision."""

import msgspec
from marketplace.routing.test_route import endpoint

from raymart_core.ports import Prices
from raymart_marketplace.gateway.candidates import Candidates, priced, turns

ASKED, DEARER = Prices(token_prompt=2), Prices(token_prompt=9)


class Row:
    """An endpoint that tells how often it was looked at."""

    def __init__(self, number: int) -> None:
        self.shape = endpoint(number)
        self.prices, self.context_length, self.looks = ASKED, number, 0

    def snapshot(self, prices):
        self.looks += 1
        return msgspec.structs.replace(self.shape, prices=prices)


def test_only_the_one_whose_turn_it_is_is_looked_at():
    rows = [Row(1), Row(2), Row(3)]
    plan = Candidates(rows)
    assert (bool(plan), len(plan)) == (True, 3)
    assert list(priced(plan)) == [(row, ASKED) for row in rows]
    first, spare = next(turns(plan))
    assert (first.id, spare) == (rows[0].shape.id, rows[1])
    assert plan[0] is first
    assert [row.looks for row in rows] == [1, 0, 0]


def test_one_that_became_dearer_is_used_at_the_price_that_is_held():
    rows = [Row(1), Row(2)]
    plan = Candidates(rows)
    rows[1].prices = DEARER
    assert [each.prices for each in plan] == [ASKED, ASKED]


def test_each_has_its_turn_and_the_last_no_spare():
    plan = Candidates([Row(1), Row(2)])
    assert [(each.id.int, spare is not None) for each, spare in turns(plan)] == [(1, True), (2, False)]
    assert [each.id.int for each in plan[1:]] == [2]


def test_snapshots_are_candidates_too():
    plan = [endpoint(1), endpoint(2)]
    assert list(turns(plan)) == [(plan[0], plan[1]), (plan[1], None)]
    assert list(priced(plan)) == [(each, each.prices) for each in plan]
    assert list(turns([])) == []
