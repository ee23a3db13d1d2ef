"""Tables of pricing. Triggers of migration 0004 keep what was published from being changed or backdated."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Connection,
    ForeignKey,
    MetaData,
    SmallInteger,
    UniqueConstraint,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, ExcludeConstraint
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.elements import TextClause

from raymart_core.units import Unit
from raymart_marketplace.db.base import Base, Row, text_enum

PRICE_NANO_USD_MAX = 1_000_000_000
"""One dollar a unit. It keeps a usage record's amount, for any count of tokens, far inside a bigint."""
WINDOW_BASIS_POINTS_MAX = 100_000
"""A window asks at most ten times the base price."""
REASON_CHARACTERS_MAX = 500


@event.listens_for(Base.metadata, "before_create")
def _create_scope_range(_metadata: MetaData, connection: Connection, **_options: object) -> None:
    """The type that exclusion constraints below are made with, where no migration has made it."""
    connection.exec_driver_sql(
        'do $$ begin create type scope_range as range (subtype = text, collation = "C");'
        " exception when duplicate_object then null; end $$"
    )


class RateCardState(StrEnum):
    """draft -> published -> retired."""

    DRAFT = "draft"
    PUBLISHED = "published"
    RETIRED = "retired"
    """Ended by its successor, or by hand; it still says what was charged before its end."""


def _at_most_one(scope: str, *, name: str, where: TextClause | None = None) -> ExcludeConstraint:
    """No two rows of one `scope` (an SQL expression of text) are effective at the same moment."""
    return ExcludeConstraint(
        (text(f"scope_range({scope}, {scope}, '[]')"), "&&"),
        (text("tstzrange(effective_from, effective_to)"), "&&"),
        name=name,
        where=where,
        using="gist",
    )


class RateCard(Row):
    """A version of a model's prices, or of one revision's. The marketplace's own: it binds where a provider asks nothing."""

    __tablename__ = "rate_card"
    __table_args__ = (
        UniqueConstraint("model_id", "revision_id", "version", postgresql_nulls_not_distinct=True),
        CheckConstraint("version >= 1", name="version_positive"),
        CheckConstraint("effective_to >= effective_from", name="ends_after_start"),
        _at_most_one(
            "coalesce(revision_id, model_id)::text",
            name="ex_rate_card_effective",
            where=text("state <> 'draft'"),
        ),
    )

    model_id: Mapped[UUID] = mapped_column(ForeignKey("model.id", ondelete="RESTRICT"))
    revision_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_revision.id", ondelete="RESTRICT"))
    """Only this revision; None for every revision of the model."""
    version: Mapped[int]
    """1, 2, 3 ... of the same model and revision."""
    effective_from: Mapped[datetime]
    effective_to: Mapped[datetime | None]
    """Exclusive; None while nothing has ended it."""
    state: Mapped[RateCardState] = mapped_column(text_enum(RateCardState))
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))


class Price(Base):
    """One line of a rate card."""

    __tablename__ = "price"
    __table_args__ = (CheckConstraint(f"nano_usd between 0 and {PRICE_NANO_USD_MAX}", name="in_range"),)

    rate_card_id: Mapped[UUID] = mapped_column(
        ForeignKey("rate_card.id", ondelete="CASCADE"), primary_key=True
    )
    unit: Mapped[Unit] = mapped_column(text_enum(Unit), primary_key=True)
    nano_usd: Mapped[int] = mapped_column(BigInteger)


class PriceCap(Row):
    """The most that anybody may ask for a unit, everywhere or of one model; of two caps the lower binds."""

    __tablename__ = "price_cap"
    __table_args__ = (
        CheckConstraint(f"max_nano_usd between 0 and {PRICE_NANO_USD_MAX}", name="in_range"),
        CheckConstraint("effective_to >= effective_from", name="ends_after_start"),
        CheckConstraint(f"length(reason) between 1 and {REASON_CHARACTERS_MAX}", name="has_reason"),
        _at_most_one("unit || coalesce(model_id::text, '')", name="ex_price_cap_effective"),
    )

    unit: Mapped[Unit] = mapped_column(text_enum(Unit))
    model_id: Mapped[UUID | None] = mapped_column(ForeignKey("model.id", ondelete="RESTRICT"))
    max_nano_usd: Mapped[int] = mapped_column(BigInteger)
    effective_from: Mapped[datetime]
    effective_to: Mapped[datetime | None]
    reason: Mapped[str]
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))


