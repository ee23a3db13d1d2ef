"""Who gets into a house pool's Ray cluster: asked over a real link, answered from a real database."""

import asyncio
import contextlib

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import func, select, update

from raymart_core.ids import Prefix, parse
from raymart_core.wire.membership import PoolAsk, PoolGrant, PoolRefusal
from raymart_marketplace.accounts.sealing import SecretBox
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.membership import PoolDesk
from raymart_marketplace.supply.membership.models import PoolAuthority, PoolMember
from raymart_marketplace.supply.models import Node, NodeRole, Pool, PoolKind, Provider, ProviderState
from support.link_market import link_market, make_supply
from support.raw_node import HARDWARE, again, raw_node

BOX = SecretBox([b"k" * 32])


def csr() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM)


def ask(role: str = "node", *, address: str = "10.77.0.2", head_port: int = 0) -> PoolAsk:
    return PoolAsk(csr=csr(), role=role, address=address, head_port=head_port)


@pytest.fixture
async def supply(sessions):
    return await make_supply(sessions)


@pytest.fixture
async def market(sessions):
    async with link_market(sessions, pools=PoolDesk(sessions=sessions, box=BOX)) as market:
        yield market


@contextlib.asynccontextmanager
async def machine(market, supply, *, name: str, machine_id: str = "", role: NodeRole = NodeRole.NODE):
    """An enrolled machine of the supply's pool, its link live."""
    hardware = msgspec.structs.replace(HARDWARE, machine_id=f"{supply.pool_slug} {machine_id or name}")
    async with raw_node(market) as node:
        await node.enrol(await supply.join_token(role), name=name, hardware=hardware)
        await node.prove(role=role.value)
        yield node


async def granted(node, message: PoolAsk) -> PoolGrant:
    await node.say(message)
    return await node.hear_until(PoolGrant)


async def refused(node, message: PoolAsk) -> PoolRefusal:
    await node.say(message)
    return await node.hear_until(PoolRefusal)


async def write(sessions, statement) -> None:
    async with session_scope(sessions) as session:
        await session.execute(statement)


class TestGranted:
    async def test_head_and_nodes_get_one_authority_one_token_and_the_heads_address(self, market, supply):
        async with (
            machine(market, supply, name="ctl", role=NodeRole.CONTROLLER) as controller,
            machine(market, supply, name="gpu-1") as node,
        ):
            early = await granted(node, ask())
            assert early.head == ""
            head = await granted(controller, ask("head", address="10.77.0.1", head_port=6379))
            late = await granted(node, ask())
        assert head.head == late.head == "10.77.0.1:6379"
        assert early.authority == head.authority == late.authority
        assert early.token == head.token == late.token
        assert len(head.token) == 64
        assert late.labels["raymart.io/node"] == "gpu-1"
        assert head.labels["raymart.io/node"] == "head"
        certificate = x509.load_pem_x509_certificate(late.certificate)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(late.authority))

    async def test_key_and_token_lie_sealed_and_each_certificate_is_noted(self, market, supply, sessions):
        async with machine(market, supply, name="gpu-1") as node:
            grant = await granted(node, ask())
            node_id = parse(Prefix.NODE, node.node_id)
        async with session_scope(sessions) as session:
            row = await session.get_one(PoolAuthority, supply.pool_id)
            member = (await session.scalars(select(PoolMember).where(PoolMember.node_id == node_id))).one()
        assert grant.token.encode() not in row.sealed_token
        assert BOX.open(row.sealed_token, purpose=f"token of the authority of pool {supply.pool_id}")
        with pytest.raises(ValueError, match="not sealed"):
            BOX.open(row.sealed_key, purpose="key of the authority of pool another")
        certificate = x509.load_pem_x509_certificate(grant.certificate)
        assert (member.serial, member.address) == (f"{certificate.serial_number:x}", "10.77.0.2")
        assert member.expires_at == certificate.not_valid_after_utc

    async def test_machines_that_ask_at_once_are_of_one_authority(self, market, supply):
        async with contextlib.AsyncExitStack() as stack:
            nodes = [
                await stack.enter_async_context(machine(market, supply, name=f"gpu-{number}"))
                for number in range(4)
            ]
            grants = await asyncio.gather(
                *(granted(node, ask(address=f"10.77.1.{number}")) for number, node in enumerate(nodes))
            )
        assert len({grant.authority for grant in grants}) == 1
        assert len({grant.token for grant in grants}) == 1

    async def test_what_an_old_key_sealed_is_sealed_with_the_new_one(self, market, supply, sessions):
        async with machine(market, supply, name="gpu-1") as node:
            before = await granted(node, ask())
        both = SecretBox([b"n" * 32, b"k" * 32])
        desk = PoolDesk(sessions=sessions, box=both)
        async with link_market(sessions, pools=desk) as newer, again(newer, node) as same:
            await same.prove()
            after = await granted(same, ask())
        assert (after.authority, after.token) == (before.authority, before.token)
        async with session_scope(sessions) as session:
            row = await session.get_one(PoolAuthority, supply.pool_id)
        new = SecretBox([b"n" * 32])
        assert new.open(row.sealed_token, purpose=f"token of the authority of pool {supply.pool_id}")


