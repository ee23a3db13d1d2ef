"""Proven wallets as the API shows them."""

from datetime import datetime
from uuid import UUID

import strawberry

from raymart_graphql.context import Info
from raymart_graphql.fields import resolved
from raymart_graphql.schema.identity.types import User
from raymart_marketplace.accounts import wallet_proofs


@strawberry.type(description="A wallet that an organization has proven to own, by a signature.")
class WalletProof:
    """Visible to those who see the provider's earnings."""

    user_uuid: strawberry.Private[UUID]
    address: str = strawberry.field(description="The wallet's address on Solana, base58.")
    first_proven_at: datetime = strawberry.field(description="When it was first proven.")
    proven_at: datetime = strawberry.field(description="When it was last proven.")
    withdrawn_at: datetime | None = strawberry.field(
        description="When the proof was withdrawn; null while it holds."
    )

    @classmethod
    def of(cls, row: wallet_proofs.WalletProof) -> "WalletProof":
        """`row` as the API shows it."""
        return cls(
            user_uuid=row.user_id,
            address=row.address,
            first_proven_at=row.created_at,
            proven_at=row.proven_at,
            withdrawn_at=row.withdrawn_at,
        )

    @resolved("Who first proved it, whom a log-in with it logs in.")
    async def proven_by(self, info: Info) -> User:
        """The member."""
        return await info.context.loaders.identity.user.load_known(self.user_uuid)
