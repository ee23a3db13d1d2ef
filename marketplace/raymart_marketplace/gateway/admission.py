"""Whether a caller may be served at all, asked before anything is routed or held."""

from typing import Protocol

from raymart_marketplace.accounts.caller import Caller


class Admission(Protocol):
    """Answers from memory."""

    def check(self, caller: Caller) -> None:
        """Let the request in. Raises: DomainError with its code and status."""
