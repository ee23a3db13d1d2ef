import asyncio
from uuid import uuid4

import pytest

from raymart_core.ids import new_id
from raymart_core.ports import Prices
from raymart_core.units import Unit
from raymart_core.wire.link import Replica
from raymart_marketplace.catalog.models import ModelRevision
from raymart_marketplace.db.session import make_engine, make_sessions, session_scope
from raymart_marketplace.gateway.http_client import DirectUpstream
from raymart_marketplace.pricing.effective import Window
from raymart_marketplace.pricing.service import set_price_cap
from raymart_marketplace.pricing.windows import Hours
from raymart_marketplace.supply.breaker import BreakerState
from raymart_marketplace.supply.data_policies import set_data_policy
from raymart_marketplace.supply.directory import Directory
from raymart_marketplace.supply.enrolment import NodeIdentity
from raymart_marketplace.supply.live import Served
from raymart_marketplace.supply.models import NodeRole
from raymart_marketplace.supply.presence import link_up
from raymart_marketplace.supply.service import pause_offer, set_asks, set_floors, set_windows
from raymart_marketplace.supply.track_record import TrackRecords
from raymart_marketplace.supply.trust import DataPolicy, Trust
from support.link_market import make_supply
from support.raw_node import live_node


class Link:
    """Stands for a node's live link; its upstreams are only told apart."""

    def upstream(self, replica_id):
        return f"tunnel to {replica_id}"


def replica(supply, replica_id="r1", **changes):
    values = {
        "replica_id": replica_id,
        "revision": supply.digest,
        "model": supply.model_slug,
        "engine": "llama_cpp",
        "capacity": 2,
        "context_length": 1024,
        "state": "ready",
    }
    return Replica(**{**values, **changes})


@pytest.fixture
async def identity(market, supply, sessions):
    """A node that has enrolled and is ready, for a directory that the test feeds by hand."""
    from raymart_core.ids import Prefix, parse

    async with live_node(market, supply) as node:
        node_id = parse(Prefix.NODE, node.node_id)
    async with session_scope(sessions) as session:
        await link_up(session, node_id, new_id())
    return NodeIdentity(
        node_id=node_id,
        pool_id=supply.pool_id,
        pool_slug=supply.pool_slug,
        region="local",
        name="raw",
        role=NodeRole.NODE,
        provider_id=supply.provider_id,
        provider_slug="p",
        public_key=bytes(32),
    )


@pytest.fixture
async def live(sessions, supply, identity):
    """A directory with one node of two replicas, and its link."""
    directory = Directory(sessions)
    link = Link()
    directory.link_up(identity, link)
    directory.announce(identity.node_id, link, [replica(supply, "r1"), replica(supply, "r2")])
    await directory.load(identity.node_id)
    return directory, link


