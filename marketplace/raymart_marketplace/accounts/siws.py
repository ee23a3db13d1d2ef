"""Sign-In With Solana: the text that a wallet signs, and the check of its signature. No I/O.

The text is written whole by us and must come back byte for byte: wallets that make it of its fields (`signIn`) make the
same one of ours, since every field that we use is given.

Source: Phantom's Sign In With Solana specification (its ABNF message format), CAIP-122.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from solders.pubkey import Pubkey
from solders.signature import Signature

from raymart_core.errors import InvalidRequest, NotAuthenticated

VERSION = "1"
MESSAGE_CHARACTERS_MAX = 2_000
ADDRESS_CHARACTERS_MAX = 44
SIGNATURE_CHARACTERS_MAX = 88
"""Base58 of 64 bytes."""

_MESSAGE = re.compile(
    r"(?P<domain>[^\n ]{1,255}) wants you to sign in with your Solana account:\n"
    r"(?P<address>[1-9A-HJ-NP-Za-km-z]{32,44})\n"
    r"\n(?P<statement>[\x20-\x7e]{1,500})\n"
    r"\nURI: (?P<uri>[^\n ]{1,500})"
    r"\nVersion: 1"
    r"\nChain ID: (?P<chain_id>[A-Za-z0-9:-]{1,50})"
    r"\nNonce: (?P<nonce>[A-Za-z0-9]{8,64})"
    r"\nIssued At: (?P<issued_at>[0-9TZ:-]{20})"
    r"\nExpiration Time: (?P<expires_at>[0-9TZ:-]{20})"
    r"\nRequest ID: (?P<request_id>[A-Za-z0-9_]{1,100})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInMessage:
    """What a wallet is asked to sign; times are whole seconds in UTC."""

    domain: str
    """Host, and port unless it is the scheme's own: the wallet warns when another site asks."""
    address: str
    """The wallet's public key in base58."""
    statement: str
    """One line of printable ASCII."""
    uri: str
    chain_id: str
    nonce: str
    issued_at: datetime
    expires_at: datetime
    request_id: str

    def text(self) -> str:
        """The message as the wallet shows and signs it."""
        return (
            f"{self.domain} wants you to sign in with your Solana account:\n{self.address}\n\n{self.statement}\n\n"
            f"URI: {self.uri}\nVersion: {VERSION}\nChain ID: {self.chain_id}\nNonce: {self.nonce}\n"
            f"Issued At: {_shown(self.issued_at)}\nExpiration Time: {_shown(self.expires_at)}\n"
            f"Request ID: {self.request_id}"
        )


def read_message(text: str) -> SignInMessage:
    """The fields of a message. Raises: InvalidRequest for a text that we would not have written."""
    found = _MESSAGE.fullmatch(text) if len(text) <= MESSAGE_CHARACTERS_MAX else None
    if found is None:
        raise InvalidRequest(
            "this is no sign-in message of ours; sign the text that `createWalletChallenge` or"
            " `createWalletLoginChallenge` gave, unchanged",
            param="message",
        )
    fields = found.groupdict()
    try:
        issued_at, expires_at = _read(fields.pop("issued_at")), _read(fields.pop("expires_at"))
    except ValueError:
        raise InvalidRequest("the message has a time that is none", param="message") from None
    return SignInMessage(issued_at=issued_at, expires_at=expires_at, **fields)


def read_address(text: str) -> str:
    """A wallet's address, as it is stored. Raises: InvalidRequest for what is no public key that can sign.

    A program's address lies off the curve: nobody has its private key, and money sent there can be lost.
    """
    try:
        key = Pubkey.from_string(text[: ADDRESS_CHARACTERS_MAX + 1])
    except ValueError:
        raise InvalidRequest(
            f"{text[:60]!r} is no Solana address, 32 to 44 characters in base58", param="address"
        ) from None
    if str(key) != text or not key.is_on_curve():
        raise InvalidRequest(
            f"{text[:60]!r} is the address of a program, not of a wallet that can sign", param="address"
        )
    return text


def check_signature(message: SignInMessage, signature: str) -> bytes:
    """The 64 bytes of the base58 `signature`, once it is the address's own over the message's text.

    Takes about 0.2 ms. Raises: NotAuthenticated, InvalidRequest for a signature that is none.
    """
    try:
        signed = Signature.from_string(signature[: SIGNATURE_CHARACTERS_MAX + 1])
    except ValueError:
        raise InvalidRequest(
            "the signature is not 64 bytes in base58; send what the wallet's `signMessage` gave, encoded so",
            param="signature",
        ) from None
    # Strict verification: keys and points of small order, for which anybody can sign, are refused.
    if not signed.verify(Pubkey.from_string(message.address), message.text().encode()):
        raise NotAuthenticated(
            f"the signature is not that of {message.address} over this message", param="signature"
        )
    return bytes(signed)


def _shown(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
