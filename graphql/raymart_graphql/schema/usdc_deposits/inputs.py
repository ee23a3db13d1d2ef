"""What the mutations of top-ups in USDC take."""

from decimal import Decimal

import strawberry

from raymart_graphql.schema.usdc_deposits.enums import SenderMark

ACCOUNT = "Which of the marketplace's accounts, for a transaction that paid two of them."
REASON = "1 to 500 characters; kept for good."


@strawberry.input(description="A top-up in USDC.")
class CreateUsdcTopUpInput:
    """Asked by a customer."""

    organization_id: strawberry.ID = strawberry.field(description="Whose balance.")
    amount: Decimal | None = strawberry.field(
        default=None, description="USDC with at most six decimal places; null lets the payer choose."
    )
    idempotency_key: str = strawberry.field(
        description="1 to 128 characters of your choice; the same key gives the same request again."
    )


@strawberry.input(description="Whose a payment is.")
class AssignUsdcDepositInput:
    """By an administrator."""

    signature: str = strawberry.field(description="The transaction.")
    account: str | None = strawberry.field(default=None, description=ACCOUNT)
    organization_id: strawberry.ID = strawberry.field(description="Whose balance.")
    reason: str = strawberry.field(description=REASON)


@strawberry.input(description="A payment that is the marketplace's own.")
class FundTreasuryInput:
    """By an administrator."""

    signature: str = strawberry.field(description="The transaction.")
    account: str | None = strawberry.field(default=None, description=ACCOUNT)
    reason: str = strawberry.field(description=REASON)


@strawberry.input(description="A payment to send back.")
class RefundUsdcDepositInput:
    """By an administrator."""

    signature: str = strawberry.field(description="The transaction.")
    account: str | None = strawberry.field(default=None, description=ACCOUNT)
    amount: Decimal | None = strawberry.field(
        default=None,
        description="USDC; all of it unless given. A part only of what was credited, and only once.",
    )
    wallet: str | None = strawberry.field(
        default=None, description="One of the wallets that paid; needed when several did."
    )
    acknowledges_exchange: bool = strawberry.field(
        default=False,
        description="That the wallet is an exchange's own, and that it was made sure that the money arrives.",
    )
    reason: str = strawberry.field(description=REASON)


@strawberry.input(description="A refund to take back.")
class CancelUsdcRefundInput:
    """By an administrator."""

    signature: str = strawberry.field(description="The transaction that made the deposit.")
    account: str | None = strawberry.field(default=None, description=ACCOUNT)
    reason: str = strawberry.field(description=REASON)


@strawberry.input(description="What is known of a wallet that pays.")
class MarkUsdcSenderInput:
    """By an administrator."""

    wallet: str = strawberry.field(description="Its address.")
    mark: SenderMark = strawberry.field(description="What it is.")
    reason: str = strawberry.field(description=REASON)


@strawberry.input(description="A wallet of which nothing is to be said any more.")
class UnmarkUsdcSenderInput:
    """By an administrator."""

    wallet: str = strawberry.field(description="Its address.")
