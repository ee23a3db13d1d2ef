"""A key in a KMS or vault, by way of `solana-keychain`.

Only its `TransactionSigner`s: they sign the bytes as they are and leave sending to us. A provider that sends by itself,
or rewrites the message first, makes a transaction whose signature nobody has written down when it goes out.
"""

import asyncio
import importlib
import inspect
from dataclasses import fields, is_dataclass
from typing import Final

import msgspec
from solana_keychain import (
    SUPPORTED_BACKENDS,
    SignerError,
    SolanaSigner,
    TransactionSigner,
    create_keychain_signer,
)
from solders.message import from_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from raymart_billing.solana.errors import SignerMisconfigured
from raymart_core.errors import Unavailable

SIGN_TIMEOUT_S: Final = 20.0
OPEN_TIMEOUT_S: Final = 30.0
OBJECTS: Final = frozenset(
    {"http_client", "client", "pending_transaction_id", "request_signer", "authorization_context"}
)
"""What the backends' configurations take besides values."""


class KeychainSigner:
    """Signs with a key that stays with its keeper. Connects at the first signature."""

    def __init__(self, *, config_json: str, address: Pubkey) -> None:
        self._backend, self._config = _read_config(config_json)
        self._address = address
        self._opening = asyncio.Lock()
        self._signer: TransactionSigner | None = None

    @property
    def address(self) -> Pubkey:
        """The key that it must be; its keeper is asked at the first signature."""
        return self._address

    async def sign(self, message: bytes) -> Signature:
        """The keeper's signature of `message`. Raises: SignerMisconfigured, Unavailable."""
        signer = await self._open()
        # With one empty place, as its contract asks: the keeper's signature is put there.
        transaction = VersionedTransaction.populate(from_bytes_versioned(message), [Signature.default()])
        try:
            async with asyncio.timeout(SIGN_TIMEOUT_S):
                return (await signer.sign_transaction(transaction)).signature
        except (SignerError, TimeoutError) as error:
            raise _away(self._backend, error) from error

    async def aclose(self) -> None:
        """Drop the signer; its HTTP clients live as long as a call."""
        self._signer = None

    async def _open(self) -> TransactionSigner:
        async with self._opening:
            if self._signer is None:
                self._signer = accepted(await self._create(), address=self._address, backend=self._backend)
            return self._signer

    async def _create(self) -> SolanaSigner:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                return await create_keychain_signer(self._backend, self._config)
        except ImportError as error:
            raise SignerMisconfigured(
                f"the backend {self._backend!r} of RAYMART_TREASURY_KEYCHAIN needs a package more; install"
                f" `solana-keychain[{self._backend}]`"
            ) from error
        except (SignerError, TimeoutError) as error:
            raise _away(self._backend, error) from error
        except (TypeError, ValueError, AttributeError) as error:
            # Not chained: the cause may quote a value.
            raise SignerMisconfigured(
                f"RAYMART_TREASURY_KEYCHAIN has a value that {self._backend!r} cannot use ({type(error).__name__})"
            ) from None


def accepted(signer: SolanaSigner, *, address: Pubkey, backend: str) -> TransactionSigner:
    """`signer`, if it signs what it is given and is of `address`. Raises: SignerMisconfigured."""
    if not isinstance(signer, TransactionSigner):
        raise SignerMisconfigured(
            f"the backend {backend!r} of RAYMART_TREASURY_KEYCHAIN sends or rewrites transactions itself, so that their"
            " signatures are not known beforehand; use a KMS or vault that only signs"
        )
    if signer.pubkey != address:
        raise SignerMisconfigured(
            f"the key of RAYMART_TREASURY_KEYCHAIN is {signer.pubkey} and RAYMART_TREASURY_ADDRESS is {address};"
            " correct one of them"
        )
    return signer


def _read_config(config_json: str) -> tuple[str, object]:
    """The backend's name and its own configuration. Errors name fields, never values."""
    try:
        given = msgspec.json.decode(config_json, type=dict[str, object])
    except ValueError:
        raise SignerMisconfigured("RAYMART_TREASURY_KEYCHAIN is no JSON object") from None
    backend = given.pop("backend", None)
    if backend not in SUPPORTED_BACKENDS or backend == "memory":
        known = ", ".join(name for name in SUPPORTED_BACKENDS if name != "memory")
        raise SignerMisconfigured(f"RAYMART_TREASURY_KEYCHAIN names no backend; one of {known}")
    assert isinstance(backend, str)
    config_type = _config_type(backend)
    names = {field.name for field in fields(config_type)} - OBJECTS
    unknown = sorted(set(given) - names)
    if unknown:
        raise SignerMisconfigured(
            f"RAYMART_TREASURY_KEYCHAIN has {', '.join(unknown)}, which {backend!r} does not know; it knows"
            f" {', '.join(sorted(names))}"
        )
    try:
        return backend, config_type(**given)
    except TypeError:
        missing = ", ".join(sorted(names - set(given)))
        raise SignerMisconfigured(
            f"RAYMART_TREASURY_KEYCHAIN lacks some of {missing} for {backend!r}"
        ) from None


def _config_type(backend: str) -> type:
    try:
        module = importlib.import_module(f"solana_keychain.{backend.replace('-', '_')}")
    except ImportError as error:
        raise SignerMisconfigured(
            f"the backend {backend!r} of RAYMART_TREASURY_KEYCHAIN needs a package more; install"
            f" `solana-keychain[{backend}]`"
        ) from error
    found = [
        kind for name, kind in inspect.getmembers(module, inspect.isclass) if name.endswith("SignerConfig")
    ]
    (config_type,) = found
    assert is_dataclass(config_type), f"{config_type} is no dataclass"
    return config_type


def _away(backend: str, error: Exception) -> Unavailable:
    # The keychain's own text is fixed for each code; its details may quote answers of the keeper and stay inside.
    return Unavailable(
        f"the keeper of the treasury's key ({backend}) did not sign: {str(error) or type(error).__name__}; try again"
    )
