"""What the operations on keys take and give back."""

from datetime import datetime
from decimal import Decimal

import strawberry

from raymart_billing.budgets import BudgetPeriodKind
from raymart_core.errors import InvalidRequest
from raymart_graphql.schema.identity.types import ApiKey
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.accounts.key_changes import UNCHANGED, KeyChange
from raymart_marketplace.accounts.scopes import KeyScope

BUDGETS_MAX = len(BudgetPeriodKind)


@strawberry.input(description="A limit on what a key may spend.")
class KeyBudgetInput:
    """One of a key's budgets."""

    period: BudgetPeriodKind = strawberry.field(description="When it begins anew.")
    limit: Decimal = strawberry.field(
        description="Most that may be spent in a period, in US dollars; above 0."
    )


@strawberry.input(description="An API key to make.")
class CreateApiKeyInput:
    """For a project of the viewer."""

    project_id: strawberry.ID = strawberry.field(description="Project that its usage belongs to.")
    name: str = strawberry.field(description="Name for people.")
    expires_at: datetime | None = strawberry.field(
        default=None, description="When it ends by itself; null for never."
    )
    scopes: list[KeyScope] | None = strawberry.field(
        default=None, description="What it may be used for; inference and the list of models unless given."
    )
    models: list[str] | None = strawberry.field(
        default=None, description="Slugs of the models that it may use, at most 100; null for all."
    )
    service_account_id: strawberry.ID | None = strawberry.field(
        default=None, description="Service account of the same organization that it is for; null for none."
    )
    budgets: list[KeyBudgetInput] | None = strawberry.field(
        default=None, description="What it may spend, at most one limit per period; null for no limit."
    )


@strawberry.type(description="What createApiKey gives back.")
class CreateApiKeyPayload(Payload):
    """The key, or why there is none."""

    api_key: ApiKey | None = strawberry.field(default=None, description="Null when there are user errors.")
    secret: str | None = strawberry.field(
        default=None, description="The key itself, shown this once; null when there are user errors."
    )


@strawberry.input(description="What to change of an API key; what is left out stays as it is.")
class UpdateApiKeyInput:
    """A key of the viewer's organization."""

    api_key_id: strawberry.ID = strawberry.field(description="Which key.")
    name: str | None = strawberry.field(default=strawberry.UNSET, description="Name for people.")
    scopes: list[KeyScope] | None = strawberry.field(
        default=strawberry.UNSET, description="What it may be used for from now on."
    )
    models: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Slugs of the models that it may use; null for all."
    )
    expires_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="When it ends by itself; null for never."
    )
    answer_cache_seconds: int | None = strawberry.field(
        default=strawberry.UNSET,
        description="How long its answers are given again, at a share of their price, where a request does not say; 0 to "
        "86,400, null for what its project says.",
    )

    def change(self) -> KeyChange:
        """As the service takes it. Raises: InvalidRequest for a null where there must be a value."""
        for field, value in (("name", self.name), ("scopes", self.scopes)):
            if value is None:
                raise InvalidRequest(f"{field} may not be null; leave it out to keep it", param=field)
        return KeyChange(
            name=self.name if isinstance(self.name, str) else UNCHANGED,
            scopes=self.scopes if isinstance(self.scopes, list) else UNCHANGED,
            models=UNCHANGED if self.models is strawberry.UNSET else self.models,
            expires_at=UNCHANGED if self.expires_at is strawberry.UNSET else self.expires_at,
            answer_cache_s=(
                UNCHANGED if self.answer_cache_seconds is strawberry.UNSET else self.answer_cache_seconds
            ),
        )


@strawberry.type(description="What updateApiKey gives back.")
class UpdateApiKeyPayload(Payload):
    """The changed key, or why it is not."""

    api_key: ApiKey | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.input(description="An API key to give another secret.")
class RotateApiKeyInput:
    """A key of the viewer's organization."""

    api_key_id: strawberry.ID = strawberry.field(description="Which key.")
    overlap_seconds: int = strawberry.field(
        default=3_600,
        description="How long the present secret goes on working, 0 to 86,400; an hour unless given.",
    )


@strawberry.type(description="What rotateApiKey gives back.")
class RotateApiKeyPayload(Payload):
    """The key and its new secret, or why there is none."""

    api_key: ApiKey | None = strawberry.field(default=None, description="Null when there are user errors.")
    secret: str | None = strawberry.field(
        default=None, description="The new secret, shown this once; null when there are user errors."
    )


@strawberry.input(description="An API key to revoke.")
class RevokeApiKeyInput:
    """A key of the viewer's organization."""

    api_key_id: strawberry.ID = strawberry.field(description="Which key.")


@strawberry.type(description="What revokeApiKey gives back.")
class RevokeApiKeyPayload(Payload):
    """The revoked key, or why it is not."""

    api_key: ApiKey | None = strawberry.field(default=None, description="Null when there are user errors.")
