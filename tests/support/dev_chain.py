"""A development chain in the test's own process, with a mint, a treasury and wallets on it."""

import base64
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0, MessageV1, TransactionConfig
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from spl.token import instructions as token
from spl.token import models
from spl.token.constants import TOKEN_PROGRAM_ID

from raymart_billing.solana.devchain import DevChain, Node

USDC = 1_000_000
"""Base units of one dollar."""
SOL = 1_000_000_000
"""Lamports of one SOL."""

_ids = itertools.count(1)


class RpcRefusal(Exception):
    """The node answered with an error."""

    def __init__(self, error: dict[str, object]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code = error["code"]
        self.message = error["message"]
        self.data = error.get("data")


async def ask(node: DevChain | Node, method: str, *params: object):
    """The `result` of a request. Raises: RpcRefusal."""
    request = {"jsonrpc": "2.0", "id": next(_ids), "method": method, "params": list(params)}
    response = await node.handle(request)
    assert response["id"] == request["id"]
    if "error" in response:
        raise RpcRefusal(response["error"])
    return response["result"]


@dataclass(kw_only=True)
class Market:
    """A chain with a mint of 6 decimals and a funded treasury; all of it final.

    The treasury has its token account. `wallet()` makes people's wallets, with or without a token account.
    """

    chain: DevChain = field(default_factory=DevChain)
    treasury: Keypair = field(default_factory=Keypair)
    mint: Pubkey = field(init=False)
    treasury_tokens: Pubkey = field(init=False)

    @classmethod
    def funded(
        cls, chain: DevChain | None = None, *, lamports: int = 100 * SOL, micro_usdc: int = 1_000_000 * USDC
    ) -> "Market":
        """A market whose treasury has this much, on `chain` or one of its own."""
        market = cls(chain=chain or DevChain())
        faucet = market.chain.faucet
        market.mint = faucet.create_mint()
        if lamports:
            faucet.airdrop(market.treasury.pubkey(), lamports=lamports)
        market.treasury_tokens = faucet.open_token_account(market.treasury.pubkey(), mint=market.mint)
        if micro_usdc:
            faucet.give_tokens(market.treasury.pubkey(), mint=market.mint, amount=micro_usdc)
        market.chain.finalize()
        return market

    def wallet(self, *, lamports: int = SOL, micro_usdc: int = 0, has_token_account: bool = True) -> Keypair:
        """A new wallet; what it is given is final."""
        return self.wallets(1, lamports=lamports, micro_usdc=micro_usdc, has_token_account=has_token_account)[
            0
        ]

    def wallets(
        self, count: int, *, lamports: int = SOL, micro_usdc: int = 0, has_token_account: bool = True
    ) -> Sequence[Keypair]:
        """`count` new wallets; what they are given is final."""
        keypairs = [Keypair() for _ in range(count)]
        for keypair in keypairs:
            if lamports:
                self.chain.faucet.airdrop(keypair.pubkey(), lamports=lamports)
            if has_token_account:
                self.chain.faucet.open_token_account(keypair.pubkey(), mint=self.mint)
            if micro_usdc:
                self.chain.faucet.give_tokens(keypair.pubkey(), mint=self.mint, amount=micro_usdc)
        self.chain.finalize()
        return keypairs

    def tokens_of(self, wallet: Pubkey) -> Pubkey:
        """The associated token account of `wallet`, whether it is there or not."""
        return token.get_associated_token_address(wallet, self.mint, TOKEN_PROGRAM_ID)

    def wallet_tokens(self, wallet: Keypair) -> Pubkey:
        """The same of a wallet whose key we have."""
        return self.tokens_of(wallet.pubkey())

    def balance(self, wallet: Pubkey) -> int:
        """The newest balance of `wallet` in micro-USDC; 0 without a token account."""
        account = self.chain.chain.machine.account(self.tokens_of(wallet))
        return int.from_bytes(bytes(account.data)[64:72], "little") if account else 0

    def lamports(self, address: Pubkey) -> int:
        """The newest lamports of an account."""
        account = self.chain.chain.machine.account(address)
        return account.lamports if account else 0

    def blockhash(self) -> Hash:
        """The newest confirmed blockhash."""
        return self.chain.chain.blockhash(self.chain.chain.slot("confirmed"))

    def transfer(self, payer: Keypair, to: Pubkey, *, micro_usdc: int) -> Instruction:
        """Tokens of `payer` to the token account of the wallet `to`."""
        return token.transfer_checked(
            models.TransferCheckedParams(
                program_id=TOKEN_PROGRAM_ID,
                source=self.tokens_of(payer.pubkey()),
                mint=self.mint,
                dest=self.tokens_of(to),
                owner=payer.pubkey(),
                amount=micro_usdc,
                decimals=6,
                signers=[],
            )
        )

    def v0(self, payer: Keypair, *instructions: Instruction, blockhash: Hash | None = None) -> bytes:
        """A signed v0 transaction."""
        message = MessageV0.try_compile(payer.pubkey(), instructions, [], blockhash or self.blockhash())
        return bytes(VersionedTransaction(message, [payer]))

    def v1(
        self,
        payer: Keypair,
        *instructions: Instruction,
        blockhash: Hash | None = None,
        units: int | None = 200_000,
        priority_fee: int | None = None,
        loaded_bytes: int | None = 8 * 1024 * 1024,
    ) -> bytes:
        """A signed v1 transaction. What its header does not set is zero: it may use, or load, nothing."""
        config = TransactionConfig(
            compute_unit_limit=units, priority_fee=priority_fee, loaded_accounts_data_size_limit=loaded_bytes
        )
        message = MessageV1.try_compile(payer.pubkey(), instructions, blockhash or self.blockhash(), config)
        return bytes(VersionedTransaction(message, [payer]))

    async def pay(self, payer: Keypair, to: Pubkey, *, micro_usdc: int, node: Node | None = None) -> str:
        """Send a transfer through a node, as a wallet would; returns its signature. It is processed, not final."""
        return await self.send(self.v0(payer, self.transfer(payer, to, micro_usdc=micro_usdc)), node=node)

    async def send(self, raw: bytes, *, node: Node | None = None, skips_preflight: bool = True) -> str:
        """`sendTransaction`. Raises: RpcRefusal."""
        options = {"encoding": "base64", "skipPreflight": skips_preflight, "preflightCommitment": "confirmed"}
        return await ask(node or self.chain, "sendTransaction", base64.b64encode(raw).decode(), options)
