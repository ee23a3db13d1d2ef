"""Tables of the catalog. Triggers of migration 0040 keep what was published as it was published."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Row, text_enum


class Modality(StrEnum):
    """What a model makes."""

    CHAT = "chat"
    """Answers to conversations."""
    IMAGE = "image"
    """Pictures."""
    EMBEDDING = "embedding"
    """Vectors of texts."""


class RevisionState(StrEnum):
    """Where a revision stands: draft -> published -> deprecated -> withdrawn."""

    DRAFT = "draft"
    PUBLISHED = "published"
    DEPRECATED = "deprecated"
    """Still served, no longer placed anew."""
    WITHDRAWN = "withdrawn"
    """Not served, for good."""


SERVED = (RevisionState.PUBLISHED, RevisionState.DEPRECATED)
"""States of a revision that is still routed to and kept running; only a published one is placed anew."""


class Visibility(StrEnum):
    """Who may see, call and serve a model."""

    PUBLIC = "public"
    """Everybody, and for good: those who used it name it in their usage."""
    PRIVATE = "private"
    """Its organization, and those it is shared with."""


class Model(Row):
    """A model as customers name it."""

    __tablename__ = "model"
    __table_args__ = (
        CheckConstraint("visibility = 'public' or organization_id is not null", name="private_has_owner"),
        UniqueConstraint("id", "organization_id"),
    )

    slug: Mapped[str] = mapped_column(unique=True)
    """Such as "raymart/demo-chat"."""
    name: Mapped[str]
    description: Mapped[str]
    modality: Mapped[Modality] = mapped_column(text_enum(Modality))
    licence: Mapped[str]
    organization_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("organization.id", ondelete="RESTRICT"), index=True, sort_order=1
    )
    """Whose it is; None for the marketplace's own."""
    visibility: Mapped[Visibility] = mapped_column(
        text_enum(Visibility), server_default=Visibility.PUBLIC.value, sort_order=1
    )


class ModelRevision(Row):
    """Files with one engine and its settings, named by the digest of their manifest."""

    __tablename__ = "model_revision"
    __table_args__ = (
        CheckConstraint("context_length > 0", name="context_positive"),
        CheckConstraint("digest ~ '^sha256:[0-9a-f]{64}$'", name="digest_is_sha256"),
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="weights_are_sha256"),
        CheckConstraint(
            "manifest is null or digest = 'sha256:' || encode(sha256(manifest), 'hex')",
            name="named_by_manifest",
        ),
        CheckConstraint("size_bytes > 0", name="size_positive"),
        UniqueConstraint("model_id", "quantization", "id"),
    )

    model_id: Mapped[UUID] = mapped_column(ForeignKey("model.id", ondelete="RESTRICT"), index=True)
    digest: Mapped[str] = mapped_column(unique=True)
    """"sha256:<hex>" of the canonical manifest."""
    engine: Mapped[str]
    """Engine entry point, such as "llama_cpp"."""
    quantization: Mapped[str]
    source: Mapped[str]
    """Where the files come from: "bundled:<file>" with the engine, "registry:<digest>" from the object store."""
    sha256: Mapped[str]
    """Of a bundled file, hex; of the manifest for what comes from the object store."""
    context_length: Mapped[int]
    """Tokens of prompt and completion together."""
    capabilities: Mapped[list[str]] = mapped_column(ARRAY(TEXT))
    state: Mapped[RevisionState] = mapped_column(text_enum(RevisionState))
    manifest: Mapped[bytes | None] = mapped_column(sort_order=1)
    """Canonical (`raymart_core.wire.manifest`); None for revisions of before there were any."""
    size_bytes: Mapped[int | None] = mapped_column(BigInteger, sort_order=1)
    """Of all files."""
    published_at: Mapped[datetime | None] = mapped_column(sort_order=1)
