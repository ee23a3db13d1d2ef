"""Tables of the catalog."""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey
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
    """Not served."""


class Model(Row):
    """A model as customers name it."""

    __tablename__ = "model"

    slug: Mapped[str] = mapped_column(unique=True)
    """Such as "raymart/demo-chat"."""
    name: Mapped[str]
    description: Mapped[str]
    modality: Mapped[Modality] = mapped_column(text_enum(Modality))
    licence: Mapped[str]


class ModelRevision(Row):
    """One set of weights with one engine, named by the digest of its manifest."""

    __tablename__ = "model_revision"
    __table_args__ = (
        CheckConstraint("context_length > 0", name="context_positive"),
        CheckConstraint("digest ~ '^sha256:[0-9a-f]{64}$'", name="digest_is_sha256"),
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="weights_are_sha256"),
    )

    model_id: Mapped[UUID] = mapped_column(ForeignKey("model.id", ondelete="RESTRICT"), index=True)
    digest: Mapped[str] = mapped_column(unique=True)
    """"sha256:<hex>" of the canonical manifest."""
    engine: Mapped[str]
    """Engine entry point, such as "llama_cpp"."""
    quantization: Mapped[str]
    source: Mapped[str]
    """Where the weights come from: "bundled:<file>"."""
    sha256: Mapped[str]
    """Of the weights file, hex."""
    context_length: Mapped[int]
    """Tokens of prompt and completion together."""
    capabilities: Mapped[list[str]] = mapped_column(ARRAY(TEXT))
    state: Mapped[RevisionState] = mapped_column(text_enum(RevisionState))
