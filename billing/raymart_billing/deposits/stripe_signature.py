"""Whether a webhook was signed by Stripe, lately, with one of our secrets.

Source: docs.stripe.com/webhooks/signature: HMAC-SHA256 over "<time>.<raw body>", `t=<seconds>,v1=<hex>[,v1=...]`.
"""

from collections.abc import Sequence

import msgspec
from pydantic import SecretStr

from raymart_billing.deposits.stripe_facts import Event
from raymart_core.clock import Clock
from raymart_core.errors import InvalidRequest

TOLERANCE_S = 300
"""How old, or how far ahead of our clock, a signature may be: what was overheard cannot be played back later."""
HEADER_CHARACTERS_MAX = 2_000


def signed_event(body: bytes, *, header: str | None, secrets: Sequence[SecretStr], clock: Clock) -> Event:
    """The event in `body`, which one of `secrets` signed. Several secrets are what rotating one needs.

    Raises: InvalidRequest, with one sentence for everything about the signature that may be wrong.
    """
    if not _is_signed(body, header=header, secrets=secrets, now_s=clock.now().timestamp()):
        raise InvalidRequest("the Stripe-Signature header is missing, wrong or too old")
    try:
        return msgspec.json.decode(body, type=Event)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidRequest(f"this is no event: {str(error)[:200]}") from None


def _is_signed(body: bytes, *, header: str | None, secrets: Sequence[SecretStr], now_s: float) -> bool:
    if header is None or len(header) > HEADER_CHARACTERS_MAX or not header.isascii():
        return False
    try:
        # Exactly one time: the library signs with the first, and a second one must not be what we look at.
        [signed_at_s] = [int(part[2:]) for part in header.split(",") if part.startswith("t=")]
        text = body.decode()
    except ValueError:
        return False
    # The library refuses what is old by the machine's clock, but takes a time of the future.
    if abs(now_s - signed_at_s) > TOLERANCE_S:
        return False
    return any(_matches(text, header, secret) for secret in secrets)


def _matches(text: str, header: str, secret: SecretStr) -> bool:
    # Only a marketplace that takes cards is to have the library in memory (`stripe_client`).
    from stripe import SignatureVerificationError, WebhookSignature  # noqa: PLC0415

    try:
        WebhookSignature.verify_header(text, header, secret.get_secret_value(), tolerance=None)
    except SignatureVerificationError:
        return False
    return True
