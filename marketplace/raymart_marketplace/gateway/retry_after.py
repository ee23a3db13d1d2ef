"""When a refused client may come again: `Retry-After` of every 429 and 503."""

from raymart_core.errors import DomainError, NoEndpoint, Overloaded

RETRY_AFTER_S = 2
"""Where nobody knows better: a database or an endpoint that is away is mostly back by then."""
_TRY_LATER = frozenset({429, 503})


def retry_after_s(error: DomainError) -> int | None:
    """Whole seconds, at least 1; None of an error that waiting does not mend."""
    if isinstance(error, Overloaded | NoEndpoint) and error.retry_after_s is not None:
        return error.retry_after_s
    return RETRY_AFTER_S if error.status in _TRY_LATER else None
