"""What should run, and what the controller says is true."""

from dataclasses import dataclass

import msgspec
import pytest
from sqlalchemy import select, text, update

from raymart_core.ids import Prefix, new_id, show
from raymart_core.wire import link
from raymart_marketplace.catalog.models import Model, ModelRevision, RevisionState
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.models import (
    Node,
    NodeRole,
    Placement,
    PlacementState,
    Pool,
    Provider,
    ProviderState,
)
from raymart_marketplace.supply.placements import apply_report, desired, place_offers, unplace
from raymart_marketplace.supply.service import open_offer, revoke_node
from support.market import make_node, make_pool, make_provider, make_revision, put_in_state


@dataclass(frozen=True)
class Market:
    pool: Pool
    provider: Provider
    node: Node
    revision: ModelRevision


@pytest.fixture
async def market(sessions: Sessions) -> Market:
    """One node with one offer."""
    async with session_scope(sessions) as session:
        provider, pool, revision = (
            await make_provider(session),
            await make_pool(session),
            await make_revision(session),
        )
        node = await make_node(session, pool=pool, provider=provider)
        await open_offer(
            session,
            provider_id=provider.id,
            revision_id=revision.id,
            ask_prompt_nano_usd=1,
            ask_completion_nano_usd=2,
        )
    return Market(pool, provider, node, revision)


async def row_of(sessions: Sessions, market: Market) -> Placement:
    async with session_scope(sessions) as session:
        return (await session.scalars(select(Placement).where(Placement.node_id == market.node.id))).one()


async def report(sessions: Sessions, pool: Pool, *observed: link.Observed) -> None:
    async with session_scope(sessions) as session:
        await apply_report(session, pool.id, link.Report(generation=1, observed=observed))


def observed(placement: Placement, state: str, *, replicas: int = 0, reason: str = "") -> link.Observed:
    return link.Observed(
        placement_id=show(Prefix.PLACEMENT, placement.id), state=state, replicas=replicas, reason=reason
    )


class TestDesired:
    async def test_names_node_revision_and_weights(self, sessions: Sessions, market: Market):
        row = await row_of(sessions, market)
        async with session_scope(sessions) as session:
            [placement] = await desired(session, market.pool.id)
            slug = (await session.get_one(Model, market.revision.model_id)).slug
        assert placement == link.Placement(
            placement_id=show(Prefix.PLACEMENT, row.id),
            node=market.node.name,
            model=slug,
            revision=market.revision.digest,
            engine="llama_cpp",
            source="bundled:demo-llm.gguf",
            sha256=market.revision.sha256,
            context_length=1_024,
            replicas_min=1,
            replicas_max=1,
            slots=4,
            idle_s=300,
        )
        assert link.decode_control(link.encode(link.Desired(generation=1, placements=(placement,))))

    async def test_another_pool_has_none_of_it(self, sessions: Sessions, market: Market):
        async with session_scope(sessions) as session:
            other = await make_pool(session)
            assert await desired(session, other.id) == ()

    @pytest.mark.parametrize(
        ("state", "count"), [(RevisionState.DEPRECATED, 1), (RevisionState.WITHDRAWN, 0)]
    )
    async def test_withdrawn_revision_must_go_a_deprecated_one_stays(
        self, sessions: Sessions, market: Market, state: RevisionState, count: int
    ):
        async with session_scope(sessions) as session:
            await put_in_state(session, market.revision, state)
            assert len(await desired(session, market.pool.id)) == count

    @pytest.mark.parametrize("state", [ProviderState.APPLIED, ProviderState.SUSPENDED, ProviderState.CLOSED])
    async def test_provider_that_is_not_active_runs_nothing(self, sessions, market, state):
        async with session_scope(sessions) as session:
            await session.execute(
                update(Provider).where(Provider.id == market.provider.id).values(state=state)
            )
            assert await desired(session, market.pool.id) == ()

    async def test_revoked_node_runs_nothing(self, sessions: Sessions, market: Market):
        async with session_scope(sessions) as session:
            await revoke_node(session, node_id=market.node.id)
            assert await desired(session, market.pool.id) == ()

    async def test_revoked_node_runs_nothing_even_if_its_placement_stayed(self, sessions, market):
        async with session_scope(sessions) as session:
            await revoke_node(session, node_id=market.node.id)
            await session.execute(
                update(Placement).where(Placement.node_id == market.node.id).values(desired=True)
            )
            assert await desired(session, market.pool.id) == ()

    async def test_unwanted_placement_is_left_out(self, sessions: Sessions, market: Market):
        async with session_scope(sessions) as session:
            await unplace(session, node_ids=[market.node.id])
            assert await desired(session, market.pool.id) == ()


