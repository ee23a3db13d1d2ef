"""Declarative base: naming convention, shared columns, and how enums are stored.

Rules: ids are UUIDv7 made by the application, times come from the database's clock, enums are text with a CHECK
(a new member is then a one-line migration), relationships load only when asked (`lazy="raise"`).
"""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import DateTime, Enum, MetaData, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from raymart_core.ids import new_id

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Root of every table of the control plane."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: DateTime(timezone=True)}


class Row(Base):
    """A table with a UUIDv7 id and the time of its insertion."""

    __abstract__ = True

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, sort_order=-2)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp(), sort_order=-1)


def text_enum(members: type[StrEnum], *, name: str | None = None) -> Enum:
    """Column type for `members`: their values as text, guarded by a CHECK; `name` tells two of one table apart."""
    return Enum(
        members,
        native_enum=False,
        create_constraint=True,
        length=32,
        name=name or members.__name__.lower(),
        values_callable=lambda enum: [member.value for member in enum],
    )
