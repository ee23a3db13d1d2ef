"""A gateway that sells pictures, with everything real around it but the providers' machines."""

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
from starlette.applications import Starlette

from raymart_billing.connections import Pool
from raymart_core.ids import new_id
from raymart_core.ports import Prices
from raymart_marketplace.accounts.api_keys import make_key
from raymart_marketplace.accounts.models import ApiKey
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.gateway.images.events import (
    Picture,
    PictureEvent,
    PictureProgress,
    PicturesBroken,
    PicturesFinished,
)
from raymart_marketplace.gateway.images.inference import ImageInference
from raymart_marketplace.gateway.images.request import PictureRequest
from raymart_marketplace.gateway.images.routes import openai_image_routes, sdapi_routes
from raymart_marketplace.metering.models import Surface
from raymart_marketplace.objects import Objects, UrlSigner, object_routes, open_objects
from raymart_marketplace.oversight.live import LiveControls
from raymart_marketplace.shared_state import Redis, make_redis
from support.gateway_market import LIMITS, GatewayMarket, serving
from support.object_settings import object_settings
from support.scripted_images import paint
from support.scripted_replica import ScriptedReplica

NANO_USD_PER_MEGAPIXEL_STEP = 1_000_000
"""A pixel-step costs one nano-USD."""
FUNDED = 1_000_000_000
"""What the customer has, in nano-USD."""
PRICES = Prices(image_megapixel_step=NANO_USD_PER_MEGAPIXEL_STEP, request=7)


class ImageMarket(GatewayMarket):
    """One customer with a key, an image model of its own, and the gateway."""

    def __init__(self, sessions: Sessions, pool: Pool, folder: Path) -> None:
        super().__init__(sessions, pool, limits=LIMITS, modality=Modality.IMAGE)
        self.objects: Objects = open_objects(object_settings(data_dir=folder))

    async def open(self) -> None:
        await super().open()
        await self.books.fund(FUNDED)
        self.images = self.make_images()

    def make_images(self, **changes: object) -> ImageInference:
        parts = {
            "directory": self.directory, "plan": self.inference.planner.plan,
            "hold_gate": self.hold_gate, "usage_sink": self.usage_sink, "rater": self.rater, "limits": self.limits,
            "admission": LiveControls(self.sessions), "objects": self.objects,
        }  # fmt: skip
        images = ImageInference(**{**parts, **changes})
        self.stack.push_async_callback(lambda: images.drain(timeout_s=30))
        return images

    async def serve_images(
        self,
        *,
        images: ImageInference | None = None,
        body_bytes_max: int = 2_000_000,
        redis: Redis | None = None,
    ) -> httpx.AsyncClient:
        """Serve OpenAI's and AUTOMATIC1111's routes by a real uvicorn; a client with the customer's key."""
        served = {
            "images": images or self.images, "authenticator": self.authenticator, "body_bytes_max": body_bytes_max,
        }  # fmt: skip
        away = make_redis("redis://127.0.0.1:1/0")
        routes = [
            *openai_image_routes(**served, objects=self.objects, url_ttl_s=60.0),
            *sdapi_routes(**served, models=self.models, directory=self.directory, redis=redis or away),
            *object_routes(self.objects),
        ]
        url = await self.stack.enter_async_context(serving(Starlette(routes=routes)))
        self.objects._signer = UrlSigner(f"{url}/objects", [b"s" * 32], now=time.time)
        return await self.stack.enter_async_context(
            httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {self.key}"}, timeout=60)
        )

    async def add_painter(self, replica: ScriptedReplica | None = None, **changes: object) -> ScriptedReplica:
        """Put an endpoint into routing that makes honest pictures unless scripted."""
        if replica is None:
            replica = await self.stack.enter_async_context(ScriptedReplica(paint))
        return await self.add_endpoint(replica, **{"prices": PRICES, **changes})

    def asking(self, **changes: object) -> PictureRequest:
        return PictureRequest(
            **{
                "model": self.slug,
                "prompt": "a red circle",
                "width": 32,
                "height": 16,
                "steps": 4,
                "seed": 5,
                **changes,
            }
        )

    async def events(
        self,
        request: PictureRequest | None = None,
        *,
        streamed: bool = False,
        keep: bool = False,
        images: ImageInference | None = None,
        into: list[PictureEvent] | None = None,
    ) -> list[PictureEvent]:
        """All that a request yields, also put `into` a list as it comes."""
        got = [] if into is None else into
        running = (images or self.images).run(
            self.caller, request or self.asking(), surface=Surface.REST, streamed=streamed, keep=keep
        )
        async for event in running:
            got.append(event)
        return got

    async def other_key(self) -> str:
        """Another key of the same project."""
        made = make_key()
        async with session_scope(self.sessions) as session:
            own = await session.get_one(ApiKey, self.key_id)
            session.add(
                ApiKey(
                    id=new_id(), project_id=self.project_id, name="other", prefix=made.prefix, key_hash=made.key_hash,
                    created_by=own.created_by,
                )
            )  # fmt: skip
        return made.text

    async def pixel_steps(self) -> list[tuple]:
        return await self.books.fetch(
            "select image_pixel_steps, requests_priced, customer_nano_usd, provider_nano_usd + fee_nano_usd"
            " from usage_record where organization_id = %s order by id",
            self.books.organization_id,
        )


def pictures(events: list[PictureEvent]) -> list[Picture]:
    return [event for event in events if isinstance(event, Picture)]


def steps(events: list[PictureEvent]) -> list[tuple[int, int]]:
    return [(event.step, event.of) for event in events if isinstance(event, PictureProgress)]


def last(events: list[PictureEvent]) -> PicturesFinished | PicturesBroken:
    assert isinstance(events[-1], PicturesFinished | PicturesBroken)
    return events[-1]


@contextlib.asynccontextmanager
async def image_market(sessions: Sessions, pool: Pool, folder: Path) -> AsyncIterator[ImageMarket]:
    market = ImageMarket(sessions, pool, folder)
    async with market.stack:
        await market.open()
        yield market
