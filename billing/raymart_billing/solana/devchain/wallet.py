"""A wallet for development: pays a Solana Pay transfer request as a phone's would, with a key it holds itself.

Never for real money: it asks nobody, and refuses the chain whose tokens are worth something.
"""

import asyncio
from pathlib import Path
from typing import Final, Self

from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from spl.memo.constants import MEMO_PROGRAM_ID
from spl.token import instructions as token
from spl.token import models
from spl.token.constants import TOKEN_PROGRAM_ID

from raymart_billing.solana.addresses import token_account
from raymart_billing.solana.answers import Confirmation, SignatureStatus
from raymart_billing.solana.rpc import GENESIS_HASHES, SolanaRpc
from raymart_billing.usdc_deposits.solana_pay import PaymentRequest, parse
from raymart_core.errors import InvalidRequest, Unavailable
from raymart_core.money import Asset, Money

USDC_DECIMALS: Final = 6
LOOK_EVERY_S: Final = 0.2
WAIT_S: Final = 60.0


class DevWallet:
    """Pays from `keypair`, through `rpc`. The key's wallet must hold the tokens, and SOL for the fee."""

    def __init__(self, rpc: SolanaRpc, keypair: Keypair) -> None:
        self._rpc = rpc
        self._keypair = keypair

    @classmethod
    def open(cls, rpc: SolanaRpc, path: Path) -> Self:
        """With the key in a file, as `solana-keygen` writes it. Raises: InvalidRequest."""
        try:
            return cls(rpc, Keypair.from_json(path.read_text()))
        except (OSError, ValueError):
            raise InvalidRequest(f"{path} is no file with a keypair of solana-keygen") from None

    @property
    def address(self) -> Pubkey:
        """The wallet's."""
        return self._keypair.pubkey()

    async def pay(self, url: str, *, amount: Money | None = None) -> str:
        """Send what `url` asks for; returns the signature. `amount` is for a request that leaves it to the payer.

        Raises: InvalidRequest (no transfer request, no amount, or not a development chain), RpcError.
        """
        request = parse(url)
        paid = request.amount or amount
        if paid is None or paid.asset is not Asset.USDC or paid.amount <= 0:
            raise InvalidRequest(
                "the request leaves the amount to the payer; give one in USDC", param="amount"
            )
        genesis = await self._rpc.request("getGenesisHash", [])
        if GENESIS_HASHES.get(str(genesis)) == "solana:mainnet":
            raise InvalidRequest("this wallet is for development; it does not pay on mainnet", param="url")
        blockhash = await self._rpc.latest_blockhash()
        message = MessageV0.try_compile(
            self.address,
            payment_of(request, self.address, micro_usdc=paid.amount),
            [],
            Hash.from_string(blockhash.hash),
        )
        transaction = VersionedTransaction(message, [self._keypair])
        await self._rpc.broadcast(bytes(transaction))
        return str(transaction.signatures[0])

    async def confirmed(self, signature: str, *, wait_s: float = WAIT_S) -> SignatureStatus:
        """How it landed, once the chain's majority has it. Raises: Unavailable when it has not within `wait_s`."""
        try:
            async with asyncio.timeout(wait_s):
                while True:
                    (status,) = await self._rpc.statuses([signature])
                    if status is not None and status.confirmation is not Confirmation.PROCESSED:
                        return status
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            raise Unavailable(f"payment {signature} is not confirmed within {wait_s:g} s") from None


def payment_of(request: PaymentRequest, payer: Pubkey, *, micro_usdc: int) -> list[Instruction]:
    """The instructions that fulfil `request`: its memo, then the transfer as the last, with the references on it.

    Source: Solana Pay's specification, "Transfer Request".
    """
    transfer = token.transfer_checked(
        models.TransferCheckedParams(
            program_id=TOKEN_PROGRAM_ID,
            source=token_account(payer, request.mint),
            mint=request.mint,
            dest=token_account(request.recipient, request.mint),
            owner=payer,
            amount=micro_usdc,
            decimals=USDC_DECIMALS,
            signers=[],
        )
    )
    references = [AccountMeta(key, is_signer=False, is_writable=False) for key in request.references]
    named = Instruction(transfer.program_id, transfer.data, [*transfer.accounts, *references])
    if request.memo is None:
        return [named]
    return [Instruction(MEMO_PROGRAM_ID, request.memo.encode(), []), named]