class TestLive:
    async def test_an_endpoint_joins_the_announcement_with_the_offer(self, live, supply, identity):
        directory, _ = live
        (endpoint,) = directory.live(supply.model_slug)
        assert (endpoint.node_id, endpoint.provider_id, endpoint.offer_id) == (
            identity.node_id,
            supply.provider_id,
            supply.offer_id,
        )
        assert (endpoint.capacity, endpoint.running, endpoint.quarantined) == (4, 0, False)
        assert (endpoint.prices.token_prompt, endpoint.prices.token_completion) == (100, 200)
        assert directory.all_live() == [endpoint]
        assert directory.live("raymart/other") == []

    async def test_nothing_is_live_without_a_ready_replica(self, live, supply, identity):
        directory, link = live
        directory.announce(identity.node_id, link, [replica(supply, state="draining")])
        assert directory.all_live() == []

    async def test_a_revision_without_an_offer_is_not_live(self, live, supply, identity):
        directory, link = live
        unknown = replica(supply, revision="sha256:" + "0" * 64)
        assert directory.announce(identity.node_id, link, [unknown])
        await directory.load(identity.node_id)
        assert directory.all_live() == []

    async def test_new_asks_and_a_paused_offer_show_after_a_refresh(self, live, supply, sessions):
        directory, _ = live
        async with session_scope(sessions) as session:
            await set_asks(
                session, offer_id=supply.offer_id, ask_prompt_nano_usd=7, ask_completion_nano_usd=8
            )
        await directory.refresh()
        assert directory.live(supply.model_slug)[0].prices.token_prompt == 7
        async with session_scope(sessions) as session:
            await pause_offer(session, offer_id=supply.offer_id)
        await directory.refresh()
        assert directory.live(supply.model_slug) == []

    async def test_asks_changed_elsewhere_show_by_themselves(self, live, supply, sessions):
        directory, _ = live
        directory._refresh_s = 0.05
        await directory.start()
        try:
            async with session_scope(sessions) as session:
                await set_asks(
                    session, offer_id=supply.offer_id, ask_prompt_nano_usd=9, ask_completion_nano_usd=8
                )
            async with asyncio.timeout(30):
                while directory.live(supply.model_slug)[0].prices.token_prompt != 9:
                    await asyncio.sleep(0.01)
        finally:
            await directory.stop()

    async def test_a_cap_set_while_the_process_runs_is_the_price_after_a_refresh(
        self, live, supply, sessions
    ):
        directory, _ = live
        async with session_scope(sessions) as session:
            model_id = (await session.get_one(ModelRevision, supply.revision_id)).model_id
            await set_price_cap(
                session,
                unit=Unit.TOKEN_PROMPT,
                max_nano_usd=60,
                model_id=model_id,
                reason="a test",
                actor_id=None,
            )
        assert directory.live(supply.model_slug)[0].prices.token_prompt == 100
        await directory.refresh()
        assert directory.live(supply.model_slug)[0].prices.token_prompt == 60

    async def test_an_offer_whose_floor_is_above_the_cap_leaves_routing_until_it_is_lowered(
        self, live, supply, sessions
    ):
        directory, _ = live
        async with session_scope(sessions) as session:
            model_id = (await session.get_one(ModelRevision, supply.revision_id)).model_id
            await set_floors(session, offer_id=supply.offer_id, floors={Unit.TOKEN_PROMPT: 90})
            await set_price_cap(
                session,
                unit=Unit.TOKEN_PROMPT,
                max_nano_usd=60,
                model_id=model_id,
                reason="a test",
                actor_id=None,
            )
        await directory.refresh()
        assert directory.live(supply.model_slug) == []
        assert directory.all_live() == []
        async with session_scope(sessions) as session:
            await set_floors(session, offer_id=supply.offer_id, floors={Unit.TOKEN_PROMPT: 60})
        await directory.refresh()
        assert directory.live(supply.model_slug)[0].prices.token_prompt == 60

    async def test_a_window_prices_the_endpoint_in_its_hours(self, live, supply, sessions):
        directory, _ = live
        whole_week = Hours(days=frozenset(range(1, 8)), starts_minute=0, ends_minute=1_440)
        async with session_scope(sessions) as session:
            await set_windows(
                session, offer_id=supply.offer_id, windows=[Window(hours=whole_week, basis_points=2_500)]
            )
        await directory.refresh()
        [endpoint] = directory.live(supply.model_slug)
        assert endpoint.prices == Prices(token_prompt=25, token_completion=50, token_cached=25)

    async def test_a_database_that_is_away_empties_nothing(self, live, supply):
        directory, _ = live
        engine = make_engine("postgresql://raymart:x@127.0.0.1:1/raymart", pool_size=1)
        directory._sessions = make_sessions(engine)
        directory._refresh_s = 0.01
        await directory.start()
        await asyncio.sleep(0.2)
        assert directory.live(supply.model_slug)
        await directory.stop()
        await engine.dispose()

    async def test_a_lost_link_takes_its_endpoints_at_once(self, live, identity):
        directory, link = live
        directory.link_down(identity.node_id, Link())
        assert directory.all_live()
        directory.link_down(identity.node_id, link)
        assert directory.all_live() == []

    async def test_a_link_that_was_replaced_says_nothing_any_more(self, live, supply, identity):
        directory, old = live
        new = Link()
        directory.link_up(identity, new)
        assert directory.all_live() == []
        directory.announce(identity.node_id, old, [replica(supply)])
        await directory.load(identity.node_id)
        assert directory.all_live() == []


class TestAcquire:
    async def test_requests_spread_over_the_least_loaded_replicas(self, live, supply):
        directory, _ = live
        (endpoint,) = directory.live(supply.model_slug)
        leases = [directory.acquire(endpoint.id) for _ in range(4)]
        assert sorted(lease.upstream for lease in leases) == ["tunnel to r1"] * 2 + ["tunnel to r2"] * 2
        assert directory.live(supply.model_slug)[0].running == 4

    async def test_a_free_slot_beats_a_lower_share(self, live, supply, identity):
        directory, link = live
        directory.announce(
            identity.node_id, link, [replica(supply, "big", capacity=8), replica(supply, "one", capacity=1)]
        )
        (endpoint,) = directory.live(supply.model_slug)
        chosen = [directory.acquire(endpoint.id).upstream for _ in range(9)]
        assert chosen.count("tunnel to one") == 1

    async def test_a_full_endpoint_still_gives_its_least_loaded_replica(self, live, supply):
        directory, _ = live
        (endpoint,) = directory.live(supply.model_slug)
        assert all(directory.acquire(endpoint.id) for _ in range(6))

    async def test_leaving_the_lease_counts_off_once(self, live, supply):
        directory, _ = live
        (endpoint,) = directory.live(supply.model_slug)
        lease = directory.acquire(endpoint.id)
        with lease:
            assert directory.live(supply.model_slug)[0].running == 1
        lease.__exit__(None, None, None)
        assert directory.live(supply.model_slug)[0].running == 0

    async def test_counts_survive_a_new_announcement(self, live, supply, identity):
        directory, link = live
        (endpoint,) = directory.live(supply.model_slug)
        with directory.acquire(endpoint.id):
            directory.announce(identity.node_id, link, [replica(supply, "r1"), replica(supply, "r3")])
            assert directory.live(supply.model_slug)[0].running == 1

    async def test_an_endpoint_that_is_gone_gives_none(self, live):
        directory, _ = live
        assert directory.acquire(uuid4()) is None


