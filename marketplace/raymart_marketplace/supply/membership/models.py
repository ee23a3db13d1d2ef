"""Tables of pools' Ray clusters."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Index, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, Row, text_enum


class MemberRole(StrEnum):
    """What a member of a Ray cluster does there."""

    NODE = "node"
    """A provider's machine, on which replicas run."""
    HEAD = "head"
    """The cluster's head (GCS), beside the pool's controller."""
    CONTROLLER = "controller"
    """The driver that applies placements, where it is not on the head's machine."""


class PoolAuthority(Base):
    """The certificate authority of one house pool's Ray cluster, and the cluster's token.

    The key and the token are sealed (`accounts.sealing`): a copy of the database lets nobody into a cluster.
    """

    __tablename__ = "pool_authority"
    __table_args__ = (
        CheckConstraint("(head_address is null) = (head_told_at is null)", name="head_told_at_a_time"),
    )

    pool_id: Mapped[UUID] = mapped_column(ForeignKey("pool.id", ondelete="RESTRICT"), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    certificate: Mapped[str]
    """PEM."""
    sealed_key: Mapped[bytes]
    """PKCS#8, DER."""
    sealed_token: Mapped[bytes]
    """Ray's token."""
    head_address: Mapped[str | None]
    """host:port where the head said it listens."""
    head_told_at: Mapped[datetime | None]


class PoolMember(Row):
    """A certificate that a pool's authority signed. Rows are added only: who could be inside when."""

    __tablename__ = "pool_member"
    __table_args__ = (
        Index("ix_pool_member_pool_id_address_expires_at", "pool_id", "address", "expires_at"),
        Index("ix_pool_member_node_id_expires_at", "node_id", "expires_at"),
    )

    pool_id: Mapped[UUID] = mapped_column(ForeignKey("pool.id", ondelete="RESTRICT"))
    node_id: Mapped[UUID] = mapped_column(ForeignKey("node.id", ondelete="RESTRICT"))
    role: Mapped[MemberRole] = mapped_column(text_enum(MemberRole))
    address: Mapped[str]
    """The machine's IP address in the pool's private network, which the certificate names."""
    serial: Mapped[str] = mapped_column(unique=True)
    """Of the certificate, hex."""
    expires_at: Mapped[datetime]


class PoolStatus(Base):
    """Who controls a pool, and what its Ray cluster was when the controller reported last."""

    __tablename__ = "pool_status"
    __table_args__ = (
        CheckConstraint(
            "cardinality(ray_nodes) <= 10000 and cardinality(unknown_applications) <= 64", name="lists_short"
        ),
    )

    pool_id: Mapped[UUID] = mapped_column(ForeignKey("pool.id", ondelete="RESTRICT"), primary_key=True)
    controller_id: Mapped[UUID] = mapped_column(ForeignKey("node.id", ondelete="RESTRICT"))
    """The node or controller whose link controls the pool."""
    link_id: Mapped[UUID]
    """That link."""
    held_until: Mapped[datetime]
    """Until then no other may control it; renewed while the link is up."""
    generation: Mapped[int | None] = mapped_column(BigInteger)
    """Of the placements that were reported on."""
    reported_at: Mapped[datetime | None]
    ray_nodes: Mapped[list[str]] = mapped_column(ARRAY(String), server_default=text("'{}'"))
    """Names of the cluster's live nodes."""
    unknown_applications: Mapped[list[str]] = mapped_column(ARRAY(String), server_default=text("'{}'"))
    """Applications in Serve that are no placement."""
