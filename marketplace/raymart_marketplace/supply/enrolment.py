"""How a machine becomes a node: it spends a one-time join token for an identity of its own.

One machine, several nodes: the machine's id and the ids of its GPUs are what the machine says of itself, so this guards
against honest mistakes (an image cloned with its agent, one card offered twice), not against lies; those the benchmark
finds. A machine, and each card, is under at most one living node, at enrolment and whatever it announces later; a house
pool is the exception, because its machines are vouched for and one may stand for several providers (the embedded stack
does). Even there a machine belongs to one pool. Controllers are not counted: they sell nothing.
"""

import hashlib
import re
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import cast
from uuid import UUID

import msgspec
from sqlalchemy import ARRAY, Uuid, and_, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.ids import Prefix, new_id, show
from raymart_core.wire import link
from raymart_marketplace.audit import Act, Actor, ActorKind, acting, current_act
from raymart_marketplace.supply.life_models import NodeEventKind
from raymart_marketplace.supply.models import (
    JoinToken,
    Node,
    NodeRole,
    NodeState,
    Pool,
    PoolKind,
    Provider,
    ProviderState,
)
from raymart_marketplace.supply.node_life import note
from raymart_marketplace.supply.placements import place_offers
from raymart_marketplace.supply.presence import WELCOME_PROVIDERS
from raymart_marketplace.supply.refusal import LinkRefused

__all__ = [
    "LinkRefused",
    "NodeIdentity",
    "enrol",
    "enrolling",
    "hash_token",
    "keep_hardware",
    "node_for_hello",
    "nodes_for_hello",
]

_NOBODY = UUID(int=0)
NAME_CHARACTERS_MAX = 63
GPUS_MAX = 64
GPU_UUID_CHARACTERS_MAX = 100
MACHINE_ID_CHARACTERS_MAX = 200
# The name becomes a Ray label; Source: Ray's label syntax (letters, digits, "-", "_", "." inside, 63 characters).
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIdentity:
    """What the link must know of a node to check its proof and to route to it."""

    node_id: UUID
    pool_id: UUID
    pool_slug: str
    region: str
    name: str
    role: NodeRole
    provider_id: UUID | None
    """None for the controller of a house pool."""
    provider_slug: str | None
    public_key: bytes
    """Raw Ed25519, 32 bytes."""
    pool_kind: PoolKind = PoolKind.HOUSE
    hardware: link.Hardware | None = None
    """What it announced last, as it is kept; None where that cannot be read."""
    clock_skew_ms: int | None = None
    """As it is kept: how far its clock is ahead of ours."""

    @property
    def may_control(self) -> bool:
        """Whether its link may be the one that controls the pool."""
        return self.role is NodeRole.CONTROLLER or self.pool_kind is PoolKind.PROVIDER


def hash_token(text: str) -> bytes:
    """What is stored of a join token, 32 bytes; the token is 32 random bytes, so one SHA-256 is enough."""
    return hashlib.sha256(text.encode()).digest()


async def enrol(session: AsyncSession, message: link.Enrol) -> Node:
    """Make a node of the machine that sent `message`, and want its provider's offers on it.

    The token is spent by one statement, by the database's clock; of any number of machines that race for it one wins.
    Let a LinkRefused leave the transaction: then the token of a refused machine is not spent. Locks the token's row
    and, until the commit, the machine's id. Raises: LinkRefused (version, limit, bad_token, revoked, duplicate).
    """
    _check_form(message)
    token = await _spend(session, message.join_token)
    pool = await session.get_one(Pool, token.pool_id)
    await _check_provider(session, token.provider_id)
    if token.role is NodeRole.NODE:
        await _check_duplicates(session, message.hardware, pool)
    node = await _insert(session, message, token)
    await _name_actor(session, node)
    await note(session, node, NodeEventKind.ENROLLED, reason="", by=Actor(kind=ActorKind.NODE, id=node.id))
    if node.role is NodeRole.NODE:
        assert node.provider_id is not None
        await place_offers(session, provider_id=node.provider_id)
    return node


def enrolling() -> AbstractContextManager[Act]:
    """Around the transaction of `enrol`: an act in the audit log, at first of a join token, then of the node it became."""
    return acting(Act(action="enrolNode", actor=Actor(kind=ActorKind.SYSTEM, name="join token")))


async def _name_actor(session: AsyncSession, node: Node) -> None:
    act = current_act()
    if act is None:
        return
    act.actor = Actor(kind=ActorKind.NODE, id=node.id)
    if node.provider_id is not None:
        provider = await session.get_one(Provider, node.provider_id)
        act.organization_id = act.acting_organization_id = provider.organization_id


async def node_for_hello(session: AsyncSession, node_id: UUID, role: NodeRole) -> NodeIdentity:
    """The node that says hello as `role`, before it has proved anything.

    Raises: LinkRefused (unknown_node, revoked); a suspended provider's nodes may try again later.
    """
    ((_, found),) = await nodes_for_hello(session, [(node_id, role)])
    if isinstance(found, LinkRefused):
        raise found
    return found


