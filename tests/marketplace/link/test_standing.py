"""What a node asks of its place in the market over its link, what it is told, and that every process hears of a change."""

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import func, select, update

from raymart_core.ids import Prefix, parse
from raymart_core.wire.link import Announce, Challenge, Heartbeat
from raymart_core.wire.membership import Drain, DrainAsk, KeyRotated, RotateKey, rotation_transcript
from raymart_marketplace.audit import ActorKind
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.oversight.models import SubjectKind
from raymart_marketplace.oversight.suspension import suspend
from raymart_marketplace.supply.draining import drain_node, resume_node
from raymart_marketplace.supply.key_rotation import EVERY_S
from raymart_marketplace.supply.life_models import NodeEvent, NodeEventKind
from raymart_marketplace.supply.link import LinkLimits
from raymart_marketplace.supply.link.standing import ClockSkew
from raymart_marketplace.supply.models import Node, NodeState
from raymart_marketplace.supply.news import SupplyNews
from raymart_marketplace.supply.presence import SKEW_MS_MAX
from raymart_marketplace.supply.service import revoke_node
from support.link_market import SERVER_NAME, LinkMarket, link_market, until
from support.market import make_customer
from support.raw_node import HARDWARE, RawNode, again, live_node, raw_node

UNHURRIED = LinkLimits(recheck_s=600.0)
"""The safety net is far away: what happens in these tests is told."""


@contextlib.asynccontextmanager
async def process(sessions: Sessions, database_url: str) -> AsyncIterator[LinkMarket]:
    """One API process of the marketplace, which hears the news."""
    async with link_market(sessions, limits=UNHURRIED, lease_s=60.0) as market:
        news = SupplyNews(
            database_url,
            on_node=market.endpoint.look_at_node,
            on_provider=market.endpoint.look_at_provider,
            on_absence_over=lambda: None,
        )
        news.start()
        try:
            await news.listening.wait()
            yield market
        finally:
            await news.stop()


async def row(sessions: Sessions, node: RawNode) -> Node:
    async with session_scope(sessions) as session:
        return await session.get_one(Node, parse(Prefix.NODE, node.node_id))


async def seen(sessions: Sessions, node: RawNode) -> None:
    """The link is in the node's row."""
    while (await row(sessions, node)).link_id is None:
        await node.say(Heartbeat(clock_ms=1))


async def history(sessions: Sessions, node: RawNode, kind: NodeEventKind) -> list[NodeEvent]:
    async with session_scope(sessions) as session:
        found = select(NodeEvent).where(
            NodeEvent.node_id == parse(Prefix.NODE, node.node_id), NodeEvent.event == kind
        )
        return list(await session.scalars(found.order_by(NodeEvent.id)))


@pytest.fixture
async def market(sessions: Sessions, database_url: str):
    async with process(sessions, database_url) as market:
        yield market