class TestDirect:
    def made(self, sessions, identity, supply, **settings):
        asked = []
        directory = Directory(sessions, direct=lambda *where: asked.append(where) or "direct", **settings)
        link = Link()
        directory.link_up(identity, link)
        announced = replica(supply, address="10.0.0.9:8100", secret="s", certificate_sha256="ab" * 32)
        directory.announce(identity.node_id, link, [announced])
        directory.announce(identity.node_id, link, [announced])
        return directory, asked

    async def test_a_house_pools_address_is_used_and_its_upstream_made_once(self, sessions, identity, supply):
        directory, asked = self.made(sessions, identity, supply, direct_pools={identity.pool_slug})
        await directory.load(identity.node_id)
        (endpoint,) = directory.live(supply.model_slug)
        assert directory.acquire(endpoint.id).upstream == "direct"
        assert asked == [("10.0.0.9:8100", "s", "ab" * 32)]

    async def test_another_machine_without_a_certificate_is_reached_by_its_link(
        self, sessions, identity, supply
    ):
        directory = Directory(sessions, direct=DirectUpstream, direct_pools={identity.pool_slug})
        link = Link()
        directory.link_up(identity, link)
        directory.announce(identity.node_id, link, [replica(supply, address="10.0.0.9:8100", secret="s")])
        await directory.load(identity.node_id)
        (endpoint,) = directory.live(supply.model_slug)
        assert directory.acquire(endpoint.id).upstream == "tunnel to r1"

    async def test_an_address_of_any_other_pool_is_not_dialled(self, sessions, identity, supply):
        """Else a provider could make the gateway connect to whatever it names."""
        directory, asked = self.made(sessions, identity, supply)
        await directory.load(identity.node_id)
        (endpoint,) = directory.live(supply.model_slug)
        assert directory.acquire(endpoint.id).upstream == "tunnel to r1"
        assert asked == []


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
async def clocked(sessions, supply, identity):
    """A directory by a clock of the test's, with one endpoint of one replica; `down` and `up` cut and mend its link."""
    clock = Clock()
    directory = Directory(sessions, records=TrackRecords(clock=clock), provider_requests_max=2)

    async def up():
        link = Link()
        directory.link_up(identity, link)
        directory.announce(identity.node_id, link, [replica(supply)])
        await directory.load(identity.node_id)

    await up()
    return directory, clock, up


ANSWER = Served(first_token_s=0.1, duration_s=1.0, tokens=10)


class TestBreaker:
    async def test_a_failure_opens_it_and_one_request_at_a_time_tries_after(self, clocked, supply):
        directory, clock, _ = clocked
        (endpoint,) = directory.live(supply.model_slug)
        directory.report_failure(endpoint.id, reason="stalled", began_at=clock.now)
        (open_,) = directory.live(supply.model_slug)
        assert (open_.quarantined, open_.breaker, open_.rests_until) == (
            True,
            BreakerState.OPEN,
            clock.now + 2,
        )
        clock.now += 2.0
        (half_open,) = directory.live(supply.model_slug)
        assert (half_open.quarantined, half_open.breaker) == (False, BreakerState.HALF_OPEN)
        with directory.acquire(endpoint.id):
            assert directory.live(supply.model_slug)[0].quarantined, "another request tries it"
        assert not directory.live(supply.model_slug)[0].quarantined
        with directory.acquire(endpoint.id):
            directory.report_success(endpoint.id, ANSWER)
        assert directory.live(supply.model_slug)[0].breaker is BreakerState.CLOSED

    async def test_a_new_link_does_not_clear_it(self, clocked, supply):
        directory, clock, up = clocked
        (endpoint,) = directory.live(supply.model_slug)
        directory.report_failure(endpoint.id, reason="stalled", began_at=clock.now)
        await up()
        assert directory.live(supply.model_slug)[0].quarantined

    async def test_a_failure_that_comes_after_the_link_is_gone_counts(self, clocked, supply, identity):
        directory, clock, up = clocked
        (endpoint,) = directory.live(supply.model_slug)
        directory.link_down(identity.node_id, directory._nodes[identity.node_id].link)
        directory.report_failure(endpoint.id, reason="the link was lost", began_at=clock.now)
        await up()
        assert directory.live(supply.model_slug)[0].quarantined


