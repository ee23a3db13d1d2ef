"""What stops a provider's command: one sentence with the value and the next step, printed without a traceback.

RaymartError
└── ProviderError
    ├── UnsafeFile        a secret that others may read, or that is damaged
    ├── NotEnrolled       no identity and no join token
    ├── AgentRunning      another process uses this state directory
    ├── AgentAway         no agent answers for this state directory
    ├── BadServer         a server address that cannot be dialled
    └── LinkRefused       the marketplace said no; `retry` tells whether it may say yes later
"""

from raymart_core.errors import RaymartError


class ProviderError(RaymartError):
    """A provider's command cannot go on; the message is for the person who ran it."""


class UnsafeFile(ProviderError):
    """A key or token file is readable by others, or its content is damaged."""


class NotEnrolled(ProviderError):
    """The state directory holds no node identity and no join token was given."""


class AgentRunning(ProviderError):
    """Another process holds this state directory."""


class AgentAway(ProviderError):
    """No agent answers for this state directory."""


class BadServer(ProviderError):
    """The server's address is no http(s) or ws(s) URL that may be used."""


class LinkRefused(ProviderError):
    """The marketplace refused the link."""

    def __init__(self, reason: str, message: str, *, retry: bool) -> None:
        super().__init__(f"the marketplace refused this machine ({reason}): {message}")
        self.reason = reason
        self.message = message
        self.retry = retry
