"""Who a request is made for."""

from dataclasses import dataclass
from uuid import UUID

from raymart_marketplace.accounts.scopes import ALL_SCOPES, KeyScope, ModelNotAllowed, ScopeMissing


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated customer of inference: whose money pays, and which key or user asked."""

    organization_id: UUID
    project_id: UUID
    api_key_id: UUID | None
    """None when a user's access token made the request."""
    user_id: UUID | None
    """None when an API key made the request."""
    scopes: frozenset[KeyScope] = ALL_SCOPES
    """Everything for a person, whose role has been asked already."""
    models: frozenset[str] | None = None
    """Slugs of the models that may be used; None for all."""
    keeps_prompts: bool = False
    """Whether the key asks for its prompts and completions to be kept."""
    answer_cache_s: int = 0
    """How long answers are given again where a request does not say: the key's own wish, else its project's."""

    def require(self, scope: KeyScope) -> None:
        """Raises: ScopeMissing unless the credential is good for this."""
        if scope not in self.scopes:
            raise ScopeMissing(scope)

    def require_model(self, slug: str) -> None:
        """Raises: ModelNotAllowed unless the credential is good for this model."""
        if not self.may_use(slug):
            raise ModelNotAllowed(slug)

    def may_use(self, slug: str) -> bool:
        """Whether the credential is good for the model `slug`."""
        return self.models is None or slug in self.models
