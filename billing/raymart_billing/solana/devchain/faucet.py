"""Where SOL and tokens of the development chain come from: an account with plenty, which signs real transactions."""

import hashlib
import os
from collections.abc import Sequence
from typing import Final

from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountParams, TransferParams, create_account, transfer
from solders.transaction import VersionedTransaction
from spl.memo.constants import MEMO_PROGRAM_ID
from spl.token import instructions as token
from spl.token import models
from spl.token.constants import MINT_LEN, TOKEN_PROGRAM_ID

from raymart_billing.solana.devchain.chain import Chain
from raymart_billing.solana.devchain.history import Landed
from raymart_core.errors import RaymartError

USDC_DECIMALS: Final = 6


class FaucetFailed(RaymartError):
    """What the faucet was asked for cannot be done on the chain."""


class Faucet:
    """Gives what tests and demos need. It is the mint and freeze authority of the mints that it creates.

    Everything lands at once, in the present slot, through the same programs as all else. Raises: FaucetFailed.
    """

    def __init__(self, chain: Chain, keypair: Keypair) -> None:
        self._chain = chain
        self._keypair = keypair

    @property
    def address(self) -> Pubkey:
        """The faucet's account."""
        return self._keypair.pubkey()

    def airdrop(self, address: Pubkey, *, lamports: int) -> Landed:
        """Give SOL."""
        return self._land(
            [transfer(TransferParams(from_pubkey=self.address, to_pubkey=address, lamports=lamports))]
        )

    def create_mint(self, name: str = "usdc", *, decimals: int = USDC_DECIMALS) -> Pubkey:
        """The mint called `name`, made when it is not there yet. The same chain gives it the same address."""
        seed = hashlib.sha256(bytes(self._keypair.secret()) + b"mint " + name.encode()).digest()
        mint = Keypair.from_seed(seed)
        if self._chain.machine.account(mint.pubkey()) is None:
            rent = self._chain.machine.rent_exempt(MINT_LEN)
            account = CreateAccountParams(
                from_pubkey=self.address,
                to_pubkey=mint.pubkey(),
                lamports=rent,
                space=MINT_LEN,
                owner=TOKEN_PROGRAM_ID,
            )
            mint_of_faucet = models.InitializeMint2Params(
                decimals=decimals,
                program_id=TOKEN_PROGRAM_ID,
                mint=mint.pubkey(),
                mint_authority=self.address,
                freeze_authority=self.address,
            )
            self._land([create_account(account), token.initialize_mint2(mint_of_faucet)], mint)
        return mint.pubkey()

    def open_token_account(self, owner: Pubkey, *, mint: Pubkey) -> Pubkey:
        """The associated token account of `owner`, made when it is not there yet; the faucet pays its rent."""
        self._land([self._opening(owner, mint)])
        return token.get_associated_token_address(owner, mint, TOKEN_PROGRAM_ID)

    def give_tokens(self, owner: Pubkey, *, mint: Pubkey, amount: int) -> Landed:
        """Mint `amount` base units into the associated token account of `owner`."""
        account = self._chain.machine.account(mint)
        if account is None:
            raise FaucetFailed(f"{mint} is no mint of this chain; make one with create_mint")
        minting = models.MintToCheckedParams(
            program_id=TOKEN_PROGRAM_ID,
            mint=mint,
            dest=token.get_associated_token_address(owner, mint, TOKEN_PROGRAM_ID),
            mint_authority=self.address,
            amount=amount,
            decimals=bytes(account.data)[44],
            signers=[],
        )
        return self._land([self._opening(owner, mint), token.mint_to_checked(minting)])

    def freeze(self, token_account: Pubkey, *, mint: Pubkey) -> Landed:
        """Freeze a token account, as an issuer may."""
        asked = models.FreezeAccountParams(
            program_id=TOKEN_PROGRAM_ID,
            account=token_account,
            mint=mint,
            authority=self.address,
            multi_signers=[],
        )
        return self._land([token.freeze_account(asked)])

    def thaw(self, token_account: Pubkey, *, mint: Pubkey) -> Landed:
        """End a freeze."""
        asked = models.ThawAccountParams(
            program_id=TOKEN_PROGRAM_ID,
            account=token_account,
            mint=mint,
            authority=self.address,
            multi_signers=[],
        )
        return self._land([token.thaw_account(asked)])

    def _opening(self, owner: Pubkey, mint: Pubkey) -> Instruction:
        return token.create_idempotent_associated_token_account(self.address, owner, mint, TOKEN_PROGRAM_ID)

    def _land(self, instructions: Sequence[Instruction], *more_signers: Keypair) -> Landed:
        # Two equal gifts in one block would be one transaction without it.
        salt = Instruction(MEMO_PROGRAM_ID, os.urandom(8).hex().encode(), [])
        slot = self._chain.slot("processed")
        message = MessageV0.try_compile(self.address, [*instructions, salt], [], self._chain.blockhash(slot))
        raw = bytes(VersionedTransaction(message, [self._keypair, *more_signers]))
        landed = self._chain.land(raw, slot=slot)
        if landed is None or landed.execution.error is not None:
            why = "no block takes it" if landed is None else str(landed.execution.error)
            raise FaucetFailed(f"the faucet's transaction failed: {why}")
        return landed
