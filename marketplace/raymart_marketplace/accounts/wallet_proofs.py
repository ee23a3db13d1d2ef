"""Wallets that an organization has proven to own. Takes a session, flushes, never commits.

A proof says that whoever held the wallet's key, at that moment, meant this organization. It pays nobody: what a payout
needs beyond it (which wallet, since when, by whose approval) is decided where payouts are.
"""

from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import CheckConstraint, ForeignKey, Index, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from raymart_core.errors import Conflict, NotAuthenticated, NotFound
from raymart_core.ids import new_id
from raymart_marketplace.accounts.models import Membership, Organization, OrganizationKind, User
from raymart_marketplace.accounts.wallet_challenges import Answered
from raymart_marketplace.db.base import Row

log = structlog.get_logger(__name__)

LIVE_PROOFS_MAX = 20
"""Wallets of one organization."""


class WalletProof(Row):
    """A wallet that an organization has proven; live until it is withdrawn. A proof anew replaces its evidence."""

    __tablename__ = "wallet_proof"
    __table_args__ = (
        CheckConstraint("length(address) between 32 and 44", name="address_is_base58"),
        CheckConstraint("length(signature) = 64", name="signature_is_ed25519"),
        Index(
            "uq_wallet_proof_live",
            "organization_id",
            "address",
            unique=True,
            postgresql_where=text("withdrawn_at is null"),
        ),
        Index("ix_wallet_proof_address_live", "address", postgresql_where=text("withdrawn_at is null")),
    )

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"), index=True)
    """Who first proved it, whom a log-in with the wallet logs in; withdraw it to have somebody else's proof count."""
    address: Mapped[str]
    proven_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    """When it was last proven; `created_at` is when it first was."""
    message: Mapped[str]
    """What the wallet signed, as evidence."""
    signature: Mapped[bytes]
    withdrawn_at: Mapped[datetime | None]


async def record_proof(session: AsyncSession, answered: Answered) -> WalletProof:
    """Keep that the organization owns the wallet; a repeat keeps its first time and replaces the evidence.

    Locks the organization's row. Raises: Conflict when it has 20 wallets.
    """
    organization_id, user_id = answered.organization_id, answered.user_id
    assert organization_id is not None, "a challenge for a proof names an organization"
    assert user_id is not None, "and who asked for it"
    # The lock keeps two provers from both seeing 19.
    await session.execute(
        select(Organization.id).where(Organization.id == organization_id).with_for_update(key_share=True)
    )
    others = await session.scalar(
        select(func.count()).where(
            WalletProof.organization_id == organization_id,
            WalletProof.withdrawn_at.is_(None),
            WalletProof.address != answered.address,
        )
    )
    if (others or 0) >= LIVE_PROOFS_MAX:
        raise Conflict(f"the organization has {others} wallets, the most there may be; withdraw one first")
    proof = insert(WalletProof).values(
        id=new_id(),
        organization_id=organization_id,
        user_id=user_id,
        address=answered.address,
        message=answered.message,
        signature=answered.signature,
    )
    statement = (
        proof.on_conflict_do_update(
            index_elements=[WalletProof.organization_id, WalletProof.address],
            index_where=WalletProof.withdrawn_at.is_(None),
            set_={
                "message": proof.excluded.message,
                "signature": proof.excluded.signature,
                "proven_at": func.clock_timestamp(),
            },
        )
        .returning(WalletProof)
        .execution_options(populate_existing=True)
    )
    made = (await session.scalars(statement)).one()
    log.info("wallet.proven", organization_id=str(organization_id), user_id=str(user_id))
    return made


async def withdraw_proof(session: AsyncSession, *, organization_id: UUID, address: str) -> WalletProof:
    """End the organization's proof of a wallet, and log-ins with it. Raises: NotFound."""
    withdrawn = await session.scalar(
        update(WalletProof)
        .where(
            WalletProof.organization_id == organization_id,
            WalletProof.address == address,
            WalletProof.withdrawn_at.is_(None),
        )
        .values(withdrawn_at=func.clock_timestamp())
        .returning(WalletProof)
        .execution_options(populate_existing=True)
    )
    if withdrawn is None:
        raise NotFound(f"the organization has no proven wallet {address[:60]!r}", param="address")
    log.info("wallet.withdrawn", organization_id=str(organization_id))
    return withdrawn


async def user_of_wallet(session: AsyncSession, answered: Answered) -> User:
    """Who logs in with the wallet: of the members who have proven it for their provider, whoever was first.

    The first, so that nobody can have somebody else's wallet lead into an account of theirs by proving it later.
    Raises: NotAuthenticated when nobody may, with one message whatever the reason.
    """
    statement = (
        select(User)
        .join(WalletProof, WalletProof.user_id == User.id)
        .join(
            Membership,
            (Membership.user_id == User.id) & (Membership.organization_id == WalletProof.organization_id),
        )
        .join(Organization, Organization.id == WalletProof.organization_id)
        .where(
            WalletProof.address == answered.address,
            WalletProof.withdrawn_at.is_(None),
            User.disabled_at.is_(None),
            Organization.kind == OrganizationKind.PROVIDER,
        )
        .order_by(WalletProof.created_at, WalletProof.id)
        .limit(1)
    )
    user = await session.scalar(statement)
    if user is None:
        raise NotAuthenticated("nobody logs in with this wallet; log in otherwise and prove it first")
    return user
