"""Which models exist. The hot path asks the directory of live endpoints first; this is for the rest.

One query of the catalog every few seconds at most, however many unknown names are asked for.
"""

import asyncio
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from raymart_core.errors import InvalidRequest, ModelNotFound, Unavailable
from raymart_marketplace.catalog.adapters import NO_ADAPTERS, Adapters, adapters_of
from raymart_marketplace.catalog.models import SERVED, Modality, Model, ModelRevision
from raymart_marketplace.catalog.revisions import manifest_of
from raymart_marketplace.catalog.sharing import audiences
from raymart_marketplace.db.session import Sessions

log = structlog.get_logger(__name__)

QUERY_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """A model of the catalog that is or could be served."""

    slug: str
    name: str
    description: str
    created_at: datetime
    modality: Modality
    context_length: int
    """The longest of its servable revisions, in tokens."""
    quantizations: tuple[str, ...]
    audience: frozenset[UUID] | None = None
    """Organizations that may use it; None for everybody."""
    adapters: Mapping[str, Adapters] = field(default_factory=dict)
    """Of an image model: what its revisions have, by their digests."""

    def is_for(self, organization_id: UUID | None) -> bool:
        """Whether the organization may know of it."""
        return self.audience is None or organization_id in self.audience


class ModelLookup(Protocol):
    """Knows every servable model."""

    async def require(self, slug: str, *, organization_id: UUID | None = None) -> None:
        """Return when there is a model of this slug that the organization may use.

        Raises: ModelNotFound naming the nearest slug, Unavailable.
        """

    async def listed(self) -> Mapping[str, ListedModel]:
        """Every servable model by slug, private ones too. Raises: Unavailable."""


class CatalogModels:
    """The catalog's servable models, kept for `ttl_s` seconds; implements `ModelLookup`."""

    def __init__(self, sessions: Sessions, *, ttl_s: float = 5.0) -> None:
        self._sessions = sessions
        self._ttl_s = ttl_s
        self._models: Mapping[str, ListedModel] = {}
        self._adapters: Mapping[str, Adapters] = {}
        self._fresh_until = float("-inf")
        self._refreshing = asyncio.Lock()

    async def require(self, slug: str, *, organization_id: UUID | None = None) -> None:
        """Return when there is a model of this slug that the organization may use.

        Raises: ModelNotFound naming the nearest slug of those that it may use, Unavailable.
        """
        listed = await self.listed()
        if slug not in listed or not listed[slug].is_for(organization_id):
            models = [name for name, model in listed.items() if model.is_for(organization_id)]
            nearest = difflib.get_close_matches(slug, models, n=1)
            raise ModelNotFound(slug, nearest=nearest[0] if nearest else None)

    async def listed(self) -> Mapping[str, ListedModel]:
        """Every servable model by slug, at most `ttl_s` old. Raises: Unavailable when the database is away."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._fresh_until:
            async with self._refreshing:
                if loop.time() >= self._fresh_until:
                    self._models = await self._query()
                    self._fresh_until = loop.time() + self._ttl_s
        return self._models

    async def _query(self) -> Mapping[str, ListedModel]:
        statement = (
            select(Model, ModelRevision)
            .join(ModelRevision, ModelRevision.model_id == Model.id)
            .where(ModelRevision.state.in_(SERVED))
            .order_by(Model.slug)
        )
        revisions: dict[str, list[ModelRevision]] = {}
        models: dict[str, Model] = {}
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S), self._sessions() as session:
                for model, revision in await session.execute(statement):
                    models[model.slug] = model
                    revisions.setdefault(model.slug, []).append(revision)
                private = await audiences(session, [model.id for model in models.values()])
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise Unavailable("the catalog cannot be read at the moment; try again") from error
        self._adapters = {
            revision.digest: self._adapters_of(revision)
            for slug, model in models.items()
            if model.modality is Modality.IMAGE
            for revision in revisions[slug]
        }
        return {
            slug: _listed(model, revisions[slug], private.get(model.id), self._adapters)
            for slug, model in models.items()
        }

    def _adapters_of(self, revision: ModelRevision) -> Adapters:
        """Read once: a digest names one manifest for good."""
        known = self._adapters.get(revision.digest)
        if known is not None:
            return known
        try:
            manifest = manifest_of(revision)
        except InvalidRequest:  # One that cannot be read must not take the catalog away.
            log.exception("manifest.unreadable", revision=revision.digest)
            return NO_ADAPTERS
        return NO_ADAPTERS if manifest is None else adapters_of(manifest)


def _listed(
    model: Model,
    revisions: list[ModelRevision],
    audience: frozenset[UUID] | None,
    adapters: Mapping[str, Adapters],
) -> ListedModel:
    return ListedModel(
        slug=model.slug,
        name=model.name,
        description=model.description,
        modality=model.modality,
        created_at=model.created_at,
        context_length=max(revision.context_length for revision in revisions),
        quantizations=tuple(sorted({revision.quantization for revision in revisions})),
        audience=audience,
        adapters={each.digest: adapters[each.digest] for each in revisions if each.digest in adapters},
    )
