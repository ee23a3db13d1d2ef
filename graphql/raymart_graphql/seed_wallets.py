"""The payout wallets of the demo's providers: keypairs of their own, proven and chosen as any provider proves and chooses.

Nothing is bypassed: a real challenge is answered by a real signature, and a provider's first wallet has no cool-down. The
worker looks at it on the chain within a minute of the choice, usually at once; then the provider can be paid. Who runs
the demo finds the keys as `<folder>/<provider's slug>.json`, as `solana-keygen` writes them, mode 0600.
"""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from solders.keypair import Keypair
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payout_wallets import PayoutWallet, WalletRules, choose_payout_wallet
from raymart_core.ids import Prefix, show
from raymart_graphql.operator.secret_file import write_secret
from raymart_marketplace.accounts.models import Organization
from raymart_marketplace.accounts.wallet_challenges import PROOF_STATEMENT, WalletChallenges, WalletPurpose
from raymart_marketplace.accounts.wallet_proofs import record_proof
from raymart_marketplace.supply.models import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoWallets:
    """With what wallets are made for the demo."""

    challenges: WalletChallenges
    rules: WalletRules
    folder: Path
    """Of the keypairs."""


async def ensure_payout_wallet(
    session: AsyncSession, wallets: DemoWallets, *, provider: Provider, owner_id: UUID
) -> None:
    """Give the provider its first payout wallet, of the keypair in the folder; one that ever chose any is left alone.

    Raises: Unavailable without Redis.
    """
    chosen = select(PayoutWallet.id).where(PayoutWallet.provider_id == provider.id).limit(1)
    if await session.scalar(chosen) is not None:
        return
    keypair = await asyncio.to_thread(wallet_keypair, wallets.folder / f"{provider.slug}.json")
    organization = await session.get_one(Organization, provider.organization_id)
    message = await wallets.challenges.make(
        WalletPurpose.PROOF,
        address=str(keypair.pubkey()),
        statement=PROOF_STATEMENT.format(slug=organization.slug),
        request_id=show(Prefix.ORGANIZATION, organization.id),
        organization_id=organization.id,
        user_id=owner_id,
    )
    signature = keypair.sign_message(message.text().encode())
    answered = await wallets.challenges.take(
        WalletPurpose.PROOF, text=message.text(), signature=str(signature)
    )
    proof = await record_proof(session, answered)
    await choose_payout_wallet(
        session,
        provider_id=provider.id,
        address=proof.address,
        acknowledged=(),
        chosen_by=owner_id,
        rules=wallets.rules,
    )


def wallet_keypair(path: Path) -> Keypair:
    """The keypair in the file at `path`; a new one is written there, mode 0600, if there is none."""
    try:
        return Keypair.from_bytes(bytes(json.loads(path.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        made = Keypair()
        write_secret(path, json.dumps(list(bytes(made))))
        return made
