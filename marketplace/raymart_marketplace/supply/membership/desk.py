"""Answers machines that ask to be members of their house pool's Ray cluster.

Whoever is a member can do everything in the cluster, on every machine of it: Ray has no isolation inside (facts:
infrastructure, section 2e). So only machines of active providers get in, certificates are short, and a revoked
machine's is not renewed.
"""

import secrets
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.clock import Clock, SystemClock
from raymart_core.errors import RaymartError
from raymart_core.wire.link import Hardware
from raymart_core.wire.membership import PoolAsk, PoolGrant
from raymart_marketplace.accounts.sealing import SecretBox
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.enrolment import NodeIdentity
from raymart_marketplace.supply.membership.authority import Authority, MemberCertificate, requested_key
from raymart_marketplace.supply.membership.labels import HEAD_NAME, ray_labels
from raymart_marketplace.supply.membership.models import MemberRole, PoolAuthority, PoolMember
from raymart_marketplace.supply.models import Node, NodeRole, Pool, PoolKind, Provider, ProviderState

log = structlog.get_logger()

CERTIFICATE_S = 7 * 86_400.0
"""How long a member's certificate is good. Ray's processes read it when they start, so that each Ray node must be
started anew once within this time."""
_TOKEN_BYTES = 32


class MembershipRefused(RaymartError):
    """There is no grant; the two values go into `wire.link.PoolRefusal`."""

    def __init__(self, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.retry = retry


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDesk:
    """Answers the asks of all machines."""

    sessions: Sessions
    box: SecretBox
    """Seals authorities' keys and clusters' tokens."""
    certificate_s: float = CERTIFICATE_S
    clock: Clock = field(default_factory=SystemClock)

    async def grant(self, identity: NodeIdentity, ask: PoolAsk) -> PoolGrant:
        """What the machine joins its pool's cluster with; the pool's authority is made at the first ask.

        Locks the machine's row for its certificate, so that a revocation and a grant do not pass each other.
        Raises: MembershipRefused, SQLAlchemyError, OSError.
        """
        role, address = _checked(identity, ask)
        async with session_scope(self.sessions) as session:
            node, pool, provider = await _member(session, identity.node_id)
            await _check_address(session, node, address)
            row = await self._authority_row(session, pool)
            if role is MemberRole.HEAD:
                await _note_head(session, row, address=address, port=ask.head_port)
            authority = self._opened(row)
            certificate = self._signed(authority, ask, name=node.name, address=address)
            session.add(_record(node, role, address, certificate))
            token = self._open(row.sealed_token, row.pool_id, what="token").decode()
            log.info(
                "membership.granted", pool=pool.slug, node=node.name, role=role, serial=certificate.serial
            )
            return PoolGrant(
                certificate=certificate.pem,
                authority=row.certificate.encode(),
                token=token,
                head=row.head_address or "",
                labels=ray_labels(
                    role=role,
                    name=node.name,
                    provider=provider.slug if provider is not None else None,
                    region=pool.region,
                    hardware=msgspec.convert(node.hardware, Hardware),
                ),
                expires_in_s=self.certificate_s,
            )

    async def _authority_row(self, session: AsyncSession, pool: Pool) -> PoolAuthority:
        """The pool's authority, made where there is none; of several that make one at once the first stays."""
        row = await session.get(PoolAuthority, pool.id)
        if row is not None:
            return row
        authority = Authority.create(pool.slug, now=self.clock.now())
        made = insert(PoolAuthority).values(
            pool_id=pool.id,
            certificate=authority.certificate_pem.decode(),
            sealed_key=self.box.seal(authority.key_der, purpose=_purpose(pool.id, "key")),
            sealed_token=self.box.seal(
                secrets.token_hex(_TOKEN_BYTES).encode(), purpose=_purpose(pool.id, "token")
            ),
        )
        await session.execute(made.on_conflict_do_nothing())
        return await session.get_one(PoolAuthority, pool.id)

    def _opened(self, row: PoolAuthority) -> Authority:
        """The authority with its key, sealed anew where its sealing key was replaced."""
        key = self._open(row.sealed_key, row.pool_id, what="key")
        if self.box.is_outdated(row.sealed_key):
            token = self._open(row.sealed_token, row.pool_id, what="token")
            row.sealed_key = self.box.seal(key, purpose=_purpose(row.pool_id, "key"))
            row.sealed_token = self.box.seal(token, purpose=_purpose(row.pool_id, "token"))
        return Authority.load(certificate_pem=row.certificate.encode(), key_der=key)

    def _open(self, sealed: bytes, pool_id: UUID, *, what: str) -> bytes:
        try:
            return self.box.open(sealed, purpose=_purpose(pool_id, what))
        except ValueError as error:
            log.warning("membership.sealed", pool_id=str(pool_id), what=what, reason=str(error))
            raise MembershipRefused(
                "the marketplace cannot open this pool's authority; ask the marketplace to restore its keys",
                retry=True,
            ) from None

    def _signed(
        self, authority: Authority, ask: PoolAsk, *, name: str, address: IPv4Address | IPv6Address
    ) -> MemberCertificate:
        try:
            key = requested_key(ask.csr)
        except ValueError as error:
            raise MembershipRefused(str(error)) from None
        return authority.sign(
            key, name=name, address=address, now=self.clock.now(), valid_s=self.certificate_s
        )


def _checked(identity: NodeIdentity, ask: PoolAsk) -> tuple[MemberRole, IPv4Address | IPv6Address]:
    """What can be checked without the database. Raises: MembershipRefused."""
    role = MemberRole(ask.role)
    expected = NodeRole.NODE if role is MemberRole.NODE else NodeRole.CONTROLLER
    if identity.role is not expected:
        raise MembershipRefused(f"a {identity.role.value} of the pool cannot be its {role.value}")
    if role is MemberRole.NODE and identity.name == HEAD_NAME:
        raise MembershipRefused(
            f"the name {HEAD_NAME!r} is the Ray head's own; leave and join with another --name"
        )
    if role is MemberRole.HEAD and not 1 <= ask.head_port <= 65_535:
        raise MembershipRefused(f"head_port={ask.head_port} is outside 1..65535; say where the head listens")
    return role, _inside_address(ask.address)


def _inside_address(text: str) -> IPv4Address | IPv6Address:
    """Raises: MembershipRefused for what is no address of a private network: members are never on the open internet."""
    try:
        address = ip_address(text)
    except ValueError:
        raise MembershipRefused(
            f"{text[:80]!r} is no IP address; give this machine's in the pool's network"
        ) from None
    if not address.is_private or address.is_unspecified or address.is_link_local or address.is_multicast:
        raise MembershipRefused(
            f"{address} is not in a private network; a house pool's machines meet in one, such as a VPN"
        )
    return address


async def _member(session: AsyncSession, node_id: UUID) -> tuple[Node, Pool, Provider | None]:
    """The machine as it is now, its row locked. Raises: MembershipRefused unless it may be in its pool's cluster."""
    node = await session.get_one(Node, node_id, with_for_update={"key_share": True}, populate_existing=True)
    if node.revoked_at is not None:
        raise MembershipRefused("this node's key was revoked; enrol again with a new join token")
    pool = await session.get_one(Pool, node.pool_id)
    if pool.kind is not PoolKind.HOUSE:
        raise MembershipRefused(
            f"pool {pool.slug!r} is a provider's own and shares no Ray cluster; start Ray on this machine itself"
        )
    if node.provider_id is None:
        return node, pool, None
    provider = await session.get_one(Provider, node.provider_id, populate_existing=True)
    if provider.state is not ProviderState.ACTIVE:
        raise MembershipRefused(
            f"provider {provider.slug!r} is {provider.state.value}; only active providers are let into "
            f"house pool {pool.slug!r}, ask again when the marketplace has approved it",
            retry=provider.state is not ProviderState.CLOSED,
        )
    return node, pool, provider


async def _check_address(session: AsyncSession, node: Node, address: IPv4Address | IPv6Address) -> None:
    """Raises: MembershipRefused when another living machine's certificate names the address.

    A certificate for another's address would let its holder answer in its place. Loopback is everybody's own.
    """
    if address.is_loopback:
        return
    # Two machines must not both find the address free; the lock ends with the transaction.
    await session.execute(
        select(func.pg_advisory_xact_lock(func.hashtextextended(f"{node.pool_id} {address}", 0)))
    )
    statement = (
        select(Node.name)
        .join(PoolMember, PoolMember.node_id == Node.id)
        .where(
            PoolMember.pool_id == node.pool_id,
            PoolMember.address == str(address),
            PoolMember.expires_at > func.clock_timestamp(),
            Node.revoked_at.is_(None),
            Node.machine_id != node.machine_id,
        )
        .limit(1)
    )
    holder = await session.scalar(statement)
    if holder is not None:
        raise MembershipRefused(
            f"the address {address} is node {holder!r}'s; give this machine its own, or revoke that node"
        )


async def _note_head(
    session: AsyncSession, row: PoolAuthority, *, address: IPv4Address | IPv6Address, port: int
) -> None:
    host = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
    await session.execute(
        update(PoolAuthority)
        .where(PoolAuthority.pool_id == row.pool_id)
        .values(head_address=f"{host}:{port}", head_told_at=func.clock_timestamp())
    )
    await session.refresh(row)


def _record(
    node: Node, role: MemberRole, address: IPv4Address | IPv6Address, certificate: MemberCertificate
) -> PoolMember:
    return PoolMember(
        pool_id=node.pool_id,
        node_id=node.id,
        role=role,
        address=str(address),
        serial=certificate.serial,
        expires_at=certificate.expires_at,
    )


def _purpose(pool_id: UUID, what: str) -> str:
    return f"{what} of the authority of pool {pool_id}"
