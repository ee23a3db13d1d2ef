"""What tests of the image engine share: requests for the bundled model, and what its pictures must show."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from raymart_core.wire.image import ImageMade, ImageProgress, ImageRequest
from raymart_serve.engines.diffusers import DiffusersEngine
from raymart_serve.engines.protocol import EngineSpec
from raymart_serve.models import resolve

TREE_SHA256 = "080a662dd9d19fb345e11daf2f6b7e5e9c838b843fb8ef6f4f207adf05294cfd"
REVISION = "sha256:" + "ab" * 32
COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 220)}
BACKGROUNDS = {"white": (245, 245, 245), "black": (20, 20, 20), "grey": (128, 128, 128)}


def spec(path: Path | None = None, **changes: object) -> EngineSpec:
    values = {
        "path": path or resolve("bundled:demo-image", TREE_SHA256),
        "context_length": 24,
        "slots": 1,
        "threads": 1,
        "model": "raymart/demo-image",
        "revision": REVISION,
        **changes,
    }
    return EngineSpec(**values)  # type: ignore[arg-type]


def request(prompt: str = "a red circle on a black background", **changes: object) -> ImageRequest:
    values = {"width": 64, "height": 64, "steps": 20, "seed": 1, "guidance": 2.0, **changes}
    return ImageRequest(prompt=prompt, **values)  # type: ignore[arg-type]


async def made(engine: DiffusersEngine, asked: ImageRequest) -> list[ImageMade]:
    """The pictures; progress is checked by the way: each step once, in order, up to `of`."""
    pictures, steps = [], []
    async with engine.make_images(asked) as events:
        async for event in events:
            if isinstance(event, ImageProgress):
                steps.append((event.step, event.of))
            else:
                pictures.append(event)
    of = sum(picture.steps for picture in pictures)
    assert steps == [(step, of) for step in range(1, of + 1)]
    return pictures


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB")).astype(int)


def png(values: np.ndarray | Image.Image) -> bytes:
    file = BytesIO()
    image = values if isinstance(values, Image.Image) else Image.fromarray(values.astype(np.uint8))
    image.save(file, "PNG")
    return file.getvalue()


def shows(data: bytes, *, colour: str, background: str) -> bool:
    """Whether the middle has the colour and the corners the background: nearest of those that the model knows."""
    found = pixels(data)
    side = len(found)
    middle = found[side * 7 // 16 : side * 9 // 16, side * 7 // 16 : side * 9 // 16].mean((0, 1))
    corners = np.concatenate([found[:4, :4], found[:4, -4:], found[-4:, :4], found[-4:, -4:]]).mean((0, 1))
    return (
        _nearest(middle, {**COLOURS, **BACKGROUNDS}) == colour
        and _nearest(corners, BACKGROUNDS) == background
    )


def _nearest(found: np.ndarray, named: dict[str, tuple[int, int, int]]) -> str:
    return min(named, key=lambda name: float(np.abs(found - named[name]).sum()))
