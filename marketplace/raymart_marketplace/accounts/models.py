"""Tables of identity and tenancy."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

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
    __table_args__ = (UniqueConstraint("organization_id", "slug"),)

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    slug: Mapped[str]
    name: Mapped[str]


class ApiKey(Row):
    """A key for inference, `rm_live_<43 characters>`. Only its SHA-256 is kept."""

    __tablename__ = "api_key"
    __table_args__ = (CheckConstraint("length(key_hash) = 32", name="hash_is_sha256"),)

    project_id: Mapped[UUID] = mapped_column(ForeignKey("project.id", ondelete="RESTRICT"), index=True)
    name: Mapped[str]
    prefix: Mapped[str]
    """The first 12 characters, to recognise a key by."""
    key_hash: Mapped[bytes] = mapped_column(unique=True)
    created_by: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
