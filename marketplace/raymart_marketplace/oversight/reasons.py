"""Why somebody did something to somebody else; it is kept for good."""

from raymart_core.errors import InvalidRequest
from raymart_marketplace.oversight.models import REASON_CHARACTERS_MAX


def checked_reason(reason: str) -> str:
    """`reason` without blanks around it. Raises: InvalidRequest unless something is left, and not too much."""
    checked = reason.strip()
    if not 1 <= len(checked) <= REASON_CHARACTERS_MAX:
        raise InvalidRequest(
            f"a reason of {len(checked)} characters; give 1 to {REASON_CHARACTERS_MAX}, it is kept for good",
            param="reason",
        )
    return checked
