"""The models of the demo: what is bundled with `raymart-serve`, who would pay what for it, published once."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.money import BASIS_POINTS
from raymart_core.units import Unit
from raymart_marketplace.accounts.models import User
from raymart_marketplace.catalog.models import Modality, ModelRevision
from raymart_marketplace.catalog.service import ensure_model, publish_revision
from raymart_marketplace.pricing.models import RateCard
from raymart_marketplace.pricing.service import publish_rate_card


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoModel:
    """A bundled model with its one revision and its rate card."""

    slug: str
    name: str
    description: str
    modality: Modality
    engine: str
    source: str
    sha256: str
    """Of the file, or of the folder's tree, in `raymart_serve/models/bundled`; a test compares."""
    quantization: str
    context_length: int
    """Tokens."""
    capabilities: tuple[str, ...]
    prices: Mapping[Unit, int]
    """Of the rate card, in nano-USD."""

    def asks(self, basis_points: int) -> Mapping[Unit, int | None]:
        """What a provider asks who sells at this share of the rate card, in nano-USD, rounded down."""
        return {unit: price * basis_points // BASIS_POINTS for unit, price in self.prices.items()}


CHAT = DemoModel(
    slug="raymart/demo-chat",
    name="Raymart demo chat",
    description="A tiny bundled language model: capitals, sums, short stories. It shows the product without a GPU.",
    modality=Modality.CHAT,
    engine="llama_cpp",
    source="bundled:demo-llm.gguf",
    sha256="6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3",
    quantization="q8_0",
    context_length=1_024,
    capabilities=("chat", "logprobs", "seed", "stop"),
    prices={Unit.TOKEN_PROMPT: 50, Unit.TOKEN_COMPLETION: 150},
)

IMAGE = DemoModel(
    slug="raymart/demo-image",
    name="Raymart demo image",
    description="A tiny bundled diffusion model: coloured shapes on coloured backgrounds. Best at 64x64 pixels, "
    "20 steps and guidance 2.",
    modality=Modality.IMAGE,
    engine="diffusers",
    source="bundled:demo-image",
    sha256="080a662dd9d19fb345e11daf2f6b7e5e9c838b843fb8ef6f4f207adf05294cfd",
    quantization="fp16",
    context_length=24,
    capabilities=("image", "image_to_image", "inpainting", "seed"),
    prices={Unit.IMAGE_MEGAPIXEL_STEP: 100_000},
)

EMBED = DemoModel(
    slug="raymart/demo-embed",
    name="Raymart demo embeddings",
    description="A tiny bundled embedding model: puts questions near their answers, for what the demo chat model knows.",
    modality=Modality.EMBEDDING,
    engine="onnx",
    source="bundled:demo-embed",
    sha256="a67eaa349702fe92e8c631b6425dc2f360f5903a678ac5b1e9a860ae019093d5",
    quantization="fp16",
    context_length=512,
    capabilities=("embedding", "rerank"),
    prices={Unit.TOKEN_PROMPT: 10},
)

DEMO_MODELS = (CHAT, IMAGE, EMBED)


async def ensure_revision(session: AsyncSession, demo: DemoModel) -> ModelRevision:
    """The model and its revision, published."""
    model = await ensure_model(
        session,
        slug=demo.slug,
        name=demo.name,
        description=demo.description,
        modality=demo.modality,
        licence="Apache-2.0",
    )
    return await publish_revision(
        session,
        model=model,
        engine=demo.engine,
        source=demo.source,
        sha256=demo.sha256,
        quantization=demo.quantization,
        context_length=demo.context_length,
        capabilities=demo.capabilities,
    )


async def ensure_rate_card(
    session: AsyncSession, demo: DemoModel, revision: ModelRevision, admin: User
) -> None:
    """The model's prices, unless it has a card of its own already: what people published since stays."""
    card = select(RateCard.id).where(RateCard.model_id == revision.model_id).limit(1)
    if await session.scalar(card) is None:
        await publish_rate_card(
            session, model_id=revision.model_id, prices=dict(demo.prices), actor_id=admin.id
        )
