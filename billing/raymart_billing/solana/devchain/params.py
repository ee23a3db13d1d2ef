"""The parameters of a request, read strictly: what is wrong is said in `INVALID_PARAMS`."""

import base64
from collections.abc import Mapping, Sequence

from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import SanitizeError, VersionedTransaction

from raymart_billing.solana.devchain import base58
from raymart_billing.solana.devchain.chain import Commitment
from raymart_billing.solana.devchain.errors import INVALID_PARAMS, RpcError

PACKET_BYTES_MAX = 1_232
"""A legacy or v0 transaction: what one UDP packet of IPv6 carries."""
V1_BYTES_MAX = 4_096
"""A v1 transaction. Source: SIMD-0385."""
_V1_PREFIX = 0x81


class Config:
    """The options at the end of a request's parameters; explicit nulls count as absent."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    def names(self) -> Sequence[str]:
        """The options that are there."""
        return list(self._fields)

    def commitment(self, name: str = "commitment", *, default: Commitment = "finalized") -> Commitment:
        """One of three words."""
        match self._fields.get(name):
            case None:
                return default
            case "processed" | "recent":
                return "processed"
            case "confirmed":
                return "confirmed"
            case "finalized" | "max" | "root":
                return "finalized"
            case other:
                raise invalid(
                    f"unknown variant `{other}`, expected one of `processed`, `confirmed`, `finalized`"
                )

    def number(self, name: str) -> int | None:
        """A whole number that is not negative."""
        value = self._fields.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise invalid(f"{name}: invalid value {value!r}, expected u64")
        return value

    def is_set(self, name: str) -> bool:
        """Whether a switch is on."""
        value = self._fields.get(name)
        if value is not None and not isinstance(value, bool):
            raise invalid(f"{name}: invalid type {value!r}, expected a boolean")
        return bool(value)

    def text(self, name: str) -> str | None:
        """A string."""
        value = self._fields.get(name)
        if value is not None and not isinstance(value, str):
            raise invalid(f"{name}: invalid type {value!r}, expected a string")
        return value

    def texts(self, name: str) -> Sequence[str]:
        """A list of strings; an absent one is empty."""
        value = self._fields.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise invalid(f"{name}: invalid type, expected a list of strings")
        return value

    def section(self, name: str) -> "Config | None":
        """An object within."""
        value = self._fields.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise invalid(f"{name}: invalid type {value!r}, expected an object")
        return Config(value)


class Params:
    """The positional parameters of one request."""

    def __init__(self, values: Sequence[object]) -> None:
        self._values = values

    def _at(self, position: int) -> object:
        return self._values[position] if position < len(self._values) else None

    def has(self, position: int) -> bool:
        """Whether there is one; null counts as absent."""
        return self._at(position) is not None

    def config(self, position: int) -> Config:
        """The options; absent ones are empty. A lone string is the encoding, as nodes still accept it."""
        value = self._at(position)
        if value is None:
            return Config({})
        if isinstance(value, str):
            return Config({"encoding": value})
        if not isinstance(value, dict):
            raise invalid(f"invalid type {value!r} for parameter {position + 1}, expected an object")
        return Config(value)

    def text(self, position: int) -> str:
        """A string."""
        value = self._at(position)
        if not isinstance(value, str):
            raise invalid(f"invalid type {value!r} for parameter {position + 1}, expected a string")
        return value

    def number(self, position: int) -> int:
        """A whole number that is not negative."""
        value = self._at(position)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise invalid(f"invalid type {value!r} for parameter {position + 1}, expected u64")
        return value

    def texts(self, position: int, *, count_max: int) -> Sequence[str]:
        """A list of strings."""
        value = self._at(position)
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise invalid(f"invalid type for parameter {position + 1}, expected a list of strings")
        if len(value) > count_max:
            raise RpcError(INVALID_PARAMS, f"Too many inputs provided; max {count_max}")
        return value

    def address(self, position: int) -> Pubkey:
        """An address."""
        return address_of(self.text(position))

    def signature(self, position: int) -> str:
        """A signature, in its one form."""
        return signature_of(self.text(position))


def invalid(reason: str) -> RpcError:
    """The error for a parameter that cannot be understood."""
    return RpcError(INVALID_PARAMS, f"Invalid params: {reason}.")


def address_of(text: str) -> Pubkey:
    """Raises: RpcError."""
    try:
        return Pubkey.from_string(text)
    except ValueError as error:
        raise RpcError(
            INVALID_PARAMS, "Invalid param: WrongSize" if len(text) < 32 else "Invalid param: Invalid"
        ) from error


def signature_of(text: str) -> str:
    """Raises: RpcError."""
    try:
        return str(Signature.from_string(text))
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, f"Invalid param: {error}") from error


def decoded(text: str, encoding: str | None) -> bytes:
    """Bytes from their text; base58 unless said otherwise, as ever. Raises: RpcError."""
    try:
        if encoding == "base64":
            return base64.b64decode(text, validate=True)
        if encoding in (None, "base58"):
            return base58.decode(text)
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, f"invalid {encoding or 'base58'} encoding: {error}") from error
    raise RpcError(INVALID_PARAMS, f"unsupported encoding: {encoding}. Supported encodings: base58, base64")


def transaction_of(raw: bytes) -> VersionedTransaction:
    """The transaction, when it is one and small enough for the network. Raises: RpcError."""
    limit = V1_BYTES_MAX if raw[:1] == bytes([_V1_PREFIX]) else PACKET_BYTES_MAX
    if len(raw) > limit:
        kind = "solana_transaction::versioned::VersionedTransaction"
        raise RpcError(INVALID_PARAMS, f"decoded {kind} too large: {len(raw)} bytes (max: {limit} bytes)")
    try:
        transaction = VersionedTransaction.from_bytes(raw)
        transaction.sanitize()
    except (ValueError, SanitizeError) as error:
        raise RpcError(INVALID_PARAMS, f"invalid transaction: {error}") from error
    if bytes(transaction) != raw:
        raise RpcError(INVALID_PARAMS, "invalid transaction: bytes are left over at its end")
    return transaction
