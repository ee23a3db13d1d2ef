"""Models as AUTOMATIC1111 calls them: checkpoints with a title and a hash."""

from collections.abc import Mapping, Sequence, Set

import msgspec

from raymart_core.errors import InvalidRequest, NoEndpoint
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.catalog.adapters import Adapters
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.gateway.images.sdapi.jobs import owner_of
from raymart_marketplace.gateway.images.sdapi.options import SdapiOptions
from raymart_marketplace.gateway.model_lookup import ListedModel, ModelLookup
from raymart_marketplace.supply.live import EndpointDirectory, Standing

HASH_CHARACTERS = 10


class Checkpoint(msgspec.Struct, frozen=True):
    """One image model, as `/sd-models` lists it."""

    title: str
    model_name: str
    """The slug."""
    hash: str | None
    sha256: str | None
    """Of the revision that is served; None while nobody serves one."""
    filename: str
    config: str | None = None


class Checkpoints:
    """Finds the models that a customer may use."""

    def __init__(self, models: ModelLookup, directory: EndpointDirectory, options: SdapiOptions) -> None:
        self._models = models
        self._directory = directory
        self._options = options

    async def listed(self, caller: Caller) -> Sequence[Checkpoint]:
        """Every image model that `caller` may use, those that are served first. Raises: Unavailable."""
        found = [self._checkpoint(model.slug) for model in await self._models_of(caller)]
        return sorted(found, key=lambda checkpoint: (checkpoint.hash is None, checkpoint.model_name))

    async def adapters(self, caller: Caller) -> Mapping[str, Adapters]:
        """What the image models that `caller` may use have beside their base, by slug. Raises: Unavailable.

        Of a model that is served, what its served revisions have; of another, what all of them have.
        """
        return {model.slug: self._adapters(model) for model in await self._models_of(caller)}

    async def chosen(self, caller: Caller, wanted: str | None) -> str:
        """What a request is for: what it names, else what the key has chosen, else the first. Raises: InvalidRequest, NoEndpoint, Unavailable."""
        if wanted:
            return await self.named(caller, wanted)
        slug = await self._options.checkpoint(owner_of(caller))
        if slug is not None:
            return slug
        listed = await self.listed(caller)
        if not listed:
            raise NoEndpoint("there is no image model that you may use")
        return listed[0].model_name

    async def named(self, caller: Caller, wanted: str) -> str:
        """The model of this slug, title or hash, or a revision of one after an @. Raises: InvalidRequest, Unavailable."""
        slug, at, revision = wanted.partition("@")
        for checkpoint in await self.listed(caller):
            if slug in {checkpoint.model_name, checkpoint.title, checkpoint.hash, checkpoint.sha256}:
                return f"{checkpoint.model_name}{at}{revision}"
        raise InvalidRequest(
            f"model {wanted[:80]!r} is not found; /sdapi/v1/sd-models lists those there are",
            param="sd_model_checkpoint",
        )

    async def choose(self, caller: Caller, wanted: str) -> None:
        """Let the key's requests be for the model `wanted`. Raises: InvalidRequest, Unavailable."""
        await self._options.choose(owner_of(caller), await self.named(caller, wanted))

    def title(self, slug: str) -> str:
        """How the model is shown."""
        return self._checkpoint(slug.partition("@")[0]).title

    async def _models_of(self, caller: Caller) -> Sequence[ListedModel]:
        """The image models that `caller` may know of and use. Raises: Unavailable."""
        models = await self._models.listed()
        return [
            model
            for model in models.values()
            if model.modality is Modality.IMAGE
            and model.is_for(caller.organization_id)
            and caller.may_use(model.slug)
        ]

    def _adapters(self, model: ListedModel) -> Adapters:
        live = self._live(model.slug)
        found = [each for digest, each in model.adapters.items() if not live or digest in live]
        return Adapters(
            loras=tuple(sorted({name for each in found for name in each.loras})),
            vaes=tuple(sorted({name for each in found for name in each.vaes})),
        )

    def _live(self, slug: str) -> Set[str]:
        """Digests of the revisions that requests for the model go to."""
        endpoints = self._directory.live(slug)
        return {each.revision_digest for each in endpoints if each.standing is not Standing.CANDIDATE}

    def _checkpoint(self, slug: str) -> Checkpoint:
        sha256 = min(self._live(slug), default="").removeprefix("sha256:") or None
        short = None if sha256 is None else sha256[:HASH_CHARACTERS]
        title = slug if short is None else f"{slug} [{short}]"
        return Checkpoint(title=title, model_name=slug, hash=short, sha256=sha256, filename=slug)
