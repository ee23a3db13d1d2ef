"""How a machine becomes a node: it spends a one-time join token for an identity of its own.

One machine, several nodes: the machine id is what the machine says of itself, so this guards against honest mistakes
(an image cloned with its agent, one card offered twice), not against lies. A machine carries at most one living node;
a house pool is the exception, because its machines are vouched for and one may stand for several providers (the
embedded stack does). Even there a machine belongs to one pool. Controllers are not counted: they sell nothing.
"""

import hashlib
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import cast
from uuid import UUID

import msgspec
from sqlalchemy import case, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.ids import Prefix, new_id, show
from raymart_core.wire import link
from raymart_marketplace.audit import Act, Actor, ActorKind, acting, current_act
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
from raymart_marketplace.supply.placements import place_offers
from raymart_marketplace.supply.refusal import LinkRefused

__all__ = [
    "LinkRefused",
    "NodeIdentity",
    "enrol",
    "enrolling",
    "hash_token",
    "mark_offline",
    "mark_seen",
    "node_for_hello",
]

NAME_CHARACTERS_MAX = 63
MACHINE_ID_CHARACTERS_MAX = 200
# The name becomes a Ray label; Source: Ray's label syntax (letters, digits, "-", "_", "." inside, 63 characters).
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", re.ASCII)
_WELCOME_PROVIDERS = (ProviderState.APPLIED, ProviderState.ACTIVE)


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
        await _check_machine(session, message.hardware.machine_id, pool)
    node = await _insert(session, message, token)
    await _name_actor(session, node)
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
    statement = (
        select(Node, Pool, Provider)
        .join(Pool, Pool.id == Node.pool_id)
        .outerjoin(Provider, Provider.id == Node.provider_id)
        .where(Node.id == node_id, Node.role == role)
    )
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        raise LinkRefused(
            "unknown_node",
            f"there is no {role.value} {show(Prefix.NODE, node_id)}; enrol again with a new join token",
            retry=False,
        )
    # An outer join: the last one may be null, which its type does not tell.
    node, pool, provider = cast("tuple[Node, Pool, Provider | None]", row)
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
    )


async def mark_seen(session: AsyncSession, node_id: UUID, *, hardware: link.Hardware | None = None) -> None:
    """The node's link is up: keep the time and what it announced. A draining node stays draining.

    Raises: LinkRefused (limit) when `hardware` cannot be stored.
    """
    woken = case(
        (Node.state.in_([NodeState.ENROLLED, NodeState.OFFLINE]), NodeState.READY.value), else_=Node.state
    )
    values: dict[str, object] = {"last_seen_at": func.clock_timestamp(), "state": woken}
    if hardware is not None:
        _check_hardware(hardware)
        values["hardware"] = msgspec.to_builtins(hardware)
    await session.execute(update(Node).where(Node.id == node_id, Node.revoked_at.is_(None)).values(values))


async def mark_offline(session: AsyncSession, node_id: UUID) -> None:
    """The node's link is down. A retired node stays retired."""
    # Whoever drained it wants no requests there when it is back either.
    gone = case((Node.state == NodeState.DRAINING, NodeState.DRAINING.value), else_=NodeState.OFFLINE.value)
    await session.execute(
        update(Node)
        .where(Node.id == node_id, Node.state != NodeState.RETIRED)
        .values(state=gone, last_seen_at=func.clock_timestamp())
    )


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
            "the join token is wrong, was used or is older than an hour; make a new one and join again",
            retry=False,
        )
    return token


async def _check_provider(session: AsyncSession, provider_id: UUID | None) -> None:
    """Raises: LinkRefused when the provider is suspended or closed."""
    if provider_id is not None:
        _refuse_unwelcome(await session.get(Provider, provider_id, populate_existing=True))


def _refuse_unwelcome(provider: Provider | None) -> None:
    """Raises: LinkRefused when `provider` is suspended or closed; a house pool's controller has none."""
    if provider is not None and provider.state not in _WELCOME_PROVIDERS:
        raise LinkRefused(
            "revoked",
            f"provider {provider.slug!r} is {provider.state.value}; ask the marketplace",
            retry=provider.state is ProviderState.SUSPENDED,
        )


async def _check_machine(session: AsyncSession, machine_id: str, pool: Pool) -> None:
    """Raises: LinkRefused when the machine carries a living node that this one must not stand beside."""
    if not machine_id:
        return
    # Two enrolments of one machine must not both find it free; the lock ends with the transaction.
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(machine_id, 0))))
    statement = select(Node.name, Node.pool_id).where(
        Node.machine_id == machine_id, Node.role == NodeRole.NODE, Node.revoked_at.is_(None)
    )
    for name, pool_id in await session.execute(statement):
        if pool.kind is not PoolKind.HOUSE or pool_id != pool.id:
            raise LinkRefused(
                "duplicate",
                f"this machine is node {name!r} already; run `raymart-provider leave` there, or have it revoked",
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
