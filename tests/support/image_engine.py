"""What tests of the image engine share: requests for the bundled model, and what its pictures must show."""

import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

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


def with_adapters(folder: Path) -> Path:
    """A copy of the bundled model in `folder` with LoRAs, a ControlNet and a VAE made from nothing. Imports torch."""
    import torch
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
    from safetensors.torch import save_file

    shutil.copytree(resolve("bundled:demo-image", TREE_SHA256), folder)
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", dtype=torch.float32)
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32, 64))
    # A new ControlNet adds nothing: its last layers are zero until it is trained.
    control.controlnet_mid_block.weight.data.normal_(0, 0.5)
    control.controlnet_cond_embedding.conv_out.weight.data.normal_(0, 0.5)
    control.save_pretrained(folder / "controlnets/edges")
    vae = AutoencoderKL.from_pretrained(folder / "vae", dtype=torch.float32)
    vae.decoder.conv_out.bias.data += 0.5
    vae.save_pretrained(folder / "vaes/bright")
    (folder / "loras").mkdir()
    for name, sizes in _LORAS.items():
        save_file(_lora(unet, strength=sizes), folder / "loras" / f"{name}.safetensors")
    kohya = {_kohya(key): value for key, value in _lora(unet, strength=0.5).items()}
    save_file(kohya, folder / "loras/kohya.safetensors")
    return folder


_LORAS = {"style": 0.5, "v1.5-soft": 0.25}


def _lora(unet: Any, *, strength: float) -> dict[str, Any]:
    """Low-rank changes of the cross-attention, named as diffusers names them."""
    import torch

    generator, found = torch.Generator().manual_seed(1), {}
    for name, module in unet.named_modules():
        if name.endswith(("attn2.to_q", "attn2.to_v")):
            shapes = {"lora_A": (4, module.in_features), "lora_B": (module.out_features, 4)}
            for key, shape in shapes.items():
                found[f"unet.{name}.{key}.weight"] = torch.randn(shape, generator=generator) * strength
    return found


def _kohya(key: str) -> str:
    """The same as the trainers of kohya name it, which is how most LoRAs come."""
    module, _, part = key.removesuffix(".weight").rpartition(".")
    direction = {"lora_A": "lora_down", "lora_B": "lora_up"}[part]
    return f"lora_unet_{module.removeprefix('unet.').replace('.', '_')}.{direction}.weight"


def tiny_sdxl(folder: Path) -> Path:
    """A Stable Diffusion XL in `folder`, made from configurations and nothing learnt: it paints noise. Imports torch."""
    import torch
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    bundled = resolve("bundled:demo-image", TREE_SHA256)
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=696, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=24, projection_dim=32, bos_token_id=694, eos_token_id=695, pad_token_id=695,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=32 + 6 * 8,
    )  # fmt: skip
    parts = StableDiffusionPipeline.from_pretrained(bundled, dtype=torch.float32)
    pipeline = StableDiffusionXLPipeline(
        vae=parts.vae,
        text_encoder=CLIPTextModel(text),
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer=parts.tokenizer,
        tokenizer_2=parts.tokenizer,
        unet=unet,
        scheduler=parts.scheduler,
    )
    pipeline.save_pretrained(folder)
    return folder
