"""Providers with owners and wallets: proven by real signatures, chosen through the service, aged as only an owner of the database can."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
from solders.keypair import Keypair
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payout_wallets import (
    CheckState,
    PayoutWallet,
    WalletRules,
    WalletWarning,
    choose_payout_wallet,
)
from raymart_core.clock import now
from raymart_core.ids import Prefix, new_id, show
from raymart_marketplace.accounts.models import Organization, OrganizationKind, Role, User
from raymart_marketplace.accounts.service import add_member, create_organization
from raymart_marketplace.accounts.siws import SignInMessage, check_signature
from raymart_marketplace.accounts.wallet_challenges import Answered
from raymart_marketplace.accounts.wallet_proofs import WalletProof, record_proof
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.models import Provider, ProviderState
from raymart_marketplace.supply.service import create_provider

RULES = WalletRules(cool_down=timedelta(hours=72), proof_fresh=timedelta(minutes=10))


@dataclass(kw_only=True)
class Payee:
    """A provider, its organization and its owner."""

    provider_id: UUID
    organization_id: UUID
    owner_id: UUID
    email: str
    wallet: Keypair = field(default_factory=Keypair)

    @property
    def address(self) -> str:
        return str(self.wallet.pubkey())

    @property
    def id(self) -> str:
        return show(Prefix.PROVIDER, self.provider_id)


async def make_payee(session: AsyncSession) -> Payee:
    """A provider of a test's own, with an owner and without a wallet."""
    unique = new_id().hex[-12:]
    owner = User(
        id=new_id(),
        email=f"owner-{unique}@example.com",
        name="Owner",
        password_hash="x",
        email_verified_at=now(),
    )
    session.add(owner)
    organization: Organization = await create_organization(
        session, name=f"Payee {unique}", kind=OrganizationKind.PROVIDER
    )
    await session.flush()
    await add_member(session, organization_id=organization.id, user_id=owner.id, role=Role.OWNER)
    provider: Provider = await create_provider(
        session,
        organization_id=organization.id,
        slug=f"payee-{unique}",
        name=f"Payee {unique}",
        state=ProviderState.ACTIVE,
    )
    return Payee(
        provider_id=provider.id, organization_id=organization.id, owner_id=owner.id, email=owner.email
    )


async def prove(session: AsyncSession, payee: Payee, wallet: Keypair) -> WalletProof:
    """The wallet's real signature over a sign-in message, as `proveWallet` records it."""
    issued = datetime.now(UTC).replace(microsecond=0)
    message = SignInMessage(
        domain="market.test",
        address=str(wallet.pubkey()),
        statement="Prove to Raymart that the organization owns this wallet. This moves no money.",
        uri="https://market.test",
        chain_id="solana:localnet",
        nonce=new_id().hex,
        issued_at=issued,
        expires_at=issued + timedelta(minutes=5),
        request_id=show(Prefix.ORGANIZATION, payee.organization_id),
    )
    signature = check_signature(message, str(wallet.sign_message(message.text().encode())))
    return await record_proof(
        session,
        Answered(
            address=str(wallet.pubkey()),
            organization_id=payee.organization_id,
            user_id=payee.owner_id,
            message=message.text(),
            signature=signature,
        ),
    )


async def choose(
    session: AsyncSession,
    payee: Payee,
    wallet: Keypair,
    *,
    acknowledged: Collection[WalletWarning] = (),
    rules: WalletRules = RULES,
) -> PayoutWallet:
    """Prove the wallet and choose it."""
    await prove(session, payee, wallet)
    return await choose_payout_wallet(
        session,
        provider_id=payee.provider_id,
        address=str(wallet.pubkey()),
        acknowledged=acknowledged,
        chosen_by=payee.owner_id,
        rules=rules,
    )


async def passed(session: AsyncSession, wallet_id: UUID) -> None:
    """What a worker notes when the chain has nothing against the wallet."""
    await session.execute(
        update(PayoutWallet)
        .where(PayoutWallet.id == wallet_id)
        .values(check_state=CheckState.PASSED, checked_at=now())
    )


async def make_paid_payee(sessions: Sessions) -> Payee:
    """A provider whose first wallet is chosen and was checked: it may be paid at once."""
    async with session_scope(sessions) as session:
        payee = await make_payee(session)
        chosen = await choose(session, payee, payee.wallet)
        await passed(session, chosen.id)
    return payee


def pass_time(owner_url: str, payee: Payee, hours: float, *, checks: bool = False) -> None:
    """As if all choices and proofs of the payee, and their `checks`, had been made so much earlier.

    Only the database's owner can do this.
    """
    with psycopg.connect(owner_url) as connection:
        connection.execute("set local session_replication_role = replica")
        for statement in (
            (
                "update payout_wallet set created_at = created_at - %(by)s, payable_from = payable_from - %(by)s,"
                " proven_at = proven_at - %(by)s, checked_at = checked_at - %(checks)s, ended_at = ended_at - %(by)s where provider_id = %(provider)s"
            ),
            "update wallet_proof set proven_at = proven_at - %(by)s where organization_id = %(organization)s",
        ):
            connection.execute(
                statement,
                {
                    "by": timedelta(hours=hours),
                    "checks": timedelta(hours=hours if checks else 0),
                    "provider": payee.provider_id,
                    "organization": payee.organization_id,
                },
            )
