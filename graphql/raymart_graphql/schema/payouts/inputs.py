"""What the mutations of payouts take."""

from decimal import Decimal

import strawberry

from raymart_graphql.scalars import BigInt


@strawberry.input(description="A planning on demand.")
class RequestPayoutPlanInput:
    """By an administrator."""

    ends_epoch: bool = strawberry.field(
        default=False,
        description="End the running epoch now; else those are planned who could not be paid for the last one.",
    )


@strawberry.input(description="A batch to approve.")
class ApprovePayoutBatchInput:
    """By an administrator who did not plan it."""

    number: BigInt = strawberry.field(description="The batch's number.")
    total: Decimal = strawberry.field(description="What it pays in USDC, as you have seen it.")


@strawberry.input(description="A batch to stop.")
class HoldPayoutBatchInput:
    """By an administrator."""

    number: BigInt = strawberry.field(description="The batch's number.")
    reason: str = strawberry.field(description="1 to 500 characters; kept for good.")


@strawberry.input(description="A batch that goes on.")
class ReleasePayoutBatchInput:
    """By an administrator."""

    number: BigInt = strawberry.field(description="The batch's number.")


@strawberry.input(description="Payees to take out of a batch.")
class SplitPayoutBatchInput:
    """By an administrator."""

    number: BigInt = strawberry.field(description="The batch's number.")
    positions: list[int] = strawberry.field(
        description="Of the payees that go into a batch of their own, 1 to 1,000 and not all."
    )
    reason: str = strawberry.field(
        description="Why the new batch is held, 1 to 500 characters; kept for good."
    )


@strawberry.input(description="A batch to give up.")
class CancelPayoutBatchInput:
    """By an administrator."""

    number: BigInt = strawberry.field(description="The batch's number.")
    reason: str = strawberry.field(description="1 to 400 characters; kept for good.")


@strawberry.input(description="Why payouts stop.")
class PausePayoutsInput:
    """By an administrator."""

    reason: str = strawberry.field(description="1 to 500 characters; kept for good.")


@strawberry.input(description="Why payouts go on.")
class ResumePayoutsInput:
    """By an administrator."""

    reason: str = strawberry.field(description="1 to 500 characters; kept for good.")


@strawberry.input(description="What is kept back of who is trusted at least so far.")
class HoldbackBandInput:
    """Up to the next band."""

    trust_min: int = strawberry.field(description="From this trust on, 0 to 100.")
    basis_points: int = strawberry.field(description="Of an epoch's earnings, 0 to 10,000.")
    days: int = strawberry.field(description="For how long after the epoch's end, 0 to 365.")


@strawberry.input(description="Rules to change; what is left out stays as it is.")
class SetPayoutPolicyInput:
    """By an administrator."""

    version: BigInt = strawberry.field(description="The version that you have looked at.")
    reason: str = strawberry.field(description="1 to 500 characters; kept for good.")
    minimum: Decimal | None = strawberry.field(default=None, description="The least that is paid, in USDC.")
    batch_cap: Decimal | None = strawberry.field(
        default=None, description="The most that a batch pays, in USDC."
    )
    day_cap: Decimal | None = strawberry.field(
        default=None, description="The most that is approved in 24 hours, in USDC."
    )
    four_eyes_above: Decimal | None = strawberry.field(
        default=None, description="Above this, in USDC, two people must approve."
    )
    epoch_hours: int | None = strawberry.field(
        default=None, description="How long an epoch lasts, 1 to 744 hours."
    )
    holdback_bands: list[HoldbackBandInput] | None = strawberry.field(
        default=None, description="By rising trust, from 0; 1 to 20."
    )


@strawberry.input(description="How far a provider is trusted.")
class SetProviderTrustInput:
    """By an administrator, until it is measured."""

    provider_id: strawberry.ID = strawberry.field(description="Which provider.")
    score: int = strawberry.field(description="0 to 100; 50 is neutral.")
    reason: str = strawberry.field(description="1 to 500 characters; kept for good.")