class TestNews:
    """The process that changes a row is not the one that holds the link: it only commits."""

    async def test_a_revoked_nodes_link_ends_at_once(self, market, supply, sessions):
        async with live_node(market, supply) as node:
            await seen(sessions, node)
            async with session_scope(sessions) as session:
                await revoke_node(session, node_id=parse(Prefix.NODE, node.node_id))
            refusal = await node.refusal()
        assert (refusal.reason, refusal.retry) == ("revoked", False)

    async def test_links_of_a_suspended_provider_end_at_once(self, market, supply, sessions):
        async with live_node(market, supply) as node:
            await seen(sessions, node)
            async with session_scope(sessions) as session:
                actor = await make_customer(session)
                await suspend(
                    session, SubjectKind.PROVIDER, supply.provider_id, reason="fraud", actor_id=actor.user.id
                )
            refusal = await node.refusal()
        assert (refusal.reason, refusal.retry) == ("revoked", True)

    async def test_a_node_drained_elsewhere_leaves_routing_and_is_told_and_comes_back(
        self, market, supply, sessions
    ):
        async with live_node(market, supply) as node:
            await node.announce(supply)
            await until(lambda: market.directory.live(supply.model_slug))
            node_id = parse(Prefix.NODE, node.node_id)
            async with session_scope(sessions) as session:
                await drain_node(session, node_id=node_id, notice_s=300, reason="new disks")
            told = await node.hear_until(Drain)
            assert (told.draining, told.reason) == (True, "new disks")
            assert 290 < told.notice_s <= 300
            await until(lambda: not market.directory.live(supply.model_slug))
            async with session_scope(sessions) as session:
                assert (await resume_node(session, node_id=node_id)).state is NodeState.READY
            assert (await node.hear_until(Drain)).draining is False
            await until(lambda: market.directory.live(supply.model_slug))

    async def test_the_other_process_supersedes_the_older_link(self, market, supply, sessions, database_url):
        async with process(sessions, database_url) as other, live_node(market, supply) as older:
            await seen(sessions, older)
            first = (await row(sessions, older)).link_id
            async with raw_node(other, older.key) as newer:
                newer.node_id = older.node_id
                await newer.prove()
                while (await row(sessions, newer)).link_id == first:
                    await newer.say(Heartbeat(clock_ms=1))
                market.endpoint.look_at_node(parse(Prefix.NODE, older.node_id))
                assert (await older.refusal()).reason == "superseded"
            assert (await row(sessions, older)).revoked_at is None


class TestDrainAsk:
    async def test_a_machine_drains_and_resumes_itself_and_is_answered(self, market, supply, sessions):
        async with live_node(market, supply) as node:
            await seen(sessions, node)
            await node.say(DrainAsk(notice_s=60, reason="kernel"))
            told = await node.hear_until(Drain)
            assert (told.draining, told.reason) == (True, "kernel")
            [event] = await history(sessions, node, NodeEventKind.DRAINED)
            assert (event.actor_kind, event.actor_id) == (ActorKind.NODE, parse(Prefix.NODE, node.node_id))
            await node.say(DrainAsk(resume=True))
            assert (await node.hear_until(Drain)).draining is False
            assert (await row(sessions, node)).state is NodeState.READY

    async def test_an_ask_that_changes_nothing_is_answered_too(self, market, supply, sessions):
        async with live_node(market, supply) as node:
            await seen(sessions, node)
            await node.say(DrainAsk(resume=True))
            assert (await node.hear_until(Drain)).draining is False

    async def test_a_draining_node_is_told_when_it_comes_back(self, market, supply, sessions):
        async with live_node(market, supply) as node:
            await seen(sessions, node)
            await node.say(DrainAsk(reason="kernel"))
            await node.hear_until(Drain)
        async with again(market, node) as back:
            await back.prove()
            told = await back.hear_until(Drain)
        assert (told.draining, told.reason) == (True, "kernel")

    async def test_an_absurd_notice_drains_nobody(self, market, supply, sessions):
        async with live_node(market, supply) as node:
            await seen(sessions, node)
            await node.say(DrainAsk(notice_s=float("inf")))
            assert (await node.hear_until(Drain)).draining is False
            assert (await row(sessions, node)).state is NodeState.READY


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def rotation(
    node: RawNode,
    new: Ed25519PrivateKey,
    *,
    old_by: Ed25519PrivateKey | None = None,
    new_by: Ed25519PrivateKey | None = None,
    server: str = SERVER_NAME,
) -> RotateKey:
    transcript = rotation_transcript(
        node_id=node.node_id, server=server, old_key=raw(node.key), new_key=raw(new)
    )
    return RotateKey(
        public_key=raw(new),
        old_signature=(old_by or node.key).sign(transcript),
        new_signature=(new_by or new).sign(transcript),
    )


