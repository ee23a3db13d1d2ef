"""The treasury of a test's chain as a worker has it: endpoints, key, policy, and books that this test writes."""

import asyncio
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from solders.keypair import Keypair
from solders.pubkey import Pubkey

from raymart_billing.solana import (
    Limits,
    Payee,
    SignatureStatus,
    SolanaRpc,
    Source,
    Unsigned,
    build_payout,
    build_token_accounts,
)
from raymart_billing.solana.marker import Marker, marker_of
from raymart_billing.solana.signing import KeypairFileSigner, Policy, PolicySigner
from raymart_billing.solana.transactions import Version
from raymart_core.ids import new_id
from support.dev_chain import Market

MARKER_KEY = b"k" * 32
LIMITS = Limits(compute_units=40_000)


@dataclass
class OpenBooks:
    """Books in memory. Nothing was signed and nothing is free, unless the test says so."""

    signed: dict[str, int] = field(default_factory=dict)
    """Micro-USDC by marker."""
    free: set[str] = field(default_factory=set)

    async def signed_micro_usdc(self, *, within: timedelta, except_markers: Sequence[str]) -> int:
        """All that was written down, as if today."""
        assert within == timedelta(days=1)
        await asyncio.sleep(0)  # As a database: somebody else's turn comes before its answer.
        return sum(amount for marker, amount in self.signed.items() if marker not in except_markers)

    async def reclaimable(self, markers: Sequence[str]) -> Set[str]:
        """Those that the test set free."""
        return self.free & set(markers)


class Treasury:
    """Builds, signs and lands transactions on the chain of `market`."""

    def __init__(self, market: Market, *, version: Version = 1, **policy: int) -> None:
        self.market = market
        self.version: Version = version
        self.key = market.treasury
        self.address = self.key.pubkey()
        self.rpc = SolanaRpc([market.chain.handle])
        self.books = OpenBooks()
        self.source = Source(treasury=self.address, token_account=market.treasury_tokens, mint=market.mint)
        limits = {
            "transaction_micro_usdc_max": 10**12,
            "day_micro_usdc_max": 10**13,
            "priority_fee_lamports_max": 10_000,
        }
        self.policy = Policy(
            treasury=self.address,
            token_account=market.treasury_tokens,
            mint=market.mint,
            decimals=6,
            **(limits | policy),
        )
        self.signer = PolicySigner(KeypairFileSigner(self.key), self.policy, self.books)

    def marker(self, part_id: UUID | None = None) -> Marker:
        """The marker of a part, or of a new one."""
        return marker_of(MARKER_KEY, self.address, part_id or new_id(), 0)

    def payees(self, wallets: Sequence[Keypair], *, micro_usdc: int = 5) -> list[Payee]:
        """The wallets' token accounts, each to be paid `micro_usdc`."""
        return [
            Payee(token_account=self.market.tokens_of(wallet.pubkey()), amount_micro_usdc=micro_usdc)
            for wallet in wallets
        ]

    async def payout(
        self,
        payees: Sequence[Payee],
        *,
        marker: Marker | None = None,
        limits: Limits = LIMITS,
        memo: str = "test",
    ) -> Unsigned:
        """A payout, dated now."""
        return build_payout(
            self.source,
            payees,
            marker=marker or self.marker(),
            marker_rent_lamports=await self.rpc.rent_exempt(0),
            memo=memo,
            blockhash=(await self.rpc.latest_blockhash()).hash,
            limits=limits,
            version=self.version,
        )

    async def token_accounts(self, owners: Sequence[Pubkey]) -> Unsigned:
        """A creation of token accounts, dated now."""
        return build_token_accounts(
            self.address,
            owners,
            mint=self.market.mint,
            blockhash=(await self.rpc.latest_blockhash()).hash,
            limits=Limits(compute_units=400_000),
            version=self.version,
        )

    async def land(self, transaction: Unsigned) -> SignatureStatus:
        """Sign and send; what became of it once it is final."""
        signature = await self.signer.sign(transaction.message)
        await self.rpc.broadcast(transaction.signed(signature))
        self.market.chain.finalize()
        (status,) = await self.rpc.statuses([str(signature)])
        assert status is not None, "it did not land"
        return status
