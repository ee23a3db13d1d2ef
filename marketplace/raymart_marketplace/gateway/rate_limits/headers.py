"""`x-ratelimit-{limit,remaining,reset}-{requests,tokens}`: of each kind the limit that leaves least.

As OpenAI sends them: `reset` is how long until all of it is there again, such as `250ms` or `12s`.
"""

from collections.abc import Iterable, Sequence

from raymart_marketplace.gateway.rate_limits.limits import Kind
from raymart_marketplace.gateway.rate_limits.share import MINUTE_S, Share

Header = tuple[bytes, bytes]
_NAMES = {
    kind: tuple(f"x-ratelimit-{what}-{kind.value}".encode() for what in ("limit", "remaining", "reset"))
    for kind in (Kind.REQUESTS, Kind.TOKENS)
}
_NONE: Sequence[Header] = ()


def limit_headers(shares: Iterable[Share], now: float) -> Sequence[Header]:
    """Three headers of each kind that is limited; `now` is of the monotonic clock."""
    if not shares:
        return _NONE
    headers: list[Header] = []
    for kind, (limit_name, remaining_name, reset_name) in _NAMES.items():
        least: tuple[int, int] | None = None
        for share in shares:
            limit = share.limits.of(kind)
            if limit is not None:
                found = share.remaining(kind, now), limit
                least = found if least is None or found < least else least
        if least is not None:
            remaining, limit = least
            headers += (
                (limit_name, b"%d" % limit),
                (remaining_name, b"%d" % remaining),
                (reset_name, _duration((limit - remaining) / limit * MINUTE_S)),
            )
    return headers


def _duration(seconds: float) -> bytes:
    milliseconds = int(seconds * 1000)
    return b"%dms" % milliseconds if milliseconds < 1000 else b"%ds" % -(-milliseconds // 1000)
