"""Offers and placements follow the alias that governs: no gap on the way there, and none on the way back."""

from dataclasses import dataclass
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from raymart_core.ids import Prefix, show
from raymart_core.units import Unit
from raymart_core.wire import link
from raymart_marketplace.catalog.aliases import point_alias, roll_back
from raymart_marketplace.catalog.models import Model, ModelRevision, RevisionState
from raymart_marketplace.catalog.standing import revision_standings
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.pricing.book import load_terms
from raymart_marketplace.pricing.effective import Window
from raymart_marketplace.pricing.windows import Hours
from raymart_marketplace.supply.live import Standing
from raymart_marketplace.supply.models import Node, Offer, OfferState, Placement, Pool, Provider
from raymart_marketplace.supply.placements import apply_report, desired, place_offers
from raymart_marketplace.supply.rollouts import SURGE_PATIENCE, follow_aliases
from raymart_marketplace.supply.service import open_offer, pause_offer, set_floors, set_windows
from support.market import make_node, make_pool, make_provider, make_revision

ASKS = {Unit.TOKEN_PROMPT: 3, Unit.TOKEN_COMPLETION: 7}
WINDOW = Window(hours=Hours(days=frozenset({1, 7}), starts_minute=60, ends_minute=120), basis_points=5_000)


@dataclass
class Market:
    """One provider with machines, an old and a new revision of one model, the old one stable and offered."""

    sessions: Sessions
    pool: Pool
    provider: Provider
    nodes: list[Node]
    old: ModelRevision
    new: ModelRevision

    async def move_to(self, revision: ModelRevision) -> None:
        async with session_scope(self.sessions) as session:
            await point_alias(session, model_id=self.old.model_id, name="stable", revision_id=revision.id)

    async def roll_back(self) -> None:
        async with session_scope(self.sessions) as session:
            await roll_back(session, model_id=self.old.model_id, name="stable")

    async def follow(self) -> int:
        async with session_scope(self.sessions) as session:
            return await follow_aliases(session, model_id=self.old.model_id)

    async def wanted(self) -> set[tuple[str, str]]:
        """Which revision the pool is told to run on which machine."""
        names = {self.old.digest: "old", self.new.digest: "new"}
        async with session_scope(self.sessions) as session:
            return {(each.node, names[each.revision]) for each in await desired(session, self.pool.id)}

    async def runs(self, node: Node, revision: ModelRevision, state: str = "running") -> None:
        """The pool's controller reports it."""
        async with session_scope(self.sessions) as session:
            placement_id = await session.scalar(
                select(Placement.id).where(Placement.node_id == node.id, Placement.revision_id == revision.id)
            )
            assert placement_id is not None
            seen = link.Observed(
                placement_id=show(Prefix.PLACEMENT, placement_id),
                state=state,
                replicas=1 if state == "running" else 0,
            )
            await apply_report(session, self.pool.id, link.Report(generation=1, observed=(seen,)))

    async def offers(self) -> dict[str, Offer]:
        """The provider's unclosed offers by revision."""
        names = {self.old.id: "old", self.new.id: "new"}
        async with session_scope(self.sessions) as session:
            found = await session.scalars(
                select(Offer).where(Offer.provider_id == self.provider.id, Offer.state != OfferState.CLOSED)
            )
            return {names[offer.revision_id]: offer for offer in found}

    async def standings(self) -> tuple[Standing, Standing]:
        """Of the old revision and of the new one."""
        async with session_scope(self.sessions) as session:
            found = await revision_standings(session, [self.old.id, self.new.id])
        return found[self.old.id].standing, found[self.new.id].standing

    async def wait(self, waited: timedelta) -> None:
        """As if the offers had been on the move for that long."""
        async with session_scope(self.sessions) as session:
            moved = update(Offer).where(Offer.provider_id == self.provider.id)
            await session.execute(moved.values(succeeded_at=Offer.succeeded_at - waited))


