"""Plans as rows: reservations that are confirmed or released, reasons that are kept, and passes that may be repeated."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select, text, update

from raymart_core.ids import Prefix, show
from raymart_core.wire import link
from raymart_marketplace.catalog.models import ModelRevision
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.models import (
    Node,
    NodeState,
    Offer,
    Placement,
    Pool,
    Provider,
)
from raymart_marketplace.supply.placements import apply_report, place_offers
from raymart_marketplace.supply.planning import passes
from raymart_marketplace.supply.planning.carrying_out import release_unconfirmed, welcome_controller
from raymart_marketplace.supply.planning.demand import Demand
from raymart_marketplace.supply.planning.passes import is_outage, plan_all
from raymart_marketplace.supply.planning.snapshot import Misfit
from raymart_marketplace.supply.planning.standing import Standing, note_standing, standing_of
from raymart_marketplace.supply.planning.tables import ModelPlacement, PlacementRejection
from raymart_marketplace.supply.service import close_offer, open_offer
from support.market import make_node, make_pool, make_provider, make_revision


@dataclass(frozen=True)
class Market:
    sessions: Sessions
    pool: Pool
    provider: Provider
    nodes: list[Node]
    revision: ModelRevision
    offer_id: UUID

    async def plan(self) -> None:
        async with session_scope(self.sessions) as session:
            await place_offers(session, provider_id=self.provider.id)

    async def set(self, entity, owner, **values: object) -> None:
        async with session_scope(self.sessions) as session:
            await session.execute(update(entity).where(owner).values(values))

    async def choose(self, **values: object) -> None:
        await self.set(Offer, Offer.id == self.offer_id, **values)

    async def rows(self) -> dict[str, Placement]:
        """Of the revision, by node."""
        async with session_scope(self.sessions) as session:
            found = await session.execute(
                select(Node.name, Placement)
                .join(Node, Node.id == Placement.node_id)
                .where(Placement.revision_id == self.revision.id)
            )
            return {name: row for name, row in found}  # noqa: C416  (rows, not tuples)

    async def wanted(self) -> list[str]:
        return sorted(name for name, row in (await self.rows()).items() if row.desired)

    async def reasons(self) -> dict[UUID | None, Misfit]:
        async with session_scope(self.sessions) as session:
            found = await session.scalars(
                select(PlacementRejection).where(PlacementRejection.offer_id == self.offer_id)
            )
            return {row.node_id: row.misfit for row in found}

    async def report(self, placement: Placement, state: str, *, cold_start_ms: int | None = None) -> None:
        seen = link.Observed(
            placement_id=show(Prefix.PLACEMENT, placement.id),
            state=state,
            replicas=1 if state == "running" else 0,
            cold_start_ms=cold_start_ms,
        )
        async with session_scope(self.sessions) as session:
            await apply_report(session, self.pool.id, link.Report(generation=1, observed=(seen,)))

    async def let_the_reservations_end(self) -> None:
        node_ids = [node.id for node in self.nodes]
        await self.set(
            Placement,
            Placement.node_id.in_(node_ids) & Placement.confirm_by.is_not(None),
            confirm_by=func.clock_timestamp() - timedelta(seconds=1),
        )
        async with session_scope(self.sessions) as session:
            await release_unconfirmed(session)


@pytest.fixture
async def market(sessions: Sessions) -> AsyncIterator[Market]:
    async with session_scope(sessions) as session:
        provider, pool = await make_provider(session), await make_pool(session)
        nodes = [await make_node(session, pool=pool, provider=provider) for _ in range(2)]
        revision = await make_revision(session)
        offer = await open_offer(
            session,
            provider_id=provider.id,
            revision_id=revision.id,
            ask_prompt_nano_usd=1,
            ask_completion_nano_usd=2,
        )
        ids = [node.id for node in nodes]
        await session.execute(update(Node).where(Node.id.in_(ids)).values(state=NodeState.READY))
    nodes.sort(key=lambda node: node.name)
    yield Market(sessions, pool, provider, nodes, revision, offer.id)
    async with session_scope(sessions) as session:
        # What stays must not be an outage, or an overdue reservation, to other tests.
        await session.execute(update(Placement).where(Placement.node_id.in_(ids)).values(confirm_by=None))
        await close_offer(session, offer_id=offer.id)


class TestReservation:
    async def test_a_controller_that_reports_it_confirms_it(self, market: Market):
        first, second = (await market.rows()).values()
        assert first.confirm_by is not None
        assert first.confirmed_at is None
        await market.report(first, "placing")
        await market.let_the_reservations_end()
        rows = {row.id: row for row in (await market.rows()).values()}
        assert (rows[first.id].desired, rows[first.id].confirm_by) == (True, None)
        assert rows[first.id].confirmed_at is not None
        assert not rows[second.id].desired
        assert "no controller of the pool confirmed it within 60 s" in rows[second.id].reason

    async def test_unconfirmed_in_time_the_next_machine_is_taken(self, market: Market):
        await market.choose(nodes_max=1)
        await market.plan()
        first, second = (node.name for node in market.nodes)
        assert await market.wanted() == [first]
        await market.let_the_reservations_end()
        await market.plan()
        assert await market.wanted() == [second]
        assert await market.reasons() == {market.nodes[0].id: Misfit.RELEASED}

    async def test_each_release_lets_the_machine_alone_for_longer(self, market: Market):
        waits = []
        for _ in range(3):
            await market.let_the_reservations_end()
            row = (await market.rows())[market.nodes[0].name]
            assert row.retry_at is not None
            waits.append(round((row.retry_at - row.state_at).total_seconds()))
            await market.set(Placement, Placement.id == row.id, retry_at=func.clock_timestamp())
            await market.plan()
        assert waits == [30, 60, 120]

    async def test_a_machine_that_is_away_keeps_its_reservation(self, market: Market):
        await market.set(Node, Node.id == market.nodes[0].id, state=NodeState.OFFLINE)
        await market.let_the_reservations_end()
        assert await market.wanted() == [market.nodes[0].name]
        # And its time begins anew, so that it is not released the moment it is back.
        row = (await market.rows())[market.nodes[0].name]
        assert row.confirm_by is not None
        assert row.confirm_by > row.created_at + timedelta(seconds=30)

    async def test_a_controller_that_comes_has_all_tried_again(self, market: Market):
        await market.let_the_reservations_end()
        await market.plan()
        assert await market.wanted() == []
        async with session_scope(market.sessions) as session:
            await welcome_controller(session, market.pool.id)
        await market.plan()
        assert await market.wanted() == [node.name for node in market.nodes]

    async def test_what_runs_is_forgiven_its_releases_and_its_start_is_kept(self, market: Market):
        await market.let_the_reservations_end()
        await market.set(Placement, Placement.revision_id == market.revision.id, retry_at=None)
        await market.plan()
        row = (await market.rows())[market.nodes[0].name]
        assert row.releases == 1
        await market.report(row, "running", cold_start_ms=4_321)
        row = (await market.rows())[market.nodes[0].name]
        assert (row.releases, row.cold_start_ms) == (0, 4_321)


class TestReasons:
    async def test_a_repeat_keeps_rows_and_reasons_as_they_are(self, market: Market):
        await market.choose(nodes_max=1)
        versions = text(
            "select p.id, p.xmin::text, r.xmin::text from placement p, placement_rejection r"
            " where p.revision_id = :revision and r.offer_id = :offer order by p.id"
        )
        seen = []
        for _ in range(3):
            await market.plan()
            async with session_scope(market.sessions) as session:
                of = {"revision": market.revision.id, "offer": market.offer_id}
                seen.append((await session.execute(versions, of)).all())
        assert seen[0]
        assert seen[1] == seen[0]
        assert seen[2] == seen[0]

    async def test_they_go_when_they_do_not_hold_any_more(self, market: Market):
        await market.choose(nodes_max=1)
        await market.plan()
        assert await market.reasons() == {market.nodes[1].id: Misfit.ENOUGH_NODES}
        await market.choose(nodes_max=None)
        await market.plan()
        assert await market.reasons() == {}

    async def test_a_pass_over_all_carries_out_what_has_changed(self, market: Market, monkeypatch):
        # Machines of other tests, in the same database, went away by the dozen.
        monkeypatch.setattr(passes, "OUTAGE_NODES_MIN", 1_000_000)
        await market.choose(nodes_max=1)
        done = await plan_all(market.sessions)
        assert done.changed >= 1
        assert await market.wanted() == [market.nodes[0].name]

    async def test_a_machine_that_cannot_be_read_takes_nothing_and_hinders_nobody(self, market: Market):
        sound, broken = market.nodes
        await market.choose(nodes_max=1)
        await market.set(Node, Node.id == broken.id, hardware={"cpu_count": "many"})
        await market.plan()
        assert await market.wanted() == [sound.name]
        await market.let_the_reservations_end()
        await market.plan()
        assert (await market.reasons())[broken.id] is Misfit.MEMORY
        assert await market.wanted() == []


class TestModels:
    async def standing(self, market: Market) -> tuple[Standing, dict[str, int]]:
        await note_standing(market.sessions, Demand())
        async with session_scope(market.sessions) as session:
            row = await session.get_one(ModelPlacement, market.revision.model_id)
            return standing_of(row), row.misfits

    async def test_no_node_matches_is_said_with_the_reasons(self, market: Market):
        for node in market.nodes:
            await market.set(Node, Node.id == node.id, hardware={**node.hardware, "memory_bytes": 1})
        await market.plan()
        assert await self.standing(market) == (Standing.NO_NODE_MATCHES, {"memory": 2})

    async def test_it_starts_is_served_and_sleeps(self, market: Market):
        assert (await self.standing(market))[0] is Standing.STARTING
        for row in (await market.rows()).values():
            await market.report(row, "running")
        assert (await self.standing(market))[0] is Standing.SERVED
        await market.set(
            Placement, Placement.revision_id == market.revision.id, replicas_min=0, replicas_running=0
        )
        assert (await self.standing(market))[0] is Standing.SLEEPING

    async def test_without_an_offer_it_is_not_offered(self, market: Market, sessions: Sessions):
        async with session_scope(sessions) as session:
            revision = await make_revision(session)
        await note_standing(sessions, Demand(asked={}))
        async with session_scope(sessions) as session:
            row = await session.get_one(ModelPlacement, revision.model_id)
        assert standing_of(row) is Standing.NOT_OFFERED


class TestOutage:
    async def test_while_it_lasts_nothing_is_planned(self, market: Market, monkeypatch):
        monkeypatch.setattr(passes, "OUTAGE_NODES_MIN", 0)
        monkeypatch.setattr(passes, "OUTAGE_SHARE", 0.0)
        await market.choose(nodes_max=1)
        done = await plan_all(market.sessions)
        assert (done.outage, done.changed) == (True, 0)
        assert await market.wanted() == [node.name for node in market.nodes]

    @pytest.mark.parametrize(
        ("lost", "there", "is_ours"),
        [(0, 0, False), (3, 0, False), (4, 4, True), (4, 5, False), (50, 10, True)],
    )
    def test_many_at_once_is_our_own_fault(self, lost: int, there: int, is_ours: bool):
        assert is_outage((lost, there)) is is_ours