class FeeSchedule(Row):
    """The platform's share of what customers pay: everywhere, of one provider, of one model, or of both together."""

    __tablename__ = "fee_schedule"
    __table_args__ = (
        UniqueConstraint("version"),
        CheckConstraint("version >= 1", name="version_positive"),
        CheckConstraint("basis_points between 0 and 10000", name="share_of_whole"),
        CheckConstraint("effective_to >= effective_from", name="ends_after_start"),
        CheckConstraint(f"length(reason) between 1 and {REASON_CHARACTERS_MAX}", name="has_reason"),
        _at_most_one(
            "coalesce(provider_id::text, '') || '/' || coalesce(model_id::text, '')",
            name="ex_fee_schedule_effective",
        ),
    )

    version: Mapped[int]
    basis_points: Mapped[int]
    provider_id: Mapped[UUID | None] = mapped_column(ForeignKey("provider.id", ondelete="RESTRICT"))
    model_id: Mapped[UUID | None] = mapped_column(ForeignKey("model.id", ondelete="RESTRICT"))
    effective_from: Mapped[datetime]
    effective_to: Mapped[datetime | None]
    reason: Mapped[str]
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))


class OfferAsk(Base):
    """What an offer asks for one unit, and below what it never goes."""

    __tablename__ = "offer_ask"
    __table_args__ = (
        CheckConstraint(f"price_nano_usd between 0 and {PRICE_NANO_USD_MAX}", name="price_in_range"),
        CheckConstraint(f"floor_nano_usd between 0 and {PRICE_NANO_USD_MAX}", name="floor_in_range"),
        CheckConstraint("price_nano_usd >= floor_nano_usd", name="not_below_floor"),
    )

    offer_id: Mapped[UUID] = mapped_column(ForeignKey("offer.id", ondelete="CASCADE"), primary_key=True)
    unit: Mapped[Unit] = mapped_column(text_enum(Unit), primary_key=True)
    price_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    """None where the rate card's price is asked."""
    floor_nano_usd: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class OfferWindow(Row):
    """Hours of the week, in UTC, in which an offer asks other prices. Windows of one offer never overlap."""

    __tablename__ = "offer_window"
    __table_args__ = (
        CheckConstraint(
            "cardinality(days) between 1 and 7 and days <@ '{1,2,3,4,5,6,7}'::smallint[]", name="days_of_week"
        ),
        CheckConstraint(
            "starts_minute between 0 and 1439 and ends_minute between 1 and 1440 and starts_minute <> ends_minute",
            name="minutes_of_day",
        ),
        CheckConstraint(f"basis_points between 1 and {WINDOW_BASIS_POINTS_MAX}", name="share_in_range"),
    )

    offer_id: Mapped[UUID] = mapped_column(ForeignKey("offer.id", ondelete="CASCADE"), index=True)
    days: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    """1 (Monday) to 7 (Sunday): the days on which it starts."""
    starts_minute: Mapped[int] = mapped_column(SmallInteger)
    """Minutes after midnight UTC, inclusive."""
    ends_minute: Mapped[int] = mapped_column(SmallInteger)
    """Exclusive; before `starts_minute` for a window over midnight."""
    basis_points: Mapped[int | None]
    """Of the base price, every unit; None when the window asks prices of its own (`OfferWindowAsk`)."""


class OfferWindowAsk(Base):
    """What a window asks for one unit; others keep the base price."""

    __tablename__ = "offer_window_ask"
    __table_args__ = (
        CheckConstraint(f"price_nano_usd between 0 and {PRICE_NANO_USD_MAX}", name="price_in_range"),
    )

    window_id: Mapped[UUID] = mapped_column(
        ForeignKey("offer_window.id", ondelete="CASCADE"), primary_key=True
    )
    unit: Mapped[Unit] = mapped_column(text_enum(Unit), primary_key=True)
    price_nano_usd: Mapped[int] = mapped_column(BigInteger)
