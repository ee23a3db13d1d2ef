"""Proving a wallet, withdrawing it, and logging in with it."""

from datetime import datetime

import strawberry

from raymart_billing.payout_wallets import tell_of_withdrawal
from raymart_core.errors import Forbidden
from raymart_core.ids import Prefix, new_id, show
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.sessions.entering import enter
from raymart_graphql.schema.sessions.payloads import SessionPayload
from raymart_graphql.schema.user_error import Payload
from raymart_graphql.schema.wallets.types import WalletProof
from raymart_marketplace.accounts import wallet_proofs
from raymart_marketplace.accounts.session_models import LoginMethod
from raymart_marketplace.accounts.siws import SignInMessage
from raymart_marketplace.accounts.wallet_challenges import PROOF_STATEMENT, WalletPurpose

LOGIN = "Log in to Raymart. This moves no money."


@strawberry.input(description="The wallet to prove.")
class CreateWalletChallengeInput:
    """For a provider's organization."""

    organization_id: strawberry.ID = strawberry.field(description="Whose wallet it is.")
    address: str = strawberry.field(description="The wallet's address on Solana, base58.")


@strawberry.input(description="The wallet to log in with.")
class CreateWalletLoginChallengeInput:
    """A wallet that was proven before."""

    address: str = strawberry.field(description="The wallet's address on Solana, base58.")


@strawberry.type
class ChallengePayload(Payload):
    """A text to sign, or why there is none."""

    message: str | None = strawberry.field(
        default=None,
        description="The Sign-In With Solana text for the wallet to sign, byte for byte; null when there are user errors.",
    )
    expires_at: datetime | None = strawberry.field(
        default=None, description="Until when it may be answered, once; null when there are user errors."
    )

    def show(self, message: SignInMessage) -> None:
        """Fill in the text."""
        self.message, self.expires_at = message.text(), message.expires_at


@strawberry.type(description="What createWalletChallenge gives back.")
class CreateWalletChallengePayload(ChallengePayload):
    """A text to sign, or why there is none."""


@strawberry.type(description="What createWalletLoginChallenge gives back.")
class CreateWalletLoginChallengePayload(ChallengePayload):
    """A text to sign, or why there is none."""


@strawberry.input(description="A signed challenge.")
class ProveWalletInput:
    """What the wallet gave back."""

    organization_id: strawberry.ID = strawberry.field(description="Whose wallet it is.")
    message: str = strawberry.field(description="The text of createWalletChallenge, unchanged.")
    signature: str = strawberry.field(description="The wallet's ed25519 signature over it, base58.")


@strawberry.type(description="What proveWallet gives back.")
class ProveWalletPayload(Payload):
    """The proof, or why there is none."""

    wallet: WalletProof | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.input(description="The proof to end.")
class WithdrawWalletInput:
    """One of the organization's wallets."""

    organization_id: strawberry.ID = strawberry.field(description="Whose wallet it is.")
    address: str = strawberry.field(description="The wallet's address.")


@strawberry.type(description="What withdrawWallet gives back.")
class WithdrawWalletPayload(Payload):
    """The ended proof, or why it is not."""

    wallet: WalletProof | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.input(description="A signed challenge.")
class LoginWithWalletInput:
    """What the wallet gave back."""

    message: str = strawberry.field(description="The text of createWalletLoginChallenge, unchanged.")
    signature: str = strawberry.field(description="The wallet's ed25519 signature over it, base58.")


@strawberry.type(description="What loginWithWallet gives back.")
class LoginWithWalletPayload(SessionPayload):
    """A session's tokens, or why there are none."""


@strawberry.type
class WalletMutation:
    """Root fields of the domain."""

    @mutation(
        "A text for a provider's wallet to sign, which proves that the organization owns it. Answer with "
        "`proveWallet` within five minutes."
    )
    async def create_wallet_challenge(
        self, info: Info, input_: CreateWalletChallengeInput
    ) -> CreateWalletChallengePayload:
        """Names the organization, so that a signature for one proves nothing for another."""
        operation, payload = info.context, CreateWalletChallengePayload()
        organization_id = parse_global_id(
            Prefix.ORGANIZATION, input_.organization_id, field="organization_id"
        )
        organization = await operation.loaders.identity.organization.load_known(organization_id)
        principal = await operation.principal()
        payload.show(
            await operation.services.wallet_challenges.make(
                WalletPurpose.PROOF,
                address=input_.address,
                statement=PROOF_STATEMENT.format(slug=organization.slug),
                request_id=organization.id,
                organization_id=organization_id,
                user_id=principal.user_id,
            )
        )
        return payload

    @mutation("Prove that the organization owns a wallet, with the signed text; a repeat renews the proof.")
    async def prove_wallet(self, info: Info, input_: ProveWalletInput) -> ProveWalletPayload:
        """Each challenge is good for one try."""
        operation = info.context
        organization_id = parse_global_id(
            Prefix.ORGANIZATION, input_.organization_id, field="organization_id"
        )
        answered = await operation.services.wallet_challenges.take(
            WalletPurpose.PROOF, text=input_.message, signature=input_.signature
        )
        principal = await operation.principal()
        if answered.organization_id != organization_id or answered.user_id != principal.user_id:
            raise Forbidden("this challenge was made for another organization or person", param="message")
        async with operation.writing() as session:
            proof = await wallet_proofs.record_proof(session, answered)
        return ProveWalletPayload(wallet=WalletProof.of(proof))

    @mutation("End the proof of a wallet, logging in with it, and payouts to it.")
    async def withdraw_wallet(self, info: Info, input_: WithdrawWalletInput) -> WithdrawWalletPayload:
        """Sessions that it opened stay; their owner ends them."""
        organization_id = parse_global_id(
            Prefix.ORGANIZATION, input_.organization_id, field="organization_id"
        )
        async with info.context.writing() as session:
            proof = await wallet_proofs.withdraw_proof(
                session, organization_id=organization_id, address=input_.address
            )
            await tell_of_withdrawal(session, proof.id)
        return WithdrawWalletPayload(wallet=WalletProof.of(proof))

    @mutation(
        "A text for a wallet to sign, to log in with it. Answer with `loginWithWallet` within five minutes."
    )
    async def create_wallet_login_challenge(
        self, info: Info, input_: CreateWalletLoginChallengeInput
    ) -> CreateWalletLoginChallengePayload:
        """Says nothing about whether anybody has proven the wallet."""
        payload = CreateWalletLoginChallengePayload()
        payload.show(
            await info.context.services.wallet_challenges.make(
                WalletPurpose.LOGIN,
                address=input_.address,
                statement=LOGIN,
                request_id=show(Prefix.REQUEST, new_id()),
            )
        )
        return payload

    @mutation("Trade a signed text for a session of whoever first proved the wallet for their provider.")
    async def login_with_wallet(self, info: Info, input_: LoginWithWalletInput) -> LoginWithWalletPayload:
        """A second factor is asked for as after a password."""
        operation, payload = info.context, LoginWithWalletPayload()
        answered = await operation.services.wallet_challenges.take(
            WalletPurpose.LOGIN, text=input_.message, signature=input_.signature
        )
        async with operation.reading.trusted_session() as session:
            user = await wallet_proofs.user_of_wallet(session, answered)
        await enter(operation, payload, user=user, method=LoginMethod.WALLET)
        return payload