@pytest.fixture
async def market(sessions: Sessions) -> Market:
    async with session_scope(sessions) as session:
        provider, pool = await make_provider(session), await make_pool(session)
        old = await make_revision(session)
        nodes = [await make_node(session, pool=pool, provider=provider) for _ in range(2)]
        await point_alias(session, model_id=old.model_id, name="stable", revision_id=old.id)
        new = await make_revision(session, model=await session.get_one(Model, old.model_id))
        offer = await open_offer(
            session,
            provider_id=provider.id,
            revision_id=old.id,
            ask_prompt_nano_usd=ASKS[Unit.TOKEN_PROMPT],
            ask_completion_nano_usd=ASKS[Unit.TOKEN_COMPLETION],
        )
        await set_floors(session, offer_id=offer.id, floors={Unit.TOKEN_PROMPT: 2})
        await set_windows(session, offer_id=offer.id, windows=[WINDOW])
    made = Market(sessions, pool, provider, nodes, old, new)
    for node in nodes:
        await made.runs(node, old)
    return made


def everywhere(market: Market, *revisions: str) -> set[tuple[str, str]]:
    return {(node.name, revision) for node in market.nodes for revision in revisions}


class TestStanding:
    async def test_a_revision_that_was_never_named_is_a_candidate(self, market: Market):
        assert await market.standings() == (Standing.CURRENT, Standing.CANDIDATE)

    async def test_after_the_move_the_old_one_is_superseded(self, market: Market):
        await market.move_to(market.new)
        assert await market.standings() == (Standing.SUPERSEDED, Standing.CURRENT)

    async def test_without_a_stable_one_the_latest_governs(self, market: Market, sessions: Sessions):
        async with session_scope(sessions) as session:
            old = await make_revision(session)
            model = await session.get_one(Model, old.model_id)
            new = await make_revision(session, model=model)
            found = await revision_standings(session, [old.id, new.id])

        # The old one must go on serving until the new one can.
        assert [found[each.id].standing for each in (old, new)] == [Standing.SUPERSEDED, Standing.CURRENT]
        assert found[new.id].aliases == ("latest",)

    async def test_another_number_format_is_sold_beside_it(self, market: Market, sessions: Sessions):
        async with session_scope(sessions) as session:
            model = await session.get_one(Model, market.old.model_id)
            other = await make_revision(session, model=model, quantization="f16")
            found = await revision_standings(session, [other.id])
        assert found[other.id].standing is Standing.CURRENT


