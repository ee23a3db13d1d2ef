"""The units that are metered and priced. Every price is nano-USD per one of these."""

from enum import StrEnum


class Unit(StrEnum):
    """A billable unit; the value is the meter's public name."""

    TOKEN_PROMPT = "token.prompt"
    """One token of the prompt, after the revision's chat template, that was not read from a cache."""
    TOKEN_COMPLETION = "token.completion"
    """One generated token that the gateway delivered; the end-of-sequence token is not counted."""
    TOKEN_CACHED = "token.cached"
    """One token of the prompt that the engine had in its cache. A prompt token is either this or `TOKEN_PROMPT`."""
    IMAGE_MEGAPIXEL_STEP = "image.megapixel_step"
    """A million pixels taken through one denoising step; measured in pixel-steps."""
    GPU_SECOND = "gpu.second"
    """One GPU reserved for one second; measured in milliseconds."""
    REQUEST = "request"
    """One request of which anything was delivered."""

    @property
    def scale(self) -> int:
        """How much of what is measured makes one unit: an amount is quantity x price / scale, rounded down."""
        return {Unit.IMAGE_MEGAPIXEL_STEP: 1_000_000, Unit.GPU_SECOND: 1_000}.get(self, 1)


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
