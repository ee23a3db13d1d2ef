"""Asking for membership over a real link, and asking again."""

import asyncio
import contextlib

import pytest

from raymart_core.wire.link import Announce, Control, Welcome, decode_control, unpack_frame
from raymart_core.wire.membership import PoolAsk, PoolGrant, PoolRefusal
from raymart_marketplace.accounts.sealing import SecretBox
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.membership import PoolDesk
from raymart_marketplace.supply.models import NodeRole, Provider, ProviderState
from raymart_providers.link.backoff import Backoff
from raymart_providers.link.client import LinkClient
from raymart_providers.link.outbox import Outbox
from raymart_providers.pool_membership import PoolMembership
from support.link_market import link_market, until
from support.node_agents import HARDWARE, credentials
from support.pool_members import authority, grant_of

BOX = SecretBox([b"k" * 32])


class MemberPeer:
    """A machine that is a member and nothing else. Implements link.client.Peer."""

    def __init__(self, membership: PoolMembership) -> None:
        self.membership = membership
        self.answers: list[Control] = []

    def up(self, outbox: Outbox, welcome: Welcome) -> None:
        outbox.control(Announce(hardware=HARDWARE, replicas=()))
        self.membership.up(outbox)

    def take_control(self, message: Control) -> None:
        if isinstance(message, PoolGrant | PoolRefusal):
            self.answers.append(message)
            self.membership.take(message)

    def take_frame(self, kind, stream_id, payload) -> None: ...

    def heartbeat(self) -> None: ...

    def down(self) -> None:
        self.membership.down()

    async def drain(self) -> None: ...


@contextlib.asynccontextmanager
async def linked(market, supply, folder, *, role="node", head_port=0, fresh=True):
    """A machine whose membership runs beside its link."""
    kind = NodeRole.NODE if role == "node" else NodeRole.CONTROLLER
    token = await supply.join_token(kind) if fresh else None
    membership = PoolMembership(
        folder / "ray",
        name=folder.name,
        address="10.77.0.1" if role == "head" else "10.77.0.2",
        role=role,
        head_port=head_port,
        backoff=Backoff(first_s=0.01, longest_s=0.05),
    )
    peer = MemberPeer(membership)
    client = LinkClient(
        url=market.link_url,
        credentials=credentials(folder, market, token=token, role=kind.value),
        peer=peer,
        backoff=Backoff(first_s=0.02, longest_s=0.2),
        drain_s=0.1,
    )
    tasks = [asyncio.create_task(client.run()), asyncio.create_task(membership.run())]
    try:
        yield peer
    finally:
        client.stop()
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def market(sessions):
    async with link_market(sessions, pools=PoolDesk(sessions=sessions, box=BOX)) as market:
        yield market


async def set_state(sessions, supply, state: ProviderState) -> None:
    async with session_scope(sessions) as session:
        (await session.get_one(Provider, supply.provider_id)).state = state


class TestPoolMembership:
    async def test_a_node_waits_for_its_head_and_then_has_all_it_starts_ray_with(
        self, market, supply, tmp_path, monkeypatch
    ):
        monkeypatch.setattr("raymart_providers.pool_membership.membership._HEADLESS_S", 0.05)
        async with linked(market, supply, tmp_path / "gpu-1") as node:
            await until(lambda: node.membership.membership is not None)
            assert "head has not started" in node.membership.problem
            async with linked(market, supply, tmp_path / "ctl", role="head", head_port=6379) as head:
                async with asyncio.timeout(30):
                    ours, theirs = await node.membership.granted(), await head.membership.granted()
        assert ours.head == theirs.head == "10.77.0.1:6379"
        assert ours.labels["raymart.io/node"] == "gpu-1"
        assert node.membership.problem == ""

    async def test_it_is_asked_for_again_in_time(self, sessions, supply, tmp_path):
        desk = PoolDesk(sessions=sessions, box=BOX, certificate_s=1.0)
        async with (
            link_market(sessions, pools=desk) as market,
            linked(market, supply, tmp_path / "ctl", role="head", head_port=1) as head,
        ):
            first = (await head.membership.granted()).expires_at
            await until(lambda: head.membership.membership.expires_at > first)
        assert len(head.answers) >= 2

    async def test_a_refusal_is_said_and_ends_with_its_reason(self, market, supply, sessions, tmp_path):
        async with linked(market, supply, tmp_path / "gpu-1") as node:
            await until(lambda: node.membership.membership is not None)
        await set_state(sessions, supply, ProviderState.APPLIED)
        (tmp_path / "gpu-1" / "ray" / "grant.json").unlink()
        async with linked(market, supply, tmp_path / "gpu-1", fresh=False) as node:
            await until(lambda: "applied" in node.membership.problem)
            assert node.membership.membership is None
            await set_state(sessions, supply, ProviderState.ACTIVE)
            await until(lambda: node.membership.membership is not None)

    async def test_an_earlier_grant_is_used_while_the_marketplace_is_away(self, market, supply, tmp_path):
        async with linked(market, supply, tmp_path / "ctl", role="head", head_port=6379) as head:
            before = await head.membership.granted()
        again = PoolMembership(tmp_path / "ctl" / "ray", name="ctl", address="10.77.0.1", role="head")
        async with asyncio.timeout(30):
            assert await again.granted() == before

    async def test_a_lost_link_does_not_leave_it_waiting(self, tmp_path):
        """The answer that was on its way is asked for again on the next link."""
        membership = PoolMembership(
            tmp_path, name="gpu-1", address="10.77.0.2", backoff=Backoff(first_s=0.01, longest_s=0.05)
        )
        asked: asyncio.Queue[PoolAsk] = asyncio.Queue(maxsize=8)

        async def send(frame: bytes) -> None:
            asked.put_nowait(decode_control(unpack_frame(frame)[2]))

        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(membership.run())]
            for _ in range(2):
                membership.down()
                outbox = Outbox()
                running.append(tasks.create_task(outbox.run(send)))
                membership.up(outbox)
                ask = await asked.get()
            membership.take(grant_of(authority(), ask.csr))
            assert (await membership.granted()).labels == {"raymart.io/node": "m"}
            for task in running:
                task.cancel()
