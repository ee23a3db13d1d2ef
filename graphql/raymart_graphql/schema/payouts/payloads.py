"""What the mutations of payouts give back."""

import strawberry

from raymart_graphql.schema.payouts.rule_types import PayoutPolicy, PayoutStop
from raymart_graphql.schema.payouts.types import PayoutBatch
from raymart_graphql.schema.supply.types import Provider
from raymart_graphql.schema.user_error import Payload
from raymart_graphql.schema.work.types import OutboxItem

_NULL = "Null when there are user errors."


@strawberry.type(description="What requestPayoutPlan gives back.")
class RequestPayoutPlanPayload(Payload):
    """The work that plans, or why there is none."""

    item: OutboxItem | None = strawberry.field(default=None, description=_NULL)


@strawberry.type(description="What approvePayoutBatch gives back.")
class ApprovePayoutBatchPayload(Payload):
    """The batch, REVIEWED while a second person is needed, or why it is not approved."""

    batch: PayoutBatch | None = strawberry.field(default=None, description=_NULL)


@strawberry.type(description="What holdPayoutBatch gives back.")
class HoldPayoutBatchPayload(Payload):
    """The held batch, or why it is not."""

    batch: PayoutBatch | None = strawberry.field(default=None, description=_NULL)


@strawberry.type(description="What releasePayoutBatch gives back.")
class ReleasePayoutBatchPayload(Payload):
    """The batch that goes on, or why it does not."""

    batch: PayoutBatch | None = strawberry.field(default=None, description=_NULL)


@strawberry.type(description="What splitPayoutBatch gives back.")
class SplitPayoutBatchPayload(Payload):
    """Both batches, or why it was not split."""

    batch: PayoutBatch | None = strawberry.field(
        default=None, description="The new one, which is held. " + _NULL
    )
    rest: PayoutBatch | None = strawberry.field(default=None, description="The old one. " + _NULL)


@strawberry.type(description="What cancelPayoutBatch gives back.")
class CancelPayoutBatchPayload(Payload):
    """The batch, held until its money is back, or why it is not cancelled."""

    batch: PayoutBatch | None = strawberry.field(default=None, description=_NULL)


@strawberry.type(description="What pausePayouts gives back.")
class PausePayoutsPayload(Payload):
    """The stop, or why there is none."""

    stop: PayoutStop | None = strawberry.field(default=None, description=_NULL)


@strawberry.type(description="What resumePayouts gives back.")
class ResumePayoutsPayload(Payload):
    """The stop that is over, or why it stands."""

    stop: PayoutStop | None = strawberry.field(default=None, description=_NULL)


@strawberry.type(description="What setPayoutPolicy gives back.")
class SetPayoutPolicyPayload(Payload):
    """The next version, or why there is none."""

    policy: PayoutPolicy | None = strawberry.field(default=None, description=_NULL)


@strawberry.type(description="What setProviderTrust gives back.")
class SetProviderTrustPayload(Payload):
    """The provider, or why its trust stays."""

    provider: Provider | None = strawberry.field(default=None, description=_NULL)
    score: int | None = strawberry.field(
        default=None, description="What holds from the next epoch on. " + _NULL
    )