class TestRefused:
    @pytest.mark.parametrize("state", [ProviderState.APPLIED, ProviderState.SUSPENDED])
    async def test_a_provider_that_is_not_active(self, market, supply, sessions, state):
        async with machine(market, supply, name="gpu-1") as node:
            await write(
                sessions, update(Provider).where(Provider.id == supply.provider_id).values(state=state)
            )
            refusal = await refused(node, ask())
            assert state.value in refusal.message
            assert refusal.retry
            await write(
                sessions,
                update(Provider).where(Provider.id == supply.provider_id).values(state=ProviderState.ACTIVE),
            )
            assert (await granted(node, ask())).token

    async def test_a_provider_pools_machine(self, market, supply, sessions):
        await write(
            sessions,
            update(Pool)
            .where(Pool.id == supply.pool_id)
            .values(kind=PoolKind.PROVIDER, provider_id=supply.provider_id),
        )
        async with machine(market, supply, name="gpu-1") as node:
            assert "provider's own" in (await refused(node, ask())).message
        async with session_scope(sessions) as session:
            assert await session.get(PoolAuthority, supply.pool_id) is None

    async def test_a_revoked_node_is_not_renewed(self, market, supply, sessions):
        """Its link may live for some seconds more; its certificate must not."""
        async with machine(market, supply, name="gpu-1") as node:
            await granted(node, ask())
            node_id = parse(Prefix.NODE, node.node_id)
            await write(
                sessions,
                update(Node).where(Node.id == node_id).values(revoked_at=func.clock_timestamp()),
            )
            assert "revoked" in (await refused(node, ask())).message

    @pytest.mark.parametrize("role", ["head", "controller"])
    async def test_a_providers_machine_that_would_be_head_or_controller(self, market, supply, role):
        async with machine(market, supply, name="gpu-1") as node:
            refusal = await refused(node, ask(role, head_port=6379))
        assert f"cannot be its {role}" in refusal.message
        assert not refusal.retry

    async def test_a_node_that_is_named_as_the_head(self, market, supply):
        async with machine(market, supply, name="head") as node:
            assert "Ray head's own" in (await refused(node, ask())).message

    async def test_a_head_that_does_not_say_where_it_listens(self, market, supply):
        async with machine(market, supply, name="ctl", role=NodeRole.CONTROLLER) as controller:
            assert "head_port=0" in (await refused(controller, ask("head"))).message

    @pytest.mark.parametrize("address", ["8.8.8.8", "0.0.0.0", "169.254.1.1", "224.0.0.1"])
    async def test_an_address_outside_private_networks(self, market, supply, address):
        async with machine(market, supply, name="gpu-1") as node:
            refusal = await refused(node, ask(address=address))
        assert f"{address} is not in a private network" in refusal.message

    @pytest.mark.parametrize("address", ["gpu-1.example", ""], ids=["name", "empty"])
    async def test_what_is_no_address(self, market, supply, address):
        async with machine(market, supply, name="gpu-1") as node:
            assert f"{address!r} is no IP address" in (await refused(node, ask(address=address))).message

    async def test_another_machines_address(self, market, supply, sessions):
        async with (
            machine(market, supply, name="gpu-1") as first,
            machine(market, supply, name="gpu-2") as second,
            machine(market, supply, name="gpu-3", machine_id="gpu-1") as neighbour,
        ):
            await granted(first, ask(address="10.77.0.9"))
            assert "'gpu-1'" in (await refused(second, ask(address="10.77.0.9"))).message
            # The same machine under two providers' names has one address.
            assert await granted(neighbour, ask(address="10.77.0.9"))
            await write(
                sessions,
                update(Node)
                .where(Node.pool_id == supply.pool_id, Node.name.in_(["gpu-1", "gpu-3"]))
                .values(revoked_at=func.clock_timestamp()),
            )
            assert await granted(second, ask(address="10.77.0.9"))

    async def test_what_is_no_request(self, market, supply):
        async with machine(market, supply, name="gpu-1") as node:
            refusal = await refused(node, PoolAsk(csr=b"junk", role="node", address="10.77.0.2"))
        assert "cannot be read" in refusal.message

    async def test_when_the_sealing_key_is_gone(self, market, supply, sessions):
        async with machine(market, supply, name="gpu-1") as node:
            await granted(node, ask())
        desk = PoolDesk(sessions=sessions, box=SecretBox([b"z" * 32]))
        async with link_market(sessions, pools=desk) as newer, again(newer, node) as same:
            await same.prove()
            refusal = await refused(same, ask())
        assert refusal.retry
        assert "restore" in refusal.message

    async def test_where_the_marketplace_keeps_no_pools(self, supply, sessions):
        async with link_market(sessions) as market, machine(market, supply, name="gpu-1") as node:
            assert "keeps no house pools" in (await refused(node, ask())).message
