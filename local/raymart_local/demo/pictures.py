"""Buying pictures by each of the ways that the API offers, and looking at them."""

import asyncio
from base64 import b64decode
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from raymart_core.money import Money
from raymart_local.demo.errors import DemoFailed
from raymart_local.demo.graphql import REQUEST_TIMEOUT_S
from raymart_local.demo.purchase import Buyer

MODEL = "raymart/demo-image"
SIDE_PIXELS = 64
STEPS = 20
GUIDANCE = 2
SEED = 7
_NEAR = 60
"""How far, per channel of 255, a colour may be from the one that was asked for."""

_FIELDS = """
requestId pixelSteps cost { amount } provider { slug } images { seed width height url base64 }
"""
_CREATE = f"""
mutation($input: CreateImageInput!) {{ createImage(input: $input) {{
  userErrors {{ code message }} generation {{ {_FIELDS} }} }} }}
"""
_FOLLOW = f"""
subscription($input: ImageGenerationInput!) {{ imageGeneration(input: $input) {{
  userErrors {{ code message }} step of generation {{ {_FIELDS} }} }} }}
"""

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A picture whose looks are known."""

    prompt: str
    shape: Colour
    """Of its middle."""
    background: Colour
    """Of its corners."""


WISHES = (
    Wish(prompt="a large red circle on a white background", shape=(220, 40, 40), background=(245, 245, 245)),
    Wish(prompt="a large blue square on a grey background", shape=(50, 80, 220), background=(128, 128, 128)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What the customer got for one request of one picture."""

    request_id: str
    way: str
    provider: str
    """Slug."""
    wish: Wish
    seed: int
    pixel_steps: int
    cost: Money
    """As the answer named it."""
    content: bytes
    """The PNG."""
    steps_seen: int | None
    """How many updates told of progress; None where none were asked for."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, of the file itself."""
        with Image.open(BytesIO(self.content)) as image:
            return image.width, image.height

    def wrong(self) -> str:
        """What does not look as asked; empty when it does."""
        with Image.open(BytesIO(self.content)) as image:
            pixels = image.convert("RGB")
        if pixels.size != (SIDE_PIXELS, SIDE_PIXELS):
            return f"{self.wish.prompt!r} by {self.provider} is {pixels.size}"
        middle, edge = SIDE_PIXELS // 2, SIDE_PIXELS - 3
        asked = {(middle, middle): self.wish.shape} | dict.fromkeys(
            ((2, 2), (edge, 2), (2, edge), (edge, edge)), self.wish.background
        )
        seen = {at: pixels.getpixel(at) for at in asked}
        return "; ".join(
            f"{self.wish.prompt!r} by {self.provider} is {seen[at]} at {at}, not {colour}"
            for at, colour in asked.items()
            if not _is_near(seen[at], colour)
        )


class PictureBuyer:
    """Buys pictures with the API key of `buyer`."""

    def __init__(self, buyer: Buyer) -> None:
        self._buyer = buyer

    async def all_ways(self, slugs: Sequence[str]) -> Sequence[Picture]:
        """One picture at both providers from one seed, and another one followed step by step."""
        first, second = slugs
        circle, square = WISHES
        return [
            await self.mutation(circle, only=first),
            await self.mutation(circle, only=second),
            await self.subscription(square, only=second),
        ]

    async def mutation(self, wish: Wish, *, only: str) -> Picture:
        """GraphQL's `createImage`."""
        data = await self._buyer.graphql.run(_CREATE, input=self._input(wish, only))
        generation = data["createImage"]["generation"]
        await self._check_url(generation)
        return _picture("GraphQL", wish, generation, steps_seen=None)

    async def subscription(self, wish: Wish, *, only: str) -> Picture:
        """GraphQL's subscription `imageGeneration`."""
        stream = self._buyer.graphql.subscribe(_FOLLOW, input=self._input(wish, only))
        async with aclosing(stream) as events:
            updates = [event["imageGeneration"] async for event in events]
        if not updates or updates[-1]["generation"] is None:
            raise DemoFailed("the subscription ended without a picture")
        steps = [update["step"] for update in updates if update["generation"] is None]
        return _picture("GraphQL subscription", wish, updates[-1]["generation"], steps_seen=len(set(steps)))

    def _input(self, wish: Wish, only: str) -> dict[str, Any]:
        return {
            "model": MODEL,
            "prompt": wish.prompt,
            "width": SIDE_PIXELS,
            "height": SIDE_PIXELS,
            "steps": STEPS,
            "guidance": GUIDANCE,
            "seed": str(SEED),
            "provider": {"only": [only]},
        }

    async def _check_url(self, generation: dict[str, Any]) -> None:
        """The signed URL gives the same bytes, to whoever has it."""
        [image] = generation["images"]
        answer = await self._buyer.http.get(image["url"], timeout=REQUEST_TIMEOUT_S)
        if answer.status_code != httpx.codes.OK or answer.content != b64decode(image["base64"]):
            raise DemoFailed(f"the URL of a picture answered {answer.status_code} with other bytes")


async def save(pictures: Sequence[Picture], folder: Path) -> Path:
    """Write every picture to `folder`; the path of the first."""
    names = [f"image{'' if number == 0 else f'-{number + 1}'}.png" for number in range(len(pictures))]

    def write() -> None:
        for name, picture in zip(names, pictures, strict=True):
            (folder / name).write_bytes(picture.content)

    await asyncio.to_thread(write)
    return folder / names[0]


def _picture(way: str, wish: Wish, generation: dict[str, Any], *, steps_seen: int | None) -> Picture:
    [image] = generation["images"]
    return Picture(
        request_id=generation["requestId"],
        way=way,
        provider=generation["provider"]["slug"],
        wish=wish,
        seed=int(image["seed"]),
        pixel_steps=int(generation["pixelSteps"]),
        cost=Money.parse(generation["cost"]["amount"]),
        content=b64decode(image["base64"]),
        steps_seen=steps_seen,
    )


def _is_near(seen: object, asked: Colour) -> bool:
    return isinstance(seen, tuple) and all(abs(a - b) <= _NEAR for a, b in zip(seen, asked, strict=True))
