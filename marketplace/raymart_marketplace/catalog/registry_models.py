"""Tables of the registry: where files lie, what aliases name and named, with whom models are shared."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    UniqueConstraint,
    func,
)
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, Row, text_enum


class Artifact(Row):
    """A file in the object store, at `artifacts/<stored_sha256>`. Rows are written once the object lies there.

    Once for everybody, or sealed once for an organization: nobody learns from a missing upload what others have.
    """

    __tablename__ = "artifact"
    __table_args__ = (
        UniqueConstraint("sha256", "organization_id", postgresql_nulls_not_distinct=True),
        CheckConstraint(
            "sha256 ~ '^[0-9a-f]{64}$' and stored_sha256 ~ '^[0-9a-f]{64}$'", name="digests_are_sha256"
        ),
        CheckConstraint("size_bytes >= 0 and stored_bytes >= 0", name="sizes_not_negative"),
        CheckConstraint("(key_id is null) = (sealed_key is null)", name="sealed_as_a_whole"),
        CheckConstraint(
            "key_id is not null or (sha256 = stored_sha256 and size_bytes = stored_bytes)",
            name="plain_is_as_stored",
        ),
        CheckConstraint("organization_id is null or key_id is not null", name="private_is_sealed"),
        Index("ix_artifact_key_id", "key_id", postgresql_where="key_id is not null"),
    )

    organization_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("organization.id", ondelete="RESTRICT"), index=True
    )
    """Whose private models it belongs to; None for files of public ones."""
    sha256: Mapped[str]
    """Of the file itself, hex."""
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    stored_sha256: Mapped[str]
    """Of the object as it lies in the store, hex: names it."""
    stored_bytes: Mapped[int] = mapped_column(BigInteger)
    key_id: Mapped[str | None]
    """Names the key of the settings that wraps the data key; None for what is not sealed."""
    sealed_key: Mapped[bytes | None]
    """The data key, wrapped."""

    @property
    def object_key(self) -> str:
        """Where it lies in the object store."""
        return f"artifacts/{self.stored_sha256}"


class RevisionFile(Base):
    """Which artifact is which file of a revision; the manifest says the rest."""

    __tablename__ = "revision_file"

    revision_id: Mapped[UUID] = mapped_column(
        ForeignKey("model_revision.id", ondelete="RESTRICT"), primary_key=True
    )
    path: Mapped[str] = mapped_column(primary_key=True)
    artifact_id: Mapped[UUID] = mapped_column(ForeignKey("artifact.id", ondelete="RESTRICT"), index=True)


class AliasChangeKind(StrEnum):
    """How an alias came to name what it names."""

    SET = "set"
    ROLLBACK = "rollback"
    REMOVED = "removed"


class ModelAlias(Base):
    """A name that moves between the revisions of a model: "latest", "stable". A trigger keeps its history.

    One for each number format: a model's stable q8_0 and its stable f16 are different revisions.
    """

    __tablename__ = "model_alias"
    __table_args__ = (
        ForeignKeyConstraint(
            ["model_id", "quantization", "revision_id"],
            ["model_revision.model_id", "model_revision.quantization", "model_revision.id"],
            ondelete="RESTRICT",
        ),
        CheckConstraint("name ~ '^[a-z][a-z0-9-]{0,39}$'", name="name_is_short"),
        CheckConstraint("change <> 'removed'", name="is_there"),
        CheckConstraint("length(reason) <= 500", name="reason_is_short"),
    )

    model_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    quantization: Mapped[str] = mapped_column(primary_key=True)
    """Of the revision."""
    revision_id: Mapped[UUID] = mapped_column(index=True)
    changed_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    changed_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    """None for an operator at the command line."""
    change: Mapped[AliasChangeKind] = mapped_column(text_enum(AliasChangeKind))
    reason: Mapped[str]


class ModelAliasChange(Base):
    """What an alias named before and after; written by the database alone, never changed."""

    __tablename__ = "model_alias_change"
    __table_args__ = (
        CheckConstraint("(change = 'removed') = (after_id is null)", name="removed_names_nothing"),
        Index(None, "model_id", "name", "quantization", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    model_id: Mapped[UUID] = mapped_column(ForeignKey("model.id", ondelete="RESTRICT"))
    name: Mapped[str]
    quantization: Mapped[str]
    change: Mapped[AliasChangeKind] = mapped_column(text_enum(AliasChangeKind))
    before_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_revision.id", ondelete="RESTRICT"))
    after_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_revision.id", ondelete="RESTRICT"))
    changed_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    reason: Mapped[str]


class Access(StrEnum):
    """What an organization may do with a private model that is shared with it."""

    USE = "use"
    """See it and send it requests."""
    HOST = "host"
    """Offer and serve it as well: its machines get the keys of its files."""


class ModelShare(Base):
    """A private model shared with an organization. Not deleted: who used it names it in usage."""

    __tablename__ = "model_share"
    __table_args__ = (
        ForeignKeyConstraint(
            ["model_id", "owner_id"], ["model.id", "model.organization_id"], ondelete="RESTRICT"
        ),
        CheckConstraint("organization_id <> owner_id", name="with_others"),
    )

    model_id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID] = mapped_column(
        ForeignKey("organization.id", ondelete="RESTRICT"), primary_key=True, index=True
    )
    owner_id: Mapped[UUID]
    """The model's organization."""
    access: Mapped[Access] = mapped_column(text_enum(Access))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    ended_at: Mapped[datetime | None]
    """It may neither call nor serve it since."""
