"""Drain, resume and another key, asked of a running agent as its owner does, answered by a real marketplace."""

import asyncio
import json

import pytest
from sqlalchemy import select

from raymart_core.ids import Prefix, parse
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.models import Node, NodeState
from raymart_providers.errors import ProviderError
from raymart_providers.identity import NodeKey, load_enrolment
from raymart_providers.state_dir import StateDir
from raymart_providers.status import DRAIN_PATH, ROTATE_PATH, tell_agent
from support.link_market import until
from support.node_agents import agent_process, running_agent


async def tell(state_dir, path, **ask):
    return await asyncio.to_thread(
        tell_agent, StateDir(state_dir), path, json.dumps({"m": "drain_ask", **ask}).encode()
    )


async def row(sessions, state_dir):
    node_id = parse(Prefix.NODE, load_enrolment(state_dir / "node.json").node_id)
    async with session_scope(sessions) as session:
        return (await session.scalars(select(Node).where(Node.id == node_id))).one()


class TestDrain:
    async def test_a_drained_node_stays_so_until_it_is_resumed(self, market, supply, sessions, tmp_path):
        state_dir = tmp_path / "node"
        async with running_agent(state_dir, market, token=await supply.join_token()) as agent:
            await until_state(sessions, state_dir, NodeState.READY)
            standing = await tell(state_dir, DRAIN_PATH, notice_s=90.0, reason="new disk")
            assert (standing.draining, standing.reason, 80 < standing.notice_s <= 90) == (
                True,
                "new disk",
                True,
            )
            assert agent.report().standing.draining
            await until_state(sessions, state_dir, NodeState.DRAINING)
            standing = await tell(state_dir, DRAIN_PATH, resume=True)
            assert not standing.draining
            await until_state(sessions, state_dir, NodeState.READY)

    async def test_without_a_link_it_is_said(self, market, supply, tmp_path):
        async with running_agent(tmp_path / "node", market, token=await supply.join_token()) as agent:
            await market.stop()
            await until(lambda: agent.report().link.state != "live")
            with pytest.raises(ProviderError, match="link to the marketplace is down"):
                await tell(tmp_path / "node", DRAIN_PATH)


class TestRotateKey:
    async def test_the_new_key_serves_and_the_old_one_is_worthless(self, market, supply, sessions, tmp_path):
        state_dir = tmp_path / "node"
        async with running_agent(state_dir, market, token=await supply.join_token()):
            old = NodeKey.load(state_dir / "node.key").public_bytes
            standing = await tell(state_dir, ROTATE_PATH)
            new = NodeKey.load(state_dir / "node.key").public_bytes
            assert new != old
            assert standing.public_key == new.hex()
            assert (await row(sessions, state_dir)).public_key == new
            assert not (state_dir / "node.key.next").exists()
        # The next start proves the new key.
        async with running_agent(state_dir, market, token=None) as agent:
            assert agent.report().link.state == "live"

    async def test_when_the_answer_was_lost_the_next_link_finds_out(self, market, supply, sessions, tmp_path):
        """The marketplace has the new key, the machine has heard nothing of it: both keys are on its disk."""
        state_dir = tmp_path / "node"
        async with running_agent(state_dir, market, token=await supply.join_token()):
            await tell(state_dir, ROTATE_PATH)
        state = StateDir(state_dir)
        new = NodeKey.load(state.key).public_bytes
        state.key.replace(state.next_key)
        NodeKey.create(state.key)
        async with running_agent(state_dir, market, token=None):
            assert NodeKey.load(state.key).public_bytes == new

    async def test_a_wrong_key_is_no_endless_story(self, market, supply, tmp_path):
        state_dir = tmp_path / "node"
        async with running_agent(state_dir, market, token=await supply.join_token()):
            pass
        NodeKey.create(state_dir / "node.key")
        NodeKey.create(state_dir / "node.key.next")
        async with agent_process(state_dir, market) as agent:
            async with asyncio.timeout(20):
                assert await agent.process.wait() == 1
        assert "bad_proof" in agent.log


async def until_state(sessions, state_dir, state):
    async with asyncio.timeout(30):
        while (await row(sessions, state_dir)).state is not state:
            await asyncio.sleep(0.02)