class TestRotateKey:
    async def test_the_new_key_alone_is_taken_from_then_on(self, market, supply, sessions):
        new = Ed25519PrivateKey.generate()
        async with live_node(market, supply) as node:
            await seen(sessions, node)
            await node.say(rotation(node, new))
            answer = await node.hear_until(KeyRotated)
            assert (answer.public_key, answer.problem) == (raw(new), "")
            # An answer that was lost is asked for again.
            await node.say(rotation(node, new))
            assert (await node.hear_until(KeyRotated)).problem == ""
        assert len(await history(sessions, node, NodeEventKind.KEY_ROTATED)) == 1
        async with again(market, node) as old:
            await old.hello()
            await old.say(old.proof(await old.hear(Challenge)))
            assert (await old.refusal()).reason == "bad_proof"
        async with raw_node(market, new) as fresh:
            fresh.node_id = node.node_id
            await fresh.prove()

    async def test_both_keys_must_sign_this_rotation_for_this_marketplace(self, market, supply, sessions):
        new, stranger = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        async with live_node(market, supply) as node:
            await seen(sessions, node)
            for forged in (
                rotation(node, new, old_by=stranger),
                rotation(node, new, new_by=stranger),
                rotation(node, new, server="another-marketplace"),
            ):
                await node.say(forged)
                assert "did not sign" in (await node.hear_until(KeyRotated)).problem
            await node.say(RotateKey(public_key=b"short", old_signature=b"", new_signature=b""))
            assert "32 bytes" in (await node.hear_until(KeyRotated)).problem
        assert (await row(sessions, node)).public_key == raw(node.key)

    async def test_another_nodes_key_is_refused(self, market, supply, sessions):
        async with live_node(market, supply) as other, live_node(market, supply, name="raw-2") as node:
            await seen(sessions, node)
            await node.say(rotation(node, other.key))
            assert "another node's" in (await node.hear_until(KeyRotated)).problem

    async def test_a_key_is_not_replaced_over_and_over(self, market, supply, sessions):
        async with live_node(market, supply) as node:
            await seen(sessions, node)
            first, second = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
            await node.say(rotation(node, first))
            assert (await node.hear_until(KeyRotated)).problem == ""
            node.key = first
            await node.say(rotation(node, second))
            assert f"{EVERY_S} s" in (await node.hear_until(KeyRotated)).problem


class TestClock:
    async def test_the_skew_is_kept_and_a_great_one_is_written_down_once(self, sessions, supply):
        async with (
            link_market(sessions, limits=LinkLimits(recheck_s=0.05)) as market,
            live_node(market, supply) as node,
        ):
            while (await row(sessions, node)).clock_skew_ms is None:
                await node.say(Heartbeat(clock_ms=1))
                await node.say(Announce(hardware=HARDWARE, replicas=()))
            kept = (await row(sessions, node)).clock_skew_ms
            assert kept is not None
            assert kept < -SKEW_MS_MAX
            [event] = await history(sessions, node, NodeEventKind.CLOCK_SKEWED)
            assert "behind ours" in event.reason
            assert "NTP" in event.reason

    def test_a_late_word_does_not_make_a_clock_slow(self, monkeypatch):
        clock = ClockSkew()
        assert clock.ms is None
        now_ms = 1_000_000
        monkeypatch.setattr("time.time_ns", lambda: now_ms * 1_000_000)
        for late_ms in (3_000, 20, 900):
            clock.heard(now_ms + 100 - late_ms)
        assert clock.ms == 80


class TestPresenceOfARow:
    async def test_a_link_is_in_the_row_while_it_is_up(self, market, supply, sessions):
        async with live_node(market, supply) as node:
            await seen(sessions, node)
            assert (await row(sessions, node)).state is NodeState.READY
            async with session_scope(sessions) as session:
                late = func.clock_timestamp() - timedelta(hours=1)
                await session.execute(
                    update(Node).where(Node.id == parse(Prefix.NODE, node.node_id)).values(last_seen_at=late)
                )
        while (now := await row(sessions, node)).link_id is not None:
            pass
        assert now.link_lost_at is not None
        assert now.state is NodeState.READY
