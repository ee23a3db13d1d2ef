"""Why a machine is not let onto the link."""

from raymart_core.errors import RaymartError


class LinkRefused(RaymartError):
    """The link is not granted; the three values go into `wire.link.Refuse` as they are.

    It must leave the transaction that it was raised in, so that nothing of a refused enrolment stays.
    """

    def __init__(self, reason: str, message: str, *, retry: bool) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        """Stable code, see `wire.link.Refuse`."""
        self.message = message
        """What to do."""
        self.retry = retry
        """Whether the same attempt may succeed later."""
