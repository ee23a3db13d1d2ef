"""Tables of planning: why offers are not placed, and how every model stands."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, UniqueConstraint, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, Row, text_enum
from raymart_marketplace.supply.planning.snapshot import Misfit


class PlacementRejection(Row):
    """Why an open offer is not placed on a machine of its provider, since `created_at`."""

    __tablename__ = "placement_rejection"
    __table_args__ = (UniqueConstraint("offer_id", "node_id", postgresql_nulls_not_distinct=True),)

    offer_id: Mapped[UUID] = mapped_column(ForeignKey("offer.id", ondelete="RESTRICT"))
    node_id: Mapped[UUID | None] = mapped_column(ForeignKey("node.id", ondelete="RESTRICT"), index=True)
    """None where the provider has no machine."""
    misfit: Mapped[Misfit] = mapped_column(text_enum(Misfit))
    detail: Mapped[str]


class ModelPlacement(Base):
    """How a model stands at the last pass of the planner: whether it is served, and if not, why."""

    __tablename__ = "model_placement"

    model_id: Mapped[UUID] = mapped_column(ForeignKey("model.id", ondelete="RESTRICT"), primary_key=True)
    asked: Mapped[int] = mapped_column(BigInteger)
    """Requests for it in the last half hour, over all gateways."""
    waiting: Mapped[int]
    """Requests that wait for it now."""
    offers: Mapped[int]
    """Open offers of it."""
    placed: Mapped[int]
    """Placements that are wanted."""
    running: Mapped[int]
    """Of these, those with a replica."""
    sleeping: Mapped[int]
    """Of these, those that wake when they are asked for."""
    misfits: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """How many machines reject it, by reason (`planning.snapshot.Misfit`)."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
