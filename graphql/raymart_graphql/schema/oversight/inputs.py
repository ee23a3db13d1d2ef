"""What administrators ask for."""

import strawberry

from raymart_graphql.schema.oversight.enums import Feature, SwitchState

REASON = "Why, 1 to 500 characters; it is kept for good, and the subject's people may read it."


@strawberry.input(description="An organization to which nothing is served any more.")
class SuspendOrganizationInput:
    """Until it is lifted."""

    organization_id: strawberry.ID = strawberry.field(description="Which organization.")
    reason: str = strawberry.field(description=REASON)


@strawberry.input(description="A person who can no longer sign in.")
class SuspendUserInput:
    """Until it is lifted."""

    user_id: strawberry.ID = strawberry.field(description="Which person.")
    reason: str = strawberry.field(description=REASON)


@strawberry.input(description="A provider that gets no new requests and is not paid.")
class SuspendProviderInput:
    """Until it is lifted."""

    provider_id: strawberry.ID = strawberry.field(description="Which provider.")
    reason: str = strawberry.field(description=REASON)


@strawberry.input(description="A key that is refused; unlike a revoked one it can come back.")
class SuspendApiKeyInput:
    """Until it is lifted."""

    api_key_id: strawberry.ID = strawberry.field(description="Which key.")
    reason: str = strawberry.field(description=REASON)


@strawberry.input(description="A suspension to end.")
class LiftSuspensionInput:
    """The subject is again what it was before."""

    subject_id: strawberry.ID = strawberry.field(
        description="Id of the organization, person, provider or key that is suspended."
    )
    reason: str = strawberry.field(description=REASON)


@strawberry.input(description="Usage to keep from being paid out until somebody has looked at it.")
class FlagUsageInput:
    """All of them or none."""

    request_ids: list[strawberry.ID] = strawberry.field(description="1 to 100 requests that were billed.")
    reason: str = strawberry.field(description="Why, 1 to 500 characters; it is kept for good.")


@strawberry.input(description="A flag to end.")
class ClearUsageFlagInput:
    """What was earned by it may mature again."""

    request_id: strawberry.ID = strawberry.field(description="The request that is flagged.")
    reason: str = strawberry.field(description="Why, 1 to 500 characters; it is kept for good.")


@strawberry.input(description="How a feature is to stand from now on.")
class SetFeatureSwitchInput:
    """In this process at once, in the others within seconds."""

    feature: Feature = strawberry.field(description="Which feature.")
    state: SwitchState = strawberry.field(description="For whom it is on.")
    percentage: int = strawberry.field(
        default=0, description="The share of organizations, 0 to 100; for PERCENTAGE."
    )
    organization_ids: list[strawberry.ID] = strawberry.field(
        default_factory=list, description="The organizations, at most 1,000; for ORGANIZATIONS."
    )
