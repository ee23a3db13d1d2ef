"""Every table of the marketplace: identity, catalog, supply, inference.

Written by autogenerate and then by hand; `tests/migrations` compares each constraint and index with the models.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | Sequence[str] | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES_IN_ORDER = (
    "user",
    "organization",
    "membership",
    "project",
    "api_key",
    "model",
    "model_revision",
    "provider",
    "pool",
    "join_token",
    "node",
    "offer",
    "placement",
    "endpoint",
    "request",
    "attempt",
    "usage_record",
)
"""Each table after those it refers to."""


def upgrade() -> None:
    _create_user()
    _create_organization()
    _create_membership()
    _create_project()
    _create_api_key()
    _create_model()
    _create_model_revision()
    _create_provider()
    _create_pool()
    _create_join_token()
    _create_node()
    _create_offer()
    _create_placement()
    _create_endpoint()
    _create_request()
    _create_attempt()
    _create_usage_record()


def downgrade() -> None:
    for table in reversed(TABLES_IN_ORDER):
        op.drop_table(table)


def _row() -> tuple[sa.Column[UUID], sa.Column[datetime]]:
    """The columns that every table begins with."""
    return (
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
    )


def _choice(name: str, *members: str) -> sa.Enum:
    """Text with a CHECK that admits `members`."""
    return sa.Enum(*members, name=name, native_enum=False, create_constraint=True, length=32)


def _create_user() -> None:
    op.create_table(
        "user",
        *_row(),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("email = lower(email)", name=op.f("ck_user_email_lower")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user")),
        sa.UniqueConstraint("email", name=op.f("uq_user_email")),
    )


def _create_organization() -> None:
    op.create_table(
        "organization",
        *_row(),
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column(
            "kind",
            _choice("organizationkind", "customer", "provider", "platform"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organization")),
        sa.UniqueConstraint("slug", name=op.f("uq_organization_slug")),
    )


def _create_membership() -> None:
    op.create_table(
        "membership",
        *_row(),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column(
            "role",
            _choice("role", "owner", "admin", "developer", "viewer"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organization.id"],
            name=op.f("fk_membership_organization_id_organization"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user.id"], name=op.f("fk_membership_user_id_user"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_membership")),
        sa.UniqueConstraint("organization_id", "user_id", name=op.f("uq_membership_organization_id_user_id")),
    )
    op.create_index(op.f("ix_membership_user_id"), "membership", ["user_id"])


def _create_project() -> None:
    op.create_table(
        "project",
        *_row(),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organization.id"],
            name=op.f("fk_project_organization_id_organization"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project")),
        sa.UniqueConstraint("organization_id", "slug", name=op.f("uq_project_organization_id_slug")),
    )


def _create_api_key() -> None:
    op.create_table(
        "api_key",
        *_row(),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("length(key_hash) = 32", name=op.f("ck_api_key_hash_is_sha256")),
        sa.ForeignKeyConstraint(
            ["created_by"], ["user.id"], name=op.f("fk_api_key_created_by_user"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_api_key_project_id_project"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_api_key_key_hash")),
    )
    op.create_index(op.f("ix_api_key_project_id"), "api_key", ["project_id"])


def _create_model() -> None:
    op.create_table(
        "model",
        *_row(),
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column(
            "modality",
            _choice("modality", "chat"),
            nullable=False,
        ),
        sa.Column("licence", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model")),
        sa.UniqueConstraint("slug", name=op.f("uq_model_slug")),
    )


def _create_model_revision() -> None:
    op.create_table(
        "model_revision",
        *_row(),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("engine", sa.String(), nullable=False),
        sa.Column("quantization", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("context_length", sa.Integer(), nullable=False),
        sa.Column("capabilities", postgresql.ARRAY(sa.TEXT()), nullable=False),
        sa.Column(
            "state",
            _choice("revisionstate", "draft", "published", "deprecated", "withdrawn"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "digest ~ '^sha256:[0-9a-f]{64}$'", name=op.f("ck_model_revision_digest_is_sha256")
        ),
        sa.CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name=op.f("ck_model_revision_weights_are_sha256")),
        sa.CheckConstraint("context_length > 0", name=op.f("ck_model_revision_context_positive")),
        sa.ForeignKeyConstraint(
            ["model_id"], ["model.id"], name=op.f("fk_model_revision_model_id_model"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_revision")),
        sa.UniqueConstraint("digest", name=op.f("uq_model_revision_digest")),
    )
    op.create_index(op.f("ix_model_revision_model_id"), "model_revision", ["model_id"])


def _create_provider() -> None:
    op.create_table(
        "provider",
        *_row(),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column(
            "state",
            _choice("providerstate", "applied", "active", "suspended", "closed"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organization.id"],
            name=op.f("fk_provider_organization_id_organization"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provider")),
        sa.UniqueConstraint("organization_id", name=op.f("uq_provider_organization_id")),
        sa.UniqueConstraint("slug", name=op.f("uq_provider_slug")),
    )


def _create_pool() -> None:
    op.create_table(
        "pool",
        *_row(),
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column(
            "kind",
            _choice("poolkind", "house", "provider"),
            nullable=False,
        ),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("provider_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "(kind = 'provider') = (provider_id is not null)", name=op.f("ck_pool_provider_pool_has_owner")
        ),
        sa.ForeignKeyConstraint(
            ["provider_id"], ["provider.id"], name=op.f("fk_pool_provider_id_provider"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pool")),
        sa.UniqueConstraint("slug", name=op.f("uq_pool_slug")),
    )


def _create_join_token() -> None:
    op.create_table(
        "join_token",
        *_row(),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("pool_id", sa.Uuid(), nullable=False),
        sa.Column("provider_id", sa.Uuid(), nullable=True),
        sa.Column(
            "role",
            _choice("noderole", "node", "controller"),
            nullable=False,
        ),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "expires_at <= created_at + interval '1 hour'", name=op.f("ck_join_token_short_lived")
        ),
        sa.CheckConstraint(
            "role = 'controller' or provider_id is not null", name=op.f("ck_join_token_node_has_provider")
        ),
        sa.ForeignKeyConstraint(
            ["created_by"], ["user.id"], name=op.f("fk_join_token_created_by_user"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["pool_id"], ["pool.id"], name=op.f("fk_join_token_pool_id_pool"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["provider_id"],
            ["provider.id"],
            name=op.f("fk_join_token_provider_id_provider"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_join_token")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_join_token_token_hash")),
    )


def _create_node() -> None:
    op.create_table(
        "node",
        *_row(),
        sa.Column("pool_id", sa.Uuid(), nullable=False),
        sa.Column("provider_id", sa.Uuid(), nullable=True),
        sa.Column(
            "role",
            _choice("noderole", "node", "controller"),
            nullable=False,
        ),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("join_token_id", sa.Uuid(), nullable=True),
        sa.Column("machine_id", sa.String(), nullable=False),
        sa.Column("hardware", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "state",
            _choice("nodestate", "enrolled", "benchmarking", "ready", "draining", "offline", "retired"),
            nullable=False,
        ),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "role = 'controller' or provider_id is not null", name=op.f("ck_node_node_has_provider")
        ),
        sa.CheckConstraint("length(public_key) = 32", name=op.f("ck_node_key_is_ed25519")),
        sa.ForeignKeyConstraint(
            ["join_token_id"],
            ["join_token.id"],
            name=op.f("fk_node_join_token_id_join_token"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["pool_id"], ["pool.id"], name=op.f("fk_node_pool_id_pool"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["provider_id"], ["provider.id"], name=op.f("fk_node_provider_id_provider"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_node")),
        sa.UniqueConstraint("join_token_id", name=op.f("uq_node_join_token_id")),
        sa.UniqueConstraint("public_key", name=op.f("uq_node_public_key")),
    )
    op.create_index(
        "ix_node_living_machine",
        "node",
        ["machine_id"],
        postgresql_where=sa.text("revoked_at is null"),
    )
    op.create_index(op.f("ix_node_provider_id"), "node", ["provider_id"])
    op.create_index(
        "uq_node_living_name",
        "node",
        ["pool_id", "name"],
        unique=True,
        postgresql_where=sa.text("revoked_at is null"),
    )


def _create_offer() -> None:
    op.create_table(
        "offer",
        *_row(),
        sa.Column("provider_id", sa.Uuid(), nullable=False),
        sa.Column("revision_id", sa.Uuid(), nullable=False),
        sa.Column("ask_prompt_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("ask_completion_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column(
            "state",
            _choice("offerstate", "open", "paused", "closed"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "ask_prompt_nano_usd >= 0 and ask_completion_nano_usd >= 0",
            name=op.f("ck_offer_ask_not_negative"),
        ),
        sa.ForeignKeyConstraint(
            ["provider_id"], ["provider.id"], name=op.f("fk_offer_provider_id_provider"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["revision_id"],
            ["model_revision.id"],
            name=op.f("fk_offer_revision_id_model_revision"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_offer")),
    )
    op.create_index(op.f("ix_offer_revision_id"), "offer", ["revision_id"])
    op.create_index(
        "uq_offer_open",
        "offer",
        ["provider_id", "revision_id"],
        unique=True,
        postgresql_where=sa.text("state <> 'closed'"),
    )


def _create_placement() -> None:
    op.create_table(
        "placement",
        *_row(),
        sa.Column("node_id", sa.Uuid(), nullable=False),
        sa.Column("revision_id", sa.Uuid(), nullable=False),
        sa.Column("replicas_min", sa.Integer(), nullable=False),
        sa.Column("replicas_max", sa.Integer(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("desired", sa.Boolean(), nullable=False),
        sa.Column(
            "state",
            _choice("placementstate", "requested", "placing", "running", "failed", "draining", "gone"),
            nullable=False,
        ),
        sa.Column("replicas_running", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.CheckConstraint(
            "0 <= replicas_min and replicas_min <= replicas_max and replicas_max >= 1",
            name=op.f("ck_placement_range"),
        ),
        sa.CheckConstraint("slots >= 1", name=op.f("ck_placement_slots_positive")),
        sa.ForeignKeyConstraint(
            ["node_id"], ["node.id"], name=op.f("fk_placement_node_id_node"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["revision_id"],
            ["model_revision.id"],
            name=op.f("fk_placement_revision_id_model_revision"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_placement")),
        sa.UniqueConstraint("node_id", "revision_id", name=op.f("uq_placement_node_id_revision_id")),
    )
    op.create_index(op.f("ix_placement_revision_id"), "placement", ["revision_id"])


def _create_endpoint() -> None:
    op.create_table(
        "endpoint",
        *_row(),
        sa.Column("node_id", sa.Uuid(), nullable=False),
        sa.Column("revision_id", sa.Uuid(), nullable=False),
        sa.Column("offer_id", sa.Uuid(), nullable=False),
        sa.Column(
            "first_announced_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["node_id"], ["node.id"], name=op.f("fk_endpoint_node_id_node"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["offer_id"], ["offer.id"], name=op.f("fk_endpoint_offer_id_offer"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["revision_id"],
            ["model_revision.id"],
            name=op.f("fk_endpoint_revision_id_model_revision"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoint")),
        sa.UniqueConstraint("node_id", "revision_id", name=op.f("uq_endpoint_node_id_revision_id")),
    )
    op.create_index(op.f("ix_endpoint_revision_id"), "endpoint", ["revision_id"])


def _create_request() -> None:
    op.create_table(
        "request",
        *_row(),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("api_key_id", sa.Uuid(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column(
            "surface",
            _choice("surface", "rest", "graphql"),
            nullable=False,
        ),
        sa.Column("model_asked", sa.String(), nullable=False),
        sa.Column("model_served", sa.String(), nullable=False),
        sa.Column(
            "state",
            _choice("requeststate", "completed", "failed", "cancelled"),
            nullable=False,
        ),
        sa.Column(
            "finish_reason",
            _choice("finishreason", "stop", "length", "abort", "error"),
            nullable=True,
        ),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("streamed", sa.Boolean(), nullable=False),
        sa.Column("first_token_ms", sa.Integer(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_request")),
    )
    op.create_index("ix_request_organization_id_id", "request", ["organization_id", "id"])


def _create_attempt() -> None:
    op.create_table(
        "attempt",
        *_row(),
        sa.Column("request_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("provider_id", sa.Uuid(), nullable=False),
        sa.Column("node_id", sa.Uuid(), nullable=False),
        sa.Column(
            "outcome",
            _choice("attemptoutcome", "delivered", "failed", "cancelled"),
            nullable=False,
        ),
        sa.Column(
            "fault",
            _choice("fault", "none", "customer", "provider", "platform", "network"),
            nullable=False,
        ),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("tokens_delivered", sa.Integer(), nullable=False),
        sa.Column("first_token_ms", sa.Integer(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
    )
    op.create_index(op.f("ix_attempt_request_id"), "attempt", ["request_id"])


def _create_usage_record() -> None:
    op.create_table(
        "usage_record",
        *_row(),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("api_key_id", sa.Uuid(), nullable=True),
        sa.Column("provider_id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("offer_id", sa.Uuid(), nullable=False),
        sa.Column("revision_id", sa.Uuid(), nullable=False),
        sa.Column("tokens_prompt", sa.BigInteger(), nullable=False),
        sa.Column("tokens_completion", sa.BigInteger(), nullable=False),
        sa.Column("price_prompt_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("price_completion_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("customer_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("provider_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("fee_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("exact", sa.Boolean(), nullable=False),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "customer_nano_usd = provider_nano_usd + fee_nano_usd", name=op.f("ck_usage_record_split_adds_up")
        ),
        sa.CheckConstraint(
            "customer_nano_usd = tokens_prompt * price_prompt_nano_usd + tokens_completion * price_completion_nano_usd",
            name=op.f("ck_usage_record_amount_is_usage_times_price"),
        ),
        sa.CheckConstraint(
            "provider_nano_usd >= 0 and fee_nano_usd >= 0", name=op.f("ck_usage_record_split_not_negative")
        ),
        sa.CheckConstraint(
            "tokens_prompt >= 0 and tokens_completion >= 0", name=op.f("ck_usage_record_tokens_not_negative")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_record")),
    )
    op.create_index("ix_usage_record_organization_id_id", "usage_record", ["organization_id", "id"])
    op.create_index("ix_usage_record_provider_id_id", "usage_record", ["provider_id", "id"])
    op.create_index(
        "ix_usage_record_unposted",
        "usage_record",
        ["id"],
        postgresql_where=sa.text("posted_at is null"),
    )