async def nodes_for_hello(
    session: AsyncSession, wanted: Collection[tuple[UUID, NodeRole]]
) -> Sequence[tuple[tuple[UUID, NodeRole], NodeIdentity | LinkRefused]]:
    """`node_for_hello` of many: the identity or the refusal of each."""
    statement = (
        select(Node, Pool, Provider)
        .join(Pool, Pool.id == Node.pool_id)
        .outerjoin(Provider, Provider.id == Node.provider_id)
        .where(Node.id == func.any(literal([node_id for node_id, _ in wanted], ARRAY(Uuid))))
    )
    # An outer join: the last one may be null, which its type does not tell.
    rows = [cast("tuple[Node, Pool, Provider | None]", row) for row in await session.execute(statement)]
    found = {(node.id, node.role): (node, pool, provider) for node, pool, provider in rows}
    return [(each, _identity_or_refusal(each, found.get(each))) for each in wanted]


def _identity_or_refusal(
    wanted: tuple[UUID, NodeRole], row: tuple[Node, Pool, Provider | None] | None
) -> NodeIdentity | LinkRefused:
    try:
        return _identity(wanted, row)
    except LinkRefused as refusal:
        return refusal


def _identity(wanted: tuple[UUID, NodeRole], row: tuple[Node, Pool, Provider | None] | None) -> NodeIdentity:
    """Raises: LinkRefused."""
    node_id, role = wanted
    if row is None:
        raise LinkRefused(
            "unknown_node",
            f"there is no {role.value} {show(Prefix.NODE, node_id)}; enrol again with a new join token",
            retry=False,
        )
    node, pool, provider = row
    if node.revoked_at is not None:
        raise LinkRefused(
            "revoked", "this node's key was revoked; enrol again with a new join token", retry=False
        )
    _refuse_unwelcome(provider)
    return NodeIdentity(
        node_id=node.id,
        pool_id=pool.id,
        pool_slug=pool.slug,
        region=pool.region,
        name=node.name,
        role=node.role,
        provider_id=node.provider_id,
        provider_slug=provider.slug if provider is not None else None,
        public_key=node.public_key,
        pool_kind=pool.kind,
        hardware=_kept_hardware(node),
        clock_skew_ms=node.clock_skew_ms,
    )


def _kept_hardware(node: Node) -> link.Hardware | None:
    try:
        return msgspec.convert(node.hardware, link.Hardware)
    except msgspec.ValidationError:
        return None


async def keep_hardware(session: AsyncSession, node_id: UUID, hardware: link.Hardware) -> None:
    """Keep what the node announced of its machine. Locks its row.

    Raises: LinkRefused (limit) when it cannot be stored, (duplicate) when the machine or a card of it is another node's.
    """
    _check_hardware(hardware)
    node = await session.get(Node, node_id, with_for_update={"key_share": True}, populate_existing=True)
    if node is None or node.revoked_at is not None:
        return
    # A machine that no longer says who it is has not become another one.
    hardware = (
        hardware if hardware.machine_id else msgspec.structs.replace(hardware, machine_id=node.machine_id)
    )
    gpu_uuids = _gpu_uuids(hardware)
    if (node.machine_id, node.gpu_uuids) != (hardware.machine_id, gpu_uuids):
        if node.role is NodeRole.NODE:
            pool = await session.get_one(Pool, node.pool_id)
            await _check_duplicates(session, hardware, pool, besides=node_id)
        await note(session, node, NodeEventKind.HARDWARE_CHANGED, reason=_difference(node, hardware))
    node.machine_id, node.gpu_uuids = hardware.machine_id, gpu_uuids
    node.hardware = msgspec.to_builtins(hardware)
    await session.flush()


def _gpu_uuids(hardware: link.Hardware) -> list[str]:
    return sorted({gpu.uuid for gpu in hardware.gpus if gpu.uuid})


def _difference(node: Node, hardware: link.Hardware) -> str:
    """What became of the machine, in our words."""
    before, after = set(node.gpu_uuids), set(_gpu_uuids(hardware))
    parts = [
        "another machine" if node.machine_id != hardware.machine_id else "",
        f"{len(after - before)} GPUs more" if after - before else "",
        f"{len(before - after)} GPUs less" if before - after else "",
    ]
    return ", ".join(part for part in parts if part)


def _check_form(message: link.Enrol) -> None:
    """Raises: LinkRefused when the message could not make a node whatever its token."""
    if message.version != link.LINK_VERSION:
        raise LinkRefused(
            "version",
            f"this agent speaks link version {message.version}, the marketplace {link.LINK_VERSION}; update the agent",
            retry=False,
        )
    if len(message.name) > NAME_CHARACTERS_MAX or _NAME.fullmatch(message.name) is None:
        raise _over_limit(
            f"{message.name[:80]!r} is no node name; use up to {NAME_CHARACTERS_MAX} of a-z, 0-9, '-', '_' and '.'"
        )
    if len(message.public_key) != 32:
        raise _over_limit(f"a raw Ed25519 public key has 32 bytes, not {len(message.public_key)}")
    _check_hardware(message.hardware)


