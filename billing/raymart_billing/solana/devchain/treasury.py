"""The treasury of a development chain: a key in a file, and money at the first start."""

import json
import os
from pathlib import Path
from typing import Final

from solders.keypair import Keypair
from solders.pubkey import Pubkey

from raymart_billing.solana.devchain.dev_chain import DevChain
from raymart_billing.solana.signing import KeypairFileSigner

TREASURY_LAMPORTS: Final = 1_000 * 10**9
TREASURY_MICRO_USDC: Final = 1_000_000 * 10**6


def open_treasury(chain: DevChain, keypair_file: Path) -> Pubkey:
    """The treasury whose key is in `keypair_file`: made and given money when there is none yet. Its address.

    Raises: SignerMisconfigured, when others may read the file.
    """
    if not keypair_file.exists():
        _write_keypair(keypair_file)
    address = KeypairFileSigner.open(keypair_file).address
    mint = chain.faucet.create_mint()
    if chain.chain.machine.account(address) is None:
        chain.faucet.airdrop(address, lamports=TREASURY_LAMPORTS)
        chain.faucet.give_tokens(address, mint=mint, amount=TREASURY_MICRO_USDC)
    return address


def _write_keypair(path: Path) -> None:
    """As `solana-keygen` writes it, mode 0600 from its first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staged = path.with_name(path.name + ".staged")
    staged.unlink(missing_ok=True)
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(list(bytes(Keypair())), file)
    staged.rename(path)
