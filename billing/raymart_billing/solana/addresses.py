"""Addresses of Solana: reading them, a wallet's token account, what is a wallet at all, and links for people."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from solders.pubkey import Pubkey
from spl.token.constants import ASSOCIATED_TOKEN_PROGRAM_ID, TOKEN_2022_PROGRAM_ID, TOKEN_PROGRAM_ID

from raymart_billing.solana.answers import ChainAccount
from raymart_core.errors import InvalidRequest

SYSTEM_PROGRAM_ID: Final = Pubkey.default()
ADDRESS_CHARACTERS_MAX = 44
EXPLORER = "https://explorer.solana.com"
TOKEN_PROGRAMS = frozenset({str(TOKEN_PROGRAM_ID), str(TOKEN_2022_PROGRAM_ID)})


def parse_address(text: str, *, param: str = "address") -> Pubkey:
    """The address in `text`. Raises: InvalidRequest naming `param`."""
    try:
        if len(text) > ADDRESS_CHARACTERS_MAX:
            raise ValueError(text)
        return Pubkey.from_string(text)
    except ValueError:
        raise InvalidRequest(
            f"{text[: ADDRESS_CHARACTERS_MAX + 1]!r} is no Solana address; copy it from the wallet, 32 to 44 characters",
            param=param,
        ) from None


def token_account(owner: Pubkey, mint: Pubkey) -> Pubkey:
    """The associated token account of wallet `owner` for `mint`. Source: SPL Associated Token Account program."""
    address, _ = Pubkey.find_program_address(
        [bytes(owner), bytes(TOKEN_PROGRAM_ID), bytes(mint)], ASSOCIATED_TOKEN_PROGRAM_ID
    )
    return address


def why_no_wallet(address: Pubkey, account: ChainAccount | None) -> str | None:
    """Why `address` cannot be paid as a wallet, for its owner to read; None when it can.

    `account` is what the chain has there, None when nothing yet: a new wallet. A program accepts a token account in
    place of a wallet without complaint, and the money would then lie where nobody can sign for it.
    """
    if account is not None and account.owner in TOKEN_PROGRAMS:
        return "it is a token account or a mint, not a wallet; give the address of the wallet that owns it"
    if not address.is_on_curve():
        return (
            "it belongs to a program (it is off the curve): nobody holds a key that could sign for it. Give the"
            " address of a wallet"
        )
    if account is not None and account.is_executable:
        return "it is a program, not a wallet"
    if account is not None and account.owner != str(SYSTEM_PROGRAM_ID):
        return (
            f"it is owned by the program {account.owner}, so it is no plain wallet; give the address of one"
        )
    return None


def is_wallet(address: Pubkey, account: ChainAccount | None) -> bool:
    """Whether somebody can hold a key of `address`, so that tokens sent to it can be moved (see `why_no_wallet`)."""
    return why_no_wallet(address, account) is None


def explorer_url(signature: str, chain_id: str, *, rpc_url: str | None = None) -> str:
    """Where people look at a transaction of `chain_id`, such as `solana:devnet`; `rpc_url` for a chain of one's own."""
    return f"{EXPLORER}/tx/{signature}{_cluster(chain_id, rpc_url)}"


def explorer_address_url(address: str, chain_id: str, *, rpc_url: str | None = None) -> str:
    """Where people look at an account."""
    return f"{EXPLORER}/address/{address}{_cluster(chain_id, rpc_url)}"


def addresses(texts: Sequence[str]) -> tuple[Pubkey, ...]:
    """Addresses that we wrote down ourselves."""
    return tuple(Pubkey.from_string(text) for text in texts)


def _cluster(chain_id: str, rpc_url: str | None) -> str:
    cluster = chain_id.removeprefix("solana:")
    if cluster == "mainnet":
        return ""
    if cluster == "localnet":
        return "?cluster=custom" + ("" if rpc_url is None else f"&customUrl={quote(rpc_url, safe='')}")
    return f"?cluster={cluster}"
