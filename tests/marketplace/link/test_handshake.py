import asyncio
import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select, text

from raymart_core.ids import Prefix, new_id, parse, show
from raymart_core.wire.link import Challenge, Enrol, FrameType, Proof, Welcome
from raymart_marketplace.audit import ActorKind, AuditEntry
from raymart_marketplace.db.session import make_engine, make_sessions, session_scope
from raymart_marketplace.supply.link import LinkLimits
from raymart_marketplace.supply.models import Node, NodeRole, Provider
from raymart_marketplace.supply.service import revoke_node
from support.link_market import SERVER_NAME, link_market
from support.raw_node import HARDWARE, again, live_node, raw_node


class TestEnrolment:
    async def test_a_token_buys_an_identity_and_the_key_then_proves_it(self, market, supply):
        async with raw_node(market) as node:
            await node.enrol(await supply.join_token(), name="fresh")
            welcome = await node.prove()
        assert (welcome.pool, welcome.name) == (supply.pool_slug, "fresh")
        assert welcome.heartbeat_s < welcome.lease_s

    async def test_it_is_an_act_of_the_node_in_its_providers_audit_log(self, market, supply, sessions):
        async with raw_node(market) as node:
            await node.enrol(await supply.join_token(), name="noted")
        async with session_scope(sessions) as session:
            row = (
                await session.execute(
                    select(AuditEntry, Provider.organization_id, Node.id)
                    .join(Node, Node.id == AuditEntry.actor_id)
                    .join(Provider, Provider.id == Node.provider_id)
                    .where(Node.name == "noted", AuditEntry.action == "enrolNode")
                )
            ).one()
        entry, organization_id, node_id = row
        assert (entry.actor_kind, entry.organization_id) == (ActorKind.NODE, organization_id)
        assert node_id in entry.mentions

    async def test_a_spent_token_is_refused_for_good(self, market, supply):
        token = await supply.join_token()
        async with raw_node(market) as owner:
            await owner.enrol(token, name="owner")
        async with raw_node(market) as thief:
            await thief.say(
                Enrol(version=1, join_token=token, name="thief", public_key=bytes(32), hardware=HARDWARE)
            )
            refusal = await thief.refusal()
        assert (refusal.reason, refusal.retry) == ("bad_token", False)
        assert "new one" in refusal.message

    async def test_an_expired_token_is_refused(self, market, supply, sessions):
        token = await supply.join_token()
        async with session_scope(sessions) as session:
            await session.execute(
                text("update join_token set expires_at = clock_timestamp() where pool_id = :pool"),
                {"pool": supply.pool_id},
            )
        async with raw_node(market) as node:
            await node.say(
                Enrol(version=1, join_token=token, name="late", public_key=bytes(32), hardware=HARDWARE)
            )
            assert (await node.refusal()).reason == "bad_token"

    async def test_two_machines_racing_for_a_token_get_one_identity(self, market, supply, sessions):
        token = await supply.join_token()

        async def race(name):
            async with raw_node(market) as node:
                try:
                    await node.enrol(token, name=name)
                except AssertionError:
                    return None
                return name

        winners = await asyncio.gather(*(race(f"racer-{number}") for number in range(8)))
        assert len([name for name in winners if name]) == 1


class TestProof:
    async def test_a_proof_by_another_key_is_refused(self, market, supply):
        async with live_node(market, supply) as node, again(market, node) as thief:
            thief.key = Ed25519PrivateKey.generate()
            await thief.hello()
            await thief.say(thief.proof(await thief.hear(Challenge)))
            refusal = await thief.refusal()
        assert (refusal.reason, refusal.retry) == ("bad_proof", False)

    async def test_a_recorded_proof_is_worthless_on_another_connection(self, market, supply):
        async with live_node(market, supply) as node:
            async with again(market, node) as first:
                await first.hello()
                recorded = first.proof(await first.hear(Challenge))
                await first.say(recorded)
                await first.hear(Welcome)
            async with again(market, node) as replay:
                await replay.hello()
                await replay.hear(Challenge)
                await replay.say(recorded)
                assert (await replay.refusal()).reason == "bad_proof"

    async def test_each_challenge_has_its_own_nonce_and_names_this_marketplace(self, market, supply):
        nonces = set()
        async with live_node(market, supply) as node:
            for _ in range(3):
                async with again(market, node) as other:
                    await other.hello()
                    challenge = await other.hear(Challenge)
                    assert challenge.server == SERVER_NAME
                    assert len(challenge.nonce) == 32
                    nonces.add(challenge.nonce)
        assert len(nonces) == 3

    @pytest.mark.parametrize("signature", [b"", b"x", bytes(64), bytes(65)])
    async def test_a_malformed_signature_is_refused(self, market, supply, signature):
        async with live_node(market, supply) as node, again(market, node) as other:
            await other.hello()
            await other.hear(Challenge)
            await other.say(Proof(signature=signature))
            assert (await other.refusal()).reason == "bad_proof"

    async def test_a_clock_that_is_years_off_does_not_matter(self, market, supply):
        async with live_node(market, supply) as node, again(market, node) as other:
            assert await other.prove(clock_ms=2**52)


