"""What an API key may be used for. A person's token is bounded by their role instead.

The list is short on purpose: a scope is a promise to whoever hands a key to a program.
"""

from enum import StrEnum

from raymart_core.errors import Forbidden


class KeyScope(StrEnum):
    """One use of an API key."""

    INFERENCE = "inference"
    """Ask models, over REST and GraphQL, for the project's money."""
    MODELS_READ = "models:read"
    """List models with their prices over REST; over GraphQL anybody may."""
    USAGE_READ = "usage:read"
    """See what the key's project used and what it cost."""
    KEYS_READ = "keys:read"
    """See the project's keys, their limits and last use; never the keys themselves."""


ALL_SCOPES = frozenset(KeyScope)
DEFAULT_SCOPES = frozenset({KeyScope.INFERENCE, KeyScope.MODELS_READ})
"""What a key may be used for unless its maker says otherwise."""


class ScopeMissing(Forbidden):
    """The key is good, but not for this."""

    code = "insufficient_scope"

    def __init__(self, scope: KeyScope) -> None:
        super().__init__(
            f"this API key lacks the scope {scope.value!r}; add it with `updateApiKey`, or use another key"
        )
        self.scope = scope


class ModelNotAllowed(Forbidden):
    """The key is good, but not for this model."""

    code = "model_not_allowed"

    def __init__(self, slug: str) -> None:
        super().__init__(
            f"this API key may not use the model {slug[:100]!r}; GET /v1/models lists those that it may",
            param="model",
        )
        self.slug = slug