class TestRollout:
    async def test_nothing_moves_while_the_alias_stands(self, market: Market):
        assert await market.follow() == 0
        assert await market.wanted() == everywhere(market, "old")

    async def test_the_new_one_is_wanted_beside_the_old_one(self, market: Market):
        await market.move_to(market.new)
        assert await market.follow() > 0
        assert await market.wanted() == everywhere(market, "old", "new")
        assert await market.follow() == 0

    async def test_the_new_offer_has_the_terms_of_the_old_one(self, market: Market, sessions: Sessions):
        await market.move_to(market.new)
        await market.follow()
        offers = await market.offers()
        async with session_scope(sessions) as session:
            terms = await load_terms(session, [offer.id for offer in offers.values()])

        assert terms[offers["new"].id] == terms[offers["old"].id]
        assert terms[offers["new"].id].asks == ASKS
        assert terms[offers["new"].id].windows == (WINDOW,)
        assert (offers["new"].ask_prompt_nano_usd, offers["new"].state) == (3, OfferState.OPEN)

    async def test_a_machine_gives_up_the_old_one_when_it_runs_the_new_one(self, market: Market):
        await market.move_to(market.new)
        await market.follow()
        await market.runs(market.nodes[0], market.new)
        await market.follow()
        first, second = (node.name for node in market.nodes)
        assert await market.wanted() == {(first, "new"), (second, "new"), (second, "old")}

    async def test_in_the_end_only_the_new_one_is_offered(self, market: Market):
        await market.move_to(market.new)
        await market.follow()
        for node in market.nodes:
            await market.runs(node, market.new)
        await market.follow()

        assert await market.wanted() == everywhere(market, "new")
        assert list(await market.offers()) == ["new"]
        assert await market.follow() == 0

    async def test_what_is_being_given_up_is_not_woken(self, market: Market, sessions: Sessions):
        await market.move_to(market.new)
        await market.follow()
        await market.runs(market.nodes[0], market.new)
        await market.follow()
        before = await market.wanted()
        async with session_scope(sessions) as session:
            await place_offers(session, provider_id=market.provider.id)
        assert await market.wanted() == before

    async def test_a_paused_offer_moves_without_loading_anything(self, market: Market, sessions: Sessions):
        async with session_scope(sessions) as session:
            await pause_offer(session, offer_id=(await market.offers())["old"].id)
        await market.move_to(market.new)
        await market.follow()
        assert await market.wanted() == set()
        assert {name: offer.state for name, offer in (await market.offers()).items()} == {
            "new": OfferState.PAUSED
        }

    async def test_a_revision_that_may_not_be_offered_is_not_moved_to(
        self, market: Market, sessions: Sessions
    ):
        await market.move_to(market.new)
        async with session_scope(sessions) as session:
            revision = await session.get_one(ModelRevision, market.new.id)
            revision.state = RevisionState.DEPRECATED
        assert await market.follow() == 0
        assert await market.wanted() == everywhere(market, "old")


class TestRollback:
    async def test_half_way_the_machines_turn_round(self, market: Market):
        await market.move_to(market.new)
        await market.follow()
        await market.runs(market.nodes[0], market.new)
        await market.follow()
        await market.roll_back()
        await market.follow()

        assert everywhere(market, "old") <= await market.wanted()
        await market.runs(market.nodes[0], market.old)
        await market.follow()
        assert await market.wanted() == everywhere(market, "old")
        assert list(await market.offers()) == ["old"]

    async def test_after_the_end_the_old_one_is_offered_again(self, market: Market):
        await market.move_to(market.new)
        await market.follow()
        for node in market.nodes:
            await market.runs(node, market.new)
        await market.follow()
        await market.roll_back()
        await market.follow()

        assert await market.wanted() == everywhere(market, "old", "new")
        assert (await market.offers())["old"].ask_completion_nano_usd == 7


class TestNoRoom:
    async def test_a_machine_without_room_gives_way_once_another_serves(self, market: Market):
        first, second = market.nodes
        await market.move_to(market.new)
        await market.follow()
        await market.runs(first, market.new)
        await market.runs(second, market.new, "placing")
        await market.follow()
        assert (second.name, "old") in await market.wanted()

        await market.wait(SURGE_PATIENCE)
        await market.follow()
        assert await market.wanted() == everywhere(market, "new")

    async def test_while_nobody_serves_the_new_one_nobody_gives_way(self, market: Market):
        await market.move_to(market.new)
        await market.follow()
        for node in market.nodes:
            await market.runs(node, market.new, "placing")
        await market.wait(SURGE_PATIENCE)
        assert await market.follow() == 0
        assert await market.wanted() == everywhere(market, "old", "new")

    async def test_one_machine_at_a_time_gives_way(self, market: Market, sessions: Sessions):
        async with session_scope(sessions) as session:
            third = await make_node(session, pool=market.pool, provider=market.provider)
        market.nodes.append(third)
        await market.runs(third, market.old)
        await market.move_to(market.new)
        await market.follow()
        await market.runs(market.nodes[0], market.new)
        await market.follow()
        await market.wait(SURGE_PATIENCE)
        await market.follow()
        await market.follow()

        still = {node for node, revision in await market.wanted() if revision == "old"}
        assert len(still) == 1
