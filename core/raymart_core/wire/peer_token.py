"""The right to fetch one revision from one node: made by the marketplace, checked by that node, known to nobody else.

A token is `<expires>.<revision's hex>.<HMAC-SHA256>`, keyed with the secret that the serving node announced. So the
node needs no list of tokens, and a token is of no use at another node, for another revision, or later.
"""

import hashlib
import hmac

_LIFETIME_S_MAX = 24 * 3600


def make_peer_token(secret: str, *, revision: str, expires_s: int) -> str:
    """A token for `revision` ("sha256:<hex>"), good until Unix time `expires_s`."""
    name = revision.removeprefix("sha256:")
    return f"{expires_s}.{name}.{_mac(secret, f'{expires_s}.{name}')}"


def revision_of_token(token: str, *, secret: str, now_s: float) -> str | None:
    """The revision that `token` opens; None for a forged, expired or damaged one, or one that lives too long."""
    claim, _, mac = token.rpartition(".")
    # Compared as bytes: a header may hold any character, and text comparison refuses those.
    if not hmac.compare_digest(mac.encode(), _mac(secret, claim).encode()):
        return None
    expires, _, name = claim.partition(".")
    if not now_s < int(expires) <= now_s + _LIFETIME_S_MAX:
        return None
    return f"sha256:{name}"


def _mac(secret: str, claim: str) -> str:
    # The prefix keeps this apart from whatever else the secret may one day sign.
    return hmac.new(secret.encode(), f"raymart artifact {claim}".encode(), hashlib.sha256).hexdigest()
