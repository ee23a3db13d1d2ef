"""The USDC rail as a process has it: whom customers pay, in what, and how much; from the settings."""

from dataclasses import dataclass
from datetime import timedelta

from solders.pubkey import Pubkey

from raymart_billing.solana.addresses import explorer_url, token_account
from raymart_core.errors import Unavailable
from raymart_core.money import Asset, Money
from raymart_marketplace.settings import ControlSettings

LABEL = "Raymart"
"""Who is paid, as wallets show it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsdcRail:
    """What asking for a top-up and showing a deposit need. No connection and no key: the worker has those."""

    treasury: Pubkey
    mint: Pubkey
    chain_id: str
    rpc_url: str | None
    """For links to a chain of one's own; None on those that everybody shares."""
    amount_min: Money
    amount_max: Money
    open_for: timedelta

    @property
    def account(self) -> str:
        """The treasury's token account, where deposits arrive."""
        return str(token_account(self.treasury, self.mint))

    def link(self, signature: str) -> str:
        """Where people look at a transaction."""
        return explorer_url(signature, self.chain_id, rpc_url=self.rpc_url)


def open_usdc_rail(settings: ControlSettings) -> UsdcRail | None:
    """The rail of `settings`; None where no chain is configured."""
    if not settings.solana_rpc_urls or settings.treasury_address is None:
        return None
    assert settings.usdc_mint_address is not None, "the settings see to it"
    # Only our own chain's address is shown: others may hold a provider's key.
    is_own = settings.solana_chain_id == "solana:localnet"
    return UsdcRail(
        treasury=Pubkey.from_string(settings.treasury_address),
        mint=Pubkey.from_string(settings.usdc_mint_address),
        chain_id=settings.solana_chain_id,
        rpc_url=settings.solana_rpc_urls[0].get_secret_value() if is_own else None,
        amount_min=Money.parse(str(settings.usdc_top_up_min), Asset.USDC),
        amount_max=Money.parse(str(settings.usdc_top_up_max), Asset.USDC),
        open_for=timedelta(hours=settings.usdc_top_up_hours),
    )


def required(rail: UsdcRail | None) -> UsdcRail:
    """`rail`. Raises: Unavailable when top-ups in USDC are not configured."""
    if rail is None:
        raise Unavailable("top-ups in USDC are not configured here; the operator sets SOLANA_RPC_URL")
    return rail
