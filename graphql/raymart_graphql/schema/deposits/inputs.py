"""What the mutations of deposits, credit and alerts take."""

from decimal import Decimal

import strawberry


@strawberry.input(description="A top-up by card.")
class CreateDepositInput:
    """Asked by a customer."""

    organization_id: strawberry.ID = strawberry.field(description="Whose balance.")
    amount: Decimal = strawberry.field(description="US dollars in whole cents.")
    idempotency_key: str = strawberry.field(
        description="1 to 128 characters of your choice; the same key makes one deposit and gives its page again."
    )


@strawberry.input(description="A deposit to pay back.")
class RefundDepositInput:
    """By an administrator."""

    deposit_id: strawberry.ID = strawberry.field(description="Which deposit.")
    amount: Decimal = strawberry.field(description="US dollars in whole cents, at most what is left of it.")
    reason: str = strawberry.field(description="1 to 500 characters; kept for good.")
    idempotency_key: str = strawberry.field(description="1 to 128 characters; the same key refunds once.")


@strawberry.input(description="A payment that was held back.")
class CreditHeldDepositInput:
    """By an administrator."""

    deposit_id: strawberry.ID = strawberry.field(description="Which deposit.")
    reason: str = strawberry.field(description="1 to 500 characters; kept for good.")


@strawberry.input(description="An event in review that has been seen to.")
class ResolveStripeEventInput:
    """By an administrator."""

    event_id: str = strawberry.field(description="The card processor's id.")
    reason: str = strawberry.field(description="What was done, 1 to 500 characters; kept for good.")


@strawberry.input(description="A correction of a balance.")
class AdjustBalanceInput:
    """By an administrator."""

    organization_id: strawberry.ID = strawberry.field(description="Whose balance.")
    amount: Decimal = strawberry.field(
        description="US dollars; below 0 takes away, never below what is there."
    )
    reason: str = strawberry.field(description="1 to 500 characters; kept for good.")
    idempotency_key: str = strawberry.field(description="1 to 128 characters; the same key adjusts once.")


@strawberry.input(description="A customer to block.")
class BlockCustomerInput:
    """By an administrator."""

    organization_id: strawberry.ID = strawberry.field(description="Which customer.")
    reason: str = strawberry.field(
        description="1 to 500 characters; kept for good, and shown to the customer."
    )


@strawberry.input(description="A customer to unblock.")
class UnblockCustomerInput:
    """By an administrator."""

    organization_id: strawberry.ID = strawberry.field(description="Which customer.")
    reason: str = strawberry.field(description="1 to 500 characters; kept for good.")


@strawberry.input(description="When to be told that the balance is low.")
class SetLowBalanceThresholdInput:
    """Asked by a customer."""

    organization_id: strawberry.ID = strawberry.field(description="Whose balance.")
    threshold: Decimal | None = strawberry.field(
        default=None, description="US dollars, 0 for never; null goes back to the marketplace's own."
    )
