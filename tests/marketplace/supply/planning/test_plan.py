"""The planner, without a database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from uuid import UUID

import pytest

from raymart_marketplace.pricing.windows import Hours
from raymart_marketplace.supply.models import NodeState, PlacementState, Warmth
from raymart_marketplace.supply.planning.choices import Choices
from raymart_marketplace.supply.planning.fit import GIB, MIB, Weights
from raymart_marketplace.supply.planning.plan import FAILURE_PATIENCE, OFFLINE_PATIENCE, plan
from raymart_marketplace.supply.planning.snapshot import (
    Machine,
    Misfit,
    OfferWish,
    Placed,
    Plan,
    Snapshot,
)

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)  # A Wednesday.
TEN_GIB = Weights(
    engine="onnx",
    quantization="f16",
    size_bytes=10 * GIB,
    context_length=512,
    parameters={},
    tokens=False,
)


def machine(number: int, **changes: object) -> Machine:
    made = Machine(
        id=UUID(int=number),
        name=f"m{number}",
        state=NodeState.READY,
        seen_at=NOW,
        cpu_count=8,
        memory_bytes=16 * GIB,
    )
    return replace(made, **changes)


def offer(
    number: int, *, weights: Weights = TEN_GIB, choices: Choices | None = None, **changes: object
) -> OfferWish:
    made = OfferWish(
        id=UUID(int=1_000 + number),
        revision_id=UUID(int=2_000 + number),
        digest=f"sha256:{number}",
        weights=weights,
        choices=choices or Choices(),
    )
    return replace(made, **changes)


def placed(on: Machine, of: OfferWish, **changes: object) -> Placed:
    made = Placed(
        node_id=on.id,
        revision_id=of.revision_id,
        desired=True,
        state=PlacementState.RUNNING,
        state_at=NOW - timedelta(days=1),
        replicas_min=1,
        replicas_max=1,
        slots=4,
        idle_s=300,
        memory_bytes=11 * GIB,
        gpus=0,
        retry_at=None,
    )
    return replace(made, **changes)


def planned(machines: list[Machine], offers: list[OfferWish], rows: list[Placed] | None = None) -> Plan:
    return plan(snapshot(machines, offers, rows))


def snapshot(machines: list[Machine], offers: list[OfferWish], rows: list[Placed] | None = None) -> Snapshot:
    return Snapshot(
        at=NOW,
        machines=tuple(machines),
        offers=tuple(offers),
        placed={(row.node_id, row.revision_id): row for row in rows or []},
    )


def where(plan: Plan, of: OfferWish) -> list[int]:
    return [each.node_id.int for each in plan.wanted if each.offer_id == of.id]


def why(plan: Plan, of: OfferWish) -> dict[int | None, Misfit]:
    return {
        each.node_id.int if each.node_id else None: each.misfit
        for each in plan.rejected
        if each.offer_id == of.id
    }


class TestEverywhere:
    def test_an_offer_goes_on_every_machine_that_takes_it(self):
        chosen = planned([machine(1), machine(2)], [offer(1)])
        assert where(chosen, offer(1)) == [1, 2]
        assert chosen.rejected == ()

    def test_without_a_machine_that_is_said(self):
        assert why(planned([], [offer(1)]), offer(1)) == {None: Misfit.NO_NODE}

    def test_the_order_of_what_is_passed_does_not_matter(self):
        machines, offers = [machine(n) for n in (1, 2, 3)], [offer(n, asked=n) for n in (1, 2, 3)]
        rows = [placed(machines[1], offers[0])]
        plans = {
            plan(snapshot(list(some), list(others), rows))
            for some in permutations(machines)
            for others in permutations(offers)
        }
        assert len(plans) == 1

    def test_every_offer_on_every_machine_has_one_answer(self):
        machines = [machine(1), machine(2, memory_bytes=8 * GIB), machine(3, state=NodeState.DRAINING)]
        offers = [
            offer(1),
            offer(2, choices=Choices(warmth=Warmth.ON_DEMAND)),
            offer(3, unsellable="no price"),
        ]
        chosen = planned(machines, offers)
        answers = [(each.offer_id, each.node_id) for each in (*chosen.wanted, *chosen.rejected)]
        assert len(answers) == len(set(answers)) == 9


class TestMisfits:
    @pytest.mark.parametrize(
        ("machine_changes", "offer_changes", "misfit"),
        [
            ({}, {"choices": Choices(node_ids=frozenset({UUID(int=7)}))}, Misfit.NODE_NOT_CHOSEN),
            ({"state": NodeState.DRAINING}, {}, Misfit.NODE_DRAINING),
            (
                {},
                {"choices": Choices(hours=(Hours(days=frozenset({3}), starts_minute=0, ends_minute=720),))},
                Misfit.OUTSIDE_HOURS,
            ),
            ({}, {"unsellable": "its floor is above the cap"}, Misfit.UNSELLABLE),
            ({}, {"weights": replace(TEN_GIB, parameters={"gpus": "1"})}, Misfit.NO_GPUS),
            (
                {"gpu_memory_bytes": (80 * GIB, 80 * GIB)},
                {"weights": replace(TEN_GIB, parameters={"gpus": "2"}), "choices": Choices(gpus_max=1)},
                Misfit.NO_GPUS,
            ),
            (
                {"gpu_memory_bytes": (80 * GIB, 4 * GIB)},
                {"weights": replace(TEN_GIB, parameters={"gpus": "2"})},
                Misfit.GPU_MEMORY,
            ),
            ({"memory_bytes": 11 * GIB}, {}, Misfit.MEMORY),
            ({"disk_bytes": 9 * GIB}, {}, Misfit.DISK),
        ],
    )
    def test_what_does_not_fit_is_named(self, machine_changes, offer_changes, misfit):
        chosen = planned([machine(1, **machine_changes)], [offer(1, **offer_changes)])
        assert why(chosen, offer(1)) == {1: misfit}
        (rejected,) = chosen.rejected
        assert rejected.detail

    def test_what_nobody_knows_of_a_machine_rules_nothing_out(self):
        chosen = planned([machine(1, memory_bytes=0, cpu_count=0)], [offer(1)])
        assert where(chosen, offer(1)) == [1]

    def test_hours_that_are_open_let_it_run(self):
        hours = (Hours(days=frozenset({3}), starts_minute=720, ends_minute=721),)
        assert where(planned([machine(1)], [offer(1, choices=Choices(hours=hours))]), offer(1)) == [1]

    def test_files_that_are_there_need_no_disk(self):
        there = machine(1, disk_bytes=9 * GIB, cached=frozenset({"sha256:1"}))
        assert where(planned([there], [offer(1)]), offer(1)) == [1]


class TestRoom:
    def test_who_is_asked_for_gets_the_memory(self):
        quiet, busy = offer(1), offer(2, asked=5)
        chosen = planned([machine(1)], [quiet, busy])
        assert (where(chosen, busy), why(chosen, quiet)) == ([1], {1: Misfit.MEMORY_TAKEN})

    def test_what_runs_is_not_pushed_out_by_demand(self):
        quiet, busy = offer(1), offer(2, asked=5)
        chosen = planned([machine(1)], [quiet, busy], [placed(machine(1), quiet)])
        assert (where(chosen, quiet), why(chosen, busy)) == ([1], {1: Misfit.MEMORY_TAKEN})
        assert chosen.given_up == ()

    def test_gpus_are_whole(self):
        weights = replace(TEN_GIB, parameters={"gpus": "1"})
        first, second = offer(1, weights=weights), offer(2, weights=weights)
        chosen = planned([machine(1, gpu_memory_bytes=(80 * GIB,))], [first, second])
        assert (where(chosen, first), why(chosen, second)) == ([1], {1: Misfit.GPUS_TAKEN})

    def test_rays_processors_are_counted(self):
        small = replace(TEN_GIB, size_bytes=MIB)
        offers = [offer(n, weights=small) for n in (1, 2, 3)]
        chosen = planned([machine(1, cpu_count=1)], offers)
        assert [where(chosen, each) for each in offers] == [[1], [1], []]
        assert why(chosen, offers[2]) == {1: Misfit.CPUS_TAKEN}

    def test_a_successor_may_stand_beside_what_it_replaces(self):
        """Or a machine that is full could never follow an alias."""
        old, new = offer(1), offer(2, gives_way=frozenset({offer(1).revision_id}))
        chosen = planned([machine(1)], [new], [placed(machine(1), old)])
        assert where(chosen, new) == [1]
        assert why(planned([machine(1)], [offer(2)], [placed(machine(1), old)]), offer(2)) == {
            1: Misfit.MEMORY_TAKEN
        }

    def test_a_smaller_number_of_slots_is_tried_before_it_is_refused(self):
        # 4 slots of 1,000 tokens at 1 MiB each would take 4 GB; one takes a quarter.
        weights = Weights(
            engine="llama_cpp",
            quantization="q8_0",
            size_bytes=GIB,
            context_length=1_000,
            parameters={"kv_bytes_per_token": str(MIB)},
            tokens=True,
        )
        (wanted,) = planned([machine(1, memory_bytes=3 * GIB)], [offer(1, weights=weights)]).wanted
        assert wanted.slots == 1
        (wanted,) = planned([machine(1)], [offer(1, weights=weights)]).wanted
        assert wanted.slots == 4

    @pytest.mark.parametrize(("memory_bytes", "count"), [(16 * GIB, 1), (26 * GIB, 2), (100 * GIB, 3)])
    def test_as_many_replicas_as_fit_up_to_the_provider_s_number(self, memory_bytes, count):
        chosen = planned([machine(1, memory_bytes=memory_bytes)], [offer(1, choices=Choices(replicas_max=3))])
        assert [(each.replicas_min, each.replicas_max) for each in chosen.wanted] == [(1, count)]


class TestWarmth:
    def test_what_sleeps_needs_room_only_beside_what_is_loaded(self):
        sleepers = [offer(n, choices=Choices(warmth=Warmth.ON_DEMAND)) for n in (1, 2, 3)]
        chosen = planned([machine(1)], sleepers)
        assert [(each.replicas_min, each.replicas_max) for each in chosen.wanted] == [(0, 1)] * 3

    def test_what_is_loaded_comes_first(self):
        sleeper, warm = offer(1, asked=9, choices=Choices(warmth=Warmth.ON_DEMAND)), offer(2)
        chosen = planned([machine(1)], [sleeper, warm])
        assert (where(chosen, warm), why(chosen, sleeper)) == ([1], {1: Misfit.MEMORY_TAKEN})

    @pytest.mark.parametrize(("asked", "least"), [(0, 0), (1, 1)])
    def test_auto_follows_demand(self, asked, least):
        chosen = planned([machine(1)], [offer(1, asked=asked, choices=Choices(warmth=Warmth.AUTO))])
        assert [each.replicas_min for each in chosen.wanted] == [least]


class TestNumberOfMachines:
    ONE = Choices(nodes_max=1)

    def test_a_machine_that_has_the_files_is_preferred(self):
        has = machine(2, cached=frozenset({"sha256:1"}))
        chosen = planned([machine(1), has], [offer(1, choices=self.ONE)])
        assert (where(chosen, offer(1)), why(chosen, offer(1))) == ([2], {1: Misfit.ENOUGH_NODES})

    def test_what_runs_does_not_move_for_a_better_place(self):
        has, runs = machine(1, cached=frozenset({"sha256:1"})), machine(2)
        chosen = planned([has, runs], [offer(1, choices=self.ONE)], [placed(runs, offer(1))])
        assert where(chosen, offer(1)) == [2]

    def test_a_blip_moves_nothing(self):
        blinks = machine(1, state=NodeState.OFFLINE, seen_at=NOW - OFFLINE_PATIENCE)
        chosen = planned([blinks, machine(2)], [offer(1, choices=self.ONE)], [placed(blinks, offer(1))])
        assert (where(chosen, offer(1)), chosen.given_up) == ([1], ())

    def test_a_machine_that_is_long_away_is_replaced(self):
        gone = machine(1, state=NodeState.OFFLINE, seen_at=NOW - OFFLINE_PATIENCE - timedelta(seconds=1))
        chosen = planned([gone, machine(2)], [offer(1, choices=self.ONE)], [placed(gone, offer(1))])
        assert (where(chosen, offer(1)), [each.node_id.int for each in chosen.given_up]) == ([2], [1])

    def test_where_nobody_can_replace_it_a_machine_keeps_what_it_has(self):
        gone = machine(1, state=NodeState.OFFLINE, seen_at=None)
        chosen = planned([gone], [offer(1, choices=self.ONE)], [placed(gone, offer(1))])
        assert (where(chosen, offer(1)), chosen.given_up) == ([1], ())

    def test_where_it_fails_the_next_candidate_is_taken(self):
        fails = placed(
            machine(1),
            offer(1),
            state=PlacementState.FAILED,
            state_at=NOW - FAILURE_PATIENCE - timedelta(seconds=1),
        )
        chosen = planned([machine(1), machine(2)], [offer(1, choices=self.ONE)], [fails])
        assert (where(chosen, offer(1)), [each.node_id.int for each in chosen.given_up]) == ([2], [1])

    def test_what_was_given_up_is_not_tried_again_at_once(self):
        released = placed(
            machine(1), offer(1), desired=False, retry_at=NOW + timedelta(seconds=1), reason="no word"
        )
        chosen = planned([machine(1), machine(2)], [offer(1, choices=self.ONE)], [released])
        assert (where(chosen, offer(1)), why(chosen, offer(1))) == ([2], {1: Misfit.RELEASED})
        over = replace(released, retry_at=NOW)
        assert where(planned([machine(1)], [offer(1)], [over]), offer(1)) == [1]


class TestStanding:
    def test_a_plan_that_was_carried_out_is_planned_again(self):
        machines = [machine(n, memory_bytes=26 * GIB) for n in (1, 2)]
        offers = [
            offer(1, choices=Choices(nodes_max=1, replicas_max=2)),
            offer(2, choices=Choices(warmth=Warmth.ON_DEMAND)),
            offer(3),
        ]
        first = planned(machines, offers)
        rows = [
            Placed(
                node_id=each.node_id,
                revision_id=each.revision_id,
                desired=True,
                state=PlacementState.RUNNING,
                state_at=NOW,
                replicas_min=each.replicas_min,
                replicas_max=each.replicas_max,
                slots=each.slots,
                idle_s=each.idle_s,
                memory_bytes=each.memory_bytes,
                gpus=each.gpus,
                retry_at=None,
            )
            for each in first.wanted
        ]
        assert planned(machines, offers, rows) == first

    def test_a_draining_machine_keeps_what_it_has(self):
        drains = machine(1, state=NodeState.DRAINING)
        chosen = planned([drains], [offer(1)], [placed(drains, offer(1))])
        assert where(chosen, offer(1)) == [1]

    def test_outside_its_hours_it_is_taken_away(self):
        choices = Choices(hours=(Hours(days=frozenset({4}), starts_minute=0, ends_minute=60),))
        chosen = planned([machine(1)], [offer(1, choices=choices)], [placed(machine(1), offer(1))])
        assert [(each.node_id.int, each.misfit) for each in chosen.given_up] == [(1, Misfit.OUTSIDE_HOURS)]

    def test_what_pauses_keeps_its_room(self):
        chosen = planned([machine(1)], [offer(2)], [placed(machine(1), offer(1))])
        assert why(chosen, offer(2)) == {1: Misfit.MEMORY_TAKEN}
