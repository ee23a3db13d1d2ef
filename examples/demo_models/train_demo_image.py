#!/usr/bin/env python3
"""Train the bundled demo image model (Stable Diffusion layout, 64x64 pixels) from nothing, on one CPU core.

All training data is drawn by this script: one coloured shape on a plain background with a short
caption ("a red circle on a black background").  No third-party images, text or weights are used.
The result is a normal diffusers directory: AutoencoderKL + UNet2DConditionModel + CLIPTextModel +
CLIPTokenizer + DDIMScheduler, fp16 safetensors, loadable with AutoPipelineForText2Image / Image2Image /
Inpainting.

Three choices matter for colours and backgrounds that follow the prompt:
  * one tokenizer token per caption word (a BPE trained on the caption vocabulary),
  * v-prediction with a zero-terminal-SNR schedule: with the usual schedule the last training step still
    leaks the mean colour of the image, so sampling from pure noise gives washed-out, wrong backgrounds,
  * EMA weights and 10 % caption dropout (for classifier-free guidance).

Usage: train_demo_image.py --out demo-image [--vae-steps 2200] [--unet-steps 9000]
Deterministic for a given seed, thread count and library versions.
"""

import argparse
import copy
import json
import math
import os
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from demo_schedule import Schedule
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image, ImageDraw
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SIZE = 64
COLOURS = dict(
    red=(220, 40, 40),
    green=(40, 170, 60),
    blue=(50, 80, 220),
    yellow=(240, 215, 50),
    purple=(150, 55, 190),
    orange=(245, 135, 25),
)
BACKGROUNDS = dict(white=(245, 245, 245), black=(20, 20, 20), grey=(128, 128, 128))
SHAPES = ["circle", "square", "triangle", "star"]
SIZES = dict(small=13, medium=18, large=23)  # radius in pixels
# Words that may surround the description; they carry no meaning for the picture.
FILLER = (
    "a an the of and with in on at to for is it this that my one single please draw paint make show me "
    "picture image photo drawing painting icon logo simple flat plain beautiful nice bright clean high "
    "quality detailed style art background colored coloured color colour shape shaped"
).split()
MAX_TOKENS = 24


# ---------------------------------------------------------------- data
def shape_points(shape, x, y, r):
    """Corner points of a polygon shape with 'radius' r centred at x, y (None for the circle)."""
    if shape == "square":
        return [(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)]
    if shape == "triangle":
        return [(x, y - r), (x - r, y + r), (x + r, y + r)]
    if shape == "star":  # five points, the inner radius is 0.45 of the outer one
        return [
            (
                x + r * (1.0 if i % 2 == 0 else 0.45) * math.sin(i * math.pi / 5),
                y - r * (1.0 if i % 2 == 0 else 0.45) * math.cos(i * math.pi / 5),
            )
            for i in range(10)
        ]
    return None


def draw(colour, shape, background, r, x, y, scale=4):
    """One RGB image, drawn large and scaled down so that the edges are smooth."""
    im = Image.new("RGB", (SIZE * scale, SIZE * scale), BACKGROUNDS[background])
    d = ImageDraw.Draw(im)
    x, y, r = x * scale, y * scale, r * scale
    points = shape_points(shape, x, y, r)
    if points is None:
        d.ellipse((x - r, y - r, x + r, y + r), fill=COLOURS[colour])
    else:
        d.polygon(points, fill=COLOURS[colour])
    return np.asarray(im.resize((SIZE, SIZE), Image.BOX), np.uint8)


def make_dataset(per_combination, shift, stretch, rng):
    """Images (uint8, NHWC) and their (colour, shape, background, size) labels, evenly spread.

    Positions vary by +-shift pixels and radii by +-stretch pixels.
    """
    images, labels = [], []
    for colour in COLOURS:
        for shape in SHAPES:
            for background in BACKGROUNDS:
                for i in range(per_combination):
                    size = list(SIZES)[i % 3]
                    r = SIZES[size] + rng.uniform(-stretch, stretch)
                    room = min(shift, SIZE / 2 - r - 3)
                    x, y = (SIZE / 2 + rng.uniform(-room, room) for _ in range(2))
                    images.append(draw(colour, shape, background, r, x, y))
                    labels.append((colour, shape, background, size))
    return np.stack(images), labels


def caption(label, rng):
    """A caption for a label: canonical wording most of the time, looser wording otherwise."""
    colour, shape, background, size = label
    size = size + " " if rng.random() < 0.2 and size != "medium" else ""
    thing = f"{size}{colour} {shape}"
    kind = rng.random()
    if kind < 0.55:
        return f"a {thing} on a {background} background"
    if kind < 0.75:
        return rng.choice(
            [
                f"{thing} on {background} background",
                f"{thing} on {background}",
                f"{thing}, {background} background",
                f"a {thing} on {background}",
                f"{thing} {background} background",
                f"{background} background, {thing}",
                f"a {thing} in front of a {background} background",
            ]
        )
    if kind < 0.85 and background == "white":  # a missing background means white
        return rng.choice([thing, f"a {thing}"])
    words = (
        f"{thing} {background}".split()
        if rng.random() < 0.2
        else f"{thing} on a {background} background".split()
    )
    for _ in range(rng.randint(1, 4)):  # filler words anywhere outside the "colour shape" pair
        words.insert(rng.choice([0, 0, 0, len(words)]), rng.choice(FILLER))
    return " ".join(words)


