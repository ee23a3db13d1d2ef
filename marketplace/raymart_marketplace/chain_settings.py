"""Settings of the chain: which Solana, which dollars, whose treasury, and how much may leave it."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict
from solders.pubkey import Pubkey

from raymart_core.settings import ProcessSettings

USDC_MINTS: Mapping[str, str] = MappingProxyType(
    {
        "solana:mainnet": "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
        "solana:devnet": "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU",
    }
)
"""Circle's own. Source: Circle's list of USDC contract addresses."""
MARKER_KEY_BYTES_MIN = 32


def _number(value: object) -> object:
    """A number as the environment has it: `Literal` compares it with text otherwise."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _is_http_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class ChainSettings(ProcessSettings):
    """What a process knows of Solana. Without `SOLANA_RPC_URL` there are no payouts and no top-ups in USDC."""

    # A wrong value stops the process with a message in its log, and may be a key.
    model_config = SettingsConfigDict(hide_input_in_errors=True)

    solana_chain_id: str = Field(
        default="solana:mainnet", pattern=r"^solana:(mainnet|devnet|testnet|localnet)$"
    )
    """The chain that wallets are asked to name when they prove themselves, and that the endpoints must be of."""
    solana_rpc_urls: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), max_length=2, validation_alias="SOLANA_RPC_URL"
    )
    """One or two JSON-RPC endpoints, parted by commas; an address may hold a provider's key.

    With two, nothing is final before both say so, and what one hides the other shows. Take them from two providers.
    """
    solana_rpc_timeout_s: float = Field(default=10.0, gt=0, le=60)
    usdc_mint: str | None = None
    """Circle's mint of the chain unless set; there is none on testnet and localnet."""
    treasury_address: str | None = None
    """The wallet that pays and is paid; the key must be its."""
    treasury_keypair: Path | None = None
    """File of the treasury's keypair as `solana-keygen` writes it, mode 0600. Only workers need it."""
    treasury_keychain: SecretStr | None = None
    """Instead of a file: a key in a KMS or vault, as JSON: {"backend": "aws-kms", "key_id": ..., ...}.

    The other names are those of the backend's configuration in `solana-keychain`.
    """
    payout_marker_key: SecretStr | None = None
    """Makes the addresses of payouts' markers unguessable; at least 32 bytes, never replaced, the same in every worker."""
    payout_transaction_version: Annotated[Literal[0, 1], BeforeValidator(_number)] = 1
    """1 pays 57 providers in a transaction, 0 pays 14 where an endpoint or signer does not know version 1."""
    payout_transaction_usdc_max: int = Field(default=25_000, ge=1, le=1_000_000_000)
    """Whole USDC that one transaction may move; the signer refuses more, whoever approved it."""
    payout_day_usdc_max: int = Field(default=100_000, ge=1, le=1_000_000_000)
    """The same for all transactions of the last 24 hours."""
    priority_fee_lamports_max: int = Field(default=200_000, ge=0, le=100_000_000)
    """Most that one attempt may pay to be preferred; 200,000 lamports are 0.0002 SOL."""

    usdc_top_up_min: int = Field(default=1, ge=1)
    usdc_top_up_max: int = Field(default=100_000, le=1_000_000_000)
    """Whole USDC that a customer may ask to pay at once. What arrives is credited whatever it is."""
    usdc_top_up_hours: int = Field(default=24, ge=1, le=720)
    """How long a request is shown as open; what is paid to it later is credited all the same."""
    usdc_scan_s: float = Field(default=2.0, ge=2, le=600)
    """How often a worker looks for new payments to the treasury."""

    @field_validator("solana_rpc_urls", mode="before")
    @classmethod
    def _part_urls(cls, value: object) -> object:
        return (
            [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        )

    @field_validator("solana_rpc_urls")
    @classmethod
    def _check_urls(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for number, url in enumerate(value, start=1):
            # Not shown: it may hold a key.
            if not _is_http_address(url.get_secret_value()):
                raise ValueError(
                    f"address {number} of SOLANA_RPC_URL is no https:// or http:// address with a host"
                )
        if len({url.get_secret_value() for url in value}) < len(value):
            raise ValueError(
                "SOLANA_RPC_URL names one address twice; a second opinion needs a second endpoint"
            )
        return value

    @field_validator("usdc_mint", "treasury_address")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                Pubkey.from_string(value)
            except ValueError:
                raise ValueError(f"{value!r} is no Solana address (base58 of 32 bytes)") from None
        return value

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if not self.solana_rpc_urls:
            return self
        if self.treasury_address is None:
            raise ValueError(
                "SOLANA_RPC_URL is set without RAYMART_TREASURY_ADDRESS, the wallet that pays and is paid"
            )
        if self.usdc_mint_address is None:
            raise ValueError(
                f"SOLANA_RPC_URL is set without RAYMART_USDC_MINT, and {self.solana_chain_id} has no USDC of Circle's"
            )
        return self

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        key = self.payout_marker_key
        if key is not None and len(key.get_secret_value().encode()) < MARKER_KEY_BYTES_MIN:
            raise ValueError(
                "RAYMART_PAYOUT_MARKER_KEY has fewer than 32 bytes; make one with `openssl rand -hex 32`"
            )
        if self.treasury_keypair is not None and self.treasury_keychain is not None:
            raise ValueError(
                "RAYMART_TREASURY_KEYPAIR and RAYMART_TREASURY_KEYCHAIN are both set; keep one: a treasury has one key"
            )
        if self.payout_transaction_usdc_max > self.payout_day_usdc_max:
            raise ValueError(
                f"RAYMART_PAYOUT_TRANSACTION_USDC_MAX={self.payout_transaction_usdc_max} exceeds"
                f" RAYMART_PAYOUT_DAY_USDC_MAX={self.payout_day_usdc_max}"
            )
        if self.usdc_top_up_min > self.usdc_top_up_max:
            raise ValueError(
                f"RAYMART_USDC_TOP_UP_MIN={self.usdc_top_up_min} exceeds RAYMART_USDC_TOP_UP_MAX={self.usdc_top_up_max}"
            )
        return self

    @property
    def usdc_mint_address(self) -> str | None:
        """The mint that counts as USDC here; None on a chain of one's own without a setting."""
        return self.usdc_mint or USDC_MINTS.get(self.solana_chain_id)
