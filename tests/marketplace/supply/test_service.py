"""Providers, pools, join tokens, offers, nodes: the rules, on a real database."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from raymart_core.errors import Conflict, Forbidden, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_marketplace.catalog.models import ModelRevision, RevisionState
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply import service
from raymart_marketplace.supply.enrolment import hash_token
from raymart_marketplace.supply.models import (
    JoinToken,
    NodeRole,
    NodeState,
    Offer,
    OfferState,
    Placement,
    PoolKind,
    Provider,
    ProviderState,
)
from support.market import (
    make_customer,
    make_node,
    make_pool,
    make_provider,
    make_revision,
    put_in_state,
    unique,
)

ASKS = {"ask_prompt_nano_usd": 40, "ask_completion_nano_usd": 120}


class TestProvider:
    async def test_an_organization_is_one_provider(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
            made = await service.create_provider(
                session, organization_id=customer.organization_id, slug=unique("p"), name="P"
            )
            assert made.state is ProviderState.APPLIED
            assert (await service.provider_of(session, customer.organization_id)).id == made.id
            assert (await service.provider_by_slug(session, made.slug)).id == made.id
            with pytest.raises(Conflict):
                await service.create_provider(
                    session, organization_id=customer.organization_id, slug=unique("p"), name="P"
                )

    @pytest.mark.parametrize("slug", ["", "A", "a" * 41, "-a", "a-", "a_b", "a\0", "a b"])
    async def test_bad_slug_is_refused(self, sessions: Sessions, slug: str):
        async with session_scope(sessions) as session:
            with pytest.raises(InvalidRequest, match="is no slug"):
                await service.create_provider(session, organization_id=new_id(), slug=slug, name="P")


class TestPool:
    async def test_slug_is_unique(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            pool = await make_pool(session)
            assert (await service.pool_by_slug(session, pool.slug)).id == pool.id
            with pytest.raises(Conflict):
                await service.create_pool(session, slug=pool.slug, kind=PoolKind.HOUSE, region="local")

    async def test_only_a_provider_pool_has_an_owner(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            provider = await make_provider(session)
            for kind, owner in ((PoolKind.HOUSE, provider.id), (PoolKind.PROVIDER, None)):
                with pytest.raises(InvalidRequest):
                    await service.create_pool(
                        session, slug=unique("pool"), kind=kind, region="local", provider_id=owner
                    )


class TestJoinToken:
    async def test_token_is_kept_as_its_hash_only(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            provider = await make_provider(session)
            pool = await make_pool(session)
            token, shown = await service.create_join_token(
                session, pool_id=pool.id, provider_id=provider.id, role=NodeRole.NODE, user_id=None
            )
            assert shown.startswith("rmj_")
            assert len(shown) == 4 + 43
            row = (await session.execute(select(JoinToken.__table__).where(JoinToken.id == token.id))).one()
        assert row.token_hash == hash_token(shown)
        assert shown not in repr(row)
        assert row.used_at is None

    @pytest.mark.parametrize("ttl_s", [1, 60, 3_600])
    async def test_life_is_counted_by_the_databases_clock(self, sessions: Sessions, ttl_s: int):
        async with session_scope(sessions) as session:
            pool = await make_pool(session)
            token, _ = await service.create_join_token(
                session,
                pool_id=pool.id,
                provider_id=None,
                role=NodeRole.CONTROLLER,
                user_id=None,
                ttl_s=ttl_s,
            )
        assert (
            timedelta(0)
            < token.created_at + timedelta(seconds=ttl_s) - token.expires_at
            # The life counts from the transaction's start, the row from its insertion: a busy machine may pause between.
            < timedelta(seconds=10)
        )

    @pytest.mark.parametrize("ttl_s", [0, -1, 3_601, 10**9])
    async def test_life_over_an_hour_is_refused(self, sessions: Sessions, ttl_s: int):
        async with session_scope(sessions) as session:
            pool = await make_pool(session)
            with pytest.raises(InvalidRequest, match="3600"):
                await service.create_join_token(
                    session,
                    pool_id=pool.id,
                    provider_id=None,
                    role=NodeRole.CONTROLLER,
                    user_id=None,
                    ttl_s=ttl_s,
                )

    async def test_life_over_an_hour_is_refused_by_the_table(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            pool = await make_pool(session)
        with pytest.raises(IntegrityError, match="ck_join_token_short_lived"):
            async with session_scope(sessions) as session:
                session.add(
                    JoinToken(
                        token_hash=b"h" * 32,
                        pool_id=pool.id,
                        role=NodeRole.CONTROLLER,
                        expires_at=func.clock_timestamp() + timedelta(seconds=3_601),
                    )
                )

    async def test_node_needs_a_provider(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            pool = await make_pool(session)
            with pytest.raises(InvalidRequest) as refusal:
                await service.create_join_token(
                    session, pool_id=pool.id, provider_id=None, role=NodeRole.NODE, user_id=None
                )
        assert refusal.value.param == "provider_id"

    async def test_another_providers_pool_is_refused(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            owner, stranger = await make_provider(session), await make_provider(session)
            pool = await make_pool(session, owner=owner)
            for provider_id, role in ((stranger.id, NodeRole.NODE), (None, NodeRole.CONTROLLER)):
                with pytest.raises(Forbidden, match="another provider"):
                    await service.create_join_token(
                        session, pool_id=pool.id, provider_id=provider_id, role=role, user_id=None
                    )

    @pytest.mark.parametrize("state", [ProviderState.SUSPENDED, ProviderState.CLOSED])
    async def test_suspended_provider_gets_none(self, sessions: Sessions, state: ProviderState):
        async with session_scope(sessions) as session:
            provider, pool = await make_provider(session, state=state), await make_pool(session)
            with pytest.raises(Forbidden, match=state.value):
                await service.create_join_token(
                    session, pool_id=pool.id, provider_id=provider.id, role=NodeRole.NODE, user_id=None
                )

    async def test_unknown_pool_and_provider_are_named(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            pool, provider = await make_pool(session), await make_provider(session)
            for pool_id, provider_id, param in (
                (new_id(), provider.id, "pool_id"),
                (pool.id, new_id(), "provider_id"),
            ):
                with pytest.raises(NotFound) as refusal:
                    await service.create_join_token(
                        session, pool_id=pool_id, provider_id=provider_id, role=NodeRole.NODE, user_id=None
                    )
                assert refusal.value.param == param


class TestOffer:
    async def test_offer_is_wanted_on_each_living_node(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            provider, pool, revision = (
                await make_provider(session),
                await make_pool(session),
                await make_revision(session),
            )
            nodes = [await make_node(session, pool=pool, provider=provider) for _ in range(3)]
            await service.revoke_node(session, node_id=nodes[0].id)
            offer = await service.open_offer(
                session, provider_id=provider.id, revision_id=revision.id, **ASKS
            )
            assert offer.state is OfferState.OPEN
            assert await wanted(session, revision) == {nodes[1].id, nodes[2].id}
            assert [each.id for each in await service.offers_of(session, provider.id)] == [offer.id]

    async def test_of_ten_at_once_one_is_opened(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            provider, revision = await make_provider(session), await make_revision(session)

        async def attempt() -> bool:
            try:
                async with session_scope(sessions) as session:
                    await service.open_offer(
                        session, provider_id=provider.id, revision_id=revision.id, **ASKS
                    )
            except Conflict:
                return False
            return True

        assert sum(await asyncio.gather(*(attempt() for _ in range(10)))) == 1

    @pytest.mark.parametrize("ask", [-1, 1_000_000_001, 2**63])
    async def test_ask_outside_the_limits_names_the_field(self, sessions: Sessions, ask: int):
        async with session_scope(sessions) as session:
            for param in ASKS:
                with pytest.raises(InvalidRequest) as refusal:
                    await service.open_offer(
                        session, provider_id=new_id(), revision_id=new_id(), **(ASKS | {param: ask})
                    )
                assert refusal.value.param == param
                with pytest.raises(InvalidRequest):
                    await service.set_asks(session, offer_id=new_id(), **(ASKS | {param: ask}))

    @pytest.mark.parametrize(
        "state", [RevisionState.DRAFT, RevisionState.DEPRECATED, RevisionState.WITHDRAWN]
    )
    async def test_revision_that_is_not_published_is_refused(self, sessions: Sessions, state: RevisionState):
        async with session_scope(sessions) as session:
            provider, revision = await make_provider(session), await make_revision(session)
            await put_in_state(session, revision, state)
            with pytest.raises(Conflict, match=state.value):
                await service.open_offer(session, provider_id=provider.id, revision_id=revision.id, **ASKS)

    @pytest.mark.parametrize("state", [ProviderState.SUSPENDED, ProviderState.CLOSED])
    async def test_suspended_provider_may_not_offer(self, sessions: Sessions, state: ProviderState):
        async with session_scope(sessions) as session:
            provider, revision = await make_provider(session, state=state), await make_revision(session)
            with pytest.raises(Forbidden):
                await service.open_offer(session, provider_id=provider.id, revision_id=revision.id, **ASKS)

    async def test_unknown_revision_is_not_found(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            provider = await make_provider(session)
            with pytest.raises(NotFound, match="rev_"):
                await service.open_offer(session, provider_id=provider.id, revision_id=new_id(), **ASKS)

    async def test_asks_change(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            offer = await make_offer(session)
            await service.set_asks(
                session, offer_id=offer.id, ask_prompt_nano_usd=7, ask_completion_nano_usd=0
            )
        async with session_scope(sessions) as session:
            kept = await session.get_one(Offer, offer.id)
        assert (kept.ask_prompt_nano_usd, kept.ask_completion_nano_usd) == (7, 0)

    async def test_pausing_keeps_the_replicas_and_resuming_takes_no_loading(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            offer = await make_offer(session)
            node = await node_of(session, offer)
            for _ in range(2):
                assert (await service.pause_offer(session, offer_id=offer.id)).state is OfferState.PAUSED
            assert await wanted_by(session, offer) == {node}
            for _ in range(2):
                assert (await service.resume_offer(session, offer_id=offer.id)).state is OfferState.OPEN
            assert await wanted_by(session, offer) == {node}

    async def test_suspended_provider_may_not_resume(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            offer = await make_offer(session)
            await service.pause_offer(session, offer_id=offer.id)
            await session.execute(
                update(Provider).where(Provider.id == offer.provider_id).values(state=ProviderState.SUSPENDED)
            )
            with pytest.raises(Forbidden):
                await service.resume_offer(session, offer_id=offer.id)

    async def test_closing_takes_the_replicas_away_for_good_until_another_offer(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            offer = await make_offer(session)
            node = await node_of(session, offer)
            await service.close_offer(session, offer_id=offer.id)
            assert await wanted_by(session, offer) == set()
            for change in (service.pause_offer, service.resume_offer, service.close_offer):
                with pytest.raises(Conflict, match="closed"):
                    await change(session, offer_id=offer.id)
            again = await service.open_offer(
                session, provider_id=offer.provider_id, revision_id=offer.revision_id, **ASKS
            )
            assert again.id != offer.id
            assert await wanted_by(session, again) == {node}

    async def test_closing_leaves_other_offers_alone(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            offer = await make_offer(session)
            node = await node_of(session, offer)
            revision = await make_revision(session)
            other = await service.open_offer(
                session, provider_id=offer.provider_id, revision_id=revision.id, **ASKS
            )
            await service.close_offer(session, offer_id=offer.id)
            assert await wanted_by(session, other) == {node}

    async def test_unknown_offer_is_not_found(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            with pytest.raises(NotFound, match="offer_"):
                await service.pause_offer(session, offer_id=new_id())


class TestNodes:
    async def test_pages_follow_each_other_by_id(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            provider, pool = await make_provider(session), await make_pool(session)
            made = [(await make_node(session, pool=pool, provider=provider)).id for _ in range(5)]
            seen = []
            while page := await service.nodes_of(
                session, provider.id, after=seen[-1] if seen else None, limit=2
            ):
                assert len(page) <= 2
                seen += [node.id for node in page]
        assert seen == sorted(made)

    async def test_page_is_bounded_whatever_is_asked_for(self, sessions: Sessions, monkeypatch):
        monkeypatch.setattr(service, "PAGE_MAX", 2)
        async with session_scope(sessions) as session:
            provider, pool = await make_provider(session), await make_pool(session)
            for _ in range(3):
                await make_node(session, pool=pool, provider=provider)
            assert len(await service.nodes_of(session, provider.id, limit=10**9)) == 2

    async def test_revoked_node_is_retired_with_its_placements(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            offer = await make_offer(session)
            node = await node_of(session, offer)
            first = await service.revoke_node(session, node_id=node)
            revoked_at = first.revoked_at
        async with session_scope(sessions) as session:
            again = await service.revoke_node(session, node_id=node)
            assert (again.state, again.revoked_at) == (NodeState.RETIRED, revoked_at)
            assert await wanted_by(session, offer) == set()

    async def test_unknown_node_is_not_found(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            with pytest.raises(NotFound, match="node_"):
                await service.revoke_node(session, node_id=new_id())


async def make_offer(session) -> Offer:
    """Open, of a provider with one node."""
    provider, pool, revision = (
        await make_provider(session),
        await make_pool(session),
        await make_revision(session),
    )
    await make_node(session, pool=pool, provider=provider)
    return await service.open_offer(session, provider_id=provider.id, revision_id=revision.id, **ASKS)


async def node_of(session, offer: Offer):
    """The provider's only node."""
    return (await service.nodes_of(session, offer.provider_id))[0].id


async def wanted(session, revision: ModelRevision) -> set:
    """Nodes that should run the revision."""
    found = select(Placement.node_id).where(Placement.revision_id == revision.id, Placement.desired.is_(True))
    return set((await session.scalars(found)).all())


async def wanted_by(session, offer: Offer) -> set:
    """Nodes that should run the offered revision."""
    return await wanted(session, await session.get_one(ModelRevision, offer.revision_id))
