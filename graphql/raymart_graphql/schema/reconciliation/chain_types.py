"""The chain as administrators see it, and what the platform took out of its treasury."""

from datetime import datetime

import strawberry

from raymart_billing.payouts.reconciliation import chain_state as state
from raymart_billing.payouts.reconciliation import models
from raymart_graphql.scalars import BigInt
from raymart_graphql.schema.user_error import Payload


@strawberry.type(description="What one endpoint of the chain answers at this moment.")
class ChainEndpoint:
    """For administrators."""

    number: int = strawberry.field(description="From 1, in the order of the settings.")
    genesis_hash: str | None = strawberry.field(
        description="Which chain it is; null where it does not answer."
    )
    finalized_slot: BigInt | None = strawberry.field(description="Its newest finalized slot.")
    finalized_height: BigInt | None = strawberry.field(description="Its newest finalized block's height.")
    problem: str | None = strawberry.field(description="Why it does not answer; null where it does.")

    @classmethod
    def of(cls, found: state.EndpointState) -> "ChainEndpoint":
        """`found` as the API shows it."""
        return cls(
            number=found.number,
            genesis_hash=found.genesis_hash,
            finalized_slot=_big(found.finalized_slot),
            finalized_height=_big(found.finalized_height),
            problem=found.problem,
        )


@strawberry.type(description="The chain and the treasury on it at this moment.")
class ChainState:
    """For administrators."""

    chain_id: str = strawberry.field(description="Such as `solana:mainnet`.")
    mint: str = strawberry.field(description="The token that counts as USDC.")
    treasury: str = strawberry.field(description="The wallet that pays and is paid.")
    treasury_account: str = strawberry.field(description="Its token account.")
    endpoints: list[ChainEndpoint] = strawberry.field(description="One or two.")
    micro_usdc: BigInt | None = strawberry.field(
        description="What the treasury has, at the newest confirmed state; null where no endpoint says."
    )
    lamports: BigInt | None = strawberry.field(description="The same in SOL, for fees and rents.")
    frozen: bool | None = strawberry.field(description="Whether the mint's issuer froze its token account.")

    @classmethod
    def of(cls, found: state.ChainState) -> "ChainState":
        """`found` as the API shows it."""
        funds = found.funds
        return cls(
            chain_id=found.chain_id,
            mint=found.mint,
            treasury=found.treasury,
            treasury_account=found.treasury_account,
            endpoints=[ChainEndpoint.of(one) for one in found.endpoints],
            micro_usdc=None if funds is None else BigInt(funds.micro_usdc),
            lamports=None if funds is None else BigInt(funds.lamports),
            frozen=None if funds is None else funds.is_frozen,
        )


@strawberry.type(description="USDC that the platform took out of its treasury by hand.")
class TreasuryWithdrawal:
    """For administrators."""

    signature: str = strawberry.field(description="The transaction.")
    slot: BigInt = strawberry.field(description="In which it landed.")
    micro_usdc: BigInt = strawberry.field(description="What it took, as the chain says.")
    reason: str = strawberry.field(description="Where it went, and why.")
    created_at: datetime = strawberry.field(description="When it was recorded.")

    @classmethod
    def of(cls, row: models.TreasuryWithdrawal) -> "TreasuryWithdrawal":
        """`row` as the API shows it."""
        return cls(
            signature=row.signature,
            slot=BigInt(row.slot),
            micro_usdc=BigInt(row.amount_micro_usdc),
            reason=row.reason,
            created_at=row.created_at,
        )


@strawberry.input(description="A transaction by which the platform took USDC out of its treasury.")
class RecordTreasuryWithdrawalInput:
    """The amount is read from the chain."""

    signature: str = strawberry.field(description="The transaction, final.")
    reason: str = strawberry.field(description="Where it went, and why; kept with your name.")


@strawberry.type(description="Answer to recordTreasuryWithdrawal.")
class RecordTreasuryWithdrawalPayload(Payload):
    """What was booked."""

    withdrawal: TreasuryWithdrawal | None = strawberry.field(
        default=None, description="The withdrawal; null when there are user errors."
    )


def _big(value: int | None) -> BigInt | None:
    return None if value is None else BigInt(value)
