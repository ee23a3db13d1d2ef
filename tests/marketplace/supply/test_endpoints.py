"""What may be routed to, by the database's rules."""

import asyncio
from dataclasses import dataclass

import pytest
from sqlalchemy import func, select, text, update

from raymart_core.units import Unit
from raymart_marketplace.catalog.models import Modality, Model, ModelRevision, RevisionState
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.pricing.effective import Sold
from raymart_marketplace.supply.endpoints import endpoint_facts
from raymart_marketplace.supply.models import (
    Endpoint,
    Node,
    NodeRole,
    Offer,
    Pool,
    Provider,
    ProviderState,
)
from raymart_marketplace.supply.service import (
    close_offer,
    open_offer,
    pause_offer,
    resume_offer,
    revoke_node,
    set_asks,
)
from support.market import make_node, make_pool, make_provider, make_revision, put_in_state


@dataclass(frozen=True)
class Market:
    pool: Pool
    provider: Provider
    node: Node
    revision: ModelRevision
    offer: Offer


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
        offer = await open_offer(
            session,
            provider_id=provider.id,
            revision_id=revision.id,
            ask_prompt_nano_usd=40,
            ask_completion_nano_usd=120,
        )
    return Market(pool, provider, node, revision, offer)


async def facts_of(sessions: Sessions, market: Market):
    async with session_scope(sessions) as session:
        return await endpoint_facts(session, market.node.id, [market.revision.digest])


class TestEndpointFacts:
    async def test_announced_revision_gives_all_that_routing_needs(self, sessions: Sessions, market: Market):
        [facts] = await facts_of(sessions, market)
        async with session_scope(sessions) as session:
            slug = (await session.get_one(Model, market.revision.model_id)).slug
        assert (facts.node_id, facts.node_name) == (market.node.id, market.node.name)
        assert (facts.provider_id, facts.provider_slug) == (market.provider.id, market.provider.slug)
        assert (facts.offer_id, facts.revision_id) == (market.offer.id, market.revision.id)
        assert (facts.revision_digest, facts.model_slug) == (market.revision.digest, slug)
        assert (facts.engine, facts.quantization, facts.context_length) == ("llama_cpp", "q8_0", 1_024)
        assert facts.region == "local"
        assert facts.terms.asks == {Unit.TOKEN_PROMPT: 40, Unit.TOKEN_COMPLETION: 120}
        assert facts.sold == Sold(
            model_id=market.revision.model_id,
            revision_id=market.revision.id,
            provider_id=market.provider.id,
            modality=Modality.CHAT,
        )

    async def test_endpoint_keeps_its_id_and_is_not_written_again(self, sessions: Sessions, market: Market):
        version = select(text("xmin::text")).select_from(Endpoint).where(Endpoint.node_id == market.node.id)
        seen = []
        for _ in range(2):
            [facts] = await facts_of(sessions, market)
            async with session_scope(sessions) as session:
                seen.append((facts.id, (await session.execute(version)).scalar_one()))
        assert seen[0] == seen[1]

    async def test_ten_at_once_make_one_row(self, sessions: Sessions, market: Market):
        found = await asyncio.gather(*(facts_of(sessions, market) for _ in range(10)))
        assert len({facts.id for [facts] in found}) == 1
        async with session_scope(sessions) as session:
            assert await session.scalar(select(func.count()).where(Endpoint.node_id == market.node.id)) == 1

    async def test_changed_asks_are_seen(self, sessions: Sessions, market: Market):
        async with session_scope(sessions) as session:
            await set_asks(
                session, offer_id=market.offer.id, ask_prompt_nano_usd=1, ask_completion_nano_usd=2
            )
        [facts] = await facts_of(sessions, market)
        assert facts.terms.asks == {Unit.TOKEN_PROMPT: 1, Unit.TOKEN_COMPLETION: 2}

    async def test_revision_without_an_offer_is_left_out(self, sessions: Sessions, market: Market):
        async with session_scope(sessions) as session:
            other = await make_revision(session)
            found = await endpoint_facts(
                session, market.node.id, [market.revision.digest, other.digest, "sha256:unknown"]
            )
        assert [facts.revision_id for facts in found] == [market.revision.id]

    async def test_another_providers_offer_does_not_count(self, sessions: Sessions, market: Market):
        async with session_scope(sessions) as session:
            stranger = await make_provider(session)
            node = await make_node(session, pool=market.pool, provider=stranger)
            assert await endpoint_facts(session, node.id, [market.revision.digest]) == []

    async def test_nothing_announced_is_nothing(self, sessions: Sessions, market: Market):
        async with session_scope(sessions) as session:
            assert await endpoint_facts(session, market.node.id, []) == []

    async def test_paused_offer_leaves_and_comes_back_as_the_same_endpoint(self, sessions, market):
        [before] = await facts_of(sessions, market)
        async with session_scope(sessions) as session:
            await pause_offer(session, offer_id=market.offer.id)
        assert await facts_of(sessions, market) == []
        async with session_scope(sessions) as session:
            await resume_offer(session, offer_id=market.offer.id)
        assert await facts_of(sessions, market) == [before]

    async def test_new_offer_takes_over_the_endpoint(self, sessions: Sessions, market: Market):
        [before] = await facts_of(sessions, market)
        async with session_scope(sessions) as session:
            await close_offer(session, offer_id=market.offer.id)
        assert await facts_of(sessions, market) == []
        async with session_scope(sessions) as session:
            offer = await open_offer(
                session,
                provider_id=market.provider.id,
                revision_id=market.revision.id,
                ask_prompt_nano_usd=1,
                ask_completion_nano_usd=1,
            )
        [after] = await facts_of(sessions, market)
        assert (after.id, after.offer_id) == (before.id, offer.id)
        async with session_scope(sessions) as session:
            assert (await session.get_one(Endpoint, after.id)).offer_id == offer.id

    @pytest.mark.parametrize("state", [ProviderState.APPLIED, ProviderState.SUSPENDED, ProviderState.CLOSED])
    async def test_provider_that_is_not_active_is_left_out(self, sessions, market, state):
        async with session_scope(sessions) as session:
            await session.execute(
                update(Provider).where(Provider.id == market.provider.id).values(state=state)
            )
        assert await facts_of(sessions, market) == []

    @pytest.mark.parametrize(
        ("state", "count"),
        [(RevisionState.DRAFT, 0), (RevisionState.DEPRECATED, 1), (RevisionState.WITHDRAWN, 0)],
    )
    async def test_withdrawn_revision_is_left_out_a_deprecated_one_served(
        self, sessions, market, state, count
    ):
        async with session_scope(sessions) as session:
            await put_in_state(session, market.revision, state)
        assert len(await facts_of(sessions, market)) == count

    async def test_revoked_node_is_left_out(self, sessions: Sessions, market: Market):
        async with session_scope(sessions) as session:
            await revoke_node(session, node_id=market.node.id)
        assert await facts_of(sessions, market) == []

    async def test_controller_serves_nothing(self, sessions: Sessions, market: Market):
        async with session_scope(sessions) as session:
            pool = await make_pool(session, owner=market.provider)
            controller = await make_node(
                session, pool=pool, provider=market.provider, role=NodeRole.CONTROLLER
            )
            assert await endpoint_facts(session, controller.id, [market.revision.digest]) == []