class TestPlaceOffers:
    async def test_repeat_changes_nothing(self, sessions: Sessions, market: Market):
        placement = await row_of(sessions, market)
        await report(sessions, market.pool, observed(placement, "running", replicas=1))
        async with session_scope(sessions) as session:
            await place_offers(session, provider_id=market.provider.id)
        assert (await row_of(sessions, market)).state is PlacementState.RUNNING

    async def test_controller_gets_no_placements(self, sessions: Sessions, market: Market):
        async with session_scope(sessions) as session:
            pool = await make_pool(session, owner=market.provider)
            controller = await make_node(
                session, pool=pool, provider=market.provider, role=NodeRole.CONTROLLER
            )
            await place_offers(session, provider_id=market.provider.id)
            rows = await session.scalars(select(Placement).where(Placement.node_id == controller.id))
            assert rows.all() == []


class TestApplyReport:
    @pytest.mark.parametrize("state", ["placing", "running", "failed", "gone"])
    async def test_observation_is_kept(self, sessions: Sessions, market: Market, state: str):
        placement = await row_of(sessions, market)
        await report(sessions, market.pool, observed(placement, state, replicas=1, reason="why"))
        kept = await row_of(sessions, market)
        assert (kept.state.value, kept.replicas_running, kept.reason) == (state, 1, "why")

    async def test_what_runs_though_it_should_not_is_draining(self, sessions: Sessions, market: Market):
        placement = await row_of(sessions, market)
        async with session_scope(sessions) as session:
            await unplace(session, node_ids=[market.node.id], revision_id=market.revision.id)
        for state, kept in (
            ("running", PlacementState.DRAINING),
            ("placing", PlacementState.DRAINING),
            ("gone", PlacementState.GONE),
        ):
            await report(sessions, market.pool, observed(placement, state))
            assert (await row_of(sessions, market)).state is kept

    async def test_controller_cannot_speak_for_another_pool(self, sessions: Sessions, market: Market):
        placement = await row_of(sessions, market)
        async with session_scope(sessions) as session:
            other = await make_pool(session)
        await report(sessions, other, observed(placement, "failed", reason="lie"))
        kept = await row_of(sessions, market)
        assert (kept.state, kept.reason) == (PlacementState.REQUESTED, "")

    @pytest.mark.parametrize(
        "placement_id", ["", "plc_", "plc_zz", "plc_" + "0" * 32, "node_" + "0" * 32, "\0"]
    )
    async def test_unknown_ids_are_ignored(self, sessions: Sessions, market: Market, placement_id: str):
        placement = await row_of(sessions, market)
        stray = link.Observed(placement_id=placement_id, state="running", replicas=1)
        await report(sessions, market.pool, stray, observed(placement, "running", replicas=1))
        assert (await row_of(sessions, market)).state is PlacementState.RUNNING

    async def test_odd_values_are_tamed(self, sessions: Sessions, market: Market):
        placement = await row_of(sessions, market)
        await report(sessions, market.pool, observed(placement, "failed", replicas=-3, reason="a\0" * 1_000))
        kept = await row_of(sessions, market)
        assert (kept.replicas_running, kept.reason) == (0, "a" * 500)

    async def test_replica_count_over_a_million_is_tamed(self, sessions: Sessions, market: Market):
        placement = await row_of(sessions, market)
        await report(sessions, market.pool, observed(placement, "running", replicas=2**62))
        assert (await row_of(sessions, market)).replicas_running == 1_000_000

    async def test_replicas_that_died_are_counted_within_bounds(self, sessions: Sessions, market: Market):
        placement = await row_of(sessions, market)
        for told, kept in ((3, 3), (-1, 0), (10**12, 1_000_000)):
            seen = observed(placement, "failed", reason="crash loop")
            await report(sessions, market.pool, msgspec.structs.replace(seen, restarts=told))
            assert (await row_of(sessions, market)).restarts == kept

    async def test_unchanged_report_writes_nothing(self, sessions: Sessions, market: Market):
        placement = await row_of(sessions, market)
        version = select(text("xmin::text")).select_from(Placement).where(Placement.id == placement.id)
        versions = []
        for _ in range(2):
            await report(sessions, market.pool, observed(placement, "running", replicas=1))
            async with session_scope(sessions) as session:
                versions.append((await session.execute(version)).scalar_one())
        assert versions[0] == versions[1]

    async def test_empty_report_is_fine(self, sessions: Sessions, market: Market):
        await report(sessions, market.pool)
        await report(
            sessions,
            market.pool,
            link.Observed(placement_id=show(Prefix.PLACEMENT, new_id()), state="gone", replicas=0),
        )
