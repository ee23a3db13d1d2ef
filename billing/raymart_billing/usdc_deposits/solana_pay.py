"""Solana Pay transfer requests: a payment as a URL, which wallets read out of a QR code.

    solana:<recipient>?amount=<user units>&spl-token=<mint>&reference=<key>&label=...&message=...&memo=...

Built and read strictly: `parse(request.url()) == request`, and what is not exactly of that form is refused. The recipient
is a wallet; the wallet that pays derives the token account.

Source: solana.com/docs/tools/solana-pay/specification/version1, "Transfer Request".
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from solders.pubkey import Pubkey

from raymart_core.errors import InvalidRequest
from raymart_core.money import AMOUNT_MAX, DECIMALS, Asset, Money

URL_CHARACTERS_MAX = 1_000
"""A QR code of this length can still be read from a screen."""
TEXT_BYTES_MAX = 200
"""Of each of label, message and memo, in UTF-8."""
REFERENCES_MAX = 8
_AMOUNT = re.compile(r"(?:0|[1-9][0-9]{0,12})(?:\.[0-9]{1,6})?")
"""User units: no sign, no exponent, a zero before the point, at most as many places as USDC has."""
_VALUE = re.compile(r"(?:[A-Za-z0-9._~!*'()-]|%[0-9A-Fa-f]{2})+")
"""As `encodeURIComponent` writes it. A bare "+" would be a blank to some wallets and a plus to others."""
_ONCE = ("amount", "spl-token", "label", "message", "memo")
_SAFE = "!*'()"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRequest:
    """What a wallet is asked to do: pay `amount` of `mint` to `recipient`, and name `references` beside it."""

    recipient: Pubkey
    """A wallet, not a token account."""
    mint: Pubkey
    amount: Money | None = None
    """In USDC; None lets the payer choose."""
    references: tuple[Pubkey, ...] = ()
    """Read-only accounts of the transfer, by which it is found again. At most 8."""
    label: str | None = None
    """Who is paid."""
    message: str | None = None
    """What for."""
    memo: str | None = None
    """Written to the chain, for everybody to read."""

    def __post_init__(self) -> None:
        assert self.amount is None or self.amount.asset is Asset.USDC, f"{self.amount} is not in USDC"
        if self.amount is not None and self.amount.amount < 0:
            raise InvalidRequest(f"{self.amount} cannot be paid; ask for 0 or more", param="amount")
        if len(self.references) > REFERENCES_MAX:
            raise InvalidRequest(
                f"{len(self.references)} references; a payment names at most {REFERENCES_MAX}"
            )
        for name in ("label", "message", "memo"):
            _check_text(name, getattr(self, name))

    def url(self) -> str:
        """The request as a URL, its parameters in the specification's order."""
        given = [("amount", None if self.amount is None else user_units(self.amount))]
        given += [("spl-token", str(self.mint))]
        given += [("reference", str(reference)) for reference in self.references]
        given += [("label", self.label), ("message", self.message), ("memo", self.memo)]
        query = "&".join(f"{name}={quote(value, safe=_SAFE)}" for name, value in given if value is not None)
        return f"solana:{self.recipient}?{query}"


def parse(url: str) -> PaymentRequest:
    """Read a transfer request in USDC.

    Refuses what a wallet must refuse: another scheme, a link to a transaction request, an amount of other form or with more
    than six places, a recipient that is no wallet, a parameter that is unknown, empty, or there twice.
    Raises: InvalidRequest.
    """
    if len(url) > URL_CHARACTERS_MAX:
        raise _malformed(f"it has {len(url)} characters, more than {URL_CHARACTERS_MAX}")
    scheme, _, rest = url.partition(":")
    path, separator, query = rest.partition("?")
    if scheme != "solana" or not separator:
        raise _malformed("it does not begin with solana:<recipient>?")
    single, references = _parameters(query)
    recipient = _key("recipient", path)
    if not recipient.is_on_curve():
        raise _malformed(f"the recipient {recipient} is no wallet")
    if "spl-token" not in single:
        raise _malformed("it names no spl-token: it asks for SOL, and only USDC is paid")
    return PaymentRequest(
        recipient=recipient,
        mint=_key("spl-token", single["spl-token"]),
        amount=_amount(single["amount"]) if "amount" in single else None,
        references=tuple(references),
        label=single.get("label"),
        message=single.get("message"),
        memo=single.get("memo"),
    )


def user_units(amount: Money) -> str:
    """`amount` as the specification writes it: "25.5", "0.000001", without an exponent or zeros at the end."""
    whole, rest = divmod(amount.amount, 10 ** DECIMALS[amount.asset])
    places = f"{rest:0{DECIMALS[amount.asset]}}".rstrip("0")
    return f"{whole}.{places}" if places else str(whole)


def _parameters(query: str) -> tuple[dict[str, str], list[Pubkey]]:
    single: dict[str, str] = {}
    references: list[Pubkey] = []
    for part in query.split("&"):
        name, _, raw = part.partition("=")
        if name == "reference":
            references.append(_key(name, _decoded(name, raw)))
        elif name not in _ONCE:
            raise _malformed(f"it has a parameter {name[:40]!r}; known are {', '.join(_ONCE)} and reference")
        elif name in single:
            raise _malformed(f"{name} is there twice")
        else:
            single[name] = _decoded(name, raw)
    return single, references


def _decoded(name: str, raw: str) -> str:
    if not _VALUE.fullmatch(raw):
        raise _malformed(f"{name} is empty or not percent-encoded")
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise _malformed(f"{name} is not UTF-8") from None


def _amount(text: str) -> Money:
    if not _AMOUNT.fullmatch(text):
        raise _malformed(f"{text[:40]!r} is no amount of USDC such as 25.5, with at most six places")
    amount = Money.parse(text, Asset.USDC)
    assert amount.amount <= AMOUNT_MAX, "thirteen digits of USDC fit"
    return amount


def _key(name: str, text: str) -> Pubkey:
    try:
        key = Pubkey.from_string(text)
    except ValueError:
        raise _malformed(f"{name} {text[:60]!r} is no public key in base58") from None
    if str(key) != text:
        raise _malformed(f"{name} {text[:60]!r} is not written as its key is")
    return key


def _check_text(name: str, text: str | None) -> None:
    if text is not None and not 1 <= len(text.encode()) <= TEXT_BYTES_MAX:
        raise InvalidRequest(
            f"a {name} of {len(text.encode())} bytes; give 1 to {TEXT_BYTES_MAX}", param=name
        )


def _malformed(reason: str) -> InvalidRequest:
    return InvalidRequest(f"this is no Solana Pay transfer request in USDC: {reason}", param="url")
