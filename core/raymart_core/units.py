"""The units that are metered and priced. Every price is nano-USD per one of these."""

from enum import StrEnum


class Unit(StrEnum):
    """A billable unit; the value is the meter's public name."""

    TOKEN_PROMPT = "token.prompt"
    """One token of the prompt, after the revision's chat template."""
    TOKEN_COMPLETION = "token.completion"
    """One generated token that the gateway delivered; the end-of-sequence token is not counted."""


class FinishReason(StrEnum):
    """Why a generation ended, in OpenAI's words."""

    STOP = "stop"
    """The model ended, or a stop string matched."""
    LENGTH = "length"
    """`max_tokens` or the context was used up."""
    ABORT = "abort"
    """The caller went away and the engine stopped."""
    ERROR = "error"
    """The endpoint failed in mid-stream."""


class Fault(StrEnum):
    """Whose failure ended an attempt. Refunds and scores follow from it by rule."""

    NONE = "none"
    CUSTOMER = "customer"
    """The request itself was wrong, or the customer left."""
    PROVIDER = "provider"
    """The endpoint broke its promise: refused, died, stalled or miscounted."""
    PLATFORM = "platform"
    """Our own failure: a bug, the database, a restart."""
    NETWORK = "network"
    """The link between gateway and node broke while both ends lived."""
