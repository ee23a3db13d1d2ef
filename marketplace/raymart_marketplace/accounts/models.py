"""Tables of identity and tenancy."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, SmallInteger, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.accounts.scopes import DEFAULT_SCOPES
from raymart_marketplace.db.base import Row, text_enum


class OrganizationKind(StrEnum):
    """What an organization does in the market."""

    CUSTOMER = "customer"
    PROVIDER = "provider"
    PLATFORM = "platform"


class Role(StrEnum):
    """What a member is in an organization. What that allows is in `accounts/permissions.py`, and nowhere else."""

    OWNER = "owner"
    """Everything, handing the organization over included."""
    ADMIN = "admin"
    """Everything but ownership; in the platform's organization: the marketplace's administrators."""
    DEVELOPER = "developer"
    """A customer's: keys and inference."""
    BILLING = "billing"
    """A customer's: money, budgets and invoices."""
    OPERATOR = "operator"
    """A provider's: machines and offers."""
    FINANCE = "finance"
    """The platform's: the books, invoices and refunds of all customers."""
    SUPPORT = "support"
    """The platform's: the market's state, and a tenant's things while a grant for that is open."""
    VIEWER = "viewer"
    """Reading only."""


class User(Row):
    """A person. The e-mail address is stored in lower case."""

    __tablename__ = "user"
    __table_args__ = (CheckConstraint("email = lower(email)", name="email_lower"),)

    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    password_hash: Mapped[str]
    """argon2id in PHC form."""
    email_verified_at: Mapped[datetime | None]
    """When the person showed that they read mail there; until then nothing that touches money or inference."""
    disabled_at: Mapped[datetime | None]


class Organization(Row):
    """A tenant: the owner of projects, keys, money or machines."""

    __tablename__ = "organization"

    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    kind: Mapped[OrganizationKind] = mapped_column(text_enum(OrganizationKind))


class Membership(Row):
    """A user's role in an organization."""

    __tablename__ = "membership"
    __table_args__ = (UniqueConstraint("organization_id", "user_id"),)

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"), index=True)
    role: Mapped[Role] = mapped_column(text_enum(Role))


class Project(Row):
    """A part of an organization that keys and usage belong to."""

    __tablename__ = "project"
    __table_args__ = (
        UniqueConstraint("organization_id", "slug"),
        CheckConstraint("answer_cache_s between 0 and 86400", name="answer_cache_s"),
    )

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    slug: Mapped[str]
    name: Mapped[str]
    archived_at: Mapped[datetime | None]
    """When it was ended; its keys ended with it."""
    answer_cache_s: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How long answers are given again unless a key or a request says otherwise; 0 for not at all. See `gateway.response_cache`."""


class ServiceAccount(Row):
    """A member of an organization that is no person: it has keys, and no password."""

    __tablename__ = "service_account"
    __table_args__ = (CheckConstraint("role <> 'owner'", name="role_is_no_owner"),)

    organization_id: Mapped[UUID] = mapped_column(
        ForeignKey("organization.id", ondelete="RESTRICT"), index=True
    )
    name: Mapped[str]
    role: Mapped[Role] = mapped_column(text_enum(Role))
    """Bounds what its keys may do, whatever their scopes."""
    created_by: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    disabled_at: Mapped[datetime | None]


def default_scopes() -> list[str]:
    """The scopes of a key whose maker named none, as they are stored."""
    return sorted(scope.value for scope in DEFAULT_SCOPES)


class ApiKey(Row):
    """A key, `rm_live_<43 characters>`. Only its SHA-256 is kept."""

    __tablename__ = "api_key"
    __table_args__ = (
        CheckConstraint("length(key_hash) = 32", name="hash_is_sha256"),
        CheckConstraint("length(former_key_hash) = 32", name="former_hash_is_sha256"),
        CheckConstraint("(former_key_hash is null) = (former_ends_at is null)", name="former_has_an_end"),
        CheckConstraint(
            "scopes <@ array['inference', 'models:read', 'usage:read', 'keys:read'] and cardinality(scopes) > 0",
            name="scopes_known",
        ),
        CheckConstraint("cardinality(models) between 1 and 100", name="models_few"),
        CheckConstraint("prompt_retention_days between 0 and 30", name="retention_days"),
        CheckConstraint("answer_cache_s between 0 and 86400", name="answer_cache_s"),
    )

    project_id: Mapped[UUID] = mapped_column(ForeignKey("project.id", ondelete="RESTRICT"), index=True)
    name: Mapped[str]
    prefix: Mapped[str]
    """The first 12 characters, to recognise a key by."""
    key_hash: Mapped[bytes] = mapped_column(unique=True)
    created_by: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    scopes: Mapped[list[str]] = mapped_column(
        ARRAY(Text), default=default_scopes, server_default=text("'{inference,models:read}'::text[]")
    )
    """Values of `KeyScope`, sorted."""
    models: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    """Slugs that it may use, sorted; None for all."""
    last_used_at: Mapped[datetime | None]
    """To within a minute or two; written by `KeyUses`."""
    rotated_at: Mapped[datetime | None]
    """When the present secret replaced another."""
    former_key_hash: Mapped[bytes | None] = mapped_column(unique=True)
    """The secret before the last rotation, which still works until `former_ends_at`."""
    former_ends_at: Mapped[datetime | None]
    prompt_retention_days: Mapped[int] = mapped_column(SmallInteger, default=0, server_default=text("0"))
    """How long prompts and completions of its requests are kept; 0 for not at all. See `retention`."""
    service_account_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("service_account.id", ondelete="RESTRICT"), index=True
    )
    """Whose key it is; None for one of the project itself."""
    answer_cache_s: Mapped[int | None]
    """How long its answers are given again unless a request says otherwise; 0 for not at all, None for what its project says."""