class TestRefusals:
    async def test_an_unknown_version_is_refused_and_says_which_is_spoken(self, market, supply):
        async with live_node(market, supply) as node, again(market, node) as other:
            await other.hello(version=99)
            refusal = await other.refusal()
        assert (refusal.reason, refusal.retry) == ("version", False)
        assert re.search(r"\b1\b", refusal.message)

    @pytest.mark.parametrize("node_id", ["", "node_zz", "org_" + "0" * 32, "node_" + "0" * 32])
    async def test_an_unknown_node_is_refused(self, market, node_id):
        async with raw_node(market) as node:
            await node.hello(node_id=node_id)
            assert (await node.refusal()).reason == "unknown_node"

    async def test_a_node_cannot_pass_as_a_controller(self, market, supply):
        async with live_node(market, supply) as node, again(market, node) as other:
            await other.hello(role="controller")
            assert (await other.refusal()).reason == "unknown_node"

    async def test_a_revoked_node_is_refused(self, market, supply, sessions):
        async with live_node(market, supply) as node:
            async with session_scope(sessions) as session:
                await revoke_node(session, node_id=parse(Prefix.NODE, node.node_id))
            async with again(market, node) as other:
                await other.hello()
                assert (await other.refusal()).reason == "revoked"

    @pytest.mark.parametrize(
        "message",
        [
            b"",
            b"\x00",
            b"\xff" * 5,
            bytes(5) + b"\xc1",
            bytes(5) + b"\x81\xa1m\xa8announce",
            b"\x01" + bytes(4) + b"x",
        ],
    )
    async def test_garbage_is_refused_and_never_crashes(self, market, message):
        async with raw_node(market) as node:
            await node.socket.send(message)
            assert (await node.refusal()).reason == "protocol"

    async def test_bad_utf8_and_deep_nesting_are_refused_too(self, market):
        bad_utf8 = b"\x82\xa1m\xa5hello\xa7node_id\xa2\xff\xfe"
        deep = b"\x83\xa1m\xa5proof\xa9signature\xc4\x01x\xa1z" + b"\x91" * 20_000 + b"\xc0"
        for payload in (bad_utf8, deep):
            async with raw_node(market) as node:
                await node.frame(FrameType.CONTROL, 0, payload)
                assert (await node.refusal()).reason == "protocol"

    async def test_text_is_refused(self, market):
        async with raw_node(market) as node:
            await node.socket.send("hello")
            assert (await node.refusal()).reason == "protocol"

    async def test_a_proof_before_a_challenge_is_refused(self, market):
        async with raw_node(market) as node:
            await node.say(Proof(signature=bytes(64)))
            assert (await node.refusal()).reason == "protocol"

    async def test_a_silent_caller_is_refused_after_the_deadline(self, sessions):
        async with (
            link_market(sessions, limits=LinkLimits(step_timeout_s=0.1)) as market,
            raw_node(market) as node,
        ):
            refusal = await node.refusal()
        assert (refusal.reason, refusal.retry) == ("timeout", True)

    async def test_too_many_unproven_callers_are_told_to_come_back(self, sessions):
        async with (
            link_market(sessions, limits=LinkLimits(handshakes_max=1)) as market,
            raw_node(market),
            raw_node(market) as second,
        ):
            refusal = await second.refusal()
        assert (refusal.reason, refusal.retry) == ("limit", True)

    async def test_a_database_that_is_away_is_a_refusal_that_may_be_retried(self, database_url):
        engine = make_engine("postgresql://raymart:x@127.0.0.1:1/raymart", pool_size=1)
        try:
            async with link_market(make_sessions(engine)) as market, raw_node(market) as node:
                await node.hello(node_id=show(Prefix.NODE, new_id()))
                refusal = await node.refusal()
        finally:
            await engine.dispose()
        assert (refusal.reason, refusal.retry) == ("unavailable", True)


class TestState:
    async def test_a_live_node_is_ready_in_the_database_and_missed_after(self, market, supply, sessions):
        async def state():
            async with session_scope(sessions) as session:
                row = await session.get_one(Node, node_id)
                return row.state.value, row.link_id is not None

        async def becomes(wanted):
            async with asyncio.timeout(30):
                while await state() != wanted:
                    await asyncio.sleep(0.01)

        async with live_node(market, supply) as node:
            node_id = parse(Prefix.NODE, node.node_id)
            await becomes(("ready", True))
        await becomes(("ready", False))

    async def test_a_controller_proves_itself_as_one(self, market, supply):
        async with raw_node(market) as node:
            await node.enrol(await supply.join_token(NodeRole.CONTROLLER), name="controller")
            assert (await node.prove(role="controller")).pool == supply.pool_slug