def _check_hardware(hardware: link.Hardware) -> None:
    """Raises: LinkRefused when the description cannot be stored."""
    if len(hardware.machine_id) > MACHINE_ID_CHARACTERS_MAX:
        raise _over_limit(f"the machine id is longer than {MACHINE_ID_CHARACTERS_MAX} characters")
    if len(hardware.gpus) > GPUS_MAX or any(len(gpu.uuid) > GPU_UUID_CHARACTERS_MAX for gpu in hardware.gpus):
        raise _over_limit(
            f"a machine has at most {GPUS_MAX} GPUs, with ids of at most {GPU_UUID_CHARACTERS_MAX} characters"
        )
    # PostgreSQL's jsonb holds no NUL.
    if b"\\u0000" in msgspec.json.encode(hardware):
        raise _over_limit("the hardware description has a NUL character")


async def _spend(session: AsyncSession, text: str) -> JoinToken:
    """Mark the token used, if nobody has and it is in time. Raises: LinkRefused."""
    statement = (
        update(JoinToken)
        .where(
            JoinToken.token_hash == hash_token(text),
            JoinToken.used_at.is_(None),
            JoinToken.expires_at > func.clock_timestamp(),
        )
        .values(used_at=func.clock_timestamp())
        .returning(JoinToken)
    )
    token = (await session.scalars(statement)).one_or_none()
    if token is None:
        raise LinkRefused(
            "bad_token",
            "the join token is wrong, was used or revoked, or is too old; make a new one and join again",
            retry=False,
        )
    return token


async def _check_provider(session: AsyncSession, provider_id: UUID | None) -> None:
    """Raises: LinkRefused when the provider is suspended or closed."""
    if provider_id is not None:
        _refuse_unwelcome(await session.get(Provider, provider_id, populate_existing=True))


def _refuse_unwelcome(provider: Provider | None) -> None:
    """Raises: LinkRefused when `provider` is suspended or closed; a house pool's controller has none."""
    if provider is not None and provider.state not in WELCOME_PROVIDERS:
        raise LinkRefused(
            "revoked",
            f"provider {provider.slug!r} is {provider.state.value}; ask the marketplace",
            retry=provider.state is ProviderState.SUSPENDED,
        )


async def _check_duplicates(
    session: AsyncSession, hardware: link.Hardware, pool: Pool, *, besides: UUID | None = None
) -> None:
    """Raises: LinkRefused when the machine, or a card of it, is a living node's that this one must not stand beside."""
    machine_id, gpu_uuids = hardware.machine_id, _gpu_uuids(hardware)
    # Two enrolments of one machine must not both find it free; the locks end with the transaction. In order, so that
    # two machines with the same cards do not wait for each other.
    for identity in sorted({machine_id, *gpu_uuids} - {""}):
        await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(identity, 0))))
    same_machine = and_(Node.machine_id == machine_id, Node.machine_id != "")
    statement = select(Node.name, Node.pool_id, same_machine).where(
        or_(same_machine, Node.gpu_uuids.overlap(gpu_uuids)),
        Node.role == NodeRole.NODE,
        Node.revoked_at.is_(None),
        Node.id != (besides or _NOBODY),
    )
    for name, pool_id, is_same_machine in await session.execute(statement):
        if pool.kind is not PoolKind.HOUSE or pool_id != pool.id:
            what = "this machine is" if is_same_machine else "a GPU of this machine is in"
            raise LinkRefused(
                "duplicate",
                f"{what} node {name!r} already; run `raymart-provider leave` there, or have it revoked",
                retry=False,
            )


async def _insert(session: AsyncSession, message: link.Enrol, token: JoinToken) -> Node:
    """The new node. Raises: LinkRefused when its name or its key is taken."""
    statement = (
        insert(Node)
        .values(
            id=new_id(),
            pool_id=token.pool_id,
            provider_id=token.provider_id,
            role=token.role,
            name=message.name,
            public_key=message.public_key,
            join_token_id=token.id,
            machine_id=message.hardware.machine_id,
            hardware=msgspec.to_builtins(message.hardware),
            gpu_uuids=_gpu_uuids(message.hardware),
            state=NodeState.ENROLLED,
        )
        .on_conflict_do_nothing()
        .returning(Node)
    )
    node = (await session.scalars(statement)).one_or_none()
    if node is None:
        raise LinkRefused(
            "duplicate",
            f"the name {message.name!r} or the key is another node's; choose another --name, or revoke that node",
            retry=False,
        )
    return node


def _over_limit(message: str) -> LinkRefused:
    """A message that breaks a limit of the form."""
    return LinkRefused("limit", message, retry=False)