class TestFigures:
    async def test_answers_and_failures_show(self, clocked, supply):
        directory, clock, _ = clocked
        (endpoint,) = directory.live(supply.model_slug)
        assert (endpoint.first_token_ms, endpoint.tokens_per_s, endpoint.error_rate) == (None, None, 0.0)
        directory.report_success(endpoint.id, ANSWER)
        directory.report_failure(endpoint.id, reason="x", began_at=clock.now)
        (seen,) = directory.live(supply.model_slug)
        assert seen.first_token_ms == pytest.approx(100.0)
        assert seen.inter_token_ms == pytest.approx(100.0)
        assert seen.tokens_per_s == pytest.approx(10.0)
        assert seen.error_rate == pytest.approx(0.5)
        assert seen.observations == pytest.approx(2.0)
        assert seen.pace.first_token_ms.p99 == pytest.approx(100.0, rel=0.1)
        assert seen.pace.tokens_per_s.p99 == pytest.approx(10.0, rel=0.1)


class TestBulkhead:
    async def test_a_provider_at_its_limit_gets_no_more(self, clocked, supply):
        directory, _, _ = clocked
        (endpoint,) = directory.live(supply.model_slug)
        leases = [directory.acquire(endpoint.id) for _ in range(3)]
        assert [lease is None for lease in leases] == [False, False, True]
        assert directory.live(supply.model_slug)[0].crowded
        leases[0].__exit__(None, None, None)
        leases[0].__exit__(None, None, None)
        assert not directory.live(supply.model_slug)[0].crowded
        assert directory.acquire(endpoint.id) is not None

    async def test_requests_that_outlive_their_link_are_counted_off(self, clocked, supply, identity):
        directory, _, up = clocked
        (endpoint,) = directory.live(supply.model_slug)
        lease = directory.acquire(endpoint.id)
        directory.link_down(identity.node_id, directory._nodes[identity.node_id].link)
        await up()
        assert directory._bulkheads[supply.provider_id].under_way == 1
        lease.__exit__(None, None, None)
        assert directory._bulkheads[supply.provider_id].under_way == 0


class TestMarket:
    async def test_it_comes_and_goes_with_its_endpoints(self, clocked, supply, identity):
        directory, _, _ = clocked
        (row,) = directory.market(supply.model_slug)
        assert row.is_sold
        assert row.snapshot() == directory.live(supply.model_slug)[0]
        directory.link_down(identity.node_id, directory._nodes[identity.node_id].link)
        assert directory.market(supply.model_slug) is None
        assert not row.is_sold, "who still has it does not choose it"

    async def test_an_endpoint_that_has_not_changed_stays_the_same_row(self, clocked, supply):
        directory, _, _ = clocked
        market = directory.market(supply.model_slug)
        (row,), version = market, market._version
        await directory.refresh()
        assert list(market) == [row]
        assert market._version == version

    async def test_new_capacity_and_asks_change_it_in_its_place(self, clocked, supply, identity, sessions):
        directory, _, _ = clocked
        market = directory.market(supply.model_slug)
        (row,), version = market, market._version
        link = directory._nodes[identity.node_id].link
        directory.announce(identity.node_id, link, [replica(supply, capacity=7)])
        assert list(market) == [row]
        assert row.capacity == 7
        assert row.bulkhead.slots == 7
        async with session_scope(sessions) as session:
            await set_asks(
                session, offer_id=supply.offer_id, ask_prompt_nano_usd=3, ask_completion_nano_usd=8
            )
        await directory.refresh()
        assert row.prices.token_prompt == 3
        assert market._version == version + 2

    async def test_trust_follows_from_the_pool_and_the_data_policy_from_its_provider(
        self, clocked, supply, sessions
    ):
        directory, _, _ = clocked
        (endpoint,) = directory.live(supply.model_slug)
        assert (endpoint.trust, endpoint.data_policy) == (Trust.VERIFIED, DataPolicy.UNSTATED)
        async with session_scope(sessions) as session:
            await set_data_policy(
                session, provider_id=supply.provider_id, data_policy=DataPolicy.NO_RETENTION
            )
        await directory.refresh()
        assert directory.live(supply.model_slug)[0].data_policy is DataPolicy.NO_RETENTION


class TestOthers:
    async def test_two_supplies_do_not_mix(self, sessions, live, supply):
        directory, _ = live
        other = await make_supply(sessions)
        assert directory.live(other.model_slug) == []
