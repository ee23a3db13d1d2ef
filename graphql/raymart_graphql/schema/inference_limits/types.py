"""Limits of inference as the API shows them."""

import strawberry

from raymart_core.errors import InvalidRequest
from raymart_core.ids import Prefix
from raymart_graphql.scalars import BigInt
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.gateway.rate_limits.limits import Level, Limits

PREFIX_OF_LEVEL = {
    Level.ORGANIZATION: Prefix.ORGANIZATION,
    Level.PROJECT: Prefix.PROJECT,
    Level.API_KEY: Prefix.API_KEY,
}


@strawberry.type(
    description="What may be asked of models. Requests beyond it are refused with 429 and `Retry-After`; null is no limit."
)
class InferenceLimits:
    """Of an organization, a project or a key."""

    requests_per_minute: int | None = strawberry.field(description="Requests in a minute, served or not.")
    tokens_per_minute: BigInt | None = strawberry.field(
        description="Tokens in a minute, of prompts and answers together."
    )
    concurrent_requests: int | None = strawberry.field(description="Requests that run at the same time.")

    @classmethod
    def of(cls, limits: Limits) -> "InferenceLimits":
        """`limits` as the API shows them."""
        tokens = limits.tokens_per_minute
        return cls(
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=None if tokens is None else BigInt(tokens),
            concurrent_requests=limits.concurrent_requests,
        )


@strawberry.input(description="Limits to set; what is left out is not limited. At least one is needed.")
class InferenceLimitsInput:
    """Replaces what was set before."""

    requests_per_minute: int | None = strawberry.field(default=None, description="1 to 10,000,000.")
    tokens_per_minute: BigInt | None = strawberry.field(default=None, description="1 to 1,000,000,000,000.")
    concurrent_requests: int | None = strawberry.field(default=None, description="1 to 1,000,000.")

    @property
    def limits(self) -> Limits:
        """As the domain has them."""
        return Limits(
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            concurrent_requests=self.concurrent_requests,
        )


@strawberry.input(description="Limits of one's own.")
class SetInferenceLimitsInput:
    """For an organization, a project or a key."""

    scope_id: strawberry.ID = strawberry.field(
        description="Global id of the organization, project or API key that is limited."
    )
    limits: InferenceLimitsInput = strawberry.field(description="What it may do.")


@strawberry.type(description="What setInferenceLimits gives back.")
class SetInferenceLimitsPayload(Payload):
    """The limits, or why there are none."""

    inference_limits: InferenceLimits | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.input(description="Limits of one's own to remove.")
class RemoveInferenceLimitsInput:
    """Of an organization, a project or a key."""

    scope_id: strawberry.ID = strawberry.field(
        description="Global id of the organization, project or API key that was limited."
    )


@strawberry.type(description="What removeInferenceLimits gives back.")
class RemoveInferenceLimitsPayload(Payload):
    """Whether they are gone."""

    removed: bool | None = strawberry.field(
        default=None, description="True once they are gone; null when there are user errors."
    )


@strawberry.input(description="What the marketplace allows one organization, in the place of its default.")
class SetInferenceAllowanceInput:
    """Higher or lower than the default."""

    organization_id: strawberry.ID = strawberry.field(description="Global id of the organization.")
    limits: InferenceLimitsInput = strawberry.field(description="What it may do in all.")


@strawberry.type(description="What setInferenceAllowance gives back.")
class SetInferenceAllowancePayload(Payload):
    """The allowance, or why there is none."""

    inference_allowance: InferenceLimits | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.input(description="An allowance of an organization's own to remove.")
class RemoveInferenceAllowanceInput:
    """The default is in force again."""

    organization_id: strawberry.ID = strawberry.field(description="Global id of the organization.")


@strawberry.type(description="What removeInferenceAllowance gives back.")
class RemoveInferenceAllowancePayload(Payload):
    """Whether it is gone."""

    removed: bool | None = strawberry.field(
        default=None, description="True once it is gone; null when there are user errors."
    )


def level_of(scope_id: str) -> Level:
    """What kind of thing a global id names. Raises: InvalidRequest."""
    head = scope_id.partition("_")[0]
    for level, prefix in PREFIX_OF_LEVEL.items():
        if prefix.value == head:
            return level
    raise InvalidRequest(
        f"{scope_id[:60]!r} names no organization, project or API key, such as 'org_' and 32 hex digits",
        param="scope_id",
    )
