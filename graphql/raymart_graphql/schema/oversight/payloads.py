"""What the mutations of oversight give back."""

import strawberry

from raymart_graphql.schema.oversight.types import FeatureSwitch, Suspension, UsageFlag
from raymart_graphql.schema.user_error import Payload

NULL = "Null when there are user errors."


@strawberry.type(description="What suspendOrganization gives back.")
class SuspendOrganizationPayload(Payload):
    """The suspension, or why there is none."""

    suspension: Suspension | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What suspendUser gives back.")
class SuspendUserPayload(Payload):
    """The suspension, or why there is none."""

    suspension: Suspension | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What suspendProvider gives back.")
class SuspendProviderPayload(Payload):
    """The suspension, or why there is none."""

    suspension: Suspension | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What suspendApiKey gives back.")
class SuspendApiKeyPayload(Payload):
    """The suspension, or why there is none."""

    suspension: Suspension | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What liftSuspension gives back.")
class LiftSuspensionPayload(Payload):
    """The suspension that has ended, or why it has not."""

    suspension: Suspension | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What flagUsage gives back.")
class FlagUsagePayload(Payload):
    """The standing flags, or why there are none."""

    flags: list[UsageFlag] | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What clearUsageFlag gives back.")
class ClearUsageFlagPayload(Payload):
    """The flag that has ended, or why it has not."""

    flag: UsageFlag | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What setFeatureSwitch gives back.")
class SetFeatureSwitchPayload(Payload):
    """The switch, or why it is as it was."""

    feature_switch: FeatureSwitch | None = strawberry.field(default=None, description=NULL)
