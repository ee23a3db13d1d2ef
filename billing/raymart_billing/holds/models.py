"""Tables of leases. Written by the functions of `0005_leases.sql` only; any other statement is refused."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base


class Gateway(Base):
    """A process that admits requests. It is alive while its session holds the advisory lock of its number."""

    __tablename__ = "gateway"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(Identity(always=True), unique=True)
    started_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class CreditLease(Base):
    """Money that one gateway may spend for one organization: an open hold, or none while it holds nothing."""

    __tablename__ = "credit_lease"
    __table_args__ = (
        CheckConstraint("held >= 0 and charged >= 0 and granted >= 0", name="not_negative"),
        CheckConstraint("(held = 0) = (transfer_id is null)", name="held_is_a_hold"),
        CheckConstraint("closed_at is null or held = 0", name="closed_holds_nothing"),
        Index(
            "uq_credit_lease_transfer_id",
            "transfer_id",
            unique=True,
            postgresql_where=text("transfer_id is not null"),
        ),
        Index("ix_credit_lease_open_gateway_id", "gateway_id", postgresql_where=text("closed_at is null")),
        Index(
            "ix_credit_lease_open_organization_id",
            "organization_id",
            postgresql_where=text("closed_at is null"),
        ),
        Index("ix_credit_lease_closed_at", "closed_at", postgresql_where=text("closed_at is not null")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """Of a single-use lease: the request's id."""
    gateway_id: Mapped[UUID]
    organization_id: Mapped[UUID]
    single_use: Mapped[bool]
    """Near zero balance: for one request, whose capture gives back the rest."""
    step: Mapped[int] = mapped_column(server_default=text("0"))
    """Number of the gateway's last change, so that a repeat has no effect."""
    granted: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """What the last step granted, nano-USD."""
    generation: Mapped[int] = mapped_column(server_default=text("0"))
    """The hold's key is lease:<id>:<generation>."""
    transfer_id: Mapped[int | None] = mapped_column(BigInteger)
    """The open hold."""
    held: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """Amount of the open hold, nano-USD."""
    charged: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """Usage posted against this lease so far, nano-USD, covered by it or not."""
    taken_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    expires_at: Mapped[datetime]
    """When the sweeper may void it, if its gateway is gone too."""
    ends_at: Mapped[datetime | None]
    """When the shortest period of its budgets is over; nothing is admitted under it after."""
    recalled_at: Mapped[datetime | None]
    """Since when its gateway is asked to give back what it does not need; it admits nothing more."""
    returned_at: Mapped[datetime | None]
    """When the gateway answered the recall."""
    closed_at: Mapped[datetime | None]


class BillingBlock(Base):
    """An organization that gets no new leases, and why."""

    __tablename__ = "billing_block"
    __table_args__ = (CheckConstraint("length(reason) between 1 and 500", name="reason_length"),)

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(String)
    actor_id: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
