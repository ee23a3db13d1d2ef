"""USDC in and out of the API, and links for people."""

from decimal import Decimal

from raymart_billing.solana.addresses import explorer_address_url, explorer_url
from raymart_core.errors import InvalidRequest
from raymart_core.money import Asset
from raymart_core.money import Money as Amount
from raymart_graphql.scalars import Money
from raymart_marketplace.chain_settings import ChainSettings


def usdc(micro_usdc: int) -> Money:
    """A column of micro-USDC as the API shows it."""
    return Money.of(Amount(micro_usdc, Asset.USDC))


def parse_usdc(value: Decimal, field: str) -> Amount:
    """What a client sent. Raises: InvalidRequest naming `field`."""
    try:
        return Amount.parse(str(value), Asset.USDC)
    except ValueError as error:
        raise InvalidRequest(str(error), param=field) from None


def transaction_url(signature: str | None, settings: ChainSettings) -> str | None:
    """Where people look at a transaction."""
    if signature is None:
        return None
    return explorer_url(signature, settings.solana_chain_id, rpc_url=_own_address(settings))


def account_url(address: str | None, settings: ChainSettings) -> str | None:
    """Where people look at an account."""
    if address is None:
        return None
    return explorer_address_url(address, settings.solana_chain_id, rpc_url=_own_address(settings))


def _own_address(settings: ChainSettings) -> str | None:
    """An explorer reaches a chain of one's own by its address; that of a public chain may hold a provider's key."""
    is_own = settings.solana_chain_id == "solana:localnet" and settings.solana_rpc_urls
    return settings.solana_rpc_urls[0].get_secret_value() if is_own else None
