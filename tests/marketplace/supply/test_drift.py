"""What is not as it should be: the pure rule, then what the database knows."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from raymart_core.ids import new_id
from raymart_core.wire.link import Report
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.drift import (
    REPORT_AGE_MAX,
    ClusterSeen,
    DriftKind,
    PlacementSeen,
    drifts,
    list_pools,
    pool_drift,
)
from raymart_marketplace.supply.enrolment import enrol
from raymart_marketplace.supply.models import Node, Placement, PlacementState
from raymart_marketplace.supply.pool_control import keep_report, take_control
from support.link_market import make_supply
from support.market import enrol_message

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
OLD, NEW = "sha256:" + "0" * 64, "sha256:" + "1" * 64


def cluster(*ray_nodes: str, unknown: tuple[str, ...] = (), age: timedelta = timedelta()) -> ClusterSeen:
    return ClusterSeen(reported_at=NOW - age, ray_nodes=ray_nodes, unknown=unknown)


def placed(**changes) -> PlacementSeen:
    values = {
        "node": "a",
        "model": "m/x",
        "digest": NEW,
        "wanted": True,
        "state": PlacementState.RUNNING,
        "replicas_min": 1,
        "replicas_running": 1,
    }
    return PlacementSeen(**{**values, **changes})


def kinds(
    *placements: PlacementSeen, linked=("a",), seen: ClusterSeen | None = None
) -> list[tuple[str, str]]:
    found = drifts(placements, linked=linked, cluster=cluster("a", "head") if seen is None else seen, now=NOW)
    return [(drift.kind.value, drift.subject) for drift in found]


class TestDrifts:
    def test_a_pool_as_it_should_be_has_none(self):
        assert kinds(placed()) == []
        assert kinds(placed(replicas_min=0, replicas_running=0)) == []
        assert kinds(placed(wanted=False, replicas_running=0, state=PlacementState.GONE)) == []

    @pytest.mark.parametrize(
        "changes",
        [
            {"state": PlacementState.FAILED, "replicas_running": 0},
            {"state": PlacementState.PLACING, "replicas_running": 0},
            {"replicas_min": 2, "replicas_running": 1},
        ],
        ids=["failed", "placing", "too-few"],
    )
    def test_a_wanted_placement_that_does_not_run_is_missing(self, changes):
        assert kinds(placed(**changes)) == [("missing", "m/x")]

    def test_the_controllers_reason_is_told(self):
        failed = placed(state=PlacementState.FAILED, replicas_running=0, reason="crash loop: 3 replicas died")
        [drift] = drifts([failed], linked=["a"], cluster=cluster("a"), now=NOW)
        assert drift.reason == "0 of 1 replicas run: crash loop: 3 replicas died"
        assert (drift.node, drift.revision) == ("a", NEW)

    def test_what_runs_and_is_not_wanted_is_surplus(self):
        assert kinds(placed(wanted=False, state=PlacementState.DRAINING)) == [("surplus", "m/x")]

    def test_another_revision_than_the_wanted_one_is_named_as_such(self):
        old = placed(digest=OLD, wanted=False, state=PlacementState.DRAINING)
        new = placed(state=PlacementState.PLACING, replicas_running=0)
        assert kinds(old, new) == [("wrong_revision", "m/x"), ("missing", "m/x")]
        elsewhere = placed(node="b")
        assert kinds(old, elsewhere, linked=("a",)) == [("surplus", "m/x")]

    def test_machines_with_half_of_what_they_need_are_named(self):
        seen = cluster("b", "head")
        assert kinds(linked=("a",), seen=seen) == [
            ("node_without_ray", "a"),
            ("ray_node_without_agent", "b"),
        ]

    def test_applications_that_are_no_placement_are_named(self):
        assert kinds(seen=cluster("a", unknown=("somebodys",))) == [("unknown_application", "somebodys")]

    def test_without_a_fresh_report_only_that_is_said(self):
        late = cluster("b", age=REPORT_AGE_MAX + timedelta(seconds=1))
        broken = placed(replicas_running=0, state=PlacementState.FAILED)
        for seen in (late, ClusterSeen(reported_at=None, ray_nodes=(), unknown=())):
            assert kinds(broken, seen=seen) == [("no_controller", "controller")]
        assert [d.kind for d in drifts([broken], linked=["a"], cluster=None, now=NOW)] == [
            DriftKind.NO_CONTROLLER
        ]


class TestPoolDrift:
    async def test_it_is_computed_from_the_last_report(self, sessions):
        supply, link_id = await make_supply(sessions), new_id()
        token = await supply.join_token()
        async with session_scope(sessions) as session:
            node = await enrol(session, enrol_message(token, name="gpu-1"))
            await session.execute(update(Node).where(Node.id == node.id).values(link_id=new_id()))
            assert [d.kind for d in await pool_drift(session, supply.pool_id)] == [DriftKind.NO_CONTROLLER]
            await take_control(session, pool_id=supply.pool_id, node_id=node.id, link_id=link_id)
            report = Report(generation=1, observed=(), ray_nodes=("stray", "head"), unknown=("odd\0",))
            await keep_report(session, pool_id=supply.pool_id, link_id=link_id, report=report)
            found = await pool_drift(session, supply.pool_id)
            assert [(drift.kind.value, drift.subject) for drift in found] == [
                ("node_without_ray", "gpu-1"),
                ("ray_node_without_agent", "stray"),
                ("missing", supply.model_slug),
                ("unknown_application", "odd"),
            ]
            await session.execute(
                update(Placement)
                .where(Placement.node_id == node.id)
                .values(state=PlacementState.RUNNING, replicas_running=1)
            )
            good = Report(generation=1, observed=(), ray_nodes=("gpu-1", "head"))
            await keep_report(session, pool_id=supply.pool_id, link_id=link_id, report=good)
            assert await pool_drift(session, supply.pool_id) == []
            [listed] = [
                one for one in await list_pools(session, limit=10_000) if one.slug == supply.pool_slug
            ]
            assert (listed.controller, listed.nodes_linked, listed.drift) == ("gpu-1", 1, [])
