"""Choosing a provider's payout wallet, and taking a change back."""

import strawberry

from raymart_billing import payout_wallets
from raymart_billing.payout_wallets.models import WalletWarning
from raymart_billing.payout_wallets.service import WalletRules, WarningsNotAcknowledged
from raymart_core.errors import Forbidden
from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.payout_wallets.types import PayoutWallet
from raymart_graphql.schema.user_error import Payload, UserError


@strawberry.input(description="A proven wallet.")
class ChoosePayoutWalletInput:
    """For a provider."""

    provider_id: strawberry.ID = strawberry.field(description="Whose earnings it gets.")
    address: str = strawberry.field(
        description="The wallet's address on Solana, proven with proveWallet within the last ten minutes."
    )
    acknowledged_warnings: list[WalletWarning] = strawberry.field(
        default_factory=list,
        description="Warnings that were read; without all that there are, the payload names them and nothing is chosen.",
    )


@strawberry.type(description="What choosePayoutWallet gives back.")
class ChoosePayoutWalletPayload(Payload):
    """The choice, or why there is none."""

    wallet: PayoutWallet | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )
    warnings: list[WalletWarning] | None = strawberry.field(
        default=None,
        description="Warnings that are still to be acknowledged, at most two; null where that is not what is in the way.",
    )


@strawberry.input(description="A change to take back.")
class CancelPayoutWalletInput:
    """For a provider whose payout wallet is cooling down."""

    provider_id: strawberry.ID = strawberry.field(description="Whose change it is.")


@strawberry.type(description="What cancelPayoutWallet gives back.")
class CancelPayoutWalletPayload(Payload):
    """The wallet that counts again, or why nothing was taken back."""

    wallet: PayoutWallet | None = strawberry.field(
        default=None,
        description="The wallet before; null when there is none any more, or when there are user errors.",
    )


@strawberry.type
class PayoutWalletMutation:
    """Root fields of the domain."""

    @mutation(
        "Choose the wallet that a provider's earnings go to. It was proven minutes before. A provider's first one is paid "
        "at once; any later one after 72 hours, in which nothing is paid and every owner has a mail about it."
    )
    async def choose_payout_wallet(
        self, info: Info, input_: ChoosePayoutWalletInput
    ) -> ChoosePayoutWalletPayload:
        """Asks for a fresh second factor (`assurance.py`)."""
        operation = info.context
        provider_id = parse_global_id(Prefix.PROVIDER, input_.provider_id, field="provider_id")
        user_id = (await operation.principal()).user_id
        if user_id is None:
            raise Forbidden("a person chooses a payout wallet")
        try:
            async with operation.writing() as session:
                chosen = await payout_wallets.choose_payout_wallet(
                    session,
                    provider_id=provider_id,
                    address=input_.address,
                    acknowledged=input_.acknowledged_warnings,
                    chosen_by=user_id,
                    rules=WalletRules.of(operation.services.settings),
                )
                return ChoosePayoutWalletPayload(wallet=PayoutWallet.of(chosen))
        except WarningsNotAcknowledged as error:
            return ChoosePayoutWalletPayload(user_errors=[UserError.of(error)], warnings=list(error.warnings))

    @mutation(
        "Take a change of the payout wallet back within its cool-down; the wallet before it counts again."
    )
    async def cancel_payout_wallet(
        self, info: Info, input_: CancelPayoutWalletInput
    ) -> CancelPayoutWalletPayload:
        """Asks for a fresh second factor: it says where money goes, too."""
        operation = info.context
        provider_id = parse_global_id(Prefix.PROVIDER, input_.provider_id, field="provider_id")
        user_id = (await operation.principal()).user_id
        if user_id is None:
            raise Forbidden("a person takes a change of the payout wallet back")
        async with operation.writing() as session:
            again = await payout_wallets.cancel_payout_wallet(
                session, provider_id=provider_id, cancelled_by=user_id
            )
            return CancelPayoutWalletPayload(wallet=None if again is None else PayoutWallet.of(again))