def make_tokenizer(path):
    """CLIP tokenizer whose BPE merges give exactly one token for each caption word."""
    words = sorted({*COLOURS, *BACKGROUNDS, *SHAPES, *SIZES, *FILLER, "front"})
    split = {w: list(w[:-1]) + [w[-1] + "</w>"] for w in words}
    merges = []
    while True:  # plain BPE training until every word is a single symbol
        count = {}
        for parts in split.values():
            for pair in zip(parts, parts[1:]):
                count[pair] = count.get(pair, 0) + 1
        if not count:
            break
        best = max(sorted(count), key=lambda p: count[p])
        merges.append(best)
        for w, parts in split.items():
            out = []
            for p in parts:
                if out and (out[-1], p) == best:
                    out[-1] += p
                else:
                    out.append(p)
            split[w] = out
    # the byte alphabet of CLIP / GPT-2 (printable stand-ins for all 256 byte values)
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in keep] + [chr(256 + i) for i in range(256 - len(keep))]
    vocab = letters + [c + "</w>" for c in letters]
    vocab += [m for m in dict.fromkeys(a + b for a, b in merges) if m not in set(vocab)]
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "vocab.json"), "w") as f:
        json.dump({t: i for i, t in enumerate(vocab)}, f)
    with open(os.path.join(path, "merges.txt"), "w") as f:
        f.write("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    tokenizer = CLIPTokenizer.from_pretrained(path, model_max_length=MAX_TOKENS)
    for w in words:
        assert len(tokenizer(w).input_ids) == 3, (w, tokenizer(w).input_ids)
    return tokenizer


# ---------------------------------------------------------------- models
def make_models(tokenizer):
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=64,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    vae = AutoencoderKL(
        block_out_channels=[16, 32, 32],
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        sample_size=SIZE,
        mid_block_add_attention=False,
    )
    unet = UNet2DConditionModel(
        sample_size=SIZE // 4,
        in_channels=4,
        out_channels=4,
        block_out_channels=(48, 96),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    return text, vae, unet


def make_scheduler():
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def train_vae(vae, images, steps, batch, rng, log):
    opt = torch.optim.AdamW(vae.parameters(), 2e-3, betas=(0.9, 0.99), weight_decay=0.0)
    vae.train()
    schedule = Schedule(steps, 50, steps * 2 // 5)
    for step in schedule:
        for group in opt.param_groups:
            group["lr"] = 2e-3 * schedule.factor()
        x = images[torch.tensor(rng.sample(range(len(images)), batch))].float() / 127.5 - 1
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(x).latent_dist
            y = vae.decode(posterior.sample()).sample
        y = y.float()
        loss = F.l1_loss(y, x) + F.mse_loss(y, x) + 2e-4 * posterior.kl().mean() / 256
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        opt.step()
        if (step + 1) % 100 == 0:
            log(f"vae {step + 1}/{steps} loss {loss.item():.4f} l1 {F.l1_loss(y, x).item():.4f}")
    vae.eval()


@torch.no_grad()
def encode_all(vae, images, batch=64):
    """Posterior mean and std of every image; also sets the scaling factor to give unit variance."""
    means, stds = [], []
    for i in range(0, len(images), batch):
        dist = vae.encode(images[i : i + batch].float() / 127.5 - 1).latent_dist
        means.append(dist.mean)
        stds.append(dist.std)
    means, stds = torch.cat(means), torch.cat(stds)
    vae.register_to_config(scaling_factor=round(float(1 / (means.var() + (stds**2).mean()).sqrt()), 5))
    return means, stds


def polish_decoder(vae, images, latents, steps, batch, rng, log):
    """Sharper edges: train the decoder further on fixed latents, so that a trained UNet stays valid."""
    means, stds = latents
    params = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    opt = torch.optim.AdamW(params, 1e-3, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = Schedule(steps, 100, steps * 3 // 4)
    vae.train()
    for step in schedule:
        for group in opt.param_groups:
            group["lr"] = 1e-3 * schedule.factor()
        pick = rng.sample(range(len(images)), batch)
        z = means[pick] + (stds[pick] ** 2 + 0.05**2).sqrt() * torch.randn_like(means[pick])
        x = images[pick].float() / 127.5 - 1
        with torch.autocast("cpu", torch.bfloat16):
            y = vae.decode(z).sample
        loss = F.l1_loss(y.float(), x) + F.mse_loss(y.float(), x)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        if (step + 1) % 100 == 0:
            log(f"decoder {step + 1}/{schedule.end} loss {loss.item():.4f}")
    vae.eval()


def train_unet(text, unet, tokenizer, latents, labels, scale, steps, decay_steps, batch, rng, log, save):
    params = [*unet.parameters(), *text.parameters()]
    ema = [p.detach().clone() for p in params]
    opt = torch.optim.AdamW(params, 1e-3, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    alphas = make_scheduler().alphas_cumprod
    means, stds = latents
    unet.train(), text.train()
    unet.set_attn_processor(AttnProcessor())  # plain attention: its backward pass is much faster on CPUs
    average = None
    schedule = Schedule(steps, 200, decay_steps)
    for step in schedule:
        for group in opt.param_groups:
            group["lr"] = 1e-3 * schedule.factor()
        pick = rng.sample(range(len(labels)), batch)
        z = (means[pick] + stds[pick] * torch.randn_like(means[pick])) * scale
        captions = ["" if rng.random() < 0.1 else caption(labels[i], rng) for i in pick]
        ids = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        # stratified timesteps (less noise in the gradient); the very last step gets extra weight because
        # it decides the colours
        t = ((torch.arange(batch) + torch.rand(batch)) * 1000 / batch).long().clamp(max=999)
        t[-1] = 999
        a = alphas[t].view(-1, 1, 1, 1)
        noise = torch.randn_like(z)
        noisy, target = a.sqrt() * z + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * z
        with torch.autocast("cpu", torch.bfloat16):
            out = unet(noisy, t, encoder_hidden_states=text(ids)[0]).sample
        loss = F.mse_loss(out.float(), target)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        decay = min(0.998, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(ema, params, 1 - decay)
        average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        if (step + 1) % 100 == 0:
            log(f"unet {step + 1}/{schedule.end} loss {average:.4f}")
        if (step + 1) % 1000 == 0 or step + 1 == schedule.end:
            now = copy.deepcopy((text, unet))
            with torch.no_grad():
                for p, e in zip([*now[1].parameters(), *now[0].parameters()], ema):
                    p.copy_(e)
            save(*now)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", required=True)
    ap.add_argument("--per-combination", type=int, default=240, help="images per colour/shape/background")
    ap.add_argument("--vae", help="directory of an already trained VAE of this script (skips its training)")
    ap.add_argument(
        "--init", help="model directory of this script whose UNet and text encoder are trained further"
    )
    ap.add_argument("--shift", type=float, default=3.0)
    ap.add_argument("--stretch", type=float, default=0.5)
    ap.add_argument("--vae-steps", type=int, default=2200)
    ap.add_argument("--unet-steps", type=int, default=9000)
    ap.add_argument("--decoder-steps", type=int, default=2000, help="final polish of the VAE decoder")
    ap.add_argument("--decay-steps", type=int, default=2500)
    ap.add_argument("--batch", type=int, default=32)
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--seed", type=int, default=0)
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    start = time.time()

    def log(text):
        print(f"[{time.time() - start:6.0f}s] {text}", flush=True)

    tokenizer = make_tokenizer(os.path.join(args.out, "tokenizer"))
    text, vae, unet = make_models(tokenizer)
    log(f"parameters: text {text.num_parameters()}, vae {vae.num_parameters()}, unet {unet.num_parameters()}")
    images, labels = make_dataset(args.per_combination, args.shift, args.stretch, rng)
    images = torch.tensor(images).permute(0, 3, 1, 2)
    log(f"{len(images)} images")
    if args.init:  # stored fp16 weights are loaded as fp32
        text, unet = (
            kind.from_pretrained(os.path.join(args.init, name))
            for kind, name in ((CLIPTextModel, "text_encoder"), (UNet2DConditionModel, "unet"))
        )
    if args.vae:
        vae = AutoencoderKL.from_pretrained(args.vae).eval()
    else:
        train_vae(vae, images, args.vae_steps, 16, rng, log)
    latents = encode_all(vae, images)
    log(f"latent scaling factor {vae.config.scaling_factor}, mean {latents[0].mean((0, 2, 3)).tolist()}")

    def save(text_now, unet_now):
        # fp16 on disk; diffusers loads the UNet and VAE as fp32 unless told otherwise, but transformers keeps
        # the stored type, so the (small) text encoder stays in fp32 to make a plain from_pretrained work on CPUs
        pipe = StableDiffusionPipeline(
            vae=copy.deepcopy(vae).half(),
            text_encoder=text_now.eval(),
            tokenizer=tokenizer,
            unet=unet_now.half().eval(),
            scheduler=make_scheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipe.save_pretrained(args.out, safe_serialization=True)

    train_unet(
        text,
        unet,
        tokenizer,
        latents,
        labels,
        vae.config.scaling_factor,
        args.unet_steps,
        args.decay_steps,
        args.batch,
        rng,
        log,
        save,
    )
    if args.decoder_steps:
        polish_decoder(vae, images, latents, args.decoder_steps, 16, rng, log)
        last = args.out if args.unet_steps else args.init
        save(
            CLIPTextModel.from_pretrained(os.path.join(last, "text_encoder")),
            UNet2DConditionModel.from_pretrained(os.path.join(last, "unet")),
        )
    log("done")


if __name__ == "__main__":
    main()
