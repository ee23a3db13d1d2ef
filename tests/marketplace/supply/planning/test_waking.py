"""Which placements are woken for what waits, without a database."""

from dataclasses import replace
from uuid import UUID

import pytest

from raymart_marketplace.supply.planning.demand import Demand
from raymart_marketplace.supply.planning.fit import GIB
from raymart_marketplace.supply.planning.waking import NodeLoad, Sleeper, wakes

OFFER = UUID(int=100)
ROOMY = NodeLoad(memory_bytes=100 * GIB, gpus=0, memory_taken_bytes=0, gpus_taken=0)


def sleeper(number: int, **changes: object) -> Sleeper:
    made = Sleeper(
        placement_id=UUID(int=number),
        pool_id=UUID(int=9),
        node_id=UUID(int=1_000 + number),
        offer_id=OFFER,
        revision_digest="sha256:a",
        replicas_min=0,
        replicas_max=2,
        running=0,
        failed=False,
        slots=4,
        memory_bytes=10 * GIB,
        gpus=0,
    )
    return replace(made, **changes)


def woken(demand: Demand, *sleepers: Sleeper, **loads: NodeLoad) -> dict[int, float]:
    nodes = {each.node_id: loads.get(f"n{each.placement_id.int}", ROOMY) for each in sleepers}
    return {placement.int: count for placement, count in wakes(demand, sleepers, nodes).items()}


def waits(count: int, offer: UUID = OFFER) -> Demand:
    return Demand(waiting={offer.hex: count})


class TestWaiting:
    @pytest.mark.parametrize(
        ("count", "found"), [(1, {1: 0.25}), (4, {1: 1.0}), (8, {1: 2.0}), (9, {1: 2.0, 2: 0.25})]
    )
    def test_one_placement_is_filled_before_the_next_is_woken(self, count, found):
        assert woken(waits(count), sleeper(1), sleeper(2)) == found

    def test_what_runs_is_filled_first(self):
        assert woken(waits(1), sleeper(1), sleeper(2, running=1)) == {2: 0.25}

    def test_what_failed_is_tried_last(self):
        assert woken(waits(1), sleeper(1, failed=True), sleeper(2)) == {2: 0.25}

    def test_nobody_else_s_offer_is_woken(self):
        assert woken(waits(1, UUID(int=7)), sleeper(1)) == {}

    def test_without_memory_the_next_machine_is_taken(self):
        full = replace(ROOMY, memory_taken_bytes=85 * GIB)
        assert woken(waits(1), sleeper(1), sleeper(2), n1=full) == {2: 0.25}

    def test_without_gpus_too(self):
        assert woken(waits(1), sleeper(1, gpus=1), sleeper(2)) == {2: 0.25}

    def test_two_offers_do_not_get_the_same_memory(self):
        first, second = sleeper(1), sleeper(2, offer_id=UUID(int=200), node_id=UUID(int=1_001))
        demand = Demand(waiting={OFFER.hex: 1, UUID(int=200).hex: 1})
        load = NodeLoad(memory_bytes=12 * GIB, gpus=0, memory_taken_bytes=0, gpus_taken=0)
        assert wakes(demand, [first, second], {UUID(int=1_001): load}) == {UUID(int=1): 0.25}

    def test_memory_that_nobody_knows_is_enough(self):
        unknown = NodeLoad(memory_bytes=0, gpus=0, memory_taken_bytes=0, gpus_taken=0)
        assert woken(waits(1), sleeper(1), n1=unknown) == {1: 0.25}


class TestQueues:
    @pytest.mark.parametrize(("queued", "found"), [(3, {}), (4, {2: 1.0})])
    def test_a_queue_as_long_as_a_replica_wakes_one_that_sleeps(self, queued, found):
        demand = Demand(queued={"sha256:a": queued})
        assert woken(demand, sleeper(1, running=2), sleeper(2)) == found

    def test_where_none_sleeps_serve_scales_by_itself(self):
        assert woken(Demand(queued={"sha256:a": 99}), sleeper(1, running=1)) == {}
