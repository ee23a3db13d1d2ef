"""Headers that say who answered; every answer of inference has them."""

from typing import Protocol
from uuid import UUID

from raymart_core.ids import Prefix, show
from raymart_marketplace.gateway.endpoint import Headers


class ServedBy(Protocol):
    """An event that tells who serves."""

    @property
    def request_id(self) -> UUID:
        """The request's id."""

    @property
    def model(self) -> str:
        """Slug of the model that serves."""

    @property
    def provider(self) -> str:
        """Slug of the provider that serves."""


def served_headers(by: ServedBy, *, attempts: int) -> Headers:
    """Who serves, after how many tries, and the id under which the generation is found afterwards."""
    return (
        (b"x-generation-id", show(Prefix.REQUEST, by.request_id).encode()),
        (b"x-raymart-model", by.model.encode()),
        (b"x-raymart-provider", by.provider.encode()),
        (b"x-raymart-attempts", str(attempts).encode()),
    )
